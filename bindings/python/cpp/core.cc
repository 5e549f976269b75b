/**
 * @file core.cc
 * @brief attn._core: the C ABI as Python objects, one to one. What Python's users see is in src/attn/.
 */
#include "plan.h"

#include <pybind11/stl.h>

#include <string>
#include <utility>

namespace attn_python {

namespace {

PyObject *error_type = nullptr; /* attn.Error; lives as long as the process */

std::string version_text(uint32_t version)
{
    return std::to_string(version >> 16) + "." + std::to_string(version >> 8 & 0xff) + "." +
           std::to_string(version & 0xff);
}

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
                                      {"partial_out", ATTN_SLOT_PARTIAL_OUT},
                                      {"partial_lse", ATTN_SLOT_PARTIAL_LSE},
                                      {"k_cache", ATTN_SLOT_K_CACHE},
                                      {"v_cache", ATTN_SLOT_V_CACHE},
                                      {"cu_seqlens_q", ATTN_SLOT_CU_SEQLENS_Q},
                                      {"cu_seqlens_kv", ATTN_SLOT_CU_SEQLENS_KV},
                                      {"seqlens_q", ATTN_SLOT_SEQLENS_Q},
                                      {"seqlens_kv", ATTN_SLOT_SEQLENS_KV},
                                      {"block_table", ATTN_SLOT_BLOCK_TABLE},
                                      {"block_table_ptr", ATTN_SLOT_BLOCK_TABLE_PTR},
                                      {"slot_mapping", ATTN_SLOT_SLOT_MAPPING},
                                      {"bias", ATTN_SLOT_BIAS},
                                      {"bias_table", ATTN_SLOT_BIAS_TABLE},
                                      {"bias_lowrank_q", ATTN_SLOT_BIAS_LOWRANK_Q},
                                      {"bias_lowrank_k", ATTN_SLOT_BIAS_LOWRANK_K},
                                      {"alibi_slopes", ATTN_SLOT_ALIBI_SLOPES},
                                      {"sink_logits", ATTN_SLOT_SINK_LOGITS},
                                      {"q_temperature", ATTN_SLOT_Q_TEMPERATURE},
                                      {"v_temperature", ATTN_SLOT_V_TEMPERATURE},
                                      {"gate", ATTN_SLOT_GATE},
                                      {"head_weight", ATTN_SLOT_HEAD_WEIGHT},
                                      {"ids_q", ATTN_SLOT_IDS_Q},
                                      {"ids_kv", ATTN_SLOT_IDS_KV},
                                      {"positions_q", ATTN_SLOT_POSITIONS_Q},
                                      {"positions_kv", ATTN_SLOT_POSITIONS_KV},
                                      {"rope_cos", ATTN_SLOT_ROPE_COS},
                                      {"rope_sin", ATTN_SLOT_ROPE_SIN},
                                      {"decay", ATTN_SLOT_DECAY},
                                      {"beta", ATTN_SLOT_BETA},
                                      {"erase", ATTN_SLOT_ERASE},
                                      {"write", ATTN_SLOT_WRITE},
                                      {"bonus", ATTN_SLOT_BONUS},
                                      {"dplr_b", ATTN_SLOT_DPLR_B},
                                      {"dplr_c", ATTN_SLOT_DPLR_C},
                                      {"a_log", ATTN_SLOT_A_LOG},
                                      {"dt_bias", ATTN_SLOT_DT_BIAS},
                                      {"feature", ATTN_SLOT_FEATURE},
                                      {"state_in", ATTN_SLOT_STATE_IN},
                                      {"state_out", ATTN_SLOT_STATE_OUT},
                                      {"state_index", ATTN_SLOT_STATE_INDEX},
                                      {"x", ATTN_SLOT_X},
                                      {"conv_weight", ATTN_SLOT_CONV_WEIGHT},
                                      {"conv_bias", ATTN_SLOT_CONV_BIAS},
                                      {"residual", ATTN_SLOT_RESIDUAL},
                                      {"column_mass", ATTN_SLOT_COLUMN_MASS},
                                      {"row_max", ATTN_SLOT_ROW_MAX},
                                      {"row_entropy", ATTN_SLOT_ROW_ENTROPY},
                                      {"status", ATTN_SLOT_STATUS}});
    module.attr("ALIGNMENTS") = constants(
        {{"top_left", ATTN_TOP_LEFT}, {"bottom_right", ATTN_BOTTOM_RIGHT}, {"by_position", ATTN_BY_POSITION}});
    module.attr("DEVICES") =
        constants({{"cpu", ATTN_DEVICE_CPU}, {"cuda", ATTN_DEVICE_CUDA}, {"hip", ATTN_DEVICE_HIP}});
    module.attr("ACTIVATIONS") = constants({{"softmax", ATTN_SOFTMAX}, {"sigmoid", ATTN_SIGMOID}, {"relu", ATTN_RELU}});
    module.attr("GATES") =
        constants({{"sigmoid", ATTN_GATE_SIGMOID}, {"linear", ATTN_GATE_LINEAR}, {"silu", ATTN_GATE_SILU}});
    module.attr("BIAS_STAGES") =
        constants({{"post_softcap", ATTN_BIAS_POST_SOFTCAP}, {"pre_softcap", ATTN_BIAS_PRE_SOFTCAP}});
    module.attr("TABLE_KINDS") =
        constants({{"distance", ATTN_TABLE_DISTANCE}, {"bucket", ATTN_TABLE_BUCKET}, {"grid", ATTN_TABLE_GRID}});
    module.attr("ROPE_LAYOUTS") = constants({{"half", ATTN_ROPE_HALF}, {"interleaved", ATTN_ROPE_INTERLEAVED}});
    module.attr("ROPE_SOURCES") = constants({{"base", ATTN_ROPE_BASE}, {"table", ATTN_ROPE_TABLE}});
    module.attr("PRECISIONS") = constants({{"full", ATTN_PRECISION_FULL}, {"tf32", ATTN_PRECISION_TF32}});
    module.attr("FLAGS") = constants({{"allow_nondeterministic", ATTN_ALLOW_NONDETERMINISTIC},
                                      {"batch_invariant", ATTN_BATCH_INVARIANT},
                                      {"strict_nonfinite", ATTN_STRICT_NONFINITE},
                                      {"checked", ATTN_CHECKED}});
    module.attr("DECAYS") =
        constants({{"head", ATTN_DECAY_HEAD}, {"token", ATTN_DECAY_TOKEN}, {"channel", ATTN_DECAY_CHANNEL}});
    module.attr("DECAY_FORMS") = constants({{"log", ATTN_DECAY_LOG},
                                            {"softplus", ATTN_DECAY_SOFTPLUS},
                                            {"sigmoid", ATTN_DECAY_SIGMOID},
                                            {"log_sigmoid", ATTN_DECAY_LOG_SIGMOID}});
    module.attr("UPDATES") = constants({{"add", ATTN_UPDATE_ADD},
                                        {"delta", ATTN_UPDATE_DELTA},
                                        {"gated_delta", ATTN_UPDATE_GATED_DELTA},
                                        {"dplr", ATTN_UPDATE_DPLR}});
    module.attr("FEATURE_MAPS") = constants({{"identity", ATTN_FEATURE_IDENTITY},
                                             {"elu1", ATTN_FEATURE_ELU1},
                                             {"relu", ATTN_FEATURE_RELU},
                                             {"silu", ATTN_FEATURE_SILU},
                                             {"softmax", ATTN_FEATURE_SOFTMAX},
                                             {"taylor2", ATTN_FEATURE_TAYLOR2},
                                             {"hedgehog", ATTN_FEATURE_HEDGEHOG}});
    module.attr("STATE_LAYOUTS") = constants({{"kv", ATTN_STATE_KV}, {"vk", ATTN_STATE_VK}});
    module.attr("LINEAR_FLAGS") = constants({{"bidirectional", ATTN_LINEAR_BIDIRECTIONAL},
                                             {"qk_l2norm", ATTN_LINEAR_QK_L2NORM},
                                             {"normaliser", ATTN_LINEAR_NORMALISER},
                                             {"recurrent", ATTN_LINEAR_RECURRENT}});
    module.attr("CONV_ACTIVATIONS") = constants({{"silu", ATTN_CONV_SILU}});
    module.attr("SCAN_FORMS") = constants({{"log", ATTN_SCAN_LOG}, {"factor", ATTN_SCAN_FACTOR}});
    module.attr("SCAN_FLAGS") = constants({{"lerp", ATTN_SCAN_LERP}});
    module.attr("MASK_OPS") = constants({{"and", ATTN_OP_AND},
                                         {"or", ATTN_OP_OR},
                                         {"not", ATTN_OP_NOT},
                                         {"causal", ATTN_MASK_CAUSAL},
                                         {"band", ATTN_MASK_BAND},
                                         {"prefix", ATTN_MASK_PREFIX},
                                         {"first_rows", ATTN_MASK_FIRST_ROWS},
                                         {"last_rows", ATTN_MASK_LAST_ROWS},
                                         {"vertical", ATTN_MASK_VERTICAL},
                                         {"pow2", ATTN_MASK_POW2},
                                         {"id_eq", ATTN_MASK_ID_EQ},
                                         {"id_ge", ATTN_MASK_ID_GE},
                                         {"id_gt", ATTN_MASK_ID_GT},
                                         {"id_q", ATTN_MASK_ID_Q},
                                         {"id_kv", ATTN_MASK_ID_KV},
                                         {"heads", ATTN_MASK_HEADS}});
    module.attr("UNBOUNDED") = static_cast<int64_t>(ATTN_UNBOUNDED);
    module.attr("V_ALIASES_K") = static_cast<uint32_t>(ATTN_V_ALIASES_K);
    module.attr("WINDOW_LEFT") = static_cast<uint32_t>(ATTN_WINDOW_LEFT);
    module.attr("WINDOW_RIGHT") = static_cast<uint32_t>(ATTN_WINDOW_RIGHT);
    module.attr("BROADCAST_AXIS0") = static_cast<uint32_t>(ATTN_BIND_BROADCAST_AXIS0);
    module.attr("ABSENT") = static_cast<uint32_t>(ATTN_BIND_ABSENT);

    module.def("devices", &devices, py::arg("device"));
    module.def(
        "device_of", [](std::uintptr_t address) { return cuda::device_of(reinterpret_cast<void *>(address)); },
        py::arg("address"));
    module.def("synchronize", &cuda::synchronize, py::arg("device_id"), py::arg("stream"));
    module.def(
        "read",
        [](std::uintptr_t address, size_t bytes, int device_id, cuda::Stream stream) {
            return py::bytes(cuda::read(address, bytes, device_id, stream));
        },
        py::arg("address"), py::arg("bytes"), py::arg("device_id"), py::arg("stream"));
    module.def(
        "raise_error", [](attn_status status, const std::string &message) { raise_error(status, message); },
        py::arg("status"), py::arg("message"));

    py::class_<cuda::Scratch>(module, "Scratch")
        .def(py::init<size_t, int, cuda::Stream>(), py::arg("bytes"), py::arg("device_id"), py::arg("stream"))
        .def_property_readonly("address", &cuda::Scratch::address);

    py::class_<Tensor>(module, "Tensor")
        .def(py::init([](const py::object &object, const std::string &name, bool writable, attn_dtype dtype,
                         attn_device device, int32_t device_id, cuda::Stream stream) {
                 return std::make_unique<Tensor>(object, name, writable, dtype, Where{device, device_id, stream});
             }),
             py::arg("object"), py::arg("name"), py::arg("writable") = false, py::arg("dtype") = 0,
             py::arg("device") = static_cast<attn_device>(ATTN_DEVICE_CPU), py::arg("device_id") = 0,
             py::arg("stream") = 0)
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
    problem.def(py::init<>())
        .def("bind", &Problem::bind, py::arg("slot"), py::arg("dtype"), py::arg("flags"), py::arg("index") = 0);
    field<&attn_problem::flags>(problem, "flags");
    field<&attn_problem::precision>(problem, "precision");
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
    dense.def(py::init<>())
        .def("set_bias_table", &Dense::set_bias_table, py::arg("kind"), py::arg("bidirectional"), py::arg("buckets"),
             py::arg("max_distance"), py::arg("grid"))
        .def("set_mask", &Dense::set_mask, py::arg("terms"), py::arg("tables"));
    field<&attn_dense::flags>(dense, "flags");
    field<&attn_dense::causal>(dense, "causal");
    field<&attn_dense::align>(dense, "align");
    field<&attn_dense::window_left>(dense, "window_left");
    field<&attn_dense::window_right>(dense, "window_right");
    field<&attn_dense::sink_tokens>(dense, "sink_tokens");
    field<&attn_dense::softcap>(dense, "softcap");
    field<&attn_dense::activation>(dense, "activation");
    field<&attn_dense::activation_bias>(dense, "activation_bias");
    field<&attn_dense::activation_length>(dense, "activation_length");
    field<&attn_dense::bias_stage>(dense, "bias_stage");
    field<&attn_dense::bias_rank>(dense, "bias_rank");
    field<&attn_dense::gate>(dense, "gate");

    py::class_<Merge> merge(module, "Merge");
    merge.def(py::init<>());
    field<&attn_merge::parts>(merge, "parts");
    field<&attn_merge::activation>(merge, "activation");
    field<&attn_merge::gate>(merge, "gate");

    py::class_<Append> append(module, "Append");
    append.def(py::init<>())
        .def("set_rope", &Append::set_rope, py::arg("layout"), py::arg("source"), py::arg("dim"), py::arg("first"),
             py::arg("base"));
    field<&attn_append::ring_rows>(append, "ring_rows");
    field<&attn_append::sink_tokens>(append, "sink_tokens");

    py::class_<Linear> linear(module, "Linear");
    linear.def(py::init<>());
    field<&attn_linear::flags>(linear, "flags");
    field<&attn_linear::decay>(linear, "decay");
    field<&attn_linear::decay_form>(linear, "decay_form");
    field<&attn_linear::update>(linear, "update");
    field<&attn_linear::read>(linear, "read");
    field<&attn_linear::feature_map>(linear, "feature_map");
    field<&attn_linear::state_layout>(linear, "state_layout");
    field<&attn_linear::state_keep>(linear, "state_keep");
    field<&attn_linear::state_dtype>(linear, "state_dtype");
    field<&attn_linear::chunk>(linear, "chunk");
    field<&attn_linear::decay_lower_bound>(linear, "decay_lower_bound");
    field<&attn_linear::decay_scale>(linear, "decay_scale");
    field<&attn_linear::normaliser_eps>(linear, "normaliser_eps");

    py::class_<Conv> conv(module, "Conv");
    conv.def(py::init<>());
    field<&attn_conv::width>(conv, "width");
    field<&attn_conv::activation>(conv, "activation");
    field<&attn_conv::state_dtype>(conv, "state_dtype");

    py::class_<Scan> scan(module, "Scan");
    scan.def(py::init<>());
    field<&attn_scan::flags>(scan, "flags");
    field<&attn_scan::form>(scan, "form");
    field<&attn_scan::state_dtype>(scan, "state_dtype");

    module.def("save_states", &save_states, py::arg("problem"), py::arg("descriptor"), py::arg("state"),
               py::arg("tokens"));
    module.def("load_states", &load_states, py::arg("problem"), py::arg("descriptor"), py::arg("saved"),
               py::arg("state"));
    module.def("copy_states", &copy_states, py::arg("source"), py::arg("source_layout"), py::arg("target"),
               py::arg("target_layout"));
    module.def("inspect_states", &inspect_states, py::arg("saved"));

    py::class_<Plan>(module, "Plan")
        .def(py::init<const Handle &, const Problem &, const Linear &>(), py::arg("handle"), py::arg("problem"),
             py::arg("descriptor"))
        .def(py::init<const Handle &, const Problem &, const Conv &>(), py::arg("handle"), py::arg("problem"),
             py::arg("descriptor"))
        .def(py::init<const Handle &, const Problem &, const Scan &>(), py::arg("handle"), py::arg("problem"),
             py::arg("descriptor"))
        .def(py::init<const Handle &, const Problem &, const Dense &>(), py::arg("handle"), py::arg("problem"),
             py::arg("descriptor"))
        .def(py::init<const Handle &, const Problem &, const Merge &>(), py::arg("handle"), py::arg("problem"),
             py::arg("descriptor"))
        .def(py::init<const Handle &, const Problem &, const Append &>(), py::arg("handle"), py::arg("problem"),
             py::arg("descriptor"))
        .def_property_readonly("workspace_bytes", &Plan::workspace_bytes)
        .def("describe", &Plan::describe)
        .def("slots", &Plan::slots)
        .def("workspace_for", &Plan::workspace_for, py::arg("sizes"))
        .def("execute", &Plan::execute, py::arg("tensors"), py::arg("sizes") = py::none())
        .def("launch", &Plan::launch, py::arg("tensors"), py::arg("stream"), py::arg("workspace"), py::arg("bytes"));
}
