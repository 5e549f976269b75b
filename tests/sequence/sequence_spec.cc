#include "sequence_spec.h"

#include <sstream>

namespace sequence {

std::string Spec::text() const
{
    const auto name = [](attn_dtype dtype) { return conformance::dtype_name(dtype); };
    std::ostringstream o;
    o << (conv ? "conv" : "scan") << " seed " << seed << " workers " << workers << " batch " << batch << " tokens "
      << tokens << " heads " << heads << " channels " << channels << ' ' << name(dtype) << '>' << name(out) << " other "
      << name(other) << " state " << name(state) << (state_in ? " in" : "") << (state_out ? " out" : "")
      << (pool ? " pool" : "") << (in_place ? " in_place" : "") << (packed ? " packed" : "") << (used ? " used" : "")
      << (broadcast ? " broadcast" : "") << (checked ? " checked" : "");
    if (conv)
        o << " width " << width << (silu ? " silu" : "") << (bias ? " bias" : "") << (residual ? " residual" : "");
    else
        o << (factor ? " factor" : " log") << (lerp ? " lerp" : "") << (write ? " write" : "") << " gate " << gate_size;
    o << ' ' << layout << ' ' << state_layout;
    return o.str();
}

Spec random_spec(bool conv, conformance::Random &random)
{
    constexpr attn_dtype kDtypes[] = {ATTN_FLOAT32, ATTN_BFLOAT16, ATTN_FLOAT16};
    constexpr const char *kLayouts[] = {"bshd", "bhsd", "gaps", "reversed", "strided"};
    const auto dtype = [&] { return kDtypes[random.integer(0, 2)]; };
    const auto layout = [&] { return kLayouts[random.integer(0, 4)]; };
    Spec s;
    s.conv = conv, s.seed = random.next();
    s.workers = static_cast<std::int32_t>(random.integer(1, 4));
    s.batch = random.integer(1, 4), s.heads = random.integer(1, 3);
    s.tokens = random.chance(0.1) ? 0 : random.skewed(random.chance(0.1) ? 1500 : 150);
    s.channels = random.chance(0.1) ? random.integer(250, 300) : random.skewed(70);
    s.dtype = dtype(), s.out = dtype(), s.other = dtype(), s.state = dtype();
    s.width = random.integer(1, 8);
    s.silu = random.chance(0.5), s.bias = random.chance(0.5), s.residual = random.chance(0.3);
    s.factor = random.chance(0.5), s.lerp = random.chance(0.4), s.write = !s.lerp && random.chance(0.5);
    s.gate_size = random.chance(0.2) ? 30 : random.chance(0.3) ? 0.005 : 0.3;
    s.broadcast = random.chance(0.3);
    s.state_in = random.chance(0.7), s.state_out = random.chance(0.7);
    if (conv && s.width == 1) s.state_in = s.state_out = false;
    s.in_place = s.state_in && s.state_out && random.chance(0.5);
    s.pool = (s.state_in || s.state_out) && random.chance(0.4);
    if (!s.state_in && !s.state_out) s.state = ATTN_FLOAT32;
    s.packed = random.chance(0.4), s.used = random.chance(0.3), s.checked = random.chance(0.3);
    s.layout = layout(), s.state_layout = layout();
    return s;
}

} // namespace sequence
