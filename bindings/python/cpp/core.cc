/**
 * @file core.cc
 * @brief attn._core: the C ABI as Python objects, one to one. What Python's users see is in src/attn/.
 */
#include "tensor.h"

#include <pybind11/stl.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace attn_python {

namespace {

PyObject *error_type = nullptr; /* attn.Error; lives as long as the process */

std::string version_text(uint32_t version)
{
    return std::to_string(version >> 16) + "." + std::to_string(version >> 8 & 0xff) + "." +
           std::to_string(version & 0xff);
}

/** Calls the library without the GIL and raises what it reports; the message is taken before any other call. */
template <class Call>
void check(Call call)
{
    attn_status status;
    std::string message;
    {
        py::gil_scoped_release release;
        status = call();
        if (status != ATTN_OK) message = attn_last_error();
    }
    if (status != ATTN_OK) raise_error(status, message);
}

class Handle {
public:
    Handle(int32_t threads, attn_device device, int32_t device_id)
    {
        attn_options options{};
        options.size = sizeof options;
        options.max_workers = threads;
        options.device = device;
        options.device_id = device_id;
        attn_handle handle = nullptr;
        check([&] { return attn_create(&options, &handle); });
        handle_.reset(handle);
    }

    attn_handle get() const { return handle_.get(); }

private:
    struct Destroy {
        void operator()(attn_handle handle) const { attn_destroy(handle); }
    };
    std::unique_ptr<attn_handle_s, Destroy> handle_;
};

/** attn_problem with its size set and its binds owned. */
struct Problem {
    attn_problem fields{};
    std::vector<attn_bind> binds;

    Problem() { fields.size = sizeof fields; }
    void bind(attn_slot slot, attn_dtype dtype)
    {
        attn_bind bind{};
        bind.slot = slot;
        bind.dtype = dtype;
        binds.push_back(bind);
    }
};

struct Dense {
    attn_dense fields{};

    Dense() { fields.size = sizeof fields; }
};

/**
 * @brief Scratch memory of the calling thread: grown when needed and kept for the next call, up to a limit.
 *
 * Nothing that runs between get() and the end of attn_execute() calls back into Python, so one per thread is enough.
 */
class Workspace {
public:
    void *get(size_t bytes)
    {
        if (bytes > size_) {
            memory_.reset();
            size_ = 0;
            const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
            memory_.reset(std::aligned_alloc(kAlignment, rounded));
            if (!memory_) throw std::bad_alloc();
            size_ = rounded;
        }
        return memory_.get();
    }
    void trim()
    {
        if (size_ > kKeep) memory_.reset(), size_ = 0;
    }

private:
    static constexpr size_t kAlignment = 256;         /* the most that attn_plan_workspace() asks for */
    static constexpr size_t kKeep = size_t{64} << 20; /* bytes */
    struct Free {
        void operator()(void *memory) const { std::free(memory); }
    };
    std::unique_ptr<void, Free> memory_;
    size_t size_ = 0;
};

class Plan {
public:
    Plan(const Handle &handle, const Problem &problem, const Dense &dense)
    {
        attn_problem p = problem.fields;
        p.binds = problem.binds.data();
        p.bind_count = problem.binds.size();
        attn_dense d = dense.fields;
        d.problem = &p;
        attn_plan plan = nullptr;
        check([&] { return attn_plan_dense(handle.get(), &d, &plan); });
        plan_.reset(plan);
        check([&] { return attn_plan_workspace(plan, &workspace_bytes_, nullptr); });
    }

    size_t workspace_bytes() const { return workspace_bytes_; }

    std::string describe() const
    {
        size_t needed = 0;
        std::string text;
        check([&] {
            const attn_status status = attn_plan_describe(plan_.get(), nullptr, 0, &needed);
            if (status != ATTN_OK && status != ATTN_ERROR_CAPACITY) return status;
            text.resize(needed);
            return attn_plan_describe(plan_.get(), text.data(), text.size(), &needed);
        });
        text.resize(text.empty() ? 0 : text.size() - 1); /* its NUL */
        return text;
    }

    /** `{slot: (dtype, largest shape)}`; an extent of -1 is free. */
    py::dict slots() const
    {
        py::dict slots;
        for (size_t position = 0;; ++position) {
            attn_bind bind{};
            attn_tensor bounds{};
            const attn_status status = attn_plan_slot(plan_.get(), position, &bind, &bounds);
            if (status == ATTN_ERROR_CAPACITY) return slots;
            if (status != ATTN_OK) raise_error(status, attn_last_error());
            slots[py::int_(bind.slot)] =
                py::make_tuple(bounds.dtype, std::vector<int64_t>(bounds.shape, bounds.shape + bounds.ndim));
        }
    }

