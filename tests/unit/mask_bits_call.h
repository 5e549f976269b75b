// One launch of the kernel that writes bits of mask programs, wherever it runs: sequences and their integers in any
// layout, and what the bits and classes must be by the definition of the conformance tests.
#ifndef ATTN_TESTS_UNIT_MASK_BITS_CALL_H
#define ATTN_TESTS_UNIT_MASK_BITS_CALL_H

#include "backends/gpu/dense/mask_bits.h"
#include "core_mask_programs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace mask_test {

/// Memory that the kernel reads and writes.
class Memory {
public:
    Memory() = default;
    virtual ~Memory() = default;
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;
    /// A copy that lives as long as this.
    virtual void *upload(const void *data, size_t bytes) = 0;
    virtual void download(const void *from, void *to, size_t bytes) = 0;
};

/// The arguments of a launch, and its results.
class Call {
public:
    enum class Layout { batched, packed, paged };

    Call(const attn::MaskProgram &program, std::vector<conformance::Sequence> sequences, conformance::Random &random,
         Memory &memory)
        : sequences_(std::move(sequences)),
          random_(random),
          memory_(memory),
          layout_(static_cast<Layout>(random.integer(0, 2)))
    {
        for (const conformance::Sequence &s : sequences_) {
            max_q_ = std::max(max_q_, s.tq), max_kv_ = std::max(max_kv_, s.tk);
            q_starts_.push_back(q_starts_.back() + s.tq), k_starts_.push_back(k_starts_.back() + s.tk);
        }
        max_kv_ += random.integer(0, 40);
        place_pages();
        p.sequences.batch = static_cast<int>(sequences_.size());
        p.sequences.max_q = static_cast<int>(max_q_), p.sequences.max_kv = static_cast<int>(max_kv_);
        p.sequences.total_q = q_starts_.back(), p.sequences.total_kv = k_starts_.back();
        const bool packed = layout_ == Layout::packed;
        std::vector<int64_t> used_q, used_kv;
        for (const conformance::Sequence &s : sequences_) used_q.push_back(s.tq), used_kv.push_back(s.tk);
        if (packed)
            p.sequences.cu_q = vector(q_starts_), p.sequences.cu_kv = vector(k_starts_);
        else
            p.sequences.used_q = vector(used_q), p.sequences.used_kv = vector(used_kv);
        if (layout_ == Layout::paged) {
            p.sequences.page_size = static_cast<int>(kPage);
            p.sequences.table = vector(table_);
            p.sequences.table_columns = static_cast<int>(columns());
            p.sequences.table_row_step = columns() * 4;
            p.sequences.pages = pages_;
        }
        const std::string constants = attn::gpu::mask_constants(program);
        p.mask = attn::gpu::mask_args(program, memory_.upload(constants.data(), constants.size()));
        if (program.by_position) {
            p.mask.positions_q = queries([](const conformance::Sequence &s) { return s.positions_q; });
            p.mask.positions_kv = keys([](const conformance::Sequence &s) { return s.positions_kv; });
        }
        for (size_t n = 0; n < program.pairs.size(); ++n) {
            const attn::MaskPair pair = program.pairs[n];
            if (pair.q) p.mask.ids_q[n] = queries([&](const conformance::Sequence &s) { return s.ids_q[pair.index]; });
            if (pair.kv) p.mask.ids_kv[n] = keys([&](const conformance::Sequence &s) { return s.ids_kv[pair.index]; });
        }
        p.words = (max_kv_ + 31) / 32 + random.integer(0, 2);
        attn::gpu::MaskClasses &c = p.classes;
        c.tile_rows = static_cast<int>(random.integer(1, 100));
        c.group = random.chance(0.5) ? 1 : static_cast<int>(random.integer(1, 7));
        c.tile_keys = static_cast<int>(32 * random.integer(1, 6));
        c.row_tiles = static_cast<int>((max_q_ * c.group + c.tile_rows - 1) / c.tile_rows);
        c.key_tiles = static_cast<int>((max_kv_ + c.tile_keys - 1) / c.tile_keys);
        has_bits_ = random.chance(0.8);
        const size_t heads = static_cast<size_t>(p.mask_heads()) * sequences_.size();
        bits_.resize(heads * static_cast<size_t>(max_q_ * p.words));
        classes_.resize(heads * static_cast<size_t>(c.row_tiles) * static_cast<size_t>(c.key_tiles));
    }

    /// What a launch is to write to, filled with nonsense.
    void prepare()
    {
        std::fill(bits_.begin(), bits_.end(), 0x5a5a5a5au);
        std::fill(classes_.begin(), classes_.end(), static_cast<unsigned char>(0x77));
        if (has_bits_) p.bits = static_cast<unsigned *>(memory_.upload(bits_.data(), bits_.size() * 4));
        p.classes.base = static_cast<unsigned char *>(memory_.upload(classes_.data(), classes_.size()));
    }

    /// Whether a bit, and a class, are what the definition says.
    void compare(const conformance::MaskProgram &definition)
    {
        if (has_bits_) memory_.download(p.bits, bits_.data(), bits_.size() * 4);
        memory_.download(p.classes.base, classes_.data(), classes_.size());
        for (size_t b = 0; b < sequences_.size(); ++b)
            for (int h = 0; h < p.mask_heads(); ++h) {
                const size_t at = b * static_cast<size_t>(p.mask_heads()) + static_cast<size_t>(h);
                compare(definition, sequences_[b], h, bits_.data() + at * static_cast<size_t>(max_q_ * p.words),
                        classes_.data() + at * static_cast<size_t>(p.classes.row_tiles * p.classes.key_tiles));
                if (testing::Test::HasFailure()) return;
            }
    }

