#include "describe.h"

#include "append.h"
#include "conv.h"
#include "dense.h"
#include "handle.h"
#include "json.h"
#include "linear.h"
#include "merge.h"
#include "names.h"
#include "scan.h"

#include <algorithm>

namespace attn {
namespace {

/// Pairs of query and key that the mask leaves, for lengths tq and tk; positions count as if they were indices.
double visible_pairs(const DenseMask &mask, double tq, double tk)
{
    if (!mask.causal && !mask.has_left && !mask.has_right) return tq * tk;
    const double offset = mask.align == ATTN_BOTTOM_RIGHT ? tk - tq : 0;
    const double right = mask.causal ? 0 : mask.has_right ? static_cast<double>(mask.right) : tk;
    const double left = mask.has_left ? static_cast<double>(mask.left) : tk + tq;
    // A sample of rows is exact enough for a figure that people read, and bounded for any length.
    const int64_t rows = static_cast<int64_t>(std::min(tq, 4096.0));
    double pairs = 0;
    for (int64_t i = 0; i < rows; ++i) {
        const double row = rows > 1 ? static_cast<double>(i) * (tq - 1) / static_cast<double>(rows - 1) : 0;
        const double diagonal = row + offset;
        const double end = std::clamp(diagonal + right + 1, 0.0, tk);
        const double begin = std::clamp(diagonal - left, 0.0, tk);
        const double sinks = std::min(static_cast<double>(mask.sink_tokens), mask.causal ? end : tk);
        pairs += std::max(0.0, end - begin) + std::max(0.0, std::min(sinks, begin));
    }
    return pairs * tq / static_cast<double>(rows);
}

void describe_problem(JsonWriter &json, const Problem &p)
{
    json.open("problem");
    json.add("direction", direction_name(p.direction));
    json.add("flags", static_cast<int64_t>(p.flags));
    json.add("precision", static_cast<int64_t>(p.precision));
    json.add("q_dtype", dtype_name(p.q_dtype));
    json.add("k_dtype", dtype_name(p.k_dtype));
    json.add("v_dtype", dtype_name(p.v_dtype));
    json.add("out_dtype", dtype_name(p.out_dtype));
    json.add("batch", p.batch);
    json.add("heads_q", p.heads_q);
    json.add("heads_k", p.heads_k);
    json.add("heads_v", p.heads_v);
    json.add("heads_out", p.heads_out);
    json.add("dim_qk", p.dim_qk);
    json.add("dim_v", p.dim_v);
    json.add("max_q", p.max_q);
    json.add("max_kv", p.max_kv);
    json.add("total_q", p.total_q);
    json.add("total_kv", p.total_kv);
    json.add("page_size", p.page_size);
    json.add("scale", p.scale);
    json.close();
}

void describe_tensors(JsonWriter &json, const Problem &p)
{
    json.open_array("tensors");
    for (const TensorSpec &spec : p.tensors) {
        json.open();
        json.add("slot", slot_name(spec.slot));
        json.add("index", static_cast<int64_t>(spec.index));
        json.add("dtype", dtype_name(spec.dtype));
        json.add("flags", static_cast<int64_t>(spec.flags));
        json.add("output", spec.output);
        json.open_array("bounds");
        for (int axis = 0; axis < spec.ndim; ++axis) json.add(nullptr, spec.bounds[axis]);
        json.close_array();
        json.close();
    }
    json.close_array();
}

/// FLOPs and bytes of a dense plan, and its own fields.
void describe_dense(JsonWriter &json, const DenseProblem &p)
{
    const double tokens_q = std::min(static_cast<double>(p.batch) * static_cast<double>(p.max_q),
                                     p.packed_q ? static_cast<double>(p.total_q) : 1e300);
    const double sequences = tokens_q / static_cast<double>(p.max_q);
    const double pairs = sequences * visible_pairs(p.mask, static_cast<double>(p.max_q), static_cast<double>(p.max_kv));
    const double tokens_kv = p.storage == Storage::packed
                                 ? static_cast<double>(p.total_kv)
                                 : static_cast<double>(p.batch) * static_cast<double>(p.max_kv);
    const auto bytes = [](double tokens, int64_t heads, int64_t dim, attn_dtype dtype) {
        return tokens * static_cast<double>(heads * dim * dtype_bytes(dtype));
    };
    json.add("flops", 2.0 * pairs * static_cast<double>(p.heads_out) * static_cast<double>(p.dim_qk + p.dim_v));
    json.add("bytes",
             bytes(tokens_q, p.heads_q, p.dim_qk, p.q_dtype) + bytes(tokens_q, p.heads_out, p.dim_v, p.out_dtype) +
                 bytes(tokens_kv, p.heads_k, p.dim_qk, p.k_dtype) + bytes(tokens_kv, p.heads_v, p.dim_v, p.v_dtype));
    json.open("dense");
    json.add("causal", p.mask.causal ? align_name(p.mask.align) : "none");
    json.add("align", align_name(p.mask.align));
    if (p.mask.has_left) json.add("window_left", p.mask.left);
    if (p.mask.has_right) json.add("window_right", p.mask.right);
    json.add("sink_tokens", p.mask.sink_tokens);
    json.add("softcap", p.softcap);
    json.add("activation", activation_name(p.activation));
    json.add("activation_bias", p.activation_bias);
    json.add("activation_length", p.activation_length);
    json.add("bias_stage", static_cast<int64_t>(p.bias_stage));
    json.add("gate", static_cast<int64_t>(p.gate));
    json.add("bias_rank", p.bias_rank);
    if (p.bias_table.present) {
        const BiasTable &table = p.bias_table;
        json.open("bias_table");
        json.add("kind", static_cast<int64_t>(table.kind));
        json.add("bidirectional", table.bidirectional);
        json.add("buckets", table.buckets);
        json.add("max_distance", table.max_distance);
        json.open_array("grid");
        for (const int64_t extent : table.grid) json.add(nullptr, extent);
        json.close_array();
        json.close();
    }
    if (p.program.present()) {
        json.open_array("mask");
        describe_terms(json, p.program);
        json.close_array();
    }
    json.close();
}

/// FLOPs and bytes of a merge, and its own fields.
void describe_merge(JsonWriter &json, const MergeProblem &p)
{
    const double tokens = std::min(static_cast<double>(p.batch) * static_cast<double>(p.max_q),
                                   p.packed_q ? static_cast<double>(p.total_q) : 1e300);
    const double rows = tokens * static_cast<double>(p.heads_out);
    const double values = rows * static_cast<double>(p.dim_v);
    const double parts = static_cast<double>(p.parts);
    const int64_t part_bytes = dtype_bytes(p.tensors[p.partial_out(0)].dtype);
    json.add("flops", 2.0 * parts * values);
    json.add("bytes", parts * (values * static_cast<double>(part_bytes) + (p.weighed() ? 4.0 * rows : 0.0)) +
                          values * static_cast<double>(dtype_bytes(p.out_dtype)));
    json.open("merge");
    json.add("parts", static_cast<int64_t>(p.parts));
    json.add("activation", activation_name(p.activation));
    static constexpr const char *kGates[] = {"sigmoid", "linear", "silu"};
    if (p.gate_values >= 0) json.add("gate", kGates[p.gate]);
    json.close();
}

/// FLOPs and bytes of an append plan, and its own fields.
void describe_append(JsonWriter &json, const AppendProblem &p)
{
    const double tokens = std::min(static_cast<double>(p.batch) * static_cast<double>(p.max_q),
                                   p.packed_q ? static_cast<double>(p.total_q) : 1e300);
    // Every row is read and written once, each with the dtype of its tensor.
    double bytes = 0;
    for (const TensorSpec &spec : p.tensors) {
        const bool k = spec.slot == ATTN_SLOT_K || spec.slot == ATTN_SLOT_K_CACHE;
        const bool v = spec.slot == ATTN_SLOT_V || spec.slot == ATTN_SLOT_V_CACHE;
        if (!k && !v && spec.slot != ATTN_SLOT_Q && spec.slot != ATTN_SLOT_OUT) continue;
        const double heads = static_cast<double>(k ? p.heads_k : v ? p.heads_v : p.heads_q);
        bytes += tokens * heads * static_cast<double>((v ? p.dim_v : p.dim_qk) * dtype_bytes(spec.dtype));
    }
    const double rotated =
        static_cast<double>(p.writes_k ? p.heads_k : 0) + static_cast<double>(p.writes_q ? p.heads_q : 0);
    json.add("flops", 3.0 * tokens * rotated * static_cast<double>(p.rope.dim));
    json.add("bytes", bytes);
    json.open("append");
    json.add("ring_rows", p.ring_rows);
    json.add("sink_tokens", p.sink_tokens);
    if (p.rope.dim) {
        json.open("rope");
        json.add("layout", p.rope.layout == ATTN_ROPE_INTERLEAVED ? "interleaved" : "half");
        json.add("source", p.rope.source == ATTN_ROPE_TABLE ? "table" : "base");
        json.add("dim", p.rope.dim);
        json.add("first", p.rope.first);
        if (p.rope.source == ATTN_ROPE_BASE) json.add("base", p.rope.base);
        json.close();
    }
    json.close();
}

/// All tensors of a plan, each once; a pool has the states of the batch.
double bytes_of_tensors(const Problem &p)
{
    double bytes = 0;
    for (const TensorSpec &spec : p.tensors) {
        double elements = static_cast<double>(dtype_bytes(spec.dtype));
        for (int axis = 0; axis < spec.ndim; ++axis)
            elements *=
                spec.bounds[axis] == kFree ? static_cast<double>(p.batch) : static_cast<double>(spec.bounds[axis]);
        bytes += elements;
    }
    return bytes;
}

/// FLOPs and bytes of a linear plan, and its own fields. The products are those of the recurrence: one of the state
/// with a query for each head of OUT, one to write a key, two more where a key is first looked up (and erased).
void describe_linear(JsonWriter &json, const LinearProblem &p)
{
    const auto tokens_of = [&](int64_t longest, bool packed, int64_t total) {
        return std::min(static_cast<double>(p.batch) * static_cast<double>(longest),
                        packed ? static_cast<double>(total) : 1e300);
    };
    const double queries = tokens_of(p.max_q, p.packed_q, p.total_q);
    const double keys = p.bidirectional ? tokens_of(p.max_kv, p.packed_kv, p.total_kv) : queries;
    const double state = static_cast<double>(p.dim_k) * static_cast<double>(p.state_columns);
    const double writes = p.update == ATTN_UPDATE_ADD ? 1 : p.update == ATTN_UPDATE_DPLR ? 3 : 2;
    const double heads_v = static_cast<double>(p.heads_v);
    json.add("flops", 2.0 * state * (queries * static_cast<double>(p.heads_out) + keys * heads_v * writes));
    json.add("bytes", bytes_of_tensors(p));
    json.open("linear");
    json.add("decay", decay_name(p.decay));
    static constexpr const char *kForms[] = {"log", "softplus", "sigmoid", "log_sigmoid"};
    json.add("decay_form", kForms[p.decay_form]);
    json.add("decay_lower_bound", p.lower_bound);
    json.add("decay_scale", p.decay_scale);
    json.add("update", update_name(p.update));
    json.add("read", p.read == ATTN_READ_BEFORE ? "before" : "after");
    json.add("feature_map", feature_map_name(p.feature_map));
    json.add("bidirectional", p.bidirectional);
    json.add("qk_l2norm", p.l2norm);
    json.add("normaliser", p.normaliser);
    json.add("normaliser_eps", p.normaliser_eps);
    json.add("recurrent", p.recurrent);
    json.add("chunk", p.chunk);
    json.add("state_rows", p.dim_k);
    json.add("state_columns", p.state_columns);
    json.add("state_layout", p.state_layout == ATTN_STATE_VK ? "value_major" : "key_major");
    json.add("state_keep", p.state_keep == ATTN_STATE_PER_TOKEN ? "per_token" : "final");
    json.add("state_dtype", dtype_name(p.state_dtype));
    json.close();
}

/// Elements of X of a conv or scan plan.
double elements_of(const SequenceProblem &p)
{
    const double tokens = std::min(static_cast<double>(p.batch) * static_cast<double>(p.max_q),
                                   p.packed_q ? static_cast<double>(p.total_q) : 1e300);
    return tokens * static_cast<double>(p.heads_q) * static_cast<double>(p.dim_qk);
}

/// FLOPs and bytes of a convolution, a multiplication and an addition for each tap, and its own fields.
void describe_conv(JsonWriter &json, const ConvProblem &p)
{
    json.add("flops", 2.0 * elements_of(p) * static_cast<double>(p.width));
    json.add("bytes", bytes_of_tensors(p));
    json.open("conv");
    json.add("width", p.width);
    json.add("activation", p.activation == ATTN_CONV_SILU ? "silu" : "identity");
    json.add("state_dtype", dtype_name(p.state_dtype));
    json.close();
}

/// FLOPs and bytes of a scan and its own fields.
void describe_scan(JsonWriter &json, const ScanProblem &p)
{
    json.add("flops", 3.0 * elements_of(p));
    json.add("bytes", bytes_of_tensors(p));
    json.open("scan");
    json.add("form", p.form == ATTN_SCAN_FACTOR ? "factor" : "log");
    json.add("lerp", p.lerp);
    json.add("state_dtype", dtype_name(p.state_dtype));
    json.close();
}

} // namespace

Sizes bounding_sizes(const Problem &problem) noexcept
{
    Sizes sizes;
    for (int axis = 0; axis < kAxisCount; ++axis) sizes.extent[axis] = problem.bounds[axis];
    return sizes;
}

std::string describe_plan(const attn_handle_s &handle, const Problem &p, const Executor &executor)
{
    JsonWriter json;
    json.open();
    json.add("schema", kDescriptionVersion);
    json.add("library_version", static_cast<int64_t>(ATTN_VERSION));
    json.add("kind", kind_name(p.kind));
    json.add("backend", handle.backend->name());
    json.add("device", device_name(handle.device));
    json.add("device_id", static_cast<int64_t>(handle.device_id));
    json.add("kernel", executor.kernel());
    json.add("workspace_bytes", static_cast<int64_t>(executor.workspace_bytes(bounding_sizes(p))));
    json.add("workspace_alignment", static_cast<int64_t>(executor.workspace_alignment()));
    describe_problem(json, p);
    if (p.kind == ATTN_KIND_DENSE) describe_dense(json, static_cast<const DenseProblem &>(p));
    if (p.kind == ATTN_KIND_MERGE) describe_merge(json, static_cast<const MergeProblem &>(p));
    if (p.kind == ATTN_KIND_APPEND) describe_append(json, static_cast<const AppendProblem &>(p));
    if (p.kind == ATTN_KIND_LINEAR) describe_linear(json, static_cast<const LinearProblem &>(p));
    if (p.kind == ATTN_KIND_CONV) describe_conv(json, static_cast<const ConvProblem &>(p));
    if (p.kind == ATTN_KIND_SCAN) describe_scan(json, static_cast<const ScanProblem &>(p));
    describe_tensors(json, p);
    json.open("execution");
    json.add("workers", static_cast<int64_t>(handle.workers));
    executor.describe(json);
    json.close();
    json.open_array("refusals");
    for (const Refusal &refusal : executor.refusals) {
        json.open();
        json.add("kernel", refusal.kernel.c_str());
        json.add("reason", refusal.reason.c_str());
        json.close();
    }
    json.close_array();
    json.close();
    return json.text();
}

} // namespace attn
