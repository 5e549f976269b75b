#include "tensor.h"

#include "dlpack.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace attn_python {

namespace {

constexpr int kMaxAxes = 8; /* of attn_tensor */

std::string type_name(const py::object &object)
{
    return Py_TYPE(object.ptr())->tp_name;
}

/** Element type of a PEP 3118 format, or 0 if libattn has none. */
attn_dtype dtype_of_format(const char *format, Py_ssize_t itemsize)
{
    if (!format) format = "B";
    if (*format == '@' || *format == '=' || *format == '<') ++format; /* byte orders of the hosts we build for */
    if (std::strlen(format) != 1) return 0;
    const attn_dtype width = 0x010000u | static_cast<attn_dtype>(itemsize * 8) << 8;
    if (*format == '?') return ATTN_BOOL;
    if (std::strchr("bhilqn", *format)) return width | 0;
    if (std::strchr("BHILQN", *format)) return width | 1;
    if (std::strchr("efd", *format)) return width | 2;
    return 0;
}

std::string device_text(int32_t type, int32_t id)
{
    if (type == ATTN_DEVICE_CPU) return "the host";
    const char *kind = type == ATTN_DEVICE_CUDA ? "CUDA" : type == ATTN_DEVICE_HIP ? "ROCm" : "DLPack type";
    std::string text = kind;
    if (type != ATTN_DEVICE_CUDA && type != ATTN_DEVICE_HIP) text += " " + std::to_string(type);
    return text + " device " + std::to_string(id);
}

/** Element type of the array interface, or 0 if libattn has none. */
attn_dtype dtype_of_typestr(const std::string &typestr)
{
    if (typestr.size() != 3 || (typestr[0] != '<' && typestr[0] != '|')) return 0;
    const attn_dtype width = 0x010000u | static_cast<attn_dtype>((typestr[2] - '0') * 8) << 8;
    switch (typestr[1]) {
    case 'b':
        return ATTN_BOOL;
    case 'i':
        return width | 0;
    case 'u':
        return width | 1;
    case 'f':
        return width | 2;
    default:
        return 0;
    }
}

} // namespace

/** Refuses memory that the call cannot use. */
void Tensor::check_device(int32_t type, int32_t id, const std::string &name) const
{
    const bool host = type == ATTN_DEVICE_CUDA_HOST || type == ATTN_DEVICE_CUDA_MANAGED; /* anybody's */
    if (host) return;
    if (where_.on_cuda() ? type == ATTN_DEVICE_CUDA && id == where_.device_id
                         : type == ATTN_DEVICE_CPU || type == ATTN_DEVICE_HIP_HOST)
        return;
    const std::string wanted = where_.on_cuda() ? "on " + device_text(where_.device, where_.device_id) : "host memory";
    raise_error(ATTN_ERROR_INVALID, name + ": its memory is on " + device_text(type, id) + ", must be " + wanted +
                                        ", where this call computes");
}

void Tensor::check_axes(py::ssize_t axes, const std::string &name) const
{
    if (axes < 0 || axes > kMaxAxes)
        throw py::value_error(name + " has " + std::to_string(axes) + " axes, must have at most 8");
}

struct Tensor::BufferLoan : Loan {
    Py_buffer buffer{};
    ~BufferLoan() override { PyBuffer_Release(&buffer); }
};

template <class Managed>
struct Tensor::DlpackLoan : Loan {
    explicit DlpackLoan(Managed *managed) : managed(managed) {}
    ~DlpackLoan() override
    {
        if (managed && managed->deleter) managed->deleter(managed);
    }
    Managed *managed;
};

Tensor::Tensor(const py::object &object, const std::string &name, bool writable, attn_dtype dtype, const Where &where)
    : where_(where)
{
    const bool has_dlpack = py::hasattr(object, "__dlpack__");
    if (!where.on_cuda() && PyObject_CheckBuffer(object.ptr()) && borrow_buffer(object, name)) {
        /* borrowed */
    } else if (has_dlpack) {
        borrow_dlpack(object, name, writable);
    } else if (where.on_cuda() && py::hasattr(object, "__cuda_array_interface__")) {
        borrow_cuda_array(object, name);
    } else if (where.on_cuda()) {
        throw py::type_error(name + " must support DLPack or __cuda_array_interface__, not be a '" + type_name(object) +
                             "'");
    } else if (PyErr_Occurred()) {
        throw py::error_already_set();
    } else {
        throw py::type_error(name + " must support DLPack or the buffer protocol, not be a '" + type_name(object) +
                             "'");
    }
    if (writable && readonly_) throw py::value_error(name + " is read-only, must be writable");
    if (dtype) view_.dtype = dtype;
}

