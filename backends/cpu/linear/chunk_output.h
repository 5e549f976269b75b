// Values of a token in, its output out, in panels of columns; and the rows of its queries. Internal linkage: see
// simd.h.
#ifndef ATTN_BACKENDS_CPU_LINEAR_CHUNK_OUTPUT_H
#define ATTN_BACKENDS_CPU_LINEAR_CHUNK_OUTPUT_H

#include "backends/cpu/linear/chunk_state.h"

namespace attn::cpu {
namespace {

/// Features of a query, head `r` of the group.
inline void read_query_row(const LinearShape &shape, const LinearTask &task, int64_t r, int64_t token, float *x,
                           float *out)
{
    TokenView q = task.q, weights = task.q_feature;
    q.base += r * task.q_head_step;
    if (weights.base) weights.base += r * task.q_feature_head_step;
    read_row(q, token, shape.dim_qk, x);
    map_row(shape, weights, x, out);
}

/// What an update writes for a key: its value, times beta or the gate of the columns. Column c of panel p goes to
/// out[p * panel_step + c].
inline void read_values(const LinearShape &shape, const LinearTask &task, const Columns &columns, int64_t token,
                        float *out, int64_t panel_step)
{
    const int64_t v_bytes = task.v.channel_step * element_bytes(task.v.type);
    const int64_t w_bytes = task.write.channel_step * element_bytes(task.write.type);
    TokenView v = task.v, write = task.write;
    const float beta = shape.update == Update::delta ? read_one(task.beta, token) : 1;
    for (int64_t p = 0; p < columns.panels(); ++p) {
        float *row = out + p * panel_step;
        const int64_t c0 = p * kPanelWidth, left = columns.count - c0;
        const int64_t count = left < 0 ? 0 : left < kPanelWidth ? left : kPanelWidth;
        const int64_t width = columns.vectors(p) * kWidth;
        v.base = task.v.base + (columns.first + c0) * v_bytes;
        read_row(v, token, count, row);
        for (int64_t c = padded(count); c < width; c += kWidth) store(row + c, Vec{});
        if (shape.update == Update::delta)
            for (int64_t c = 0; c < width; c += kWidth) store(row + c, load(row + c) * beta);
        if (shape.update == Update::gated_delta) {
            write.base = task.write.base + (columns.first + c0) * w_bytes;
            for (int64_t c = 0; c < count; c += kWidth) {
                const int64_t some = count - c < kWidth ? count - c : kWidth;
                const Vec gate =
                    read_some(token_address(write, token) + c * w_bytes, write.type, write.channel_step, some);
                store(row + c, load(row + c) * gate);
            }
        }
        if (columns.kept > columns.count && columns.count >= c0 && columns.count < c0 + kPanelWidth)
            row[columns.count - c0] = 1;
    }
}

/// Scales a row of sums, divides it by the sum of weights where there is a normaliser, and writes it.
inline void write_output(const LinearShape &shape, const LinearTask &task, const Columns &columns, int64_t r,
                         int64_t token, const float *sums, int64_t panel_step)
{
    float factor = shape.scale;
    if (shape.normaliser) {
        const int64_t last = columns.count;
        const float weights =
            factor * sums[last / kPanelWidth * panel_step + last % kPanelWidth] + shape.normaliser_eps;
        factor = weights == 0 ? 0 : factor / weights;
    }
    const int64_t bytes = task.out_channel_step * element_bytes(task.out_type);
    char *out = task.out + token * task.out_token_step + r * task.out_head_step + columns.first * bytes;
    for (int64_t p = 0; p < columns.panels(); ++p)
        for (int64_t c = 0; c < kPanelWidth; c += kWidth) {
            const int64_t left = columns.count - p * kPanelWidth - c;
            if (left <= 0) return;
            write_some(out + (p * kPanelWidth + c) * bytes, task.out_type, task.out_channel_step,
                       left < kWidth ? left : kWidth, load(sums + p * panel_step + c) * factor);
        }
}

/// Weight of a token's own value where the state is read before it is written.
inline float bonus_of(const LinearShape &shape, const LinearTask &task, const float *query, const float *key)
{
    Vec sum = {};
    const int64_t step = task.bonus.channel_step * element_bytes(task.bonus.type);
    for (int64_t d = 0; d < shape.dim_k; d += kWidth) {
        const int64_t some = shape.dim_k - d < kWidth ? shape.dim_k - d : kWidth;
        sum += load(query + d) * load(key + d) *
               read_some(task.bonus.base + d * step, task.bonus.type, task.bonus.channel_step, some);
    }
    return reduce_add(sum);
}

} // namespace
} // namespace attn::cpu

#endif
