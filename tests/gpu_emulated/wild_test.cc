// Lengths, tables and mappings that hold anything: whatever a caller's device memory says, nothing outside the tensors
// is touched. Guards beside the tensors show writes; sanitized builds show reads too.
#include "tests/conformance/append_call.h"
#include "tests/conformance/launch.h"
#include "tests/conformance/merge_call.h"
#include "tests/conformance/property.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace gpu_emulated {
namespace {

using conformance::AppendCall;
using conformance::AppendSpec;
using conformance::Index;
using conformance::MergeCall;
using conformance::MergeCase;
using conformance::PlanPointer;
using conformance::Random;
using conformance::session;
using conformance::Tensor;

// Numbers like those that the rules are about, and others. `extents` has sizes of tensors.
double wild_number(Random &random, bool wide, const std::vector<std::int64_t> &extents)
{
    const auto extent = [&] { return extents[std::size_t(random.integer(0, std::int64_t(extents.size()) - 1))]; };
    switch (random.integer(0, 7)) {
    case 0:
    case 1:
    case 2:
        return double(extent() + random.integer(-1, 2));
    case 3:
        return double(extent() * extent() + random.integer(-1, 1));
    case 4:
        return double(random.integer(-2, 40));
    case 5:
        return double(random.integer(-2000, 2000));
    case 6:
        return wide ? -0x1p63 : -0x1p31;
    default:
        return wide ? 0x1.fffffffffffffp62 : 0x1.fffffffcp30;
    }
}

template <class Visit>
void for_each_element(const Tensor &t, Visit visit)
{
    std::int64_t n[4] = {1, 1, 1, 1};
    for (std::size_t axis = 0; axis < t.shape().size(); ++axis) n[axis] = t.shape()[axis];
    for (std::int64_t a = 0; a < n[0]; ++a)
        for (std::int64_t b = 0; b < n[1]; ++b)
            for (std::int64_t c = 0; c < n[2]; ++c)
                for (std::int64_t d = 0; d < n[3]; ++d) visit(Index{a, b, c, d});
}

void spoil(Random &random, Tensor &t, const std::vector<std::int64_t> &extents)
{
    for_each_element(t, [&](const Index &at) {
        if (random.chance(0.2)) t.set(at, wild_number(random, t.dtype() == ATTN_INT64, extents));
    });
}

AppendSpec wild_spec(Random &random)
{
    AppendSpec s;
    s.seed = random.next(), s.batch = random.integer(1, 4), s.most_new = random.integer(1, 9);
    s.heads_k = s.heads_v = s.heads_q = 2, s.dim_qk = s.dim_v = random.chance(0.5) ? 16 : 6;
    s.packed = random.chance(0.5), s.seqlens_q = random.chance(0.5);
    s.page_size = random.chance(0.6) ? random.integer(1, 4) : 0;
    s.mapped = random.chance(0.3);
    s.flat_table = s.page_size && !s.mapped && random.chance(0.5);
    s.seqlens_kv = !s.mapped && random.chance(0.8);
    if (!s.mapped && random.chance(0.3)) s.ring = random.integer(2, 8), s.sinks = random.integer(0, 1);
    s.write_q = random.chance(0.5), s.rope = s.mapped || random.chance(0.5);
    s.positions = s.rope && (s.mapped || random.chance(0.5)), s.table = s.rope && random.chance(0.5);
    s.index = random.chance(0.5) ? ATTN_INT64 : ATTN_INT32;
    return s;
}

TEST(EmulatedWild, AppendsStayWithinTheirTensors)
{
    Random random(session().seed, 970);
    for (int n = 0; n < (session().subset ? 300 : 3000); ++n) {
        const AppendSpec spec = wild_spec(random);
        SCOPED_TRACE(text_of(spec));
        AppendCall call(spec);
        PlanPointer plan;
        ASSERT_EQ(call.plan(conformance::backends().front()->handle(1), plan), ATTN_OK) << attn_last_error();
        std::vector<std::int64_t> extents;
        for (const auto &[slot, tensor] : call.tensors)
            extents.insert(extents.end(), tensor.shape().begin(), tensor.shape().end());
        for (auto &[slot, tensor] : call.tensors) {
            if (slot == ATTN_SLOT_K_CACHE || slot == ATTN_SLOT_V_CACHE || slot == ATTN_SLOT_OUT) {
                tensor.poison();
                for_each_element(tensor, [&t = tensor](const Index &at) { t.expect_write(at); });
            } else if (tensor.dtype() == ATTN_INT32 || tensor.dtype() == ATTN_INT64) {
                if (random.chance(0.5)) spoil(random, tensor, extents);
            }
        }
        ASSERT_EQ(call.execute(plan.get()), ATTN_OK) << attn_last_error();
        for (const auto &[slot, tensor] : call.tensors)
            if (slot == ATTN_SLOT_K_CACHE || slot == ATTN_SLOT_V_CACHE || slot == ATTN_SLOT_OUT) {
                EXPECT_FALSE(tensor.wrote_elsewhere()) << "slot " << slot;
            }
        if (testing::Test::HasFailure()) return;
    }
}

TEST(EmulatedWild, MergesStayWithinTheirTensors)
{
    Random random(session().seed, 971);
    for (int n = 0; n < (session().subset ? 100 : 1000); ++n) {
        MergeCase setup = conformance::plain_merge(2);
        setup.seed = random.next(), setup.packed = random.chance(0.6), setup.dim = 6, setup.index_dtype = ATTN_INT64;
        setup.shortened = !setup.packed || random.chance(0.5);
        SCOPED_TRACE(setup.text());
        MergeCall call(setup);
        std::string why;
        const PlanPointer plan = call.plan(conformance::backends().front()->handle(1), why);
        ASSERT_TRUE(plan) << why;
        const std::vector<attn_arg> args = call.args();
        for (const attn_arg &arg : args) {
            if (arg.slot != ATTN_SLOT_CU_SEQLENS_Q && arg.slot != ATTN_SLOT_SEQLENS_Q) continue;
            auto *first =
                reinterpret_cast<std::int64_t *>(static_cast<char *>(arg.tensor->data) + arg.tensor->byte_offset);
            for (std::int64_t i = 0; i < arg.tensor->shape[0]; ++i)
                if (random.chance(0.3))
                    first[i * arg.tensor->strides[0]] = static_cast<std::int64_t>(
                        wild_number(random, true, {setup.batch, setup.tq, call.out().shape()[0]}));
        }
        for (Tensor *tensor : {&call.out(), &call.lse()}) {
            tensor->poison();
            for_each_element(*tensor, [&](const Index &at) { tensor->expect_write(at); });
        }
        ASSERT_EQ(conformance::launch(plan.get(), args), ATTN_OK) << attn_last_error();
        EXPECT_FALSE(call.out().wrote_elsewhere());
        EXPECT_FALSE(call.lse().wrote_elsewhere());
        if (testing::Test::HasFailure()) return;
    }
}

} // namespace
} // namespace gpu_emulated
