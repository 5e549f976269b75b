// The state of a task in scratch: panels of kPanelWidth columns, each [rows][kPanelWidth]. Internal linkage: see
// simd.h.
#ifndef ATTN_BACKENDS_CPU_LINEAR_CHUNK_STATE_H
#define ATTN_BACKENDS_CPU_LINEAR_CHUNK_STATE_H

#include "backends/cpu/linear/chunk_matrix.h"
#include "backends/cpu/linear/chunk_rows.h"

namespace attn::cpu {
namespace {

/// Which columns a task keeps: its own of V, and after them the sum of keys where there is a normaliser.
struct Columns {
    int64_t first, count; ///< Of V.
    int64_t kept;         ///< With the sum of keys.
    int64_t dim_v;
    bool last; ///< Whether the sum of keys is this task's to save.

    Columns(const LinearShape &shape, const LinearTask &task)
        : first(task.first_column),
          count(task.columns),
          kept(task.columns + (shape.normaliser ? 1 : 0)),
          dim_v(shape.dim_v),
          last(task.first_column + task.columns == shape.dim_v)
    {
    }
    int64_t panels() const { return (kept + kPanelWidth - 1) / kPanelWidth; }
    /// Vectors of a panel.
    int64_t vectors(int64_t panel) const
    {
        const int64_t left = (kept - panel * kPanelWidth + kWidth - 1) / kWidth;
        return left < kPanel ? left : kPanel;
    }
    /// Column of the caller's state.
    int64_t place(int64_t c) const { return c < count ? first + c : dim_v; }
};

ATTN_INLINE float state_element(const StateView &in, int64_t row, int64_t column)
{
    return read_float(in.base + row * in.row_step + column * in.column_step, in.type);
}

/// Elements of a state by column step: adjacent columns are vectors, adjacent rows are vectors of a transposed square.
inline void load_state(const StateView &in, const StateView &key_sums, const Columns &columns, int64_t dim_k,
                       float *state)
{
    const int64_t rows = padded(dim_k), bytes = element_bytes(in.type);
    for (int64_t p = 0; p < columns.panels(); ++p) {
        float *panel = state + p * rows * kPanelWidth;
        const int64_t c0 = p * kPanelWidth;
        if (!in.base) {
            for (int64_t i = 0; i < rows * kPanelWidth; i += kWidth) store(panel + i, Vec{});
            continue;
        }
        for (int64_t v = 0; v < kPanel; ++v) {
            const int64_t c = c0 + v * kWidth;
            const bool whole = c + kWidth <= columns.count;
            const char *first = in.base + columns.place(whole ? c : 0) * in.column_step;
            for (int64_t d = 0; d < rows; d += kWidth) {
                float *to = panel + d * kPanelWidth + v * kWidth;
                if (whole && d + kWidth <= dim_k && in.row_step == bytes) {
                    Vec square[kWidth];
                    ATTN_UNROLL
                    for (int i = 0; i < kWidth; ++i)
                        square[i] = read_vector(first + d * bytes + i * in.column_step, in.type);
                    transpose(square);
                    ATTN_UNROLL
                    for (int i = 0; i < kWidth; ++i) store(to + i * kPanelWidth, square[i]);
                    continue;
                }
                for (int64_t r = 0; r < kWidth; ++r) {
                    float *row = to + r * kPanelWidth;
                    if (d + r >= dim_k) {
                        store(row, Vec{});
                    } else if (whole && in.column_step == bytes) {
                        store(row, read_vector(first + (d + r) * in.row_step, in.type));
                    } else {
                        for (int64_t i = 0; i < kWidth; ++i)
                            row[i] = c + i < columns.count  ? state_element(in, d + r, columns.place(c + i))
                                     : c + i < columns.kept ? state_element(key_sums, d + r, 0)
                                                            : 0;
                    }
                }
            }
        }
    }
}

inline void save_state(const StateView &out, const Columns &columns, int64_t dim_k, const float *state)
{
    const int64_t rows = padded(dim_k), bytes = element_bytes(out.type);
    const int64_t saved = columns.last ? columns.kept : columns.count;
    for (int64_t p = 0; p < columns.panels(); ++p) {
        const float *panel = state + p * rows * kPanelWidth;
        for (int64_t v = 0; v < kPanel; ++v) {
            const int64_t c = p * kPanelWidth + v * kWidth;
            if (c >= saved) break;
            const bool whole = c + kWidth <= columns.count;
            char *first = out.base + columns.place(whole ? c : 0) * out.column_step;
            for (int64_t d = 0; d < dim_k; d += kWidth) {
                const float *from = panel + d * kPanelWidth + v * kWidth;
                if (whole && d + kWidth <= dim_k && out.row_step == bytes) {
                    Vec square[kWidth];
                    ATTN_UNROLL
                    for (int i = 0; i < kWidth; ++i) square[i] = load(from + i * kPanelWidth);
                    transpose(square);
                    ATTN_UNROLL
                    for (int i = 0; i < kWidth; ++i)
                        write_vector(first + d * bytes + i * out.column_step, out.type, square[i]);
                    continue;
                }
                for (int64_t r = 0; r < kWidth && d + r < dim_k; ++r) {
                    const float *row = from + r * kPanelWidth;
                    if (whole && out.column_step == bytes) {
                        write_vector(first + (d + r) * out.row_step, out.type, load(row));
                        continue;
                    }
                    for (int64_t i = 0; i < kWidth && c + i < saved; ++i)
                        write_element(out.base + (d + r) * out.row_step + columns.place(c + i) * out.column_step,
                                      out.type, row[i]);
                }
            }
        }
    }
}

} // namespace
} // namespace attn::cpu

#endif
