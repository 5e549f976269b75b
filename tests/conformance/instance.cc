#include "instance.h"

#include <algorithm>
#include <numeric>

namespace conformance {

Instance::Instance(const Case &spec, std::vector<Content> contents, std::uint64_t placement)
    : spec_(spec), contents_(std::move(contents))
{
    Random random(spec.seed, 100, placement);
    for (const Content &c : contents_) {
        q_longest_ = std::max(q_longest_, c.q_rows);
        kv_longest_ = std::max(kv_longest_, c.k_rows);
    }
    place_rows(random);
    if (spec_.paged()) place_pages(random);
    allocate();
    fill();
}

// Packed rows: some before the first sequence and after the last belong to nobody.
void Instance::place_rows(Random &random)
{
    const bool margins = random.chance(0.5);
    q_total_ = margins ? random.integer(0, 3) : 0, kv_total_ = margins ? random.integer(0, 3) : 0;
    for (const Content &c : contents_) {
        q_start_.push_back(q_total_), kv_start_.push_back(kv_total_);
        q_total_ += c.q_rows, kv_total_ += c.k_rows;
    }
    q_start_.push_back(q_total_), kv_start_.push_back(kv_total_);
    if (margins) q_total_ += random.integer(0, 3), kv_total_ += random.integer(0, 3);
}

// Pages in random order in a pool that has more of them. A table that comes with lengths lists more than is needed.
void Instance::place_pages(Random &random)
{
    std::size_t widest = 0;
    std::int64_t needed = 0;
    for (const Content &c : contents_) {
        const std::int64_t count = (c.used.tk + spec_.page_size - 1) / spec_.page_size;
        pages_.emplace_back(count);
        widest = std::max(widest, pages_.back().size()), needed += count;
    }
    if (spec_.kv_shortened()) widest += random.integer(0, 2);
    pool_pages_ = needed + random.integer(0, 3);
    std::vector<std::int64_t> free_pages(pool_pages_);
    std::iota(free_pages.begin(), free_pages.end(), 0);
    for (std::int64_t n = pool_pages_; n > 1; --n) std::swap(free_pages[n - 1], free_pages[random.integer(0, n - 1)]);
    for (auto &pages : pages_) {
        for (auto &page : pages) page = free_pages.back(), free_pages.pop_back();
        // Entries that no length reaches are never read: fill them with nonsense.
        if (!spec_.flat_table())
            pages.resize(widest, 0x7ffffff0);
        else if (spec_.kv_shortened())
            pages.resize(pages.size() + random.integer(0, 2), -7);
    }
}

Tensor &Instance::add_input(attn_slot slot, attn_dtype dtype, std::vector<std::int64_t> shape,
                            const std::string &layout)
{
    inputs_.push_back({slot, Tensor(dtype, std::move(shape), layout)});
    return inputs_.back().tensor;
}

void Instance::allocate()
{
    const Case &c = spec_;
    const std::int64_t batch = c.batch, ho = c.heads_out();
    const auto token_shape = [&](bool packed, bool paged, std::int64_t total, std::int64_t longest) {
        if (paged) return std::vector<std::int64_t>{pool_pages_, c.page_size};
        return packed ? std::vector<std::int64_t>{total} : std::vector<std::int64_t>{batch, longest};
    };
    const auto with = [](std::vector<std::int64_t> shape, std::initializer_list<std::int64_t> more) {
        shape.insert(shape.end(), more);
        return shape;
    };
    const auto q_shape = token_shape(c.q_packed(), false, q_total_, q_longest_);
    const auto kv_shape = token_shape(c.kv_packed(), c.paged(), kv_total_, kv_longest_);
    add_input(ATTN_SLOT_Q, dtype_of(c.q_dtype), with(q_shape, {c.heads_q, c.dim_qk}), c.q_layout);
    add_input(ATTN_SLOT_K, dtype_of(c.k_dtype), with(kv_shape, {c.heads_k, c.dim_qk}), c.kv_layout);
    add_input(ATTN_SLOT_V, dtype_of(c.v_dtype), with(kv_shape, {c.heads_v, c.dim_v}), c.kv_layout);
    out_ = Tensor(dtype_of(c.out_dtype), with(q_shape, {ho, c.dim_v}), c.out_layout);
    if (c.lse) {
        const auto shape =
            c.q_packed() ? std::vector<std::int64_t>{ho, q_total_} : std::vector<std::int64_t>{batch, ho, q_longest_};
        lse_ = Tensor(ATTN_FLOAT32, shape, c.out_layout == "bhsd" ? "bshd" : c.out_layout);
    }
    const attn_dtype index = dtype_of(c.index_dtype);
    if (c.by_position()) {
        add_input(ATTN_SLOT_POSITIONS_Q, index, q_shape, c.q_layout == "strided" ? "strided" : "bshd");
        add_input(ATTN_SLOT_POSITIONS_KV, index, kv_shape, c.kv_layout == "gaps" ? "gaps" : "bshd");
    }
    fill_indices();
}

void Instance::fill_indices()
{
    const Case &c = spec_;
    const attn_dtype index = dtype_of(c.index_dtype);
    const std::int64_t batch = c.batch;
    const std::string layout = c.q_layout == "strided" ? "strided" : "bshd";
    const auto fill_vector = [&](attn_slot slot, std::int64_t count, auto &&value) {
        Tensor &t = add_input(slot, index, {count}, layout);
        for (std::int64_t n = 0; n < count; ++n) t.set({n}, static_cast<double>(value(n)));
    };
    if (c.q_packed()) fill_vector(ATTN_SLOT_CU_SEQLENS_Q, batch + 1, [&](std::int64_t b) { return q_start_[b]; });
    if (c.kv_packed()) fill_vector(ATTN_SLOT_CU_SEQLENS_KV, batch + 1, [&](std::int64_t b) { return kv_start_[b]; });
    if (c.q_shortened()) fill_vector(ATTN_SLOT_SEQLENS_Q, batch, [&](std::int64_t b) { return contents_[b].used.tq; });
    if (c.kv_shortened())
        fill_vector(ATTN_SLOT_SEQLENS_KV, batch, [&](std::int64_t b) { return contents_[b].used.tk; });
    if (!c.paged()) return;
    if (c.flat_table()) {
        std::vector<std::int64_t> start{0}, flat;
        for (const auto &pages : pages_) {
            flat.insert(flat.end(), pages.begin(), pages.end());
            start.push_back(static_cast<std::int64_t>(flat.size()));
        }
        fill_vector(ATTN_SLOT_BLOCK_TABLE_PTR, batch + 1, [&](std::int64_t b) { return start[b]; });
        fill_vector(ATTN_SLOT_BLOCK_TABLE, std::int64_t(flat.size()), [&](std::int64_t n) { return flat[n]; });
        return;
    }
    const std::int64_t width = pages_.empty() ? 0 : std::int64_t(pages_[0].size());
    Tensor &table = add_input(ATTN_SLOT_BLOCK_TABLE, index, {batch, width}, c.kv_layout == "gaps" ? "gaps" : "bshd");
    for (std::int64_t b = 0; b < batch; ++b)
        for (std::int64_t n = 0; n < width; ++n) table.set({b, n}, static_cast<double>(pages_[b][n]));
}

Index Instance::q_index(std::size_t b, std::int64_t i, std::int64_t h, std::int64_t c) const
{
    if (spec_.q_packed()) return {q_start_[b] + i, h, c, 0};
    return {static_cast<std::int64_t>(b), i, h, c};
}

Index Instance::kv_index(std::size_t b, std::int64_t j, std::int64_t h, std::int64_t c) const
{
    if (spec_.paged()) return {pages_[b][j / spec_.page_size], j % spec_.page_size, h, c};
    if (spec_.kv_packed()) return {kv_start_[b] + j, h, c, 0};
    return {static_cast<std::int64_t>(b), j, h, c};
}

Index Instance::lse_index(std::size_t b, std::int64_t h, std::int64_t i) const
{
    if (spec_.q_packed()) return {h, q_start_[b] + i, 0, 0};
    return {static_cast<std::int64_t>(b), h, i, 0};
}

void Instance::fill()
{
    Tensor &q = inputs_[0].tensor, &k = inputs_[1].tensor, &v = inputs_[2].tensor;
    for (std::size_t b = 0; b < contents_.size(); ++b) {
        const Sequence &s = contents_[b].used;
        const double *x = s.q.data();
        for (std::int64_t i = 0; i < s.tq; ++i)
            for (std::int64_t h = 0; h < s.heads_q; ++h)
                for (std::int64_t c = 0; c < s.dim_qk; ++c) q.set(q_index(b, i, h, c), *x++);
        x = s.k.data();
        for (std::int64_t j = 0; j < s.tk; ++j)
            for (std::int64_t h = 0; h < s.heads_k; ++h)
                for (std::int64_t c = 0; c < s.dim_qk; ++c) k.set(kv_index(b, j, h, c), *x++);
        x = s.v.data();
        for (std::int64_t j = 0; j < s.tk; ++j)
            for (std::int64_t h = 0; h < s.heads_v; ++h)
                for (std::int64_t c = 0; c < s.dim_v; ++c) v.set(kv_index(b, j, h, c), *x++);
        if (spec_.by_position()) { // the indices of a token tensor without its head and channel axes
            for (std::int64_t i = 0; i < s.tq; ++i)
                inputs_[3].tensor.set(q_index(b, i, 0, 0), static_cast<double>(s.positions_q[i]));
            for (std::int64_t j = 0; j < s.tk; ++j)
                inputs_[4].tensor.set(kv_index(b, j, 0, 0), static_cast<double>(s.positions_kv[j]));
        }
    }
    poison_outputs();
}

void Instance::poison_outputs()
{
    out_.poison();
    if (spec_.lse) lse_.poison();
    for (std::size_t b = 0; b < contents_.size(); ++b) {
        const Sequence &s = contents_[b].used;
        for (std::int64_t i = 0; i < s.tq; ++i) {
            for (std::int64_t h = 0; h < s.heads_out(); ++h) {
                for (std::int64_t c = 0; c < s.dim_v; ++c) out_.expect_write(q_index(b, i, h, c));
                if (spec_.lse) lse_.expect_write(lse_index(b, h, i));
            }
        }
    }
}

Bounds Instance::actual() const
{
    return {spec_.batch, q_longest_, kv_longest_, q_total_, kv_total_};
}

Bounds Instance::bounds() const
{
    Bounds b = actual();
    if (spec_.bounds == "loose") {
        Random random(spec_.seed, 101);
        b.batch += random.integer(0, 3), b.max_q += random.integer(1, 900), b.max_kv += random.integer(1, 900);
        b.total_q += random.integer(0, 500), b.total_kv += random.integer(0, 500);
    }
    for (std::int64_t *x : {&b.batch, &b.max_q, &b.max_kv, &b.total_q, &b.total_kv}) *x = std::max<std::int64_t>(*x, 1);
    return b;
}

std::vector<attn_arg> Instance::args()
{
    views_.clear();
    std::vector<attn_arg> args;
    const auto add = [&](attn_slot slot, Tensor &tensor) {
        views_.push_back(tensor.view());
        args.push_back({slot, 0, &views_.back()});
    };
    for (Input &input : inputs_) add(input.slot, input.tensor);
    add(ATTN_SLOT_OUT, out_);
    if (spec_.lse) add(ATTN_SLOT_LSE, lse_);
    return args;
}

std::vector<double> Instance::out(std::size_t b) const
{
    const Sequence &s = contents_[b].used;
    std::vector<double> x;
    x.reserve(s.tq * s.heads_out() * s.dim_v);
    for (std::int64_t i = 0; i < s.tq; ++i)
        for (std::int64_t h = 0; h < s.heads_out(); ++h)
            for (std::int64_t c = 0; c < s.dim_v; ++c) x.push_back(out_.get(q_index(b, i, h, c)));
    return x;
}

std::vector<double> Instance::lse(std::size_t b) const
{
    const Sequence &s = contents_[b].used;
    std::vector<double> x;
    for (std::int64_t h = 0; h < s.heads_out(); ++h)
        for (std::int64_t i = 0; i < s.tq; ++i) x.push_back(lse_.get(lse_index(b, h, i)));
    return x;
}

std::vector<std::vector<unsigned char>> Instance::input_bytes() const
{
    std::vector<std::vector<unsigned char>> all;
    for (const Input &input : inputs_) all.push_back(input.tensor.bytes());
    return all;
}

} // namespace conformance
