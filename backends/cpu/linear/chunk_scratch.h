// Scratch of one worker: the state, a chunk of tokens, and rows. Internal linkage: see simd.h.
#ifndef ATTN_BACKENDS_CPU_LINEAR_CHUNK_SCRATCH_H
#define ATTN_BACKENDS_CPU_LINEAR_CHUNK_SCRATCH_H

#include "backends/cpu/linear/chunk_decay.h"
#include "backends/cpu/linear/chunk_state.h"

namespace attn::cpu {
namespace {

/// What the arrays below are made for.
struct Extents {
    int64_t features; ///< dim_k, whole vectors.
    int64_t tokens;   ///< Of a chunk, whole vectors.
    int64_t panels;   ///< Of columns.
    int64_t chunk;    ///< Most tokens of a chunk.

    Extents(const LinearShape &shape, int64_t columns) : features(padded(shape.dim_k)), chunk(shape.chunk)
    {
        const int64_t kept = columns + (shape.normaliser ? 1 : 0);
        panels = (kept + kPanelWidth - 1) / kPanelWidth;
        tokens = padded(chunk);
    }
    int64_t panel_rows(int64_t rows) const { return panels * rows * kPanelWidth; }
};

struct Scratch {
    float *state;                 ///< [panel][features][kPanelWidth]
    float *q;                     ///< [head of the group][tokens][features]
    float *k, *b, *c;             ///< [tokens][features]: what is written, and what is read of the state
    float *k_columns, *b_columns; ///< [features][tokens]
    float *v, *y, *out;           ///< [panel][tokens][kPanelWidth]
    float *scores[4];             ///< [tokens][tokens]
    float *bonus;                 ///< [head of the group][tokens]
    float *x, *key, *query;       ///< A row, and its features.
    float *sum;                   ///< [panel][kPanelWidth]
    Decays decays;
    int64_t floats = 0; ///< Of all arrays.

    /// Lays the arrays out from `base` on; NULL only counts.
    Scratch(const LinearShape &shape, const Extents &e, float *base)
    {
        const bool dplr = shape.update == Update::dplr;
        const bool reads = shape.update != Update::add;
        const auto take = [&](int64_t count) {
            float *taken = base ? base + floats : nullptr;
            floats += padded(count);
            return taken;
        };
        const int64_t rows = e.tokens * e.features, square = e.tokens * e.tokens;
        state = take(e.panel_rows(e.features));
        q = take(shape.group * rows);
        k = take(rows), k_columns = take(rows);
        b = take(dplr ? rows : 0), b_columns = take(dplr ? rows : 0);
        c = take(reads ? rows : 0);
        v = take(e.panel_rows(e.tokens)), out = take(e.panel_rows(e.tokens));
        y = take(dplr ? e.panel_rows(e.tokens) : 0);
        scores[0] = take(square), scores[1] = take(reads ? square : 0);
        scores[2] = take(dplr ? square : 0), scores[3] = take(dplr ? square : 0);
        bonus = take(shape.read_before ? shape.group * e.tokens : 0);
        x = take(padded(shape.dim_qk));
        key = take(e.features), query = take(e.features);
        sum = take(e.panels * kPanelWidth);
        decays.row = take(e.features), decays.dt_bias = take(e.features);
        decays.whole = take(e.features), decays.rest = take(e.features);
        decays.before = take(e.features), decays.forward = take(e.features), decays.back = take(e.features);
        decays.sums = reinterpret_cast<double *>(take(2 * e.features));
        decays.channels = e.features;
    }
};

inline size_t scratch_bytes(const LinearShape &shape, int64_t columns)
{
    return static_cast<size_t>(Scratch(shape, Extents(shape, columns), nullptr).floats) * sizeof(float);
}

} // namespace
} // namespace attn::cpu

#endif
