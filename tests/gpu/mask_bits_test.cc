// The kernel that writes bits of mask programs, on a GPU: as an interpreter and with the text of the program in it,
// against the definition of the conformance tests.
#include "device_memory.h"

#include "backends/cuda/device.h"
#include "backends/gpu/dense/mask_bits.h"
#include "kernel/store.h"
#include "tests/conformance/table_masks.h"
#include "tests/unit/core_mask_programs.h"
#include "tests/unit/core_random.h"
#include "tests/unit/mask_texts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <memory>

namespace gpu_test {
namespace {

using namespace attn;
using gpu::IntegerView;
using gpu::MaskBitsParams;

/// Everything a launch reads, in device memory.
class Call {
public:
    enum class Layout { batched, packed, paged };

    Call(const MaskProgram &program, std::vector<conformance::Sequence> sequences, conformance::Random &random)
        : sequences_(std::move(sequences)), random_(random), layout_(static_cast<Layout>(random.integer(0, 2)))
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
        const std::string constants = gpu::mask_constants(program);
        p.mask = gpu::mask_args(program, upload(constants.data(), constants.size()));
        if (program.by_position) {
            p.mask.positions_q = queries([](const conformance::Sequence &s) { return s.positions_q; });
            p.mask.positions_kv = keys([](const conformance::Sequence &s) { return s.positions_kv; });
        }
        for (size_t n = 0; n < program.pairs.size(); ++n) {
            const MaskPair pair = program.pairs[n];
            if (pair.q) p.mask.ids_q[n] = queries([&](const conformance::Sequence &s) { return s.ids_q[pair.index]; });
            if (pair.kv) p.mask.ids_kv[n] = keys([&](const conformance::Sequence &s) { return s.ids_kv[pair.index]; });
        }
        p.words = (max_kv_ + 31) / 32 + random.integer(0, 2);
        p.tile_rows = static_cast<int>(random.integer(1, 100));
        p.tile_keys = static_cast<int>(32 * random.integer(1, 6));
        p.row_tiles = static_cast<int>((max_q_ + p.tile_rows - 1) / p.tile_rows);
        p.key_tiles = static_cast<int>((max_kv_ + p.tile_keys - 1) / p.tile_keys);
        const size_t heads = static_cast<size_t>(p.mask_heads()) * sequences_.size();
        bits.resize(heads * static_cast<size_t>(max_q_ * p.words));
        classes.resize(heads * static_cast<size_t>(p.row_tiles) * static_cast<size_t>(p.key_tiles));
    }

    void run(cuda::CudaDevice &device, const gpu::Kernel &kernel)
    {
        std::fill(bits.begin(), bits.end(), 0x5a5a5a5au);
        std::fill(classes.begin(), classes.end(), 0x77);
        p.bits = static_cast<unsigned *>(upload(bits.data(), bits.size() * 4));
        DeviceMemory &bits_memory = memory_.back();
        p.classes = static_cast<unsigned char *>(upload(classes.data(), classes.size()));
        DeviceMemory &class_memory = memory_.back();
        void *parameters[] = {&p};
        const gpu::Call call(device, nullptr);
        ASSERT_EQ(call.status(), ATTN_OK) << last_error();
        ASSERT_EQ(device.launch(kernel, gpu::mask_bits_grid(p), nullptr, parameters), ATTN_OK) << last_error();
        check(driver().ctx_synchronize(), "cuCtxSynchronize");
        bits_memory.read(bits.data(), 0, bits.size() * 4);
        class_memory.read(classes.data(), 0, classes.size());
    }

    /// Whether a bit, and a class, are what the definition says.
    void compare(const conformance::MaskProgram &definition) const
    {
        for (size_t b = 0; b < sequences_.size(); ++b)
            for (int h = 0; h < p.mask_heads(); ++h) {
                const size_t at = b * static_cast<size_t>(p.mask_heads()) + static_cast<size_t>(h);
                compare(definition, sequences_[b], h, bits.data() + at * static_cast<size_t>(max_q_ * p.words),
                        classes.data() + at * static_cast<size_t>(p.row_tiles * p.key_tiles));
                if (testing::Test::HasFailure()) return;
            }
    }

    MaskBitsParams p = {};
    std::vector<unsigned> bits;
    std::vector<unsigned char> classes;

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

    void *upload(const void *data, size_t bytes)
    {
        memory_.emplace_back(bytes);
        memory_.back().write(data, 0, bytes);
        return memory_.back().data();
    }
    /// Integers of either width.
    const char *integers(const std::vector<int64_t> &values, bool wide)
    {
        if (wide) return static_cast<const char *>(upload(values.data(), values.size() * 8));
        const std::vector<int32_t> narrow(values.begin(), values.end());
        return static_cast<const char *>(upload(narrow.data(), narrow.size() * 4));
    }
    gpu::IntegerVector vector(const std::vector<int64_t> &values) { return {integers(values, false), 4, 0, 0}; }

