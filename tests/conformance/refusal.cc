#include "refusal.h"

#include "mask_text.h"

#include <algorithm>
#include <cstring>

namespace conformance {
namespace {

constexpr const char *served = nullptr;
constexpr const char *phrase = "does not compute ";

// "...; gpu.dense.forward does not compute a, b" gives a, b, and "...; gpu.dense.forward attn_problem.dim_v = 900:
// needs at most 512" gives attn_problem.dim_v: of the last kernel of a list, which takes the most.
std::vector<std::string> names_in(const std::string &message)
{
    constexpr const char *field = " attn_problem.";
    std::vector<std::string> names;
    const std::size_t separator = message.rfind("; ");
    const std::string last = separator == std::string::npos ? message : message.substr(separator);
    std::size_t at = last.find(phrase);
    if (at == std::string::npos) {
        at = last.rfind(field);
        if (at != std::string::npos) names.push_back(last.substr(at + 1, last.find(" = ", at) - at - 1));
        return names;
    }
    at += std::strlen(phrase);
    while (at < last.size()) {
        const std::size_t comma = std::min(last.find(", ", at), last.size());
        const std::string name = last.substr(at, comma - at);
        if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
        at = std::min(comma + 2, last.size());
    }
    return names;
}

// By its name, also where the value follows: "attn_problem.dim_v = 900 (at most 512)".
const Option *find(const std::string &name)
{
    for (const std::vector<Option> *list : {&options(), &limits()})
        for (const Option &option : *list)
            if (name == option.name || name.rfind(std::string(option.name) + " = ", 0) == 0) return &option;
    return nullptr;
}

void remove_activation(Case &c)
{
    c.activation = "softmax", c.activation_bias = 0, c.activation_length = 0;
}
void remove_lowrank(Case &c)
{
    c.bias_rank = 0;
}

} // namespace

const std::vector<Option> &options()
{
    static const std::vector<Option> all{
        {"slot BIAS", served, [](Case &c) { c.bias = "none"; }},
        {"slot ALIBI_SLOPES", served, [](Case &c) { c.alibi = 0; }},
        {"attn_dense.bias_table", served, [](Case &c) { c.bias_table = "none"; }},
        {"attn_dense.bias_rank", served, remove_lowrank},
        {"slot BIAS_LOWRANK_K", served, remove_lowrank},
        {"slot SINK_LOGITS", served, [](Case &c) { c.sink_logits = 0; }},
        {"slot Q_TEMPERATURE", served, [](Case &c) { c.q_temperature = 0; }},
        {"slot V_TEMPERATURE", served, [](Case &c) { c.v_temperature = 0; }},
        {"slot GATE", served, [](Case &c) { c.gate = "none"; }},
        {"slot HEAD_WEIGHT", served, [](Case &c) { c.head_weight = 0; }},
        {"attn_dense.activation = sigmoid", served, remove_activation},
        {"attn_dense.activation = relu", served, remove_activation},
        {"slot ROW_MAX", served, [](Case &c) { c.row_max = 0; }},
        {"slot ROW_ENTROPY", served, [](Case &c) { c.row_entropy = 0; }},
        {"slot COLUMN_MASS", served, [](Case &c) { c.column_mass = 0; }},
        {"attn_problem.flags: ATTN_V_ALIASES_K", served, [](Case &c) { c.v_aliases_k = 0; }},
        {"attn_dense.mask", served, [](Case &c) { c.mask = "none"; }},
    };
    return all;
}

const std::vector<Option> &limits()
{
    static const std::vector<Option> all{
        {"attn_problem.dim_qk", "cuda",
         [](Case &c) {
             c.dim_qk = (c.dim_qk + 1) / 2;
             if (c.v_aliases_k) c.dim_v = std::min(c.dim_v, c.dim_qk);
         }},
        {"attn_problem.dim_v", "cuda", [](Case &c) { c.dim_v = (c.dim_v + 1) / 2; }},
        {"attn_problem.k_dtype", "cuda", [](Case &c) { c.k_dtype = c.v_dtype = c.q_dtype; }},
        {"attn_problem.v_dtype", "cuda", [](Case &c) { c.v_dtype = c.k_dtype; }},
        {"attn_problem.out_dtype", "cuda", [](Case &c) { c.out_dtype = c.q_dtype; }},
    };
    return all;
}

void tidy(Case &c)
{
    if (c.bias == "none") c.bias_broadcast = "none";
    if (!c.has_staged_bias()) c.bias_stage = "post";
    if (!c.has_table()) c.table_buckets = c.table_distance = 0;
    if (c.bias_rank == 0) c.lowrank_broadcast = "none";
    if (c.gate == "none") c.gate_dtype = "default", c.gate_broadcast = "none";
    const bool relative = c.alibi || (c.has_table() && c.bias_table != "grid");
    const bool by_diagonal = needs_diagonal(parse_mask(c.mask));
    if (!c.windowed() && !relative && !by_diagonal && c.align != c.causal) c.align = "none";
}

Refusal refusal(const Backend &backend, const Case &c)
{
    const auto size = [](std::int64_t n) { return std::max<std::int64_t>(n, 1); };
    Bounds bounds{size(c.batch), size(c.max_q), size(c.max_kv), 0, 0};
    bounds.total_q = bounds.batch * bounds.max_q, bounds.total_kv = bounds.batch * bounds.max_kv;
    const Descriptor descriptor(c, bounds);
    Refusal r;
    const attn_status status = attn_plan_supports(backend.handle(c.workers), ATTN_KIND_DENSE, &descriptor.dense);
    if (status == ATTN_OK) return r;
    const std::string message = attn_last_error();
    if (lacks_compiler(status, message)) {
        r.whole = "no kernel without a compiler";
        return r;
    }
    if (status == ATTN_ERROR_UNSUPPORTED) r.names = names_in(message);
    const bool known = !r.names.empty() && std::all_of(r.names.begin(), r.names.end(), [&](const std::string &name) {
        const Option *option = find(name);
        return option && option->refused_by && backend.family() == option->refused_by;
    });
    if (!known)
        r.names.clear(), r.broken = std::string("attn_plan_supports: ") + attn_status_name(status) + ": " + message;
    return r;
}

Case without(Case c, const std::vector<std::string> &names)
{
    for (const std::string &name : names)
        if (const Option *option = find(name)) option->remove(c);
    tidy(c);
    return c;
}

Refusal reduce(const Backend &backend, Case &c)
{
    constexpr int rounds = 20;
    Refusal first = refusal(backend, c), r = first;
    for (int round = 0; !r.names.empty() && round < rounds; ++round) {
        c = without(c, r.names);
        r = refusal(backend, c);
        for (const std::string &name : r.names)
            if (std::find(first.names.begin(), first.names.end(), name) == first.names.end())
                first.names.push_back(name);
    }
    if (!r.names.empty()) r.broken = "options refused after they were removed";
    first.broken = r.broken, first.whole = r.whole;
    return first;
}

bool lacks_compiler(attn_status status, const std::string &message)
{
    if (!on_gpu() || !forbids_compiler()) return false;
    return status == ATTN_ERROR_COMPILE ||
           (status == ATTN_ERROR_UNSUPPORTED && message.find("compile") != std::string::npos);
}

} // namespace conformance
