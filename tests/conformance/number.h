// Storage formats with round-to-nearest-even, and a random generator whose numbers are the same everywhere.
#pragma once

#include <attn/attn.h>

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace conformance {

std::size_t element_size(attn_dtype);
const char *dtype_name(attn_dtype);

// Writes `x` at `to` rounded to nearest even; reads an element back. Integers are passed as doubles.
void encode(attn_dtype, double x, void *to);
double decode(attn_dtype, const void *from);
double round_to(attn_dtype, double x);

// A NaN for floating point types, with bits that arithmetic does not produce; a wild value for integers.
void encode_poison(attn_dtype, void *to);

// SplitMix64. A stream is named by the seed of the case, what it is for, and which sequence it serves, so that what a
// sequence contains does not depend on its place in the batch.
class Random {
public:
    explicit Random(std::uint64_t seed, std::uint64_t purpose = 0, std::uint64_t index = 0)
        : state_(mixed(seed) + purpose * 0xd1342543de82ef95u + index * 0xaf251af3b0f025b5u)
    {
        next(), next();
    }
    std::uint64_t next() { return mixed(state_ += 0x9e3779b97f4a7c15u); }
    // Uniform in [0, 1).
    double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
    // Uniform in first .. last, both included.
    std::int64_t integer(std::int64_t first, std::int64_t last)
    {
        return first + static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(last - first + 1));
    }
    // In 1 .. most + 1, small values as often as large ones.
    std::int64_t skewed(std::int64_t most)
    {
        return static_cast<std::int64_t>(std::exp(uniform() * std::log(static_cast<double>(most) + 1)));
    }
    bool chance(double probability) { return uniform() < probability; }
    // Two at a time, by Box and Muller.
    double normal()
    {
        has_other_ = !has_other_;
        if (!has_other_) return other_;
        const double radius = std::sqrt(-2 * std::log(1 - uniform())), angle = 6.283185307179586 * uniform();
        other_ = radius * std::sin(angle);
        return radius * std::cos(angle);
    }

private:
    // The seed is mixed too: streams of neighbouring seeds would otherwise be the same but for a shift.
    static std::uint64_t mixed(std::uint64_t z)
    {
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }

    std::uint64_t state_;
    double other_ = 0; // the second of two
    bool has_other_ = false;
};

} // namespace conformance
