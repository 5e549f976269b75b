// Mask programs of cases: the ids they read, their tensors, and how a descriptor asks for them.
#include "instance.h"
#include "mask_text.h"

#include <algorithm>

namespace conformance {
namespace {

constexpr std::uint64_t purpose = 40; // and one for each pair

// Documents of random lengths, mostly in order; queries in documents that keys are in, or nearly.
void draw_pair(Random random, const Case &c, std::int64_t tq, std::int64_t tk, std::vector<std::int64_t> &ids_q,
               std::vector<std::int64_t> &ids_kv)
{
    // Now and then far apart, where the dtype has room: what is compared is not what fits 32 bits.
    const std::int64_t step = c.index_dtype == "int64" && random.chance(0.2) ? std::int64_t{1} << 40 : 1;
    const double change = 1.0 / static_cast<double>(random.skewed(80));
    const auto shuffle = [&](std::vector<std::int64_t> &x) {
        for (std::size_t n = x.size(); n > 1; --n) std::swap(x[n - 1], x[random.integer(0, std::int64_t(n) - 1)]);
    };
    std::int64_t id = random.integer(-1, 2);
    const std::int64_t first = id;
    for (std::int64_t j = 0; j < tk; ++j) {
        if (j > 0 && random.chance(change)) id += random.integer(1, 2);
        ids_kv.push_back(step * id);
    }
    for (std::int64_t i = 0; i < tq; ++i) ids_q.push_back(step * random.integer(first - 1, id + 1));
    if (random.chance(0.6)) std::sort(ids_q.begin(), ids_q.end());
    if (random.chance(0.2)) shuffle(ids_kv);
    if (random.chance(0.4)) // the same document as the key by the bottom right corner
        for (std::int64_t i = 0; i < tq; ++i)
            if (const std::int64_t j = i + tk - tq; j >= 0 && j < tk) ids_q[i] = ids_kv[j];
}

} // namespace

void draw_ids(const Case &c, std::size_t b, Sequence &s)
{
    const MaskProgram program = parse_mask(c.mask);
    std::set<std::uint32_t> pairs = query_ids(program);
    pairs.merge(key_ids(program));
    for (const std::uint32_t pair : pairs) {
        if (s.ids_q.size() <= pair) s.ids_q.resize(pair + 1), s.ids_kv.resize(pair + 1);
        draw_pair(Random(c.seed, purpose + pair, b), c, s.tq, s.tk, s.ids_q[pair], s.ids_kv[pair]);
    }
}

void Descriptor::set_mask(const Case &c)
{
    if (!c.has_mask()) return;
    mask_ = parse_mask(c.mask);
    if (const attn_dtype index = dtype_of(c.index_dtype); index != ATTN_INT32) {
        for (const std::uint32_t pair : query_ids(mask_)) bind(ATTN_SLOT_IDS_Q, index, 0, pair);
        for (const std::uint32_t pair : key_ids(mask_)) bind(ATTN_SLOT_IDS_KV, index, 0, pair);
    }
    for (const HeadTable &table : mask_.tables)
        mask_tables_.push_back(
            {table.values.data(), table.slopes.empty() ? nullptr : table.slopes.data(), table.rows, table.columns});
    program_.size = sizeof program_;
    program_.terms = mask_.terms.data(), program_.term_count = mask_.terms.size();
    program_.tables = mask_tables_.empty() ? nullptr : mask_tables_.data();
    program_.table_count = mask_tables_.size();
    dense.mask = &program_;
}

void Instance::allocate_ids()
{
    const MaskProgram program = parse_mask(spec_.mask);
    const attn_dtype index = dtype_of(spec_.index_dtype);
    const std::string layout = spec_.option_layout == "bhsd" ? "bshd" : spec_.option_layout;
    for (const std::uint32_t pair : query_ids(program))
        add_input(ATTN_SLOT_IDS_Q, index, token_shape(true), layout, pair);
    for (const std::uint32_t pair : key_ids(program))
        add_input(ATTN_SLOT_IDS_KV, index, token_shape(false), layout, pair);
}

void Instance::fill_ids()
{
    const MaskProgram program = parse_mask(spec_.mask);
    for (std::size_t b = 0; b < contents_.size(); ++b) {
        const Sequence &s = contents_[b].used;
        for (const std::uint32_t pair : query_ids(program))
            for (std::int64_t i = 0; i < s.tq; ++i)
                input(ATTN_SLOT_IDS_Q, pair).set(q_index(b, i, 0, 0), static_cast<double>(s.ids_q[pair][i]));
        for (const std::uint32_t pair : key_ids(program))
            for (std::int64_t j = 0; j < s.tk; ++j)
                input(ATTN_SLOT_IDS_KV, pair).set(kv_index(b, j, 0, 0), static_cast<double>(s.ids_kv[pair][j]));
    }
}

} // namespace conformance
