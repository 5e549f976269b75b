#include "call.h"

#include "tests/conformance/append_call.h"
#include "tests/conformance/measure.h"
#include "tests/conformance/merge_call.h"
#include "tests/conformance/property.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>

namespace gpu_test {
namespace {

using conformance::Case;
using conformance::PlanPointer;

class DenseCall : public Call {
public:
    explicit DenseCall(const Case &c)
        : instance_(c, conformance::draw_contents(c), 0), references_(conformance::reference(c, instance_.contents()))
    {
        instance_.poison_outputs();
    }
    PlanPointer plan(attn_handle handle) override { return conformance::plan_for(handle, instance_); }
    std::vector<attn_arg> args() override { return instance_.args(); }
    void poison() override { instance_.poison_outputs(); }
    void check() override { EXPECT_EQ(conformance::compare(instance_, references_).broken, ""); }

private:
    conformance::Instance instance_;
    std::vector<conformance::Result> references_;
};

class MergeCall : public Call {
public:
    explicit MergeCall(const conformance::MergeCase &c) : call_(c) {}
    PlanPointer plan(attn_handle handle) override
    {
        std::string why;
        PlanPointer made = call_.plan(handle, why);
        EXPECT_TRUE(made) << why;
        return made;
    }
    std::vector<attn_arg> args() override { return call_.args(); }
    void poison() override { call_.poison_outputs(); }
    void check() override { call_.check(); }

private:
    conformance::MergeCall call_;
};

class AppendCall : public Call {
public:
    explicit AppendCall(const conformance::AppendSpec &spec) : call_(spec)
    {
        call_.problem.max_kv = most_rows; // so that a plan for one call serves its variations
    }
    PlanPointer plan(attn_handle handle) override
    {
        PlanPointer made;
        EXPECT_EQ(call_.plan(handle, made), ATTN_OK) << attn_last_error();
        return made;
    }
    std::vector<attn_arg> args() override
    {
        std::vector<attn_arg> list;
        views_.clear();
        views_.reserve(call_.tensors.size());
        for (auto &[slot, tensor] : call_.tensors) {
            views_.push_back(tensor.view());
            list.push_back({slot, 0, &views_.back()});
        }
        return list;
    }
    void poison() override
    {
        for (auto &[slot, tensor] : call_.tensors)
            if (slot == ATTN_SLOT_K_CACHE || slot == ATTN_SLOT_V_CACHE || slot == ATTN_SLOT_OUT) tensor.poison();
    }
    void check() override { call_.check(); }

private:
    static constexpr std::int64_t most_rows = 64;
    conformance::AppendCall call_;
    std::vector<attn_tensor> views_;
};

Case dense(std::uint64_t seed, std::int64_t batch, std::int64_t queries, std::int64_t keys)
{
    Case c;
    c.seed = seed, c.batch = batch, c.max_q = queries, c.max_kv = keys;
    c.q_dtype = c.k_dtype = c.v_dtype = c.out_dtype = "bf16";
    c.dim_qk = c.dim_v = 64, c.heads_q = 8, c.heads_k = c.heads_v = 2;
    c.causal = "bottom_right";
    c.kv_lengths = "seqlens";
    return c;
}

std::unique_ptr<Call> prefill(std::uint64_t seed)
{
    Case c = dense(seed, 2, 200, 200);
    c.q_lengths = "seqlens", c.dim_qk = c.dim_v = 128;
    return std::make_unique<DenseCall>(c);
}

// Few rows and many keys: keys are split over blocks, and the parts are combined.
std::unique_ptr<Call> split_decode(std::uint64_t seed)
{
    return std::make_unique<DenseCall>(dense(seed, 2, 1, 6000));
}

std::unique_ptr<Call> paged_decode(std::uint64_t seed)
{
    Case c = dense(seed, 2, 1, 130);
    c.kv_lengths = "paged+seqlens", c.page_size = 16;
    return std::make_unique<DenseCall>(c);
}

std::unique_ptr<Call> merge(std::uint64_t seed)
{
    conformance::MergeCase c = conformance::plain_merge(3);
    c.seed = seed, c.shortened = true, c.out_dtype = c.q_dtype = ATTN_BFLOAT16, c.dim = 64;
    return std::make_unique<MergeCall>(c);
}

std::unique_ptr<Call> append(std::uint64_t seed)
{
    conformance::AppendSpec s = conformance::small_append_spec();
    s.seed = seed, s.dim_qk = s.dim_v = 64, s.k = s.v = s.k_cache = s.v_cache = s.q = s.out = ATTN_BFLOAT16;
    s.seqlens_kv = true, s.page_size = 4, s.rope = s.write_q = true;
    return std::make_unique<AppendCall>(s);
}

bool same_views(const std::vector<attn_arg> &a, const std::vector<attn_arg> &b)
{
    if (a.size() != b.size()) return false;
    return std::all_of(a.begin(), a.end(), [&](const attn_arg &x) {
        const auto y = std::find_if(b.begin(), b.end(),
                                    [&](const attn_arg &arg) { return arg.slot == x.slot && arg.index == x.index; });
        return y != b.end() && std::equal(x.tensor->shape, x.tensor->shape + 8, y->tensor->shape) &&
               std::equal(x.tensor->strides, x.tensor->strides + 8, y->tensor->strides);
    });
}

} // namespace

const std::vector<CallKind> &call_kinds()
{
    static const std::vector<CallKind> all{{"prefill", prefill},
                                           {"split decode", split_decode},
                                           {"paged decode", paged_decode},
                                           {"merge", merge},
                                           {"append", append}};
    return all;
}

std::unique_ptr<Call> variation(const CallKind &kind, Call &of, std::uint64_t seed)
{
    constexpr std::uint64_t tries = 2000; // the number of pages follows from lengths
    for (std::uint64_t n = 1; n <= tries; ++n) {
        std::unique_ptr<Call> other = kind.make(seed + n);
        if (same_views(of.args(), other->args())) return other;
    }
    throw std::runtime_error("no call like it");
}

attn_handle shared_handle()
{
    return conformance::backends().front()->handle(1);
}

} // namespace gpu_test
