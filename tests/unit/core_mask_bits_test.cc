// The kernel that interprets mask programs, run on the CPU by fibers that stand in for the threads of a GPU: bits and
// classes are what the definition says.

#include "core_random.h"
#include "mask_bits_call.h"
#include "mask_texts.h"

#define __shared__ static                   // NOLINT(bugprone-reserved-identifier)
#include "backends/gpu/dense/mask_bits.cuh" // with the platform of tests/gpu_emulated/device
#include "tests/conformance/table_masks.h"

#include <gtest/gtest.h>

#include <deque>

namespace {

class HostMemory final : public mask_test::Memory {
public:
    void *upload(const void *data, size_t bytes) override
    {
        const auto *from = static_cast<const char *>(data);
        // Of exactly that size, so that a sanitizer sees what goes beyond.
        copies_.push_back(std::make_unique<long long[]>((bytes + 7) / 8));
        if (bytes) std::memcpy(copies_.back().get(), from, bytes);
        return copies_.back().get();
    }
    void download(const void *from, void *to, size_t bytes) override
    {
        if (bytes) std::memcpy(to, from, bytes);
    }

private:
    std::deque<std::unique_ptr<long long[]>> copies_;
};

void run(const std::string &text, conformance::Random &random, int64_t longest)
{
    SCOPED_TRACE(text);
    const conformance::MaskProgram definition = conformance::parse_mask(text);
    const attn::MaskProgram program = mask_test::read(definition);
    std::vector<conformance::Sequence> sequences;
    for (int64_t b = random.integer(1, 2); b > 0; --b) sequences.push_back(mask_test::draw_sequence(random, longest));
    HostMemory memory;
    mask_test::Call call(program, std::move(sequences), random, memory);
    call.prepare();
    const attn::gpu::Grid grid = attn::gpu::mask_bits_grid(call.p);
    // Fewer rows of blocks than sequences and heads: they go by strides.
    gpu_emulated::run_kernel({grid.x, random.chance(0.5) ? 1 : grid.y, 1}, grid.threads,
                             [&] { attn_mask_bits(call.p); });
    call.compare(definition);
}

class MaskBits : public testing::Test {
protected:
    void SetUp() override
    {
#if defined(__SANITIZE_THREAD__)
        GTEST_SKIP() << "ThreadSanitizer does not follow fibers";
#endif
    }
};

TEST_F(MaskBits, EveryAtom)
{
    conformance::Random random(attn::test::test_seed(), 6);
    for (const char *text : mask_test::kMaskTexts) run(text, random, 150);
}

TEST_F(MaskBits, RandomPrograms)
{
    conformance::Random random(attn::test::test_seed(), 7);
    for (int round = 0; round < 12; ++round) run(random_mask(mask_test::case_of("none"), random), random, 60);
}

TEST_F(MaskBits, PiecesOfLargeTiles)
{
    conformance::Random random(attn::test::test_seed(), 8);
    for (const char *text : {"id_eq causal:br and", "band:tl(20,3)", "prefix(54)", "prefix(1000)"})
        for (int round = 0; round < 8; ++round) run(text, random, 200);
}

} // namespace
