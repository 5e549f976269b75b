/**
 * @file tensor.h
 * @brief A Python object seen as an attn_tensor, without copying.
 */
#pragma once

#include <attn/attn.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <vector>

namespace attn_python {

namespace py = pybind11;

/** Raises attn.Error with `message`; @p status must not be ATTN_OK. Needs the GIL. */
[[noreturn]] void raise_error(attn_status status, const std::string &message);

/**
 * @brief A view of memory that a Python object lent, and the loan itself.
 *
 * The loan (a Py_buffer or a DLPack managed tensor) is given back exactly once, by the destructor, with the GIL held.
 */
class Tensor {
public:
    /**
     * @param object anything with the buffer protocol or `__dlpack__`; the former is tried first
     * @param name of the argument, for messages
     * @param writable refuse memory that is read-only
     * @param dtype if not 0: the element type, in place of one of the same size that the object claims
     */
    Tensor(const py::object &object, const std::string &name, bool writable, attn_dtype dtype);

    const attn_tensor &view() const { return view_; }
    py::tuple shape() const;
    py::tuple strides() const;
    attn_dtype dtype() const { return view_.dtype; }
    int ndim() const { return view_.ndim; }
    bool readonly() const { return readonly_; }

    /** Exchanges two axes of the view. */
    void swap_axes(int a, int b);

    /** For cumulative lengths: the largest difference of neighbours; 0 if this is not a vector of integers. */
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
    template <class Managed>
    void adopt(const py::capsule &capsule, const char *used_name, const std::string &name);

    attn_tensor view_{};
    bool readonly_ = false;
    std::unique_ptr<Loan> loan_;
};

} // namespace attn_python
