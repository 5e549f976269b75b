// The recurrence for single tokens: one pass over the state to write a key (two where it is looked up first), one for
// each query. The state lies in the caller's memory where that is rows of floats, else in scratch.
// Internal linkage: see simd.h.
#ifndef ATTN_BACKENDS_CPU_LINEAR_CHUNK_STEP_H
#define ATTN_BACKENDS_CPU_LINEAR_CHUNK_STEP_H

#include "backends/cpu/linear/chunk_output.h"
#include "backends/cpu/linear/chunk_scratch.h"

namespace attn::cpu {
namespace {

/// Most vectors of a row of the state that are summed together.
constexpr int kMostStepVectors = 8;

/// Some columns of a state in memory, and of the rows of a token.
struct Strip {
    const float *from;
    float *to;
    int64_t from_step, to_step; ///< Floats from row to row.
    int64_t vectors;
    float *sum, *v; ///< Of these columns.
};

/// A state as strips of `width` columns, a whole number of vectors each.
struct Strips {
    const float *from;
    float *to;
    int64_t from_step, to_step;   ///< Floats from row to row ...
    int64_t from_strip, to_strip; ///< ... and from strip to strip.
    int64_t width, columns;
    float *sum, *v; ///< Rows of all columns.
    int64_t ahead;  ///< Floats from a state to the one that lies behind it and comes next; 0: none does.

    int64_t count() const { return (columns + width - 1) / width; }
    Strip operator[](int64_t i) const
    {
        const int64_t left = columns - i * width;
        return {from + i * from_strip, to + i * to_strip, from_step, to_step, (left < width ? left : width) / kWidth,
                sum + i * width,       v + i * width};
    }
};

/// Calls body(Count<N>{}, first column) for all vectors of a strip, N of them at a time.
template <int N = kMostStepVectors, class Body>
ATTN_INLINE void for_vectors(int64_t vectors, Body body, int64_t first = 0)
{
    for (; first + N <= vectors; first += N) body(Count<N>{}, first * kWidth);
    if constexpr (N > 1) for_vectors<N / 2>(vectors, body, first);
}

/// sum = S^T x. `ahead` floats further there is what is read next; 0: nothing is.
inline void contract(const Strip &strip, const float *state, int64_t step, const float *x, int64_t rows,
                     int64_t ahead = 0)
{
    for_vectors(strip.vectors, [&](auto count, int64_t first) {
        constexpr int kCount = decltype(count)::value;
        Vec acc[kCount];
        ATTN_UNROLL
        for (int n = 0; n < kCount; ++n) acc[n] = Vec{};
        const float *s = state + first;
        for (int64_t d = 0; d < rows; ++d, s += step) {
            const Vec value = splat(x[d]);
            ATTN_UNROLL
            for (int n = 0; n < kCount; ++n) {
                acc[n] += value * load(s + n * kWidth);
                if (ahead && n * kWidth % 16 == 0) __builtin_prefetch(s + n * kWidth + ahead, 0, 2);
            }
        }
        ATTN_UNROLL
        for (int n = 0; n < kCount; ++n) store(strip.sum + first + n * kWidth, acc[n]);
    });
}

/// S = decay S + k v^T, and where LowRank + b sum^T.
template <bool LowRank>
inline void write_key(const Strip &strip, const float *decay, const float *k, const float *b, int64_t rows)
{
    for_vectors(strip.vectors, [&](auto count, int64_t first) {
        constexpr int kCount = decltype(count)::value;
        Vec v[kCount];
        ATTN_UNROLL
        for (int n = 0; n < kCount; ++n) v[n] = load(strip.v + first + n * kWidth);
        const float *from = strip.from + first;
        float *to = strip.to + first;
        for (int64_t d = 0; d < rows; ++d, from += strip.from_step, to += strip.to_step) {
            const Vec factor = splat(decay[d]), value = splat(k[d]);
            ATTN_UNROLL
            for (int n = 0; n < kCount; ++n) {
                Vec s = factor * load(from + n * kWidth);
                if constexpr (LowRank) s += splat(b[d]) * load(strip.sum + first + n * kWidth);
                store(to + n * kWidth, s + value * v[n]);
            }
        }
    });
}

/// Rows of one token: key features, factors of the decay, what is read of the state, values.
inline void read_step(const LinearShape &shape, const LinearTask &task, const Columns &columns, int64_t token,
                      Scratch *s)
{
    single_decay(shape, task, token, &s->decays);
    read_row(task.k, token, shape.dim_qk, s->x);
    map_row(shape, task.k_feature, s->x, s->key);
    read_values(shape, task, columns, token, s->v, kPanelWidth);
    const float *decay = s->decays.forward;
    switch (shape.update) {
    case Update::add:
        break;
    case Update::delta: {
        const Vec beta = splat(-read_one(task.beta, token));
        for (int64_t d = 0; d < shape.dim_k; d += kWidth) store(s->c + d, beta * load(s->key + d) * load(decay + d));
        break;
    }
    case Update::gated_delta:
        read_row(task.erase, token, shape.dim_k, s->c);
        for (int64_t d = 0; d < shape.dim_k; d += kWidth)
            store(s->c + d, -load(s->c + d) * load(s->key + d) * load(decay + d));
        break;
    case Update::dplr:
        read_row(task.dplr_b, token, shape.dim_k, s->b);
        read_row(task.dplr_c, token, shape.dim_k, s->c);
        break;
    }
}

/// Reads the state for all queries of a token, where it comes from or, `After`, where it goes to.
template <bool After>
inline void answer_queries(const LinearShape &shape, const LinearTask &task, const Columns &columns, int64_t token,
                           const Strips &strips, Scratch *s)
{
    for (int64_t r = 0; r < shape.group; ++r) {
        read_query_row(shape, task, r, token, s->x, s->query);
        for (int64_t i = 0; i < strips.count(); ++i) {
            const Strip strip = strips[i];
            contract(strip, After ? strip.to : strip.from, After ? strip.to_step : strip.from_step, s->query,
                     shape.dim_k, r == 0 ? strips.ahead : 0);
        }
        if (shape.read_before) {
            const Vec bonus = splat(bonus_of(shape, task, s->query, s->key));
            for (int64_t c = 0; c < strips.columns; c += kWidth)
                store(strips.sum + c, load(strips.sum + c) + bonus * load(strips.v + c));
        }
        write_output(shape, task, columns, r, token, s->sum, kPanelWidth);
    }
}

/// One token. Afterwards the state is where the strips lead.
inline void step_token(const LinearShape &shape, const LinearTask &task, const Columns &columns, int64_t token,
                       const Strips &strips, Scratch *s)
{
    read_step(shape, task, columns, token, s);
    if (shape.read_before) answer_queries<false>(shape, task, columns, token, strips, s);
    const float *decay = s->decays.forward;
    for (int64_t i = 0; i < strips.count(); ++i) {
        const Strip strip = strips[i];
        if (shape.update != Update::add) contract(strip, strip.from, strip.from_step, s->c, shape.dim_k);
        if (shape.update == Update::dplr) {
            write_key<true>(strip, decay, s->key, s->b, shape.dim_k);
            continue;
        }
        if (shape.update != Update::add)
            for (int64_t c = 0; c < strip.vectors * kWidth; c += kWidth)
                store(strip.v + c, load(strip.v + c) + load(strip.sum + c));
        write_key<false>(strip, decay, s->key, nullptr, shape.dim_k);
    }
    if (!shape.read_before) answer_queries<true>(shape, task, columns, token, strips, s);
}

} // namespace
} // namespace attn::cpu

#endif
