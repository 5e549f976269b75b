/**
 * @file tensor.h
 * @brief A Python object seen as an attn_tensor, without copying.
 */
#pragma once

#include "cuda.h"

#include <attn/attn.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <vector>

namespace attn_python {

namespace py = pybind11;

/** Raises attn.Error with `message`; @p status must not be ATTN_OK. Needs the GIL. */
[[noreturn]] void raise_error(attn_status status, const std::string &message);

/** Where a call computes: all its tensors have to be there. */
struct Where {
    attn_device device = ATTN_DEVICE_CPU; /**< CPU or CUDA. */
    int32_t device_id = 0;
    cuda::Stream stream = 0; /**< On which CUDA tensors are used. */

    bool on_cuda() const { return device == ATTN_DEVICE_CUDA; }
};

/**
 * @brief A view of memory that a Python object lent, and the loan itself.
 *
 * The loan (a Py_buffer or a DLPack managed tensor) is given back exactly once, by the destructor, with the GIL held.
 */
class Tensor {
public:
    /**
     * @param object anything with the buffer protocol or `__dlpack__`, the former being tried first; on CUDA with
     *        `__dlpack__` or `__cuda_array_interface__`. What the object still has to do before its memory may be read
     *        is done, or ordered before the stream.
     * @param name of the argument, for messages
     * @param writable refuse memory that is read-only
     * @param dtype if not 0: the element type, in place of one of the same size that the object claims
     * @param where memory elsewhere is refused
     */
    Tensor(const py::object &object, const std::string &name, bool writable, attn_dtype dtype, const Where &where);

    const attn_tensor &view() const { return view_; }
    py::tuple shape() const;
    py::tuple strides() const;
    attn_dtype dtype() const { return view_.dtype; }
    int ndim() const { return view_.ndim; }
    bool readonly() const { return readonly_; }

    /** Exchanges two axes of the view. */
    void swap_axes(int a, int b);

    /** For cumulative lengths: the largest difference of neighbours; 0 if this is not a vector of integers, -1 if the
     *  host cannot look. */
    int64_t largest_step() const;

private:
    /** What gives the memory back. */
    struct Loan {
        virtual ~Loan() = default;
    };
    struct BufferLoan;
    template <class Managed>
    struct DlpackLoan;

    bool borrow_buffer(const py::object &object, const std::string &name);
    void borrow_dlpack(const py::object &object, const std::string &name, bool writable);
    void borrow_cuda_array(const py::object &object, const std::string &name);
    template <class Managed>
    void adopt(const py::capsule &capsule, const char *used_name, const std::string &name);
    void check_device(int32_t type, int32_t id, const std::string &name) const;
    void check_axes(py::ssize_t axes, const std::string &name) const;

    attn_tensor view_{};
    Where where_;
    bool readonly_ = false;
    std::unique_ptr<Loan> loan_;
};

} // namespace attn_python
