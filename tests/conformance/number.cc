#include "number.h"

#include <bit>
#include <cstring>
#include <stdexcept>

namespace conformance {
namespace {

struct Format { // IEEE-like binary format of 16 bits
    int mantissa, bias;
};
constexpr Format half{10, 15}, bfloat{7, 127};

// 2^n, for normal numbers.
double power_of_2(int n)
{
    return std::bit_cast<double>(static_cast<std::uint64_t>(n + 1023) << 52);
}

// That of a normal number; less than any of a format of 16 bits for a smaller one.
int exponent_of(double x)
{
    return static_cast<int>(std::bit_cast<std::uint64_t>(x) >> 52 & 0x7ff) - 1023;
}

std::uint16_t encode16(Format f, double x)
{
    const std::uint16_t sign = std::signbit(x) ? 0x8000 : 0;
    const std::uint16_t infinity = static_cast<std::uint16_t>((2 * f.bias + 1) << f.mantissa);
    if (std::isnan(x)) return sign | infinity | std::uint16_t(1 << (f.mantissa - 1));
    if (std::isinf(x)) return sign | infinity;
    if (x == 0) return sign;
    int exponent = exponent_of(x);
    if (exponent > f.bias) return sign | infinity;
    if (exponent < 1 - f.bias) exponent = 1 - f.bias; // subnormal: fixed exponent
    // In units of the last place, rounded to even by a sum that has no bits below them. A carry into the next binade is
    // right without a special case, since the fields are adjacent.
    const auto units =
        static_cast<std::int64_t>(std::abs(x) * power_of_2(f.mantissa - exponent) + power_of_2(52) - power_of_2(52));
    const std::int64_t bits = units + ((static_cast<std::int64_t>(exponent) + f.bias - 1) << f.mantissa);
    return sign | (bits >= infinity ? infinity : static_cast<std::uint16_t>(bits));
}

double decode16(Format f, std::uint16_t bits)
{
    const int field = (bits & 0x7fff) >> f.mantissa, fraction = bits & ((1 << f.mantissa) - 1);
    const double sign = bits & 0x8000 ? -1 : 1;
    if (field == 2 * f.bias + 1) return fraction ? std::nan("") : sign * INFINITY;
    const int implicit = field ? 1 << f.mantissa : 0;
    return sign * (implicit + fraction) * power_of_2((field ? field : 1) - f.bias - f.mantissa);
}

template <class T>
void store(T value, void *to)
{
    std::memcpy(to, &value, sizeof value);
}
template <class T>
T load(const void *from)
{
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

} // namespace

std::size_t element_size(attn_dtype dtype)
{
    return (dtype >> 8 & 0xff) / 8;
}

const char *dtype_name(attn_dtype dtype)
{
    switch (dtype) {
    case ATTN_FLOAT32:
        return "fp32";
    case ATTN_FLOAT16:
        return "fp16";
    case ATTN_BFLOAT16:
        return "bf16";
    case ATTN_INT32:
        return "int32";
    case ATTN_INT64:
        return "int64";
    default:
        throw std::invalid_argument("no such storage format");
    }
}

void encode(attn_dtype dtype, double x, void *to)
{
    switch (dtype) {
    case ATTN_FLOAT32:
        return store(static_cast<float>(x), to);
    case ATTN_FLOAT16:
        return store(encode16(half, x), to);
    case ATTN_BFLOAT16:
        return store(encode16(bfloat, x), to);
    case ATTN_INT32:
        return store(static_cast<std::int32_t>(x), to);
    case ATTN_INT64:
        return store(static_cast<std::int64_t>(x), to);
    default:
        throw std::invalid_argument("no such storage format");
    }
}

double decode(attn_dtype dtype, const void *from)
{
    switch (dtype) {
    case ATTN_FLOAT32:
        return load<float>(from);
    case ATTN_FLOAT16:
        return decode16(half, load<std::uint16_t>(from));
    case ATTN_BFLOAT16:
        return decode16(bfloat, load<std::uint16_t>(from));
    case ATTN_INT32:
        return load<std::int32_t>(from);
    case ATTN_INT64:
        return static_cast<double>(load<std::int64_t>(from));
    default:
        throw std::invalid_argument("no such storage format");
    }
}

double round_to(attn_dtype dtype, double x)
{
    unsigned char bytes[8];
    encode(dtype, x, bytes);
    return decode(dtype, bytes);
}

void encode_poison(attn_dtype dtype, void *to)
{
    switch (dtype) {
    case ATTN_FLOAT32:
        return store(std::uint32_t{0x7fc0dead}, to);
    case ATTN_FLOAT16:
        return store(std::uint16_t{0x7ead}, to);
    case ATTN_BFLOAT16:
        return store(std::uint16_t{0x7fad}, to);
    case ATTN_INT32:
        return store(std::int32_t{-0x7ead0001}, to);
    case ATTN_INT64:
        return store(std::int64_t{-0x7ead000100000001}, to);
    default:
        throw std::invalid_argument("no such storage format");
    }
}

} // namespace conformance
