#include "linear_spec.h"

#include "number.h"

#include <sstream>
#include <stdexcept>

namespace linear {

const std::vector<Method> &methods()
{
    static const std::vector<Method> all = [] {
        std::vector<Method> list;
        const auto add = [&](const char *name, const char *line, auto... changes) {
            Method m;
            m.name = name, m.line = line;
            (changes(m), ...);
            list.push_back(m);
        };
        const auto map = [](attn_feature_map x) { return [x](Method &m) { m.map = x; }; };
        const auto decay = [](attn_decay x, double size) { return [=](Method &m) { m.decay = x, m.gate = size; }; };
        const auto form = [](attn_decay_form x) { return [x](Method &m) { m.form = x; }; };
        const auto update = [](attn_update x) { return [x](Method &m) { m.update = x; }; };
        const auto normalised = [](double eps) {
            return [eps](Method &m) { m.flags |= ATTN_LINEAR_NORMALISER, m.eps = eps; };
        };
        const auto scale = [](double x) { return [x](Method &m) { m.scale = x; }; };
        const auto unit = [](Method &m) { m.flags |= ATTN_LINEAR_QK_L2NORM; };
        const auto full = [](Method &m) { m.flags |= ATTN_LINEAR_BIDIRECTIONAL; };
        const auto before = [](Method &m) { m.read = ATTN_READ_BEFORE; };
        const auto bound = [](double x) { return [x](Method &m) { m.lower_bound = x; }; };

        add("linear", "elu1, normaliser", map(ATTN_FEATURE_ELU1), normalised(1e-10), scale(1));
        add("linear_plain", "identity");
        add("based", "taylor2, normaliser", map(ATTN_FEATURE_TAYLOR2), normalised(1e-12), scale(1));
        add("hedgehog", "hedgehog, normaliser", map(ATTN_FEATURE_HEDGEHOG), normalised(1e-10), scale(1));
        add("softmax_features", "softmax over channels, normaliser", map(ATTN_FEATURE_SOFTMAX), normalised(1e-6),
            scale(1));
        add("relu", "relu, normaliser", map(ATTN_FEATURE_RELU), normalised(1e-6), scale(1));
        add("retnet", "decay per head", decay(ATTN_DECAY_HEAD, 0.05));
        add("lightning", "silu, decay per head", map(ATTN_FEATURE_SILU), decay(ATTN_DECAY_HEAD, 0.3), scale(1));
        add("mamba2", "decay per token, softplus form", decay(ATTN_DECAY_TOKEN, 1), form(ATTN_DECAY_SOFTPLUS),
            scale(1));
        add("gla", "decay per channel, log-sigmoid / 16", decay(ATTN_DECAY_CHANNEL, 1), form(ATTN_DECAY_LOG_SIGMOID),
            [](Method &m) { m.decay_scale = 1.0 / 16; });
        add("hgrn2", "decay per channel, k = 1 - decay", decay(ATTN_DECAY_CHANNEL, 0.3));
        add("rwkv6", "decay per channel, read before, bonus", decay(ATTN_DECAY_CHANNEL, 0.5), before, scale(1));
        add("deltanet", "delta, l2norm", update(ATTN_UPDATE_DELTA), unit);
        add("gated_deltanet", "delta, decay per token, softplus form, l2norm", update(ATTN_UPDATE_DELTA), unit,
            decay(ATTN_DECAY_TOKEN, 1), form(ATTN_DECAY_SOFTPLUS));
        add("gated_deltanet_2", "gated delta, decay per channel, l2norm", update(ATTN_UPDATE_GATED_DELTA), unit,
            decay(ATTN_DECAY_CHANNEL, 0.2));
        add("kda", "delta, decay per channel, softplus form, l2norm", update(ATTN_UPDATE_DELTA), unit,
            decay(ATTN_DECAY_CHANNEL, 1), form(ATTN_DECAY_SOFTPLUS));
        add("kda_safe", "delta, decay per channel, sigmoid form, bound -5, l2norm", update(ATTN_UPDATE_DELTA), unit,
            decay(ATTN_DECAY_CHANNEL, 1), form(ATTN_DECAY_SIGMOID), bound(-5));
        add("rwkv7", "dplr, decay per channel, bound -0.6065", update(ATTN_UPDATE_DPLR), decay(ATTN_DECAY_CHANNEL, 0.3),
            bound(-0.60653066), scale(1));
        add("linear_full", "elu1, normaliser, bidirectional", map(ATTN_FEATURE_ELU1), normalised(1e-6), scale(1), full);
        add("inline_core", "bidirectional", full);
        return list;
    }();
    return all;
}

const Method &method(const std::string &name)
{
    for (const Method &m : methods())
        if (m.name == name) return m;
    throw std::invalid_argument("no method " + name);
}

std::string Spec::text() const
{
    std::ostringstream o;
    o << method << " seed " << seed << " workers " << workers << " batch " << batch << " tokens " << tokens;
    if (keys) o << " keys " << keys;
    o << " heads " << heads_q << '/' << heads_k << '/' << heads_v << " dims " << dim_qk << '/' << dim_v << ' '
      << conformance::dtype_name(dtype) << '>' << conformance::dtype_name(out) << " gates "
      << conformance::dtype_name(gate) << (broadcast ? " broadcast" : "") << " state " << conformance::dtype_name(state)
      << (state_in ? " in" : "") << (state_out ? " out" : "") << (pool ? " pool" : "") << (in_place ? " in_place" : "")
      << (per_token ? " per_token" : "") << (value_major ? " value_major" : "") << (packed ? " packed" : "")
      << (used ? " used" : "") << (recurrent ? " recurrent" : "") << (checked ? " checked" : "") << " chunk " << chunk
      << ' ' << layout << ' ' << state_layout;
    if (gate_size != 0) o << " gate " << gate_size;
    return o.str();
}

} // namespace linear
