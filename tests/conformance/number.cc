#include "number.h"

#include <cstring>
#include <stdexcept>

namespace conformance {
namespace {

struct Format { // IEEE-like binary format of 16 bits
    int mantissa, bias;
};
constexpr Format half{10, 15}, bfloat{7, 127};

std::uint16_t encode16(Format f, double x)
{
    const std::uint16_t sign = std::signbit(x) ? 0x8000 : 0;
    const std::uint16_t infinity = static_cast<std::uint16_t>((2 * f.bias + 1) << f.mantissa);
    if (std::isnan(x)) return sign | infinity | std::uint16_t(1 << (f.mantissa - 1));
    if (std::isinf(x)) return sign | infinity;
    if (x == 0) return sign;
    int exponent = std::ilogb(x);
    if (exponent < 1 - f.bias) exponent = 1 - f.bias; // subnormal: fixed exponent
    // In units of the last place; nearbyint rounds to even. A carry into the next binade is right without a special
    // case, since the fields are adjacent.
    const auto units = static_cast<std::int64_t>(std::nearbyint(std::ldexp(std::abs(x), f.mantissa - exponent)));
    const std::int64_t bits = units + ((static_cast<std::int64_t>(exponent) + f.bias - 1) << f.mantissa);
    return sign | (bits >= infinity ? infinity : static_cast<std::uint16_t>(bits));
}

double decode16(Format f, std::uint16_t bits)
{
    const int field = (bits & 0x7fff) >> f.mantissa, fraction = bits & ((1 << f.mantissa) - 1);
    const double sign = bits & 0x8000 ? -1 : 1;
    if (field == 2 * f.bias + 1) return fraction ? std::nan("") : sign * INFINITY;
    const int implicit = field ? 1 << f.mantissa : 0;
    return sign * std::ldexp(implicit + fraction, (field ? field : 1) - f.bias - f.mantissa);
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