    /** @param sizes (batch, max_q, max_kv, total_q, total_kv) of this call, to need less workspace than the bound */
    void execute(const std::vector<std::pair<attn_slot, Tensor *>> &tensors,
                 const std::optional<std::array<int64_t, 5>> &sizes) const
    {
        thread_local Workspace workspace;
        std::vector<attn_arg> args;
        args.reserve(tensors.size());
        for (const auto &[slot, tensor] : tensors) {
            if (!tensor) throw py::type_error("a tensor is None");
            args.push_back({slot, 0, &tensor->view()});
        }
        check([&] {
            size_t bytes = workspace_bytes_;
            if (sizes && bytes) {
                attn_sizes actual{};
                actual.size = sizeof actual;
                actual.batch = (*sizes)[0];
                actual.max_q = (*sizes)[1];
                actual.max_kv = (*sizes)[2];
                actual.total_q = (*sizes)[3];
                actual.total_kv = (*sizes)[4];
                const attn_status status = attn_plan_workspace_for(plan_.get(), &actual, &bytes);
                if (status != ATTN_OK) return status;
            }
            const attn_status status = attn_execute(plan_.get(), args.data(), args.size(),
                                                    bytes ? workspace.get(bytes) : nullptr, bytes, nullptr);
            workspace.trim();
            return status;
        });
    }

private:
    struct Destroy {
        void operator()(attn_plan plan) const { attn_plan_destroy(plan); }
    };
    std::unique_ptr<attn_plan_s, Destroy> plan_;
    size_t workspace_bytes_ = 0;
};

/** The devices of one kind; none where its driver is missing. */
py::list devices(attn_device device)
{
    py::list list;
    int32_t count = 0;
    const attn_status status = attn_device_count(device, &count);
    if (status == ATTN_ERROR_NO_DEVICE) return list;
    if (status != ATTN_OK) raise_error(status, attn_last_error());
    for (int32_t id = 0; id < count; ++id) {
        attn_device_properties properties{};
        properties.size = sizeof properties;
        check([&] { return attn_device_info(device, id, &properties); });
        py::dict entry;
        entry["id"] = properties.device_id;
        entry["name"] = properties.name;
        entry["arch"] = properties.arch;
        entry["compute_units"] = properties.compute_units;
        entry["memory_bytes"] = properties.memory_bytes;
        entry["bytes_per_second"] = properties.bytes_per_second;
        entry["driver_version"] = properties.driver_version;
        list.append(entry);
    }
    return list;
}

/** Adds a property for one field of the C struct that the class holds as `fields`. */
template <auto Field, class Class>
void field(Class &python_class, const char *name)
{
    using Holder = typename Class::type;
    using Value = std::decay_t<decltype(std::declval<Holder &>().fields.*Field)>;
    python_class.def_property(
        name, [](const Holder &holder) { return holder.fields.*Field; },
        [](Holder &holder, Value value) { holder.fields.*Field = value; });
}

py::dict constants(std::initializer_list<std::pair<const char *, uint32_t>> entries)
{
    py::dict dict;
    for (const auto &[name, value] : entries) dict[name] = value;
    return dict;
}

} // namespace

void raise_error(attn_status status, const std::string &message)
{
    const char *name = attn_status_name(status);
    py::object error = py::reinterpret_borrow<py::object>(error_type)(message.empty() ? std::string(name) : message);
    error.attr("status") = status;
    error.attr("status_name") = name;
    PyErr_SetObject(error_type, error.ptr());
    throw py::error_already_set();
}

} // namespace attn_python