    template <class Get>
    IntegerView queries(Get get)
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
    IntegerView keys(Get get)
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
    IntegerView view(const std::vector<int64_t> &values, int64_t rows)
    {
        const bool wide = random_.chance(0.5);
        const int64_t bytes = wide ? 8 : 4;
        return {integers(values, wide), layout_ == Layout::packed ? 0 : rows * bytes, bytes, wide, 0};
    }

    void compare(const conformance::MaskProgram &definition, const conformance::Sequence &s, int h,
                 const unsigned *rows, const unsigned char *tiles) const
    {
        for (int64_t i0 = 0; i0 < max_q_; i0 += p.tile_rows)
            for (int64_t j0 = 0; j0 < max_kv_; j0 += p.tile_keys) {
                bool some = false, all = i0 < s.tq && j0 < s.tk;
                for (int64_t i = i0; i < std::min<int64_t>(i0 + p.tile_rows, s.tq); ++i)
                    for (int64_t j = j0; j < std::min<int64_t>(j0 + p.tile_keys, max_kv_); ++j) {
                        const bool sees = j < s.tk && in_program(definition, s, ATTN_ALIGN_NONE, h, i, j);
                        ASSERT_EQ(rows[i * p.words + j / 32] >> j % 32 & 1, sees)
                            << "head " << h << ", query " << i << " of " << s.tq << ", key " << j << " of " << s.tk;
                        if (j < s.tk) some |= sees, all &= sees;
                    }
                const int64_t tile = i0 / p.tile_rows * p.key_tiles + j0 / p.tile_keys;
                ASSERT_EQ(tiles[tile], all    ? gpu::kMaskFull
                                       : some ? gpu::kMaskPartial
                                              : gpu::kMaskSkip)
                    << "head " << h << ", tile at query " << i0 << ", key " << j0;
            }
    }

    std::vector<conformance::Sequence> sequences_;
    conformance::Random &random_;
    const Layout layout_;
    int64_t max_q_ = 0, max_kv_ = 0, pages_ = 0;
    std::vector<int64_t> q_starts_ = {0}, k_starts_ = {0}, table_;
    std::deque<DeviceMemory> memory_;
};

class MaskBits : public testing::Test {
protected:
    void SetUp() override
    {
        const cuda::Driver *found = nullptr;
        ASSERT_EQ(cuda::open_driver(&found), ATTN_OK) << last_error();
        kernel::StoreOptions options;
        options.driver = found->version;
        ASSERT_EQ(kernel::open_store(options, &store_), ATTN_OK) << last_error();
        has_compiler_ = store_->compiler().rfind("NVRTC", 0) == 0;
        ASSERT_EQ(cuda::CudaDevice::open(*found, {}, std::move(store_), &device_), ATTN_OK) << last_error();
        context_ = std::make_unique<ContextScope>();
    }
    void run(const kernel::Request &request, const conformance::MaskProgram &definition, const MaskProgram &program,
             conformance::Random &random)
    {
        gpu::Kernel kernel;
        ASSERT_EQ(device_->load(request, has_compiler_, gpu::kMaskThreads, 0, &kernel), ATTN_OK) << last_error();
        EXPECT_EQ(kernel.local_bytes, 0);
        std::vector<conformance::Sequence> sequences;
        for (int64_t b = random.integer(1, 3); b > 0; --b) sequences.push_back(mask_test::draw_sequence(random, 300));
        Call call(program, std::move(sequences), random);
        call.run(*device_, kernel);
        call.compare(definition);
    }

    std::unique_ptr<kernel::Store> store_;
    bool has_compiler_ = false;
    std::unique_ptr<ContextScope> context_;
    std::unique_ptr<cuda::CudaDevice> device_;
};

TEST_F(MaskBits, Interpreter)
{
    conformance::Random random(attn::test::test_seed(), 4);
    for (int round = 0; round < 150 && !HasFailure(); ++round) {
        const std::string text = round < mask_test::kMaskTextCount ? mask_test::kMaskTexts[round]
                                                                   : random_mask(mask_test::case_of("none"), random);
        SCOPED_TRACE(text);
        const conformance::MaskProgram definition = conformance::parse_mask(text);
        run(gpu::mask_bits_request(), definition, mask_test::read(definition), random);
    }
}

TEST_F(MaskBits, TextOfPrograms)
{
    if (!has_compiler_) GTEST_SKIP() << "there is no compiler";
    conformance::Random random(attn::test::test_seed(), 5);
    for (int round = 0; round < mask_test::kMaskTextCount && !HasFailure(); ++round) {
        SCOPED_TRACE(mask_test::kMaskTexts[round]);
        const conformance::MaskProgram definition = conformance::parse_mask(mask_test::kMaskTexts[round]);
        const MaskProgram program = mask_test::read(definition);
        for (int again = 0; again < 3 && !HasFailure(); ++again)
            run(gpu::mask_bits_request(program), definition, program, random);
    }
}

} // namespace
} // namespace gpu_test
