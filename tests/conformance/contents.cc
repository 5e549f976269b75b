// What a case means: random contents of its sequences, and its settings of the operator.
#include "instance.h"

#include <algorithm>

namespace conformance {
namespace {

enum Purpose : std::uint64_t { lengths = 1, queries, keys, values, positions };

// Rows reserved and rows used. The first sequence takes all it may, so no case is empty by chance.
void draw_lengths(const Case &c, std::size_t b, Content &content)
{
    Random random(c.seed, lengths, b);
    const bool first = b == 0;
    const auto some = [&](std::int64_t most) {
        if (first) return most;
        return random.chance(0.15) ? std::int64_t{0} : random.integer(0, most);
    };
    Sequence &s = content.used;
    content.q_rows = c.q_packed() ? some(c.max_q) : c.max_q;
    s.tq = c.q_shortened() ? some(content.q_rows) : content.q_rows;
    if (!c.paged()) {
        content.k_rows = c.kv_packed() ? some(c.max_kv) : c.max_kv;
        s.tk = c.kv_shortened() ? some(content.k_rows) : content.k_rows;
    } else if (c.kv_shortened()) {
        s.tk = content.k_rows = some(c.max_kv);
    } else { // whole pages
        const std::int64_t most = (c.max_kv + c.page_size - 1) / c.page_size;
        s.tk = content.k_rows = c.page_size * (c.flat_table() ? some(most) : most);
    }
    // Where lengths are given, let a used length end before the reserved one also in the first sequence.
    if (first && c.q_packed() && c.q_shortened() && s.tq > 1) s.tq -= random.integer(0, 1);
    if (first && c.kv_packed() && c.kv_shortened() && s.tk > 1) s.tk -= random.integer(0, 1);
}

std::vector<double> draw(Random random, attn_dtype dtype, std::int64_t rows, std::int64_t heads, std::int64_t dim,
                         double deviation, bool one_head)
{
    std::vector<double> x(rows * heads * dim);
    for (std::size_t n = 0; n < x.size(); ++n) {
        const std::int64_t h = std::int64_t(n) / dim % heads;
        x[n] = one_head && h > 0 ? x[n - dim] : round_to(dtype, deviation * random.normal());
    }
    return x;
}

// Increasing with repetitions and holes; those of queries lie in the range of those of keys. Some in any order, some in
// two runs far apart, as the ranks of a ring have them, either first.
void draw_positions(Random random, Sequence &s)
{
    std::int64_t position = random.integer(-4, 40);
    const std::int64_t start = position;
    for (std::int64_t j = 0; j < s.tk; ++j) s.positions_kv.push_back(position += random.integer(0, 2));
    for (std::int64_t i = 0; i < s.tq; ++i) s.positions_q.push_back(random.integer(start - 2, position + 2));
    std::sort(s.positions_q.begin(), s.positions_q.end());
    const auto reorder = [&](std::vector<std::int64_t> &x) {
        const double order = random.uniform();
        const auto middle = x.begin() + std::int64_t(x.size()) / 2;
        if (order < 0.3)
            for (std::size_t n = x.size(); n > 1; --n) std::swap(x[n - 1], x[random.integer(0, std::int64_t(n) - 1)]);
        else if (order < 0.6)
            for (auto at = middle; at != x.end(); ++at) *at += position - start;
        if (0.45 <= order && order < 0.6) std::rotate(x.begin(), middle, x.end());
    };
    reorder(s.positions_q), reorder(s.positions_kv);
}

} // namespace

std::vector<Content> draw_contents(const Case &c)
{
    std::vector<Content> contents(c.batch);
    const bool one_head = c.kv_layout == "repeated";
    for (std::size_t b = 0; b < contents.size(); ++b) {
        draw_lengths(c, b, contents[b]);
        Sequence &s = contents[b].used;
        s.heads_q = c.heads_q, s.heads_k = c.heads_k, s.heads_v = c.heads_v;
        s.dim_qk = c.dim_qk, s.dim_v = c.dim_v;
        s.q = draw(Random(c.seed, queries, b), dtype_of(c.q_dtype), s.tq, s.heads_q, s.dim_qk, c.magnitude, false);
        s.k = draw(Random(c.seed, keys, b), dtype_of(c.k_dtype), s.tk, s.heads_k, s.dim_qk, 1, one_head);
        s.v = draw(Random(c.seed, values, b), dtype_of(c.v_dtype), s.tk, s.heads_v, s.dim_v, 1, one_head);
        if (c.by_position()) draw_positions(Random(c.seed, positions, b), s);
        draw_options(c, b, s);
        draw_ids(c, b, s);
    }
    return contents;
}

Options oracle_options(const Case &c)
{
    Options o;
    o.scale = c.scale();
    o.causal = align_of(c.causal), o.align = align_of(c.align);
    if (c.window_left >= 0) o.window_left = c.window_left;
    if (c.window_right >= 0) o.window_right = c.window_right;
    o.sink_tokens = c.sink_tokens;
    o.softcap = c.softcap;
    set_options(c, o);
    return o;
}

void Descriptor::bind(attn_slot slot, attn_dtype dtype, std::uint32_t flags, std::uint32_t index)
{
    attn_bind b{};
    b.slot = slot, b.dtype = dtype, b.flags = flags, b.index = index;
    binds_.push_back(b);
}

Descriptor::Descriptor(const Case &c, const Bounds &bounds)
{
    const attn_dtype index = dtype_of(c.index_dtype);
    const attn_dtype index_or_default = index == ATTN_INT32 ? 0 : index;
    if (c.q_packed()) bind(ATTN_SLOT_CU_SEQLENS_Q, index_or_default);
    if (c.kv_packed()) bind(ATTN_SLOT_CU_SEQLENS_KV, index_or_default);
    if (c.q_shortened()) bind(ATTN_SLOT_SEQLENS_Q, index_or_default);
    if (c.kv_shortened()) bind(ATTN_SLOT_SEQLENS_KV, index_or_default);
    if (c.flat_table()) bind(ATTN_SLOT_BLOCK_TABLE_PTR, index_or_default);
    if (c.lse) bind(ATTN_SLOT_LSE);
    if (index_or_default != 0) { // implied slots are bound only to change their dtype
        if (c.paged()) bind(ATTN_SLOT_BLOCK_TABLE, index);
        if (c.by_position()) bind(ATTN_SLOT_POSITIONS_Q, index), bind(ATTN_SLOT_POSITIONS_KV, index);
    }
    bind_options(c);
    set_mask(c);

    problem.size = sizeof problem;
    problem.binds = binds_.data(), problem.bind_count = binds_.size();
    if (c.batch_invariant) problem.flags |= ATTN_BATCH_INVARIANT;
    if (c.strict_nonfinite) problem.flags |= ATTN_STRICT_NONFINITE;
    problem.q_dtype = dtype_of(c.q_dtype), problem.k_dtype = dtype_of(c.k_dtype);
    problem.v_dtype = dtype_of(c.v_dtype), problem.out_dtype = dtype_of(c.out_dtype);
    problem.batch = bounds.batch;
    problem.heads_q = c.heads_q, problem.heads_k = c.heads_k, problem.heads_v = c.heads_v;
    problem.dim_qk = c.dim_qk, problem.dim_v = c.dim_v;
    problem.max_q = bounds.max_q, problem.max_kv = bounds.max_kv;
    if (c.q_packed()) problem.total_q = bounds.total_q;
    if (c.kv_packed()) problem.total_kv = bounds.total_kv;
    if (c.paged()) problem.page_size = c.page_size;
    if (c.scale_factor != 0) problem.scale = c.scale();

    dense.size = sizeof dense;
    dense.problem = &problem;
    dense.causal = align_of(c.causal), dense.align = align_of(c.align);
    if (c.window_left >= 0) dense.flags |= ATTN_WINDOW_LEFT, dense.window_left = c.window_left;
    if (c.window_right >= 0) dense.flags |= ATTN_WINDOW_RIGHT, dense.window_right = c.window_right;
    dense.sink_tokens = c.sink_tokens;
    dense.softcap = c.softcap;
    set_options(c);
}

} // namespace conformance
