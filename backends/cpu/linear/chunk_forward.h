// Linear attention over a sequence in chunks, for one state and some columns of V.
//
//     tokens of a chunk         q~ = q e^G      k~ = k e^-G      c~ = what is read of the state, e^G
//                                 |               |                 |
//     within the chunk      A = lower(q~ k~^T)                 L = strictly lower(c~ k~^T)
//                                 |                                 |
//     values                      |          w = (I - L)^-1 (v + c~ S)      by substitution; w = v where keys only add
//     output                o = q~ S + A w
//     state                 S = e^G_n (S + k~^T w)
//
// With a low-rank transition (DPLR) there are a second stream y = (I - lower(c~ b~^T))^-1 (c~ S + lower(c~ k~^T) v) and
// its scores. A panel of columns of S and its rows of w stay in L1 while a chunk passes. Exponents: chunk_decay.h.
// Internal linkage: see simd.h.
#ifndef ATTN_BACKENDS_CPU_LINEAR_CHUNK_FORWARD_H
#define ATTN_BACKENDS_CPU_LINEAR_CHUNK_FORWARD_H

#include "backends/cpu/linear/chunk_step.h"

namespace attn::cpu {
namespace {

/// Sequences of at most so many tokens go token by token.
constexpr int64_t kStepTokens = 8;

/// Tokens between fetching a row and reading it.
constexpr int64_t kTokensAhead = 8;

/// Everything a task needs.
struct Run {
    const LinearShape &shape;
    const LinearTask &task;
    const Columns columns;
    const Extents extents;
    Scratch scratch;

