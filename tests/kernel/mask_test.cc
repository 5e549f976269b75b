// The kernel of mask programs with the real compiler, where there is one: as an interpreter, and with the text of
// programs in it. None may spill.
#include "cubin.h"
#include "fixture.h"

#include "backends/gpu/dense/mask_bits.h"
#include "backends/gpu/dense/variants.h"
#include "kernel/source.h"
#include "mask/emit.h"

#include <cmath>

namespace attn::kernel {
namespace {

class MaskKernels : public testing::Test {
protected:
    void SetUp() override
    {
        options_.cache_dir = scratch_ / "cache";
        ASSERT_EQ(open_store(options_, embedded_sources(), {}, &store_), ATTN_OK) << last_error();
        if (store_->compiler().rfind("NVRTC", 0) != 0) GTEST_SKIP() << store_->compiler();
    }
    void check(const Request &request)
    {
        for (const char *arch : {"sm_80", "sm_90a"}) {
            Image image;
            ASSERT_EQ(store_->find(request, arch, true, &image), ATTN_OK) << last_error();
            const auto kernels = read_cubin(std::string(static_cast<const char *>(image.data), image.bytes));
            ASSERT_EQ(kernels.size(), 1u);
            EXPECT_EQ(kernels[0].name, "attn_mask_bits");
            EXPECT_EQ(kernels[0].local_bytes, 0) << arch;
            EXPECT_LE(kernels[0].registers, 128) << arch; // four blocks of 128 threads for each SM
            EXPECT_LE(kernels[0].shared_bytes, 48 << 10) << arch;
        }
    }

    Scratch scratch_;
    StoreOptions options_;
    std::unique_ptr<Store> store_;
};

/// A program without a diagonal of its descriptor.
MaskProgram program_of(const std::vector<attn_term> &terms, const std::vector<attn_table> &tables = {})
{
    attn_program given = {};
    given.size = sizeof given;
    given.terms = terms.data(), given.term_count = terms.size();
    given.tables = tables.data(), given.table_count = tables.size();
    MaskProgram program;
    std::vector<std::string> unserved;
    EXPECT_EQ(read_mask_program(&given, {2, 4, ATTN_ALIGN_NONE}, &program, &unserved), ATTN_OK) << last_error();
    return program;
}

attn_term term(uint16_t op, uint16_t align = 0, uint32_t axis = 0, int64_t p0 = 0, int64_t p1 = 0)
{
    attn_term term = {};
    term.op = op, term.flags = align, term.axis = axis, term.p[0] = p0, term.p[1] = p1;
    return term;
}

TEST_F(MaskKernels, Interpreter)
{
    check(gpu::mask_bits_request());
}

TEST_F(MaskKernels, EveryAtomInText)
{
    const attn_term any = term(ATTN_OP_OR), both = term(ATTN_OP_AND);
    check(gpu::mask_bits_request(program_of({term(ATTN_MASK_ID_EQ), term(ATTN_MASK_CAUSAL, ATTN_BOTTOM_RIGHT), both,
                                             term(ATTN_MASK_PREFIX, 0, 0, 4), any})));
    check(gpu::mask_bits_request(program_of(
        {term(ATTN_MASK_FIRST_ROWS, 0, 0, 3), term(ATTN_MASK_LAST_ROWS, 0, 0, 3), any,
         term(ATTN_MASK_VERTICAL, 0, 0, 3), both, term(ATTN_MASK_POW2, ATTN_BY_POSITION), any,
         term(ATTN_MASK_ID_GE, 0, 1), both, term(ATTN_MASK_ID_GT, 0, 2), any, term(ATTN_MASK_ID_Q, 0, 3, 1), both,
         term(ATTN_MASK_ID_KV, 0, 3, 2), term(ATTN_OP_NOT), any, term(ATTN_MASK_HEADS, 0, 0, 1, 3), both})));
    static constexpr double kValues[] = {1, 2, INFINITY, 4}, kSlopes[] = {0.5, 0, 0, 1};
    attn_term band = term(ATTN_MASK_BAND, ATTN_TOP_LEFT);
    band.table = 1;
    check(gpu::mask_bits_request(program_of({band}, {{kValues, kSlopes, 4, 1}})));
}

/// The kernels of attention with a program in them.
TEST_F(MaskKernels, ForwardWithText)
{
    const MaskProgram program = program_of({term(ATTN_MASK_ID_EQ), term(ATTN_MASK_CAUSAL, ATTN_BY_POSITION),
                                            term(ATTN_OP_AND), term(ATTN_MASK_HEADS, 0, 0, 1, 3), term(ATTN_OP_OR)});
    gpu::Wish wish;
    wish.type = 2, wish.general = wish.exact = wish.few = wish.wide_memory = true;
    wish.dim_qk = wish.dim_v = 64;
    for (Request request : {gpu::forward_request(shape_of(wish)), gpu::mass_request(mass_shape_of(wish))}) {
        request.define({{"ATTN_MASK_GENERATED", 1}});
        request.generated = emit_source(program);
        Image image;
        EXPECT_EQ(store_->find(request, "sm_90a", true, &image), ATTN_OK) << last_error();
    }
}

TEST_F(MaskKernels, LongProgram)
{
    std::vector<attn_term> terms(16, term(ATTN_MASK_BAND, ATTN_TOP_LEFT, 0, 3, 3));
    terms.resize(31, term(ATTN_OP_OR));
    const MaskProgram program = program_of(terms);
    EXPECT_EQ(gpu::refuse_program(program), "");
    Image image;
    EXPECT_EQ(store_->find(gpu::mask_bits_request(program), "sm_90a", true, &image), ATTN_OK) << last_error();
}

TEST_F(MaskKernels, MorePairsOfIdsThanALaunchHasRoomFor)
{
    std::vector<attn_term> terms;
    for (uint32_t pair = 0; pair <= static_cast<uint32_t>(gpu::kMostMaskPairs); ++pair)
        terms.push_back(term(ATTN_MASK_ID_EQ, 0, pair));
    terms.resize(2 * terms.size() - 1, term(ATTN_OP_AND));
    EXPECT_EQ(gpu::refuse_program(program_of(terms)), "attn_dense.mask with 9 pairs of ids (at most 8)");
}

} // namespace
} // namespace attn::kernel
