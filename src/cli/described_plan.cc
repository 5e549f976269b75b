#include "described_plan.h"

#include "work.h"

#include "conformance/mask_text.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace attn::cli {
namespace {

using conformance::Case;

/// The tensors of a description by name.
using Tensors = std::map<std::string, const JsonValue *>;

std::string dtype_of(const JsonValue &name)
{
    static const std::map<std::string, std::string> kNames = {
        {"float32", "fp32"}, {"float16", "fp16"}, {"bfloat16", "bf16"}, {"int32", "int32"}, {"int64", "int64"}};
    const auto found = kNames.find(name.as_string());
    if (found == kNames.end()) throw name.error("the oracle has no dtype " + name.as_string());
    return found->second;
}

/// The tensors, each a slot that a case knows.
Tensors read_tensors(const JsonValue &description)
{
    static constexpr const char *kKnown[] = {"Q",
                                             "K",
                                             "V",
                                             "OUT",
                                             "LSE",
                                             "BIAS",
                                             "BIAS_TABLE",
                                             "ROW_MAX",
                                             "ROW_ENTROPY",
                                             "COLUMN_MASS",
                                             "SEQLENS_Q",
                                             "SEQLENS_KV",
                                             "BLOCK_TABLE",
                                             "BLOCK_TABLE_PTR",
                                             "CU_SEQLENS_Q",
                                             "CU_SEQLENS_KV",
                                             "ALIBI_SLOPES",
                                             "SINK_LOGITS",
                                             "Q_TEMPERATURE",
                                             "V_TEMPERATURE",
                                             "GATE",
                                             "HEAD_WEIGHT",
                                             "POSITIONS_Q",
                                             "POSITIONS_KV",
                                             "IDS_Q",
                                             "IDS_KV",
                                             "BIAS_LOWRANK_Q",
                                             "BIAS_LOWRANK_K"};
    Tensors tensors;
    for (const JsonValue &tensor : description.at("tensors").as_array()) {
        const std::string &slot = tensor.at("slot").as_string();
        if (std::find(std::begin(kKnown), std::end(kKnown), slot) == std::end(kKnown))
            throw tensor.at("slot").error("the oracle has no slot " + slot);
        tensors[slot] = &tensor;
    }
    return tensors;
}

/// Whether the axis of a tensor is broadcast; axes are counted as if it were not packed.
bool repeats(const JsonValue &tensor, bool packed, int axis)
{
    if (packed && axis == 0) return false;
    return (tensor.at("flags").as_int64() & conformance::broadcast_flag(packed, axis)) != 0;
}

void read_lengths(const Tensors &tensors, int64_t page_size, Case *c)
{
    const auto has = [&](const char *slot) { return tensors.count(slot) > 0; };
    const auto plain = [&](bool cu, bool seqlens) {
        return cu && seqlens ? "cu+seqlens" : cu ? "cu" : seqlens ? "seqlens" : "dense";
    };
    c->q_lengths = plain(has("CU_SEQLENS_Q"), has("SEQLENS_Q"));
    c->kv_lengths = plain(has("CU_SEQLENS_KV"), has("SEQLENS_KV"));
    if (page_size > 0) {
        c->kv_lengths = has("BLOCK_TABLE_PTR") ? "paged+ptr" : "paged";
        if (has("SEQLENS_KV")) c->kv_lengths += "+seqlens";
        c->page_size = page_size;
    }
    for (const char *slot :
         {"CU_SEQLENS_Q", "CU_SEQLENS_KV", "SEQLENS_Q", "SEQLENS_KV", "BLOCK_TABLE", "POSITIONS_Q", "IDS_Q", "IDS_KV"})
        if (has(slot)) c->index_dtype = dtype_of(tensors.at(slot)->at("dtype"));
}

void read_bias_table(const JsonValue &table, Case *c)
{
    switch (table.at("kind").as_int64()) {
    case ATTN_TABLE_DISTANCE:
        c->bias_table = "distance";
        c->table_distance = table.at("max_distance").as_int64();
        break;
    case ATTN_TABLE_BUCKET:
        c->bias_table = table.at("bidirectional").as_bool() ? "bucket_bi" : "bucket";
        c->table_buckets = table.at("buckets").as_int64();
        c->table_distance = table.at("max_distance").as_int64();
        break;
    case ATTN_TABLE_GRID:
        c->bias_table = "grid";
        break;
    default:
        throw table.at("kind").error("the oracle has no such kind of bias table");
    }
}

/// Numbers behind each other, null being no limit.
std::string text_of_numbers(const JsonValue &numbers, char before)
{
    std::string text;
    for (const JsonValue &number : numbers.as_array()) {
        const bool none = number.kind() == JsonValue::Kind::null;
        text += (text.empty() ? before : ',') + (none ? std::string("inf") : number.as_text());
    }
    return text;
}

/// A mask program as a case has it.
std::string read_mask(const JsonValue &terms)
{
    static const std::map<std::string, std::string> kAligns = {
        {"top_left", ":tl"}, {"bottom_right", ":br"}, {"by_position", ":pos"}};
    std::string text;
    for (const JsonValue &term : terms.as_array()) {
        const std::string &name = term.at("op").as_string();
        if (conformance::term_op(name) == 0) throw term.at("op").error("the oracle has no mask term " + name);
        text += (text.empty() ? "" : " ") + name;
        if (const JsonValue *align = term.find("align")) {
            const auto found = kAligns.find(align->as_string());
            if (found == kAligns.end()) throw align->error("the oracle has no alignment " + align->as_string());
            text += found->second;
        }
        if (const JsonValue *axis = term.find("axis")) {
            if (axis->as_int64() < 0 || axis->as_int64() > 255) throw axis->error("the oracle has ids 0 to 255");
            text += "/" + axis->as_text();
        }
        if (const JsonValue *p = term.find("p")) text += text_of_numbers(*p, '(') + ")";
        if (const JsonValue *f = term.find("f")) text += "+" + f->as_text();
        if (const JsonValue *columns = term.find("columns")) {
            text += "{" + columns->as_text() + text_of_numbers(term.at("values"), '|');
            if (const JsonValue *slopes = term.find("slopes")) text += text_of_numbers(*slopes, '|');
            text += "}";
        }
    }
    conformance::parse_mask(text);
    return text;
}

void read_dense(const JsonValue &dense, Case *c)
{
    c->causal = dense.at("causal").as_string();
    if (c->causal == "none") c->align = dense.at("align").as_string();
    if (const JsonValue *left = dense.find("window_left")) c->window_left = left->as_int64();
    if (const JsonValue *right = dense.find("window_right")) c->window_right = right->as_int64();
    c->sink_tokens = dense.at("sink_tokens").as_int64();
    c->softcap = dense.at("softcap").as_double();
    c->activation = dense.at("activation").as_string();
    c->activation_bias = dense.at("activation_bias").as_double();
    c->activation_length = dense.at("activation_length").as_int64();
    c->bias_stage = dense.at("bias_stage").as_int64() == ATTN_BIAS_PRE_SOFTCAP ? "pre" : "post";
    c->bias_rank = dense.at("bias_rank").as_int64();
    if (const JsonValue *table = dense.find("bias_table")) read_bias_table(*table, c);
    if (const JsonValue *mask = dense.find("mask")) c->mask = read_mask(*mask);
}

void read_options(const JsonValue &dense, const Tensors &tensors, Case *c)
{
    const auto find = [&](const char *slot) {
        const auto found = tensors.find(slot);
        return found == tensors.end() ? nullptr : found->second;
    };
    c->lse = find("LSE") != nullptr;
    c->row_max = find("ROW_MAX") != nullptr;
    c->row_entropy = find("ROW_ENTROPY") != nullptr;
    c->column_mass = find("COLUMN_MASS") != nullptr;
    c->alibi = find("ALIBI_SLOPES") != nullptr;
    c->sink_logits = find("SINK_LOGITS") != nullptr;
    c->q_temperature = find("Q_TEMPERATURE") != nullptr;
    c->v_temperature = find("V_TEMPERATURE") != nullptr;
    c->head_weight = find("HEAD_WEIGHT") != nullptr;
    if (const JsonValue *bias = find("BIAS")) {
        c->bias = dtype_of(bias->at("dtype"));
        const bool batch = repeats(*bias, c->q_packed(), 0), heads = repeats(*bias, c->q_packed(), 1);
        c->bias_broadcast = batch && heads                     ? "batch+heads"
                            : batch                            ? "batch"
                            : heads                            ? "heads"
                            : repeats(*bias, c->q_packed(), 2) ? "queries"
                                                               : "none";
    }
    if (const JsonValue *lowrank = find("BIAS_LOWRANK_K"))
        c->lowrank_broadcast = repeats(*lowrank, c->kv_packed(), 2) ? "heads" : "none";
    if (const JsonValue *gate = find("GATE")) {
        static constexpr const char *kGates[] = {"sigmoid", "linear", "silu"};
        const int64_t kind = dense.at("gate").as_int64();
        if (kind < 0 || kind > 2) throw dense.at("gate").error("the oracle has no such gate");
        c->gate = kGates[kind];
        c->gate_dtype = dtype_of(gate->at("dtype"));
        c->gate_broadcast = repeats(*gate, c->q_packed(), 3) ? "channels" : "none";
    }
}

DescribedPlan read_problem(const JsonValue &problem)
{
    DescribedPlan plan;
    Case &c = plan.spec;
    const auto integer = [&](const char *name) { return problem.at(name).as_int64(); };
    const auto size = [&](const char *name) {
        const int64_t x = integer(name);
        if (x < 1 || x > int64_t{1} << 40) throw problem.at(name).error(std::string(name) + " is no bound of a plan");
        return x;
    };
    if (problem.at("direction").as_string() != "forward")
        throw problem.at("direction").error("the oracle has no direction but forward");
    plan.flags = problem.at("flags").as_uint64();
    plan.precision = static_cast<attn_precision>(integer("precision"));
    plan.scale = problem.at("scale").as_double();
    plan.bounds = {size("batch"), size("max_q"), size("max_kv"), size("total_q"), size("total_kv")};
    c.q_dtype = dtype_of(problem.at("q_dtype")), c.k_dtype = dtype_of(problem.at("k_dtype"));
    c.v_dtype = dtype_of(problem.at("v_dtype")), c.out_dtype = dtype_of(problem.at("out_dtype"));
    c.heads_q = size("heads_q"), c.heads_k = size("heads_k"), c.heads_v = size("heads_v");
    c.dim_qk = size("dim_qk"), c.dim_v = size("dim_v");
    c.batch = plan.bounds.batch, c.max_q = plan.bounds.max_q, c.max_kv = plan.bounds.max_kv;
    c.scale_factor = plan.scale * std::sqrt(static_cast<double>(c.dim_qk));
    c.batch_invariant = (plan.flags & ATTN_BATCH_INVARIANT) != 0;
    c.strict_nonfinite = (plan.flags & ATTN_STRICT_NONFINITE) != 0;
    c.v_aliases_k = (plan.flags & ATTN_V_ALIASES_K) != 0;
    return plan;
}

/// Sizes that the oracle can do within its work, and that the bounds have room for.
void reduce(const DescribedPlan &plan, double work, Case *c)
{
    if (c->q_packed()) c->max_q = std::min(c->max_q, plan.bounds.total_q);
    if (c->kv_packed()) c->max_kv = std::min(c->max_kv, plan.bounds.total_kv);
    const bool fixed = c->bias_table == "grid"; // which has a place for every token
    while (work_of(*c) > work) {
        int64_t &size = c->batch > 1 || fixed ? c->batch : c->max_q > c->max_kv ? c->max_q : c->max_kv;
        if (size <= 1) throw std::invalid_argument("the plan costs the oracle more than --work, however few its rows");
        size = (size + 1) / 2;
    }
    // Without lengths of their own keys are whole pages.
    if (c->paged() && !c->kv_shortened()) c->max_kv -= c->max_kv % c->page_size;
}

std::string text_of(const JsonValue *value)
{
    if (!value) return "absent";
    switch (value->kind()) {
    case JsonValue::Kind::boolean:
        return value->as_bool() ? "true" : "false";
    case JsonValue::Kind::string:
        return value->as_string();
    case JsonValue::Kind::number:
        return value->as_text();
    case JsonValue::Kind::array:
        return std::to_string(value->as_array().size()) + " elements";
    case JsonValue::Kind::object:
        return "an object";
    case JsonValue::Kind::null:
        break;
    }
    return "null";
}

std::string compare(const std::string &name, const JsonValue *a, const JsonValue *b)
{
    std::string differs = name + " is " + text_of(a) + ", not " + text_of(b);
    if (!a || !b || a->kind() != b->kind()) return differs;
    switch (a->kind()) {
    case JsonValue::Kind::object:
        for (const auto &[member, value] : a->as_object()) {
            std::string text = compare(std::string(name).append(".").append(member), &value, b->find(member));
            if (!text.empty()) return text;
        }
        for (const auto &[member, value] : b->as_object())
            if (!a->find(member)) return compare(std::string(name).append(".").append(member), nullptr, &value);
        return "";
    case JsonValue::Kind::array: {
        const std::vector<JsonValue> &x = a->as_array(), &y = b->as_array();
        if (x.size() != y.size()) return differs;
        for (size_t i = 0; i < x.size(); ++i) {
            const std::string index = std::to_string(i);
            std::string text = compare(std::string(name).append("[").append(index).append("]"), &x[i], &y[i]);
            if (!text.empty()) return text;
        }
        return "";
    }
    case JsonValue::Kind::number:
        return a->as_double() == b->as_double() ? "" : differs;
    default:
        return text_of(a) == text_of(b) ? "" : differs;
    }
}

} // namespace

