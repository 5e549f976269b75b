#include "sequence_oracle.h"

#include <cmath>

namespace sequence {

std::vector<Value> convolve(const Convolution &c)
{
    const std::int64_t width = std::int64_t(c.taps.size()), tokens = std::int64_t(c.x.size());
    std::vector<Value> out;
    for (std::int64_t t = 0; t < tokens; ++t) {
        double y = c.bias, size = std::abs(c.bias);
        for (std::int64_t i = 0; i < width; ++i) {
            const std::int64_t from = t - (width - 1) + i;
            const double term =
                c.taps[std::size_t(i)] * (from >= 0 ? c.x[std::size_t(from)] : c.past[std::size_t(from + width - 1)]);
            y += term, size += std::abs(term);
        }
        Value value = {y, double(width + 1) * size}; // one rounding for each term, two without a fused multiplication
        if (c.silu) {
            // |silu'| <= 1.1; exp, the sum, the division and the product are some roundings each.
            value.x = y / (1 + std::exp(-y));
            value.error = 1.1 * value.error + (8 + 2 * std::abs(y)) * std::abs(value.x);
        }
        if (!c.residual.empty()) {
            value.x += c.residual[std::size_t(t)];
            value.error += std::abs(value.x);
        }
        out.push_back(value);
    }
    return out;
}

std::vector<Value> scan(const Scan &s)
{
    std::vector<Value> out;
    Value h = {s.state, 0};
    for (std::size_t t = 0; t < s.x.size(); ++t) {
        const double a = s.log ? std::exp(s.gate[t]) : s.gate[t];
        const double rest = s.log ? -std::expm1(s.gate[t]) : 1 - s.gate[t];
        const double b = s.lerp ? rest : s.write.empty() ? 1 : s.write[t];
        const double before = h.x;
        h.x = a * before + b * s.x[t];
        // The error so far decays like the state. exp of a float is some roundings of itself and that of its argument.
        const double gate = s.log ? 4 + 2 * std::abs(s.gate[t]) : 1;
        h.error = a * h.error + std::abs(h.x);
        if (s.lerp)
            h.error += (gate + 2) * rest * (std::abs(s.x[t]) + std::abs(before));
        else
            h.error += gate * std::abs(a * before) + std::abs(b * s.x[t]);
        out.push_back(h);
    }
    return out;
}

} // namespace sequence
