#include "refusal.h"

#include <algorithm>
#include <cstring>

namespace conformance {
namespace {

[[maybe_unused]] constexpr bool refusable = true; // the day an option is served by all backends: `served`
constexpr bool served = false;

constexpr const char *phrase = "does not compute ";

// "...: cpu.dense.forward does not compute a, b; other does not compute c" gives a, b, c.
std::vector<std::string> names_in(const std::string &message)
{
    std::vector<std::string> names;
    for (std::size_t at = message.find(phrase); at != std::string::npos; at = message.find(phrase, at)) {
        at += std::strlen(phrase);
        const std::size_t end = std::min(message.find("; ", at), message.size());
        while (at < end) {
            const std::size_t comma = std::min(message.find(", ", at), end);
            const std::string name = message.substr(at, comma - at);
            if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
            at = std::min(comma + 2, end);
        }
    }
    return names;
}

const Option *find(const std::string &name)
{
    for (const Option &option : options())
        if (name == option.name) return &option;
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
    if (!c.windowed() && !relative && c.align != c.causal) c.align = "none";
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
    if (status == ATTN_ERROR_UNSUPPORTED) r.names = names_in(message);
    const bool known = !r.names.empty() && std::all_of(r.names.begin(), r.names.end(), [](const std::string &name) {
        const Option *option = find(name);
        return option && option->may_be_refused;
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

} // namespace conformance
