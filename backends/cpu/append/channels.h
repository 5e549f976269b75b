// What happens to the channels of a row on the way to its cache: conversion and rotation.
#ifndef ATTN_BACKENDS_CPU_APPEND_CHANNELS_H
#define ATTN_BACKENDS_CPU_APPEND_CHANNELS_H

#include <attn/attn.h>

#include <cstdint>

namespace attn::cpu {

/// Channels that lie `step` bytes apart; float32, float16 or bfloat16.
struct Channels {
    char *data = nullptr;
    int64_t step = 0;
    attn_dtype dtype = 0;

    Channels from(int64_t channel) const { return {data + channel * step, step, dtype}; }
    Channels every_second() const { return {data, 2 * step, dtype}; }
};

/// Most channels that one call of the functions below converts, and pairs that it rotates.
constexpr int64_t kMostChannels = 256;

/// Whether append reads and writes the dtype.
bool is_convertible(attn_dtype dtype) noexcept;

/// Copies any number of channels: bit by bit where the dtypes are equal, else rounded to nearest even.
void copy_channels(Channels from, Channels to, int64_t count) noexcept;

/// Reads channels as floats. count <= kMostChannels; `to` has room for kMostChannels.
void read_channels(Channels from, int64_t count, float *to) noexcept;

/// Rotates pairs (x, y) by angles with these cosines and sines: x cos - y sin, y cos + x sin. count <= kMostChannels.
void rotate_channels(Channels from_x, Channels from_y, Channels to_x, Channels to_y, const float *cosines,
                     const float *sines, int64_t count) noexcept;

} // namespace attn::cpu

#endif