    Run(const LinearShape &s, const LinearTask &t, void *memory)
        : shape(s), task(t), columns(s, t), extents(s, t.columns), scratch(s, extents, static_cast<float *>(memory))
    {
    }
    float *state(int64_t panel) const { return scratch.state + panel * extents.features * kPanelWidth; }
    float *panel(float *rows, int64_t p) const { return rows + p * extents.tokens * kPanelWidth; }
    float *row(float *rows, int64_t i) const { return rows + i * extents.features; }
    int64_t panel_step() const { return extents.tokens * kPanelWidth; }
};

/// out = x * factor by channel.
ATTN_INLINE void scale_row(const float *x, const float *factor, int64_t count, float *out)
{
    for (int64_t d = 0; d < count; d += kWidth) store(out + d, load(x + d) * load(factor + d));
}

/// What a token reads of the state before its own update: `c`, times the decay since the start of the chunk.
inline void read_removal(const Run &run, int64_t token, const float *key, float *c)
{
    const LinearShape &shape = run.shape;
    const Decays &decays = run.scratch.decays;
    const int64_t features = run.extents.features;
    switch (shape.update) {
    case Update::add:
        return;
    case Update::delta: {
        const Vec beta = splat(-read_one(run.task.beta, token));
        for (int64_t d = 0; d < features; d += kWidth) store(c + d, beta * load(key + d) * load(decays.forward + d));
        return;
    }
    case Update::gated_delta:
        read_row(run.task.erase, token, shape.dim_k, c);
        for (int64_t d = 0; d < features; d += kWidth)
            store(c + d, -load(c + d) * load(key + d) * load(decays.forward + d));
        return;
    case Update::dplr: // of the state before its decay
        read_row(run.task.dplr_c, token, shape.dim_k, c);
        scale_row(c, decays.before, features, c);
        return;
    }
}

/// Fetches the rows of a token for later.
inline void fetch_token(const Run &run, int64_t token)
{
    const LinearTask &task = run.task;
    fetch_row(task.k, token, run.shape.dim_qk);
    TokenView v = task.v;
    v.base += run.columns.first * v.channel_step * element_bytes(v.type);
    fetch_row(v, token, run.columns.count);
    if (run.shape.decay == Decay::channel) fetch_row(task.decay, token, run.shape.dim_k);
    if (run.shape.update == Update::gated_delta) fetch_row(task.erase, token, run.shape.dim_k);
    if (run.shape.update == Update::dplr) {
        fetch_row(task.dplr_b, token, run.shape.dim_k);
        fetch_row(task.dplr_c, token, run.shape.dim_k);
    }
    if (run.shape.bidirectional) return;
    TokenView q = task.q;
    for (int64_t r = 0; r < run.shape.group; ++r, q.base += task.q_head_step) fetch_row(q, token, run.shape.dim_qk);
}

/// Row i of a chunk.
inline void read_token(Run &run, int64_t token, int64_t i)
{
    const LinearShape &shape = run.shape;
    Scratch &s = run.scratch;
    const Decays &decays = s.decays;
    const int64_t features = run.extents.features;
    read_row(run.task.k, token, shape.dim_qk, s.x);
    map_row(shape, run.task.k_feature, s.x, s.key);
    scale_row(s.key, decays.back, features, run.row(s.k, i));
    if (shape.update != Update::add) read_removal(run, token, s.key, run.row(s.c, i));
    if (shape.update == Update::dplr) {
        read_row(run.task.dplr_b, token, shape.dim_k, run.row(s.b, i));
        scale_row(run.row(s.b, i), decays.back, features, run.row(s.b, i));
    }
    read_values(shape, run.task, run.columns, token, s.v + i * kPanelWidth, run.panel_step());
    if (shape.bidirectional) return;
    for (int64_t r = 0; r < shape.group; ++r) {
        read_query_row(shape, run.task, r, token, s.x, s.query);
        if (shape.read_before) s.bonus[r * run.extents.tokens + i] = bonus_of(shape, run.task, s.query, s.key);
        scale_row(s.query, shape.read_before ? decays.before : decays.forward, features,
                  run.row(s.q, r * run.extents.tokens + i));
    }
}

/// Reads tokens from `first` on until the chunk is full; the number of tokens. 0: the first decays too much for a
/// chunk.
inline int64_t read_chunk(Run &run, int64_t first, int64_t end)
{
    Scratch &s = run.scratch;
    const int64_t most = end - first < run.extents.chunk ? end - first : run.extents.chunk;
    reset_decays(&s.decays);
    int64_t n = 0;
    for (; n < most; ++n) {
        if (!add_decays(run.shape, run.task, first + n, &s.decays)) break;
        read_token(run, first + n, n);
        if (first + n + kTokensAhead < end) fetch_token(run, first + n + kTokensAhead);
    }
    if (n == 0) return 0;
    // Blocks of rows and squares of a transposition reach beyond the last token.
    const int64_t whole = padded(n);
    for (int64_t i = n; i < whole; ++i) {
        fill(run.row(s.k, i), run.extents.features, 0);
        if (run.shape.update == Update::dplr) fill(run.row(s.b, i), run.extents.features, 0);
        if (run.shape.update != Update::add) fill(run.row(s.c, i), run.extents.features, 0);
        for (int64_t p = 0; p < run.columns.panels(); ++p) fill(run.panel(s.v, p) + i * kPanelWidth, kPanelWidth, 0);
        if (run.shape.bidirectional) continue;
        for (int64_t r = 0; r < run.shape.group; ++r)
            fill(run.row(s.q, r * run.extents.tokens + i), run.extents.features, 0);
    }
    return n;
}

ATTN_INLINE void multiply_rows(const Run &run, const float *x, const float *columns, int64_t rows, float *out)
{
    multiply_scores(x, run.extents.features, columns, run.extents.tokens, run.shape.dim_k, rows, out,
                    run.extents.tokens);
}

/// w = (I - L)^-1 (v + c~ S), in place of v.
template <int N>
inline void solve_values(const Run &run, int64_t p, int64_t rows)
{
    const Scratch &s = run.scratch;
    float *v = run.panel(s.v, p);
    const int64_t step = run.extents.tokens, features = run.extents.features;
    for (int64_t i = 0; i < rows; i += kRows) {
        Block<N> acc;
        load_block(v + i * kPanelWidth, kPanelWidth, acc);
        multiply(run.row(s.c, i), features, run.state(p), kPanelWidth, run.shape.dim_k, acc);
        multiply(s.scores[1] + i * step, step, v, kPanelWidth, i, acc);
        solve_lower(s.scores[1] + i * step + i, step, acc);
        store_block(v + i * kPanelWidth, kPanelWidth, acc);
    }
}

/// y = (I - lower(c~ b~^T))^-1 (c~ S + lower(c~ k~^T) v).
template <int N>
inline void solve_low_rank(const Run &run, int64_t p, int64_t rows)
{
    const Scratch &s = run.scratch;
    const float *v = run.panel(s.v, p);
    float *y = run.panel(s.y, p);
    const int64_t step = run.extents.tokens;
    for (int64_t i = 0; i < rows; i += kRows) {
        Block<N> acc;
        clear(acc);
        multiply(run.row(s.c, i), run.extents.features, run.state(p), kPanelWidth, run.shape.dim_k, acc);
        multiply(s.scores[2] + i * step, step, v, kPanelWidth, i, acc);
        multiply_lower<N, true>(s.scores[2] + i * step + i, step, v + i * kPanelWidth, kPanelWidth, acc);
        multiply(s.scores[1] + i * step, step, y, kPanelWidth, i, acc);
        solve_lower(s.scores[1] + i * step + i, step, acc);
        store_block(y + i * kPanelWidth, kPanelWidth, acc);
    }
}

/// o = q~ S + A w (+ A' y).
template <int N>
inline void multiply_outputs(const Run &run, const float *q, int64_t p, int64_t rows)
{
    const Scratch &s = run.scratch;
    const float *v = run.panel(s.v, p), *y = run.panel(s.y, p);
    const int64_t step = run.extents.tokens;
    for (int64_t i = 0; i < rows; i += kRows) {
        Block<N> acc;
        clear(acc);
        multiply(q + i * run.extents.features, run.extents.features, run.state(p), kPanelWidth, run.shape.dim_k, acc);
        if (!run.shape.bidirectional) {
            multiply(s.scores[0] + i * step, step, v, kPanelWidth, i, acc);
            multiply_lower<N, false>(s.scores[0] + i * step + i, step, v + i * kPanelWidth, kPanelWidth, acc);
        }
        if (run.shape.update == Update::dplr) {
            multiply(s.scores[3] + i * step, step, y, kPanelWidth, i, acc);
            multiply_lower<N, false>(s.scores[3] + i * step + i, step, y + i * kPanelWidth, kPanelWidth, acc);
        }
        store_block(run.panel(s.out, p) + i * kPanelWidth, kPanelWidth, acc);
    }
}

/// S = e^G (S + k~^T w (+ b~^T y)).
template <int N>
inline void update_state(const Run &run, int64_t p, int64_t rows)
{
    const Scratch &s = run.scratch;
    float *state = run.state(p);
    const int64_t step = run.extents.tokens;
    for (int64_t d = 0; d < run.extents.features; d += kRows) {
        Block<N> acc;
        load_block(state + d * kPanelWidth, kPanelWidth, acc);
        multiply(s.k_columns + d * step, step, run.panel(s.v, p), kPanelWidth, rows, acc);
        if (run.shape.update == Update::dplr)
            multiply(s.b_columns + d * step, step, run.panel(s.y, p), kPanelWidth, rows, acc);
        ATTN_UNROLL
        for (int m = 0; m < kRows; ++m) {
            const Vec factor = splat(s.decays.forward[d + m]);
            ATTN_UNROLL
            for (int n = 0; n < N; ++n) acc[m][n] *= factor;
        }
        store_block(state + d * kPanelWidth, kPanelWidth, acc);
    }
}

/// Calls body(constant N, panel) for each panel with its number of vectors.
template <class Body>
ATTN_INLINE void for_panels(const Run &run, Body body)
{
    for (int64_t p = 0; p < run.columns.panels(); ++p)
        with_vectors(run.columns.vectors(p), [&](auto count) { body(count, p); });
}

/// Writes the outputs of head r of the group for the rows of a chunk.
inline void write_outputs(const Run &run, int64_t r, int64_t first, int64_t rows)
{
    for (int64_t i = 0; i < rows; ++i)
        write_output(run.shape, run.task, run.columns, r, first + i, run.scratch.out + i * kPanelWidth,
                     run.panel_step());
}

/// The tokens that read_chunk() read: `rows` of them, from `first` on.
inline void compute_chunk(Run &run, int64_t first, int64_t rows)
{
    const Scratch &s = run.scratch;
    const int64_t whole = padded(rows), features = run.extents.features, tokens = run.extents.tokens;
    transpose_rows(s.k, features, whole, features, s.k_columns, tokens);
    if (run.shape.update == Update::dplr) {
        transpose_rows(s.b, features, whole, features, s.b_columns, tokens);
        multiply_rows(run, s.c, s.b_columns, rows, s.scores[1]);
        multiply_rows(run, s.c, s.k_columns, rows, s.scores[2]);
        for_panels(run, [&](auto n, int64_t p) { solve_low_rank<decltype(n)::value>(run, p, rows); });
    } else if (run.shape.update != Update::add) {
        multiply_rows(run, s.c, s.k_columns, rows, s.scores[1]);
        for_panels(run, [&](auto n, int64_t p) { solve_values<decltype(n)::value>(run, p, rows); });
    }
    for (int64_t r = 0; r < run.shape.group && !run.shape.bidirectional; ++r) {
        const float *q = s.q + r * tokens * features;
        multiply_rows(run, q, s.k_columns, rows, s.scores[0]);
        if (run.shape.read_before)
            for (int64_t i = 0; i < rows; ++i) s.scores[0][i * tokens + i] = s.bonus[r * tokens + i];
        if (run.shape.update == Update::dplr) multiply_rows(run, q, s.b_columns, rows, s.scores[3]);
        for_panels(run, [&](auto n, int64_t p) { multiply_outputs<decltype(n)::value>(run, q, p, rows); });
        write_outputs(run, r, first, rows);
    }
    for_panels(run, [&](auto n, int64_t p) { update_state<decltype(n)::value>(run, p, rows); });
}

/// Every query reads the state of all keys.
inline void answer_all(Run &run)
{
    const Scratch &s = run.scratch;
    for (int64_t r = 0; r < run.shape.group; ++r)
        for (int64_t first = 0; first < run.task.tokens; first += run.extents.chunk) {
            const int64_t left = run.task.tokens - first;
            const int64_t rows = left < run.extents.chunk ? left : run.extents.chunk;
            for (int64_t i = 0; i < rows; ++i) read_query_row(run.shape, run.task, r, first + i, s.x, run.row(s.q, i));
            for (int64_t i = rows; i < padded(rows); ++i) fill(run.row(s.q, i), run.extents.features, 0);
            for_panels(run, [&](auto n, int64_t p) { multiply_outputs<decltype(n)::value>(run, s.q, p, rows); });
            write_outputs(run, r, first, rows);
        }
}

/// Whether rows of a state are floats that a step can work on: whole vectors of V, and no other columns.
inline bool is_direct(const StateView &view, const Columns &columns)
{
    return view.base && view.type == Element::float32 && view.column_step == 4 && view.row_step % 4 == 0 &&
           columns.kept == columns.count && columns.count % kWidth == 0;
}

ATTN_INLINE float *columns_of(const StateView &view, const Columns &columns)
{
    return reinterpret_cast<float *>(view.base + columns.first * 4);
}

/// Few tokens on a state in the caller's memory, read and written once.
inline void step_in_memory(Run &run)
{
    const LinearTask &task = run.task;
    constexpr int64_t kStripWidth = kMostStepVectors * kWidth;
    Strips strips = {columns_of(task.state_in, run.columns),
                     columns_of(task.state_out, run.columns),
                     task.state_in.row_step / 4,
                     task.state_out.row_step / 4,
                     kStripWidth,
                     kStripWidth,
                     kStripWidth,
                     run.columns.count,
                     run.scratch.sum,
                     run.scratch.v,
                     0};
    const bool in_place = task.state_in.base == task.state_out.base;
    for (int64_t token = 0; token < task.tokens; ++token) {
        // A task has states that follow each other: while queries read this one, the next comes from memory.
        if (in_place && token + 1 == task.tokens) strips.ahead = run.shape.dim_k * strips.to_step;
        step_token(run.shape, task, run.columns, token, strips, &run.scratch);
        strips.from = strips.to, strips.from_step = strips.to_step;
    }
}

/// One token on the state in scratch, where a panel is a strip.
inline void step_in_scratch(Run &run, int64_t token)
{
    const int64_t panel = run.extents.features * kPanelWidth;
    const Strips strips = {run.scratch.state, run.scratch.state,        kPanelWidth,     kPanelWidth,   panel, panel,
                           kPanelWidth,       padded(run.columns.kept), run.scratch.sum, run.scratch.v, 0};
    step_token(run.shape, run.task, run.columns, token, strips, &run.scratch);
}

inline void run_linear(const LinearShape &shape, const LinearTask &task, void *memory)
{
    Run run(shape, task, memory);
    start_decays(shape, task, &run.scratch.decays);
    reset_decays(&run.scratch.decays);
    const bool few = !shape.bidirectional && task.tokens > 0 && task.tokens <= kStepTokens;
    if (few && !task.token_states.base && is_direct(task.state_in, run.columns) &&
        is_direct(task.state_out, run.columns))
        return step_in_memory(run);
    load_state(task.state_in, task.key_sums, run.columns, shape.dim_k, run.scratch.state);
    for (int64_t first = 0; first < task.keys;) {
        const bool single = few || task.token_states.base;
        const int64_t rows = single ? 0 : read_chunk(run, first, task.keys);
        if (rows == 0) {
            step_in_scratch(run, first);
            if (task.token_states.base) {
                StateView after = task.token_states;
                after.base += first * task.token_state_step;
                save_state(after, run.columns, shape.dim_k, run.scratch.state);
            }
            ++first;
            continue;
        }
        compute_chunk(run, first, rows);
        first += rows;
    }
    if (shape.bidirectional) answer_all(run);
    if (task.state_out.base) save_state(task.state_out, run.columns, shape.dim_k, run.scratch.state);
}

inline void total_decay(const LinearShape &shape, const LinearTask &task, void *memory, float *out)
{
    Run run(shape, task, memory);
    multiply_decays(shape, task, &run.scratch.decays, out);
}

} // namespace
} // namespace attn::cpu

#endif