/** @return false if the object has no usable buffer; a Python error is set if it said why */
bool Tensor::borrow_buffer(const py::object &object, const std::string &name)
{
    auto loan = std::make_unique<BufferLoan>();
    Py_buffer &buffer = loan->buffer;
    if (PyObject_GetBuffer(object.ptr(), &buffer, PyBUF_STRIDES | PyBUF_FORMAT) != 0) {
        buffer = Py_buffer{}; /* nothing to release */
        if (py::hasattr(object, "__dlpack__")) PyErr_Clear();
        return false;
    }
    check_axes(buffer.ndim, name);
    view_.dtype = dtype_of_format(buffer.format, buffer.itemsize);
    if (!view_.dtype)
        throw py::type_error(name + " has elements of format '" + (buffer.format ? buffer.format : "") +
                             "', which libattn has no type for");
    view_.data = buffer.buf;
    view_.device = ATTN_DEVICE_CPU;
    view_.ndim = buffer.ndim;
    for (int axis = 0; axis < buffer.ndim; ++axis) {
        view_.shape[axis] = buffer.shape[axis];
        if (buffer.shape[axis] > 1 && buffer.strides[axis] % buffer.itemsize)
            throw py::value_error(name + " has a stride of " + std::to_string(buffer.strides[axis]) +
                                  " bytes along axis " + std::to_string(axis) +
                                  ", must be a multiple of the element size " + std::to_string(buffer.itemsize));
        view_.strides[axis] = buffer.strides[axis] / buffer.itemsize;
    }
    readonly_ = buffer.readonly != 0;
    loan_ = std::move(loan);
    return true;
}

void Tensor::borrow_dlpack(const py::object &object, const std::string &name, bool writable)
{
    int32_t type = where_.device;
    if (py::hasattr(object, "__dlpack_device__")) {
        const py::tuple device = object.attr("__dlpack_device__")();
        type = py::int_(device[0]).cast<int32_t>(); /* may be an enumerator */
        check_device(type, device[1].cast<int32_t>(), name);
    }
    py::dict arguments;
    /* The producer lets the stream wait for what it has still to do. 0 would be ambiguous: DLPack has 1 for it. */
    if (type == ATTN_DEVICE_CUDA || (where_.on_cuda() && type == ATTN_DEVICE_CUDA_MANAGED))
        arguments["stream"] = py::int_(where_.stream ? where_.stream : 1);
    py::object exported;
    try {
        exported = object.attr("__dlpack__")(**arguments, py::arg("max_version") = py::make_tuple(1, 0));
    } catch (py::error_already_set &error) {
        if (!error.matches(PyExc_TypeError)) throw; /* else a producer older than DLPack 1.0 */
        exported = object.attr("__dlpack__")(**arguments);
    }
    if (PyCapsule_IsValid(exported.ptr(), "dltensor_versioned")) {
        adopt<dlpack::ManagedVersioned>(exported, "used_dltensor_versioned", name);
    } else if (PyCapsule_IsValid(exported.ptr(), "dltensor")) {
        /* The old capsule cannot say that its memory must not be written. */
        const std::string module = py::str(py::type::of(object).attr("__module__"));
        if (writable && module.rfind("jax", 0) == 0)
            throw py::value_error(name + " is a JAX array, which is read-only");
        adopt<dlpack::Managed>(exported, "used_dltensor", name);
    } else {
        throw py::type_error(name + ".__dlpack__() returned no unused DLPack capsule");
    }
}

template <class Managed>
void Tensor::adopt(const py::capsule &capsule, const char *used_name, const std::string &name)
{
    auto *managed = static_cast<Managed *>(PyCapsule_GetPointer(capsule.ptr(), PyCapsule_GetName(capsule.ptr())));
    auto loan = std::make_unique<DlpackLoan<Managed>>(nullptr);
    if (PyCapsule_SetName(capsule.ptr(), used_name) != 0) throw py::error_already_set();
    /* From here on the deleter is ours to call; the producer's capsule destructor leaves a "used_" capsule alone. */
    loan->managed = managed;

    if constexpr (std::is_same_v<Managed, dlpack::ManagedVersioned>) {
        if (managed->major != 1)
            throw py::type_error(name + " has DLPack version " + std::to_string(managed->major) + "." +
                                 std::to_string(managed->minor) + ", must be 1.x or older");
        readonly_ = managed->flags & (dlpack::kReadOnly | dlpack::kCopied);
    }
    const dlpack::View &tensor = managed->tensor;
    check_device(tensor.device.type, tensor.device.id, name);
    check_axes(tensor.ndim, name);
    view_.data = tensor.data;
    view_.byte_offset = static_cast<size_t>(tensor.byte_offset);
    /* For the host pinned and managed memory are like its own. */
    view_.device = where_.on_cuda() ? tensor.device.type : ATTN_DEVICE_CPU;
    view_.device_id = where_.on_cuda() ? tensor.device.id : 0;
    view_.ndim = tensor.ndim;
    view_.dtype = tensor.dtype.code | static_cast<attn_dtype>(tensor.dtype.bits) << 8 |
                  static_cast<attn_dtype>(tensor.dtype.lanes) << 16;
    int64_t compact = 1;
    for (int axis = tensor.ndim - 1; axis >= 0; --axis) {
        view_.shape[axis] = tensor.shape[axis];
        view_.strides[axis] = tensor.strides ? tensor.strides[axis] : compact;
        compact *= std::max<int64_t>(tensor.shape[axis], 1);
    }
    loan_ = std::move(loan);
}