DescribedPlan read_description(const JsonValue &description, uint64_t seed, double work)
{
    const JsonValue &schema = description.at("schema");
    if (schema.as_int64() != 1) throw schema.error("schema " + schema.as_text() + " is not known, only 1");
    const JsonValue &kind = description.at("kind");
    if (kind.as_string() != "dense") throw kind.error("the oracle has no plans of kind " + kind.as_string());
    const JsonValue &dense = description.at("dense");
    DescribedPlan plan = read_problem(description.at("problem"));
    Case &c = plan.spec;
    c.seed = seed;
    c.workers = std::clamp<int64_t>(description.at("execution").at("workers").as_int64(), 1, 1024);
    const Tensors tensors = read_tensors(description);
    read_lengths(tensors, description.at("problem").at("page_size").as_int64(), &c);
    read_dense(dense, &c);
    read_options(dense, tensors, &c);
    reduce(plan, work, &c);
    return plan;
}

void complete(const DescribedPlan &plan, conformance::Descriptor *descriptor)
{
    descriptor->problem.flags = plan.flags;
    descriptor->problem.precision = plan.precision;
    descriptor->problem.scale = plan.scale;
}

std::string difference(const JsonValue &described, const JsonValue &planned)
{
    for (const char *part : {"kind", "problem", "dense", "merge", "append", "tensors"}) {
        if (!described.find(part) && !planned.find(part)) continue;
        if (std::string text = compare(part, described.find(part), planned.find(part)); !text.empty()) return text;
    }
    return "";
}

FittingContents draw_fitting(const DescribedPlan &plan)
{
    FittingContents fit = {plan.spec, conformance::draw_contents(plan.spec), 0};
    // Packed sequences may be longer together than the bounds on all: leave some out.
    int64_t total_q = 0, total_kv = 0;
    size_t count = 0;
    for (const conformance::Content &content : fit.contents) {
        total_q += content.q_rows, total_kv += content.k_rows;
        const bool fits = (!plan.spec.q_packed() || total_q <= plan.bounds.total_q) &&
                          (!plan.spec.kv_packed() || total_kv <= plan.bounds.total_kv);
        if (!fits) break;
        ++count;
    }
    fit.contents.resize(count);
    fit.spec.batch = static_cast<int64_t>(count);
    // Some placements have rows that no sequence owns: take one that has room for them, or has none.
    for (;; ++fit.placement) {
        const conformance::Bounds actual = conformance::Instance(fit.spec, fit.contents, fit.placement).actual();
        if ((!plan.spec.q_packed() || actual.total_q <= plan.bounds.total_q) &&
            (!plan.spec.kv_packed() || actual.total_kv <= plan.bounds.total_kv))
            return fit;
    }
}

} // namespace attn::cli
