#include "instance.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>

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
                            const std::string &layout, std::uint32_t index)
{
    inputs_.push_back({slot, Tensor(dtype, std::move(shape), layout), index});
    return inputs_.back().tensor;
}

Tensor &Instance::input(attn_slot slot, std::uint32_t index)
{
    const auto found = std::find_if(inputs_.begin(), inputs_.end(), [slot, index](const Slot &input) {
        return input.slot == slot && input.index == index;
    });
    if (found == inputs_.end()) throw std::out_of_range("the case has no such input");
    return found->tensor;
}

std::vector<std::int64_t> Instance::token_shape(bool queries, std::initializer_list<std::int64_t> more) const
{
    std::vector<std::int64_t> shape{spec_.batch, queries ? q_longest_ : kv_longest_};
    if (queries ? spec_.q_packed() : spec_.kv_packed()) shape = {queries ? q_total_ : kv_total_};
    if (!queries && spec_.paged()) shape = {pool_pages_, spec_.page_size};
    shape.insert(shape.end(), more);
    return shape;
}

void Instance::allocate()
{
    const Case &c = spec_;
    const std::int64_t batch = c.batch, ho = c.heads_out();
    add_input(ATTN_SLOT_Q, dtype_of(c.q_dtype), token_shape(true, {c.heads_q, c.dim_qk}), c.q_layout);
    add_input(ATTN_SLOT_K, dtype_of(c.k_dtype), token_shape(false, {c.heads_k, c.dim_qk}), c.kv_layout);
    if (!c.v_aliases_k)
        add_input(ATTN_SLOT_V, dtype_of(c.v_dtype), token_shape(false, {c.heads_v, c.dim_v}), c.kv_layout);
    out_ = Tensor(dtype_of(c.out_dtype), token_shape(true, {ho, c.dim_v}), c.out_layout);
    const std::string layout = c.out_layout == "bhsd" ? "bshd" : c.out_layout;
    const auto add_statistic = [&](attn_slot slot, bool packed, std::int64_t total, std::int64_t longest) {
        const std::vector<std::int64_t> one{ho, total}, each{batch, ho, longest};
        statistics_.push_back({slot, Tensor(ATTN_FLOAT32, packed ? one : each, layout), 0});
    };
    if (c.lse) add_statistic(ATTN_SLOT_LSE, c.q_packed(), q_total_, q_longest_);
    if (c.row_max) add_statistic(ATTN_SLOT_ROW_MAX, c.q_packed(), q_total_, q_longest_);
    if (c.row_entropy) add_statistic(ATTN_SLOT_ROW_ENTROPY, c.q_packed(), q_total_, q_longest_);
    if (c.column_mass) add_statistic(ATTN_SLOT_COLUMN_MASS, c.kv_packed(), kv_total_, kv_longest_);
    const attn_dtype index = dtype_of(c.index_dtype);
    if (c.by_position()) {
        add_input(ATTN_SLOT_POSITIONS_Q, index, token_shape(true), c.q_layout == "strided" ? "strided" : "bshd");
        add_input(ATTN_SLOT_POSITIONS_KV, index, token_shape(false), c.kv_layout == "gaps" ? "gaps" : "bshd");
    }
    allocate_options();
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

Index Instance::mass_index(std::size_t b, std::int64_t h, std::int64_t j) const
{
    if (spec_.kv_packed()) return {h, kv_start_[b] + j, 0, 0};
    return {static_cast<std::int64_t>(b), h, j, 0};
}

template <class Visitor>
void Instance::visit_statistic(attn_slot slot, std::size_t b, Visitor &&visit) const
{
    const Sequence &s = contents_[b].used;
    const bool by_key = slot == ATTN_SLOT_COLUMN_MASS;
    for (std::int64_t h = 0; h < s.heads_out(); ++h)
        for (std::int64_t n = 0; n < (by_key ? s.tk : s.tq); ++n)
            visit(by_key ? mass_index(b, h, n) : lse_index(b, h, n));
}

void Instance::fill()
{
    fill_tokens(ATTN_SLOT_Q, true, spec_.heads_q, spec_.dim_qk, &Sequence::q);
    fill_tokens(ATTN_SLOT_K, false, spec_.heads_k, spec_.dim_qk, &Sequence::k);
    if (!spec_.v_aliases_k) fill_tokens(ATTN_SLOT_V, false, spec_.heads_v, spec_.dim_v, &Sequence::v);
    if (spec_.by_position()) { // token tensors without head and channel axes
        fill_tokens(ATTN_SLOT_POSITIONS_Q, true, 1, 1, &Sequence::positions_q);
        fill_tokens(ATTN_SLOT_POSITIONS_KV, false, 1, 1, &Sequence::positions_kv);
    }
    fill_options();
    poison_outputs();
}

void Instance::poison_outputs()
{
    out_.poison();
    for (Slot &statistic : statistics_) statistic.tensor.poison();
    for (std::size_t b = 0; b < contents_.size(); ++b) {
        const Sequence &s = contents_[b].used;
        for (std::int64_t i = 0; i < s.tq; ++i)
            for (std::int64_t h = 0; h < s.heads_out(); ++h)
                for (std::int64_t c = 0; c < s.dim_v; ++c) out_.expect_write(q_index(b, i, h, c));
        for (Slot &statistic : statistics_)
            visit_statistic(statistic.slot, b, [&](const Index &at) { statistic.tensor.expect_write(at); });
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
    const auto add = [&](attn_slot slot, std::uint32_t slot_index, Tensor &tensor) {
        views_.push_back(tensor.view());
        args.push_back({slot, slot_index, &views_.back()});
    };
    for (Slot &input : inputs_) add(input.slot, input.index, input.tensor);
    add(ATTN_SLOT_OUT, 0, out_);
    for (Slot &statistic : statistics_) add(statistic.slot, 0, statistic.tensor);
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

std::vector<double> Instance::statistic(attn_slot slot, std::size_t b) const
{
    std::vector<double> x;
    for (const Slot &statistic : statistics_)
        if (statistic.slot == slot)
            visit_statistic(slot, b, [&](const Index &at) { x.push_back(statistic.tensor.get(at)); });
    return x;
}

std::vector<Bytes> Instance::input_bytes() const
{
    std::vector<Bytes> all;
    for (const Slot &input : inputs_) all.push_back(input.tensor.bytes());
    return all;
}

bool Instance::wrote_elsewhere() const
{
    return out_.wrote_elsewhere() || std::any_of(statistics_.begin(), statistics_.end(),
                                                 [](const Slot &s) { return s.tensor.wrote_elsewhere(); });
}

} // namespace conformance
