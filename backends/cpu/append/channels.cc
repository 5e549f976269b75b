#include "backends/cpu/append/channels.h"

#include "backends/cpu/simd.h"

#include <algorithm>
#include <cstring>

namespace attn::cpu {
namespace {

static_assert(kMostChannels % kWidth == 0, "a last vector stays within the buffers");

int64_t element_bytes(attn_dtype dtype)
{
    return dtype == ATTN_FLOAT32 ? 4 : 2;
}

/// Copies elements of one size, whatever they mean.
template <class Bits>
void copy_bits(const char *from, int64_t from_step, char *to, int64_t to_step, int64_t count)
{
    for (int64_t i = 0; i < count; ++i) memcpy(to + i * to_step, from + i * from_step, sizeof(Bits));
}

void copy_equal(const Channels &from, const Channels &to, int64_t count)
{
    const int64_t bytes = element_bytes(from.dtype);
    if (from.step == bytes && to.step == bytes)
        memcpy(to.data, from.data, static_cast<size_t>(count * bytes));
    else if (bytes == 4)
        copy_bits<uint32_t>(from.data, from.step, to.data, to.step, count);
    else
        copy_bits<uint16_t>(from.data, from.step, to.data, to.step, count);
}

void write_channels(const float *from, Channels to, int64_t count)
{
    uint16_t halves[kMostChannels];
    switch (to.dtype) {
    case ATTN_FLOAT32:
        if (to.step == 4)
            memcpy(to.data, from, static_cast<size_t>(count) * 4);
        else
            copy_bits<float>(reinterpret_cast<const char *>(from), 4, to.data, to.step, count);
        return;
    case ATTN_FLOAT16:
        for (int64_t i = 0; i < count; ++i) halves[i] = to_float16(from[i]);
        break;
    default:
        for (int64_t i = 0; i < count; ++i) halves[i] = to_bfloat16(from[i]);
        break;
    }
    copy_equal({reinterpret_cast<char *>(halves), 2, to.dtype}, to, count);
}

} // namespace

bool is_convertible(attn_dtype dtype) noexcept
{
    return dtype == ATTN_FLOAT32 || dtype == ATTN_FLOAT16 || dtype == ATTN_BFLOAT16;
}

void read_channels(Channels from, int64_t count, float *to) noexcept
{
    if (from.dtype == ATTN_FLOAT32) {
        copy_equal(from, {reinterpret_cast<char *>(to), 4, ATTN_FLOAT32}, count);
        return;
    }
    uint16_t halves[kMostChannels];
    copy_equal(from, {reinterpret_cast<char *>(halves), 2, from.dtype}, count);
    for (int64_t i = count; i % kWidth != 0; ++i) halves[i] = 0; // conversions go by whole vectors
    if (from.dtype == ATTN_FLOAT16)
        for (int64_t i = 0; i < count; i += kWidth) store(to + i, from_float16(halves + i));
    else
        for (int64_t i = 0; i < count; i += kWidth) store(to + i, from_bfloat16(halves + i));
}

void copy_channels(Channels from, Channels to, int64_t count) noexcept
{
    if (from.dtype == to.dtype) return copy_equal(from, to, count);
    float values[kMostChannels];
    for (int64_t c = 0; c < count; c += kMostChannels) {
        const int64_t some = std::min(kMostChannels, count - c);
        read_channels(from.from(c), some, values);
        write_channels(values, to.from(c), some);
    }
}

void rotate_channels(Channels from_x, Channels from_y, Channels to_x, Channels to_y, const float *cosines,
                     const float *sines, int64_t count) noexcept
{
    float x[kMostChannels], y[kMostChannels];
    read_channels(from_x, count, x);
    read_channels(from_y, count, y);
    for (int64_t i = 0; i < count; ++i) {
        const float turned = x[i] * cosines[i] - y[i] * sines[i];
        y[i] = y[i] * cosines[i] + x[i] * sines[i];
        x[i] = turned;
    }
    write_channels(x, to_x, count);
    write_channels(y, to_y, count);
}

} // namespace attn::cpu