PYBIND11_MODULE(_core, module)
{
    using namespace attn_python;

    if (attn_version() != ATTN_VERSION)
        throw py::import_error("attn was built for libattn " + version_text(ATTN_VERSION) +
                               " but libattn-python.so.0 is " + version_text(attn_version()) +
                               "; reinstall the package");
    module.attr("VERSION") = version_text(attn_version());

    error_type = PyErr_NewExceptionWithDoc("attn.Error",
                                           "An error that the library reported.\n\n"
                                           "Attributes\n"
                                           "----------\n"
                                           "status : int\n"
                                           "    The status, negative, e.g. -1.\n"
                                           "status_name : str\n"
                                           "    Its name in attn.h, e.g. 'ATTN_ERROR_INVALID'.\n",
                                           PyExc_RuntimeError, nullptr);
    if (!error_type) throw py::error_already_set();
    module.attr("Error") = py::reinterpret_borrow<py::object>(error_type);

    module.attr("DTYPES") = constants({{"bool", ATTN_BOOL},
                                       {"int4", ATTN_INT4},
                                       {"uint4", ATTN_UINT4},
                                       {"int8", ATTN_INT8},
                                       {"uint8", ATTN_UINT8},
                                       {"int32", ATTN_INT32},
                                       {"int64", ATTN_INT64},
                                       {"uint64", ATTN_UINT64},
                                       {"float4_e2m1fn", ATTN_FLOAT4_E2M1FN},
                                       {"float8_e4m3fn", ATTN_FLOAT8_E4M3FN},
                                       {"float8_e4m3fnuz", ATTN_FLOAT8_E4M3FNUZ},
                                       {"float8_e5m2", ATTN_FLOAT8_E5M2},
                                       {"float8_e8m0fnu", ATTN_FLOAT8_E8M0FNU},
                                       {"float16", ATTN_FLOAT16},
                                       {"bfloat16", ATTN_BFLOAT16},
                                       {"float32", ATTN_FLOAT32},
                                       {"float64", ATTN_FLOAT64}});
    module.attr("SLOTS") = constants({{"q", ATTN_SLOT_Q},
                                      {"k", ATTN_SLOT_K},
                                      {"v", ATTN_SLOT_V},
                                      {"out", ATTN_SLOT_OUT},
                                      {"lse", ATTN_SLOT_LSE},
                                      {"cu_seqlens_q", ATTN_SLOT_CU_SEQLENS_Q},
                                      {"cu_seqlens_kv", ATTN_SLOT_CU_SEQLENS_KV},
                                      {"seqlens_q", ATTN_SLOT_SEQLENS_Q},
                                      {"seqlens_kv", ATTN_SLOT_SEQLENS_KV},
                                      {"block_table", ATTN_SLOT_BLOCK_TABLE},
                                      {"block_table_ptr", ATTN_SLOT_BLOCK_TABLE_PTR},
                                      {"positions_q", ATTN_SLOT_POSITIONS_Q},
                                      {"positions_kv", ATTN_SLOT_POSITIONS_KV}});
    module.attr("ALIGNMENTS") = constants(
        {{"top_left", ATTN_TOP_LEFT}, {"bottom_right", ATTN_BOTTOM_RIGHT}, {"by_position", ATTN_BY_POSITION}});
    module.attr("DEVICES") =
        constants({{"cpu", ATTN_DEVICE_CPU}, {"cuda", ATTN_DEVICE_CUDA}, {"hip", ATTN_DEVICE_HIP}});
    module.attr("WINDOW_LEFT") = static_cast<uint32_t>(ATTN_WINDOW_LEFT);
    module.attr("WINDOW_RIGHT") = static_cast<uint32_t>(ATTN_WINDOW_RIGHT);

    module.def("devices", &devices, py::arg("device"));

    py::class_<Tensor>(module, "Tensor")
        .def(py::init<const py::object &, const std::string &, bool, attn_dtype>(), py::arg("object"), py::arg("name"),
             py::arg("writable") = false, py::arg("dtype") = 0)
        .def_property_readonly("shape", &Tensor::shape)
        .def_property_readonly("strides", &Tensor::strides)
        .def_property_readonly("dtype", &Tensor::dtype)
        .def_property_readonly("ndim", &Tensor::ndim)
        .def_property_readonly("readonly", &Tensor::readonly)
        .def("swap_axes", &Tensor::swap_axes, py::arg("a"), py::arg("b"))
        .def("largest_step", &Tensor::largest_step);

    py::class_<Handle>(module, "Handle")
        .def(py::init<int32_t, attn_device, int32_t>(), py::arg("threads"), py::arg("device"), py::arg("device_id"));

    py::class_<Problem> problem(module, "Problem");
    problem.def(py::init<>()).def("bind", &Problem::bind, py::arg("slot"), py::arg("dtype"));
    field<&attn_problem::q_dtype>(problem, "q_dtype");
    field<&attn_problem::k_dtype>(problem, "k_dtype");
    field<&attn_problem::v_dtype>(problem, "v_dtype");
    field<&attn_problem::out_dtype>(problem, "out_dtype");
    field<&attn_problem::batch>(problem, "batch");
    field<&attn_problem::heads_q>(problem, "heads_q");
    field<&attn_problem::heads_k>(problem, "heads_k");
    field<&attn_problem::heads_v>(problem, "heads_v");
    field<&attn_problem::dim_qk>(problem, "dim_qk");
    field<&attn_problem::dim_v>(problem, "dim_v");
    field<&attn_problem::max_q>(problem, "max_q");
    field<&attn_problem::max_kv>(problem, "max_kv");
    field<&attn_problem::total_q>(problem, "total_q");
    field<&attn_problem::total_kv>(problem, "total_kv");
    field<&attn_problem::page_size>(problem, "page_size");
    field<&attn_problem::scale>(problem, "scale");

    py::class_<Dense> dense(module, "Dense");
    dense.def(py::init<>());
    field<&attn_dense::flags>(dense, "flags");
    field<&attn_dense::causal>(dense, "causal");
    field<&attn_dense::align>(dense, "align");
    field<&attn_dense::window_left>(dense, "window_left");
    field<&attn_dense::window_right>(dense, "window_right");
    field<&attn_dense::sink_tokens>(dense, "sink_tokens");
    field<&attn_dense::softcap>(dense, "softcap");

    py::class_<Plan>(module, "Plan")
        .def(py::init<const Handle &, const Problem &, const Dense &>(), py::arg("handle"), py::arg("problem"),
             py::arg("dense"))
        .def_property_readonly("workspace_bytes", &Plan::workspace_bytes)
        .def("describe", &Plan::describe)
        .def("slots", &Plan::slots)
        .def("execute", &Plan::execute, py::arg("tensors"), py::arg("sizes") = py::none());
}
