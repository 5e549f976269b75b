#include "plan_descriptor.h"

#include <algorithm>
#include <string>

namespace attn::cli {
namespace {

template <class Number>
struct Name {
    const char *name;
    Number number;
};

constexpr Name<attn_kind> kKinds[] = {
    {"dense", ATTN_KIND_DENSE}, {"merge", ATTN_KIND_MERGE}, {"append", ATTN_KIND_APPEND}};
constexpr Name<attn_direction> kDirections[] = {
    {"forward", ATTN_FORWARD}, {"backward", ATTN_BACKWARD}, {"jvp", ATTN_JVP}};
constexpr Name<attn_dtype> kDtypes[] = {{"bool", ATTN_BOOL},
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
                                        {"float64", ATTN_FLOAT64}};
constexpr Name<attn_activation> kActivations[] = {
    {"softmax", ATTN_SOFTMAX}, {"sigmoid", ATTN_SIGMOID}, {"relu", ATTN_RELU}};
constexpr Name<attn_gate> kGates[] = {
    {"sigmoid", ATTN_GATE_SIGMOID}, {"linear", ATTN_GATE_LINEAR}, {"silu", ATTN_GATE_SILU}};
constexpr Name<attn_rope_layout> kLayouts[] = {{"half", ATTN_ROPE_HALF}, {"interleaved", ATTN_ROPE_INTERLEAVED}};
constexpr Name<attn_rope_source> kRopeSources[] = {{"base", ATTN_ROPE_BASE}, {"table", ATTN_ROPE_TABLE}};
constexpr Name<attn_slot> kSlots[] = {{"Q", ATTN_SLOT_Q},
                                      {"K", ATTN_SLOT_K},
                                      {"V", ATTN_SLOT_V},
                                      {"OUT", ATTN_SLOT_OUT},
                                      {"LSE", ATTN_SLOT_LSE},
                                      {"PARTIAL_OUT", ATTN_SLOT_PARTIAL_OUT},
                                      {"PARTIAL_LSE", ATTN_SLOT_PARTIAL_LSE},
                                      {"K_CACHE", ATTN_SLOT_K_CACHE},
                                      {"V_CACHE", ATTN_SLOT_V_CACHE},
                                      {"CU_SEQLENS_Q", ATTN_SLOT_CU_SEQLENS_Q},
                                      {"CU_SEQLENS_KV", ATTN_SLOT_CU_SEQLENS_KV},
                                      {"SEQLENS_Q", ATTN_SLOT_SEQLENS_Q},
                                      {"SEQLENS_KV", ATTN_SLOT_SEQLENS_KV},
                                      {"BLOCK_TABLE", ATTN_SLOT_BLOCK_TABLE},
                                      {"BLOCK_TABLE_PTR", ATTN_SLOT_BLOCK_TABLE_PTR},
                                      {"SLOT_MAPPING", ATTN_SLOT_SLOT_MAPPING},
                                      {"BIAS", ATTN_SLOT_BIAS},
                                      {"BIAS_TABLE", ATTN_SLOT_BIAS_TABLE},
                                      {"BIAS_LOWRANK_Q", ATTN_SLOT_BIAS_LOWRANK_Q},
                                      {"BIAS_LOWRANK_K", ATTN_SLOT_BIAS_LOWRANK_K},
                                      {"ALIBI_SLOPES", ATTN_SLOT_ALIBI_SLOPES},
                                      {"SINK_LOGITS", ATTN_SLOT_SINK_LOGITS},
                                      {"Q_TEMPERATURE", ATTN_SLOT_Q_TEMPERATURE},
                                      {"V_TEMPERATURE", ATTN_SLOT_V_TEMPERATURE},
                                      {"GATE", ATTN_SLOT_GATE},
                                      {"HEAD_WEIGHT", ATTN_SLOT_HEAD_WEIGHT},
                                      {"IDS_Q", ATTN_SLOT_IDS_Q},
                                      {"IDS_KV", ATTN_SLOT_IDS_KV},
                                      {"POSITIONS_Q", ATTN_SLOT_POSITIONS_Q},
                                      {"POSITIONS_KV", ATTN_SLOT_POSITIONS_KV},
                                      {"MASK", ATTN_SLOT_MASK},
                                      {"ROPE_COS", ATTN_SLOT_ROPE_COS},
                                      {"ROPE_SIN", ATTN_SLOT_ROPE_SIN},
                                      {"COLUMN_MASS", ATTN_SLOT_COLUMN_MASS},
                                      {"ROW_MAX", ATTN_SLOT_ROW_MAX},
                                      {"ROW_ENTROPY", ATTN_SLOT_ROW_ENTROPY},
                                      {"STATUS", ATTN_SLOT_STATUS}};

/// The number that a text names.
template <class Number, size_t N>
Number number_of(const JsonValue &value, const Name<Number> (&names)[N], const char *what)
{
    for (const Name<Number> &name : names)
        if (value.as_string() == name.name) return name.number;
    throw value.error("no " + std::string(what) + " is called " + value.as_string());
}

} // namespace

PlanDescriptor::PlanDescriptor(const JsonValue &description)
{
    const JsonValue &schema = description.at("schema");
    if (schema.as_int64() != 1) throw schema.error("schema " + schema.as_text() + " is not known, only 1");
    kind_ = number_of(description.at("kind"), kKinds, "kind of plan");
    read_binds(description.at("tensors"));
    read_problem(description.at("problem"));
    table_.size = sizeof table_;
    rope_.size = sizeof rope_;
    if (kind_ == ATTN_KIND_DENSE) read_dense(description.at("dense"));
    if (kind_ == ATTN_KIND_MERGE) read_merge(description.at("merge"));
    if (kind_ == ATTN_KIND_APPEND) read_append(description.at("append"));
}

attn_status PlanDescriptor::plan(attn_handle handle, attn_plan *out) const
{
    switch (kind_) {
    case ATTN_KIND_DENSE:
        return attn_plan_dense(handle, &dense_, out);
    case ATTN_KIND_MERGE:
        return attn_plan_merge(handle, &merge_, out);
    default:
        return attn_plan_append(handle, &append_, out);
    }
}

bool PlanDescriptor::is_bound(attn_slot slot) const
{
    return std::any_of(binds_.begin(), binds_.end(), [&](const attn_bind &bind) { return bind.slot == slot; });
}

/// Binds every tensor as it is described; those that come by default may be bound as well. The parts of a merge are
/// bound with index 0 for all.
void PlanDescriptor::read_binds(const JsonValue &tensors)
{
    for (const JsonValue &tensor : tensors.as_array()) {
        attn_bind bind = {};
        bind.slot = number_of(tensor.at("slot"), kSlots, "slot");
        bind.index = static_cast<uint32_t>(tensor.at("index").as_int64());
        if (bind.index != 0 && (bind.slot == ATTN_SLOT_PARTIAL_OUT || bind.slot == ATTN_SLOT_PARTIAL_LSE)) continue;
        bind.dtype = number_of(tensor.at("dtype"), kDtypes, "dtype");
        bind.flags = static_cast<uint32_t>(tensor.at("flags").as_int64());
        binds_.push_back(bind);
    }
}

void PlanDescriptor::read_problem(const JsonValue &problem)
{
    const auto integer = [&](const char *name) { return problem.at(name).as_int64(); };
    attn_problem &p = problem_;
    p.size = sizeof p;
    p.direction = number_of(problem.at("direction"), kDirections, "direction");
    p.flags = problem.at("flags").as_uint64();
    p.precision = static_cast<attn_precision>(integer("precision"));
    p.q_dtype = number_of(problem.at("q_dtype"), kDtypes, "dtype");
    p.batch = integer("batch");
    p.heads_q = integer("heads_q"), p.heads_k = integer("heads_k"), p.heads_v = integer("heads_v");
    p.dim_qk = integer("dim_qk"), p.dim_v = integer("dim_v");
    p.max_q = integer("max_q");
    p.page_size = integer("page_size");
    // What is printed with a value that it only has where something else is given must be 0 elsewhere.
    if (is_bound(ATTN_SLOT_CU_SEQLENS_Q)) p.total_q = integer("total_q");
    if (is_bound(ATTN_SLOT_CU_SEQLENS_KV)) p.total_kv = integer("total_kv");
    if (is_bound(ATTN_SLOT_OUT)) p.out_dtype = number_of(problem.at("out_dtype"), kDtypes, "dtype");
    if (kind_ == ATTN_KIND_DENSE) p.scale = problem.at("scale").as_double();
    if (kind_ == ATTN_KIND_MERGE) return;
    p.k_dtype = number_of(problem.at("k_dtype"), kDtypes, "dtype");
    p.v_dtype = number_of(problem.at("v_dtype"), kDtypes, "dtype");
    p.max_kv = integer("max_kv");
}

void PlanDescriptor::read_dense(const JsonValue &dense)
{
    attn_dense &d = dense_;
    d.size = sizeof d;
    d.causal = align_of(dense.at("causal"));
    d.align = align_of(dense.at("align"));
    if (const JsonValue *left = dense.find("window_left")) {
        d.flags |= ATTN_WINDOW_LEFT;
        d.window_left = left->as_int64();
    }
    if (const JsonValue *right = dense.find("window_right")) {
        d.flags |= ATTN_WINDOW_RIGHT;
        d.window_right = right->as_int64();
    }
    d.sink_tokens = dense.at("sink_tokens").as_int64();
    d.softcap = dense.at("softcap").as_double();
    d.activation = number_of(dense.at("activation"), kActivations, "activation");
    d.activation_bias = dense.at("activation_bias").as_double();
    d.activation_length = dense.at("activation_length").as_int64();
    d.bias_stage = static_cast<attn_bias_stage>(dense.at("bias_stage").as_int64());
    if (is_bound(ATTN_SLOT_GATE)) d.gate = static_cast<attn_gate>(dense.at("gate").as_int64());
    d.bias_rank = dense.at("bias_rank").as_int64();
    if (const JsonValue *table = dense.find("bias_table")) {
        table_.kind = static_cast<attn_table_kind>(table->at("kind").as_int64());
        if (table_.kind == ATTN_TABLE_BUCKET) {
            table_.bidirectional = table->at("bidirectional").as_bool();
            table_.buckets = table->at("buckets").as_int64();
        }
        if (table_.kind != ATTN_TABLE_GRID) table_.max_distance = table->at("max_distance").as_int64();
        const std::vector<JsonValue> &grid = table->at("grid").as_array();
        if (grid.size() != std::size(table_.grid)) throw table->at("grid").error("grid must have 4 extents");
        for (size_t axis = 0; axis < grid.size(); ++axis) table_.grid[axis] = grid[axis].as_int64();
        d.bias_table = &table_;
    }
    if (const JsonValue *mask = dense.find("mask")) {
        mask_.read(*mask);
        d.mask = mask_.program();
    }
    bind_problem(&d.problem);
}

void PlanDescriptor::read_merge(const JsonValue &merge)
{
    merge_.size = sizeof merge_;
    const int64_t parts = merge.at("parts").as_int64();
    if (parts < 1) throw merge.at("parts").error("parts must be 1 or more");
    merge_.parts = static_cast<size_t>(parts);
    merge_.activation = number_of(merge.at("activation"), kActivations, "activation");
    if (const JsonValue *gate = merge.find("gate")) merge_.gate = number_of(*gate, kGates, "gate");
    bind_problem(&merge_.problem);
}

void PlanDescriptor::read_append(const JsonValue &append)
{
    append_.size = sizeof append_;
    append_.ring_rows = append.at("ring_rows").as_int64();
    append_.sink_tokens = append.at("sink_tokens").as_int64();
    if (const JsonValue *rope = append.find("rope")) {
        rope_.layout = number_of(rope->at("layout"), kLayouts, "layout of rotated channels");
        rope_.source = number_of(rope->at("source"), kRopeSources, "source of angles");
        rope_.dim = rope->at("dim").as_int64();
        rope_.first = rope->at("first").as_int64();
        if (const JsonValue *base = rope->find("base")) rope_.base = base->as_double();
        append_.rope = &rope_;
    }
    // New rows come by default.
    for (const attn_slot slot : {ATTN_SLOT_K, ATTN_SLOT_V}) {
        if (is_bound(slot) || (slot == ATTN_SLOT_V && (problem_.flags & ATTN_V_ALIASES_K))) continue;
        attn_bind bind = {};
        bind.slot = slot;
        bind.flags = ATTN_BIND_ABSENT;
        binds_.push_back(bind);
    }
    bind_problem(&append_.problem);
}

/// Once all binds are known.
void PlanDescriptor::bind_problem(const attn_problem **out)
{
    problem_.binds = binds_.data();
    problem_.bind_count = binds_.size();
    *out = &problem_;
}

} // namespace attn::cli