    attn::gpu::MaskBitsParams p = {};

private:
    static constexpr int64_t kPage = 24;

    int64_t columns() const { return (max_kv_ + kPage - 1) / kPage; }

    void place_pages()
    {
        pages_ = static_cast<int64_t>(sequences_.size()) * columns() + 3;
        for (int64_t page = 0; page < pages_; ++page) table_.push_back(page);
        for (size_t n = table_.size(); n > 1; --n)
            std::swap(table_[n - 1], table_[static_cast<size_t>(random_.integer(0, static_cast<int64_t>(n) - 1))]);
        table_.resize(sequences_.size() * static_cast<size_t>(columns()));
    }

    /// Integers of either width.
    const char *integers(const std::vector<int64_t> &values, bool wide)
    {
        if (wide) return static_cast<const char *>(memory_.upload(values.data(), values.size() * 8));
        const std::vector<int32_t> narrow(values.begin(), values.end());
        return static_cast<const char *>(memory_.upload(narrow.data(), narrow.size() * 4));
    }
    attn::gpu::IntegerVector vector(const std::vector<int64_t> &values) { return {integers(values, false), 4, 0, 0}; }

    template <class Get>
    attn::gpu::IntegerView queries(Get get)
    {
        const bool packed = layout_ == Layout::packed;
        std::vector<int64_t> all(
            packed ? static_cast<size_t>(q_starts_.back()) : sequences_.size() * static_cast<size_t>(max_q_), -77);
        for (size_t b = 0; b < sequences_.size(); ++b) {
            const std::vector<std::int64_t> x = get(sequences_[b]);
            std::copy(x.begin(), x.end(), all.begin() + (packed ? q_starts_[b] : static_cast<int64_t>(b) * max_q_));
        }
        return view(all, max_q_);
    }
    template <class Get>
    attn::gpu::IntegerView keys(Get get)
    {
        const size_t places = layout_ == Layout::packed  ? static_cast<size_t>(k_starts_.back())
                              : layout_ == Layout::paged ? static_cast<size_t>(pages_ * kPage)
                                                         : sequences_.size() * static_cast<size_t>(max_kv_);
        std::vector<int64_t> all(places, -77);
        for (size_t b = 0; b < sequences_.size(); ++b) {
            const std::vector<std::int64_t> x = get(sequences_[b]);
            for (int64_t j = 0; j < static_cast<int64_t>(x.size()); ++j) {
                int64_t at = static_cast<int64_t>(b) * max_kv_ + j;
                if (layout_ == Layout::packed) at = k_starts_[b] + j;
                if (layout_ == Layout::paged)
                    at =
                        table_[b * static_cast<size_t>(columns()) + static_cast<size_t>(j / kPage)] * kPage + j % kPage;
                all[static_cast<size_t>(at)] = x[static_cast<size_t>(j)];
            }
        }
        return view(all, layout_ == Layout::paged ? kPage : max_kv_);
    }
    attn::gpu::IntegerView view(const std::vector<int64_t> &values, int64_t rows)
    {
        const bool wide = random_.chance(0.5);
        const int64_t bytes = wide ? 8 : 4;
        return {integers(values, wide), layout_ == Layout::packed ? 0 : rows * bytes, bytes, wide, 0};
    }

    void compare(const conformance::MaskProgram &definition, const conformance::Sequence &s, int h,
                 const unsigned *rows, const unsigned char *tiles) const
    {
        const attn::gpu::MaskClasses &c = p.classes;
        for (int64_t row = 0; row < max_q_ * c.group; row += c.tile_rows)
            for (int64_t j0 = 0; j0 < max_kv_; j0 += c.tile_keys) {
                const int64_t i0 = row / c.group, end = (row + c.tile_rows + c.group - 1) / c.group;
                bool some = false, all = i0 < s.tq && j0 < s.tk;
                for (int64_t i = i0; i < std::min<int64_t>(end, s.tq); ++i)
                    for (int64_t j = j0; j < std::min<int64_t>(j0 + c.tile_keys, max_kv_); ++j) {
                        const bool sees = j < s.tk && in_program(definition, s, ATTN_ALIGN_NONE, h, i, j);
                        if (has_bits_) {
                            ASSERT_EQ(rows[i * p.words + j / 32] >> j % 32 & 1, sees)
                                << "head " << h << ", query " << i << " of " << s.tq << ", key " << j << " of " << s.tk;
                        }
                        if (j < s.tk) some |= sees, all &= sees;
                    }
                const int64_t tile = row / c.tile_rows * c.key_tiles + j0 / c.tile_keys;
                ASSERT_EQ(tiles[tile], all    ? attn::gpu::kMaskFull
                                       : some ? attn::gpu::kMaskPartial
                                              : attn::gpu::kMaskSkip)
                    << "head " << h << ", tile at query " << i0 << ", key " << j0;
            }
    }

    std::vector<conformance::Sequence> sequences_;
    conformance::Random &random_;
    Memory &memory_;
    const Layout layout_;
    std::vector<unsigned> bits_;
    std::vector<unsigned char> classes_;
    bool has_bits_ = true;
    int64_t max_q_ = 0, max_kv_ = 0, pages_ = 0;
    std::vector<int64_t> q_starts_ = {0}, k_starts_ = {0}, table_;
};

} // namespace mask_test

#endif