/** https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html, versions 2 and 3 */
void Tensor::borrow_cuda_array(const py::object &object, const std::string &name)
{
    struct ObjectLoan : Loan {
        explicit ObjectLoan(py::object lender) : lender(std::move(lender)) {}
        py::object lender; /* lives as long as its memory is used */
    };
    const py::dict interface = object.attr("__cuda_array_interface__");
    if (interface.contains("mask") && !interface["mask"].is_none())
        throw py::type_error(name + " is a masked array, must have no mask");
    const std::string typestr = py::str(interface["typestr"]);
    view_.dtype = dtype_of_typestr(typestr);
    if (!view_.dtype)
        throw py::type_error(name + " has elements of type '" + typestr + "', which libattn has no type for");
    const py::tuple data = interface["data"], shape = interface["shape"];
    const auto address = data[0].cast<std::uintptr_t>();
    check_axes(static_cast<py::ssize_t>(shape.size()), name);
    view_.data = reinterpret_cast<void *>(address);
    view_.device = ATTN_DEVICE_CUDA;
    view_.device_id = address ? cuda::device_of(view_.data) : where_.device_id;
    check_device(view_.device, view_.device_id, name);
    readonly_ = data[1].cast<bool>();
    view_.ndim = static_cast<int32_t>(shape.size());
    const int64_t bytes = typestr[2] - '0';
    const bool strided = interface.contains("strides") && !interface["strides"].is_none();
    int64_t compact = 1;
    for (int axis = view_.ndim - 1; axis >= 0; --axis) {
        const auto place = static_cast<size_t>(axis);
        view_.shape[axis] = shape[place].cast<int64_t>();
        view_.strides[axis] = compact;
        if (strided) {
            const auto step = py::tuple(interface["strides"])[place].cast<int64_t>();
            if (view_.shape[axis] > 1 && step % bytes)
                throw py::value_error(name + " has a stride of " + std::to_string(step) + " bytes along axis " +
                                      std::to_string(axis) + ", must be a multiple of the element size " +
                                      std::to_string(bytes));
            view_.strides[axis] = step / bytes;
        }
        compact *= std::max<int64_t>(view_.shape[axis], 1);
    }
    if (interface.contains("stream") && !interface["stream"].is_none()) {
        const auto producer = interface["stream"].cast<cuda::Stream>();
        if (producer == 0)
            throw py::value_error(name + ": stream = 0 in its __cuda_array_interface__: must be None, 1 (legacy "
                                         "default), 2 (per-thread default) or a CUstream");
        const auto number = [](cuda::Stream stream) { return stream == 1 ? 0 : stream; };
        if (number(producer) != number(where_.stream)) cuda::order(where_.device_id, producer, where_.stream);
    }
    loan_ = std::make_unique<ObjectLoan>(object);
}

py::tuple Tensor::shape() const
{
    py::tuple shape(view_.ndim);
    for (int axis = 0; axis < view_.ndim; ++axis) shape[axis] = view_.shape[axis];
    return shape;
}

py::tuple Tensor::strides() const
{
    py::tuple strides(view_.ndim);
    for (int axis = 0; axis < view_.ndim; ++axis) strides[axis] = view_.strides[axis];
    return strides;
}

void Tensor::swap_axes(int a, int b)
{
    if (a < 0 || b < 0 || a >= view_.ndim || b >= view_.ndim) throw py::index_error("no such axis");
    view_ = attn_tensor_swap_axes(view_, a, b);
}

int64_t Tensor::largest_step() const
{
    if (where_.on_cuda()) return -1;
    if (view_.ndim != 1 || (view_.dtype != ATTN_INT32 && view_.dtype != ATTN_INT64)) return 0;
    const char *base = static_cast<const char *>(view_.data) + view_.byte_offset;
    const auto element = [&](int64_t i) -> int64_t {
        if (view_.dtype == ATTN_INT32) return reinterpret_cast<const int32_t *>(base)[i * view_.strides[0]];
        return reinterpret_cast<const int64_t *>(base)[i * view_.strides[0]];
    };
    int64_t largest = 0;
    for (int64_t i = 1; i < view_.shape[0]; ++i) {
        int64_t step = 0; /* wrong lengths are for the library to refuse; here they must only not overflow */
        if (!__builtin_sub_overflow(element(i), element(i - 1), &step)) largest = std::max(largest, step);
    }
    return largest;
}

} // namespace attn_python
