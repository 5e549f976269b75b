// Offsets beyond 2^31 and 2^32 elements. Every call runs twice: on tensors without gaps, which the oracle judges, and
// on the same contents spread over address space; both must give the same bits.
#include "backend.h"
#include "far_tensor.h"
#include "launch.h"
#include "measure.h"
#include "oracle.h"
#include "session.h"

#include "tests/gpu/device_memory.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <deque>
#include <functional>

namespace conformance {
namespace {

constexpr std::int64_t kReach = (std::int64_t{1} << 32) + (std::int64_t{1} << 20); // elements

// The tensors of a call, near and far.
class FarCall {
public:
    explicit FarCall(std::uint64_t seed) : random_(seed, 90) {}

    // Axis `far` is stretched; alternate tensors go backwards.
    void add(attn_slot slot, attn_dtype dtype, std::vector<std::int64_t> shape, std::size_t far,
             const std::function<double(Index)> &value, std::uint32_t index = 0)
    {
        const std::int64_t reach = tensors_.size() % 2 ? -kReach : kReach;
        tensors_.push_back(
            {slot, index, value == nullptr, FarTensor(dtype, shape), FarTensor(dtype, shape, far, reach)});
        Pair &pair = tensors_.back();
        if (!pair.far.exists() || pair.output) return;
        pair.near.for_each([&](Index at) { pair.near.set(at, value(at)); });
        pair.far.copy(pair.near);
    }
    void add_output(attn_slot slot, attn_dtype dtype, std::vector<std::int64_t> shape, std::size_t far)
    {
        add(slot, dtype, std::move(shape), far, nullptr);
    }
    std::function<double(Index)> normal()
    {
        return [this](Index) { return random_.normal(); };
    }
    void bind(attn_slot slot)
    {
        attn_bind bind = {};
        bind.slot = slot;
        binds.push_back(bind);
    }

    bool exists() const
    {
        for (const Pair &pair : tensors_)
            if (!pair.far.exists()) return false;
        return true;
    }
    const FarTensor &near(attn_slot slot, std::uint32_t index = 0) const { return find(slot, index).near; }

    // Executes near and far, each with outputs of its own, and compares their bits. A GPU may take one kernel for
    // tensors that are aligned and another for those that are not: there they may differ in rounding.
    void run(attn_plan plan)
    {
        for (const bool far : {false, true}) {
            std::deque<attn_tensor> views;
            std::vector<attn_arg> args;
            for (Pair &pair : tensors_) {
                FarTensor &tensor = far ? pair.far : pair.near;
                if (pair.output) tensor.poison();
                views.push_back(tensor.view());
                args.push_back({pair.slot, pair.index, &views.back()});
            }
            try {
                ASSERT_EQ(launch(plan, args), ATTN_OK) << (far ? "far: " : "near: ") << attn_last_error();
            } catch (const gpu_test::SparseMemoryAbsent &absent) {
                GTEST_SKIP() << "absent: " << absent.what();
            }
        }
        for (const Pair &pair : tensors_) {
            const bool same = on_gpu() && pair.output ? pair.far.differs_by(pair.near) < rounding(pair.near.dtype())
                                                      : pair.far.same_bits(pair.near);
            EXPECT_TRUE(same) << "slot " << pair.slot << " differs, far from near";
        }
    }

    attn_problem problem{};
    std::vector<attn_bind> binds;

private:
    // Of results near 1.
    static double rounding(attn_dtype dtype)
    {
        return dtype == ATTN_BFLOAT16 ? 0x1p-6 : dtype == ATTN_FLOAT16 ? 0x1p-9 : 0x1p-18;
    }

    struct Pair {
        attn_slot slot;
        std::uint32_t index;
        bool output;
        FarTensor near, far;
    };
    const Pair &find(attn_slot slot, std::uint32_t index) const
    {
        for (const Pair &pair : tensors_)
            if (pair.slot == slot && pair.index == index) return pair;
        throw std::out_of_range("no such tensor");
    }

    Random random_;
    std::deque<Pair> tensors_;
};

bool is_absent(const FarCall &call)
{
    if (call.exists()) return false;
    std::printf("absent: terabytes of address space\n");
    return true;
}

struct Sizes {
    std::int64_t batch, tq, tk, heads_q, heads_k, dim;
};

void describe(const Sizes &s, attn_dtype dtype, FarCall *call)
{
    attn_problem &p = call->problem;
    p.size = sizeof p;
    p.q_dtype = dtype;
    p.batch = s.batch, p.heads_q = s.heads_q, p.heads_k = s.heads_k;
    p.dim_qk = s.dim, p.max_q = s.tq, p.max_kv = s.tk;
    p.binds = call->binds.data(), p.bind_count = call->binds.size();
}

PlanPointer plan_dense(attn_handle handle, const FarCall &call, attn_align causal)
{
    attn_dense dense = {};
    dense.size = sizeof dense, dense.problem = &call.problem, dense.causal = causal;
    attn_plan plan = nullptr;
    EXPECT_EQ(attn_plan_dense(handle, &dense, &plan), ATTN_OK) << attn_last_error();
    return PlanPointer(plan);
}

// Norm of the error over that of the reference, for OUT of sequence b.
void check_out(const FarCall &call, const std::vector<Result> &results, attn_dtype dtype)
{
    const FarTensor &out = call.near(ATTN_SLOT_OUT);
    double error = 0, norm = 0;
    out.for_each([&](Index at) {
        const std::int64_t heads = out.shape()[2], dim = out.shape()[3];
        const double wanted = results[std::size_t(at[0])].out[std::size_t((at[1] * heads + at[2]) * dim + at[3])];
        const double difference = out.get(at) - wanted;
        error += difference * difference, norm += wanted * wanted;
    });
    EXPECT_LE(std::sqrt(error / norm), tolerance(dtype).global);
}

// Sequence b of batched tensors, for the oracle; keys through `key` where they are paged.
Sequence sequence_of(const FarCall &call, const Sizes &s, std::int64_t b, std::int64_t tk,
                     const std::function<Index(std::int64_t j)> &key)
{
    Sequence sequence;
    sequence.tq = s.tq, sequence.tk = tk;
    sequence.heads_q = s.heads_q, sequence.heads_k = sequence.heads_v = s.heads_k;
    sequence.dim_qk = sequence.dim_v = s.dim;
    for (std::int64_t i = 0; i < s.tq; ++i)
        for (std::int64_t h = 0; h < s.heads_q; ++h)
            for (std::int64_t c = 0; c < s.dim; ++c) sequence.q.push_back(call.near(ATTN_SLOT_Q).get({b, i, h, c}));
    for (std::int64_t j = 0; j < tk; ++j)
        for (std::int64_t h = 0; h < s.heads_k; ++h)
            for (std::int64_t c = 0; c < s.dim; ++c) {
                Index at = key(j);
                at[2] = h, at[3] = c;
                sequence.k.push_back(call.near(ATTN_SLOT_K).get(at));
                sequence.v.push_back(call.near(ATTN_SLOT_V).get(at));
            }
    return sequence;
}

constexpr attn_dtype kDtypes[] = {ATTN_FLOAT32, ATTN_FLOAT16, ATTN_BFLOAT16};

TEST(Far, DenseAlongEveryAxis)
{
    const Sizes kSizes[] = {{2, 37, 70, 4, 2, 16}, {3, 1, 1500, 2, 1, 32}}; // prefill; decode with split keys
    for (const Sizes &s : kSizes)
        for (const attn_dtype dtype : kDtypes)
            for (std::size_t far = 0; far < 4; ++far) {
                SCOPED_TRACE("Tq " + std::to_string(s.tq) + ", dtype " + dtype_name(dtype) + ", axis " +
                             std::to_string(far));
                FarCall call(session().seed + far);
                const auto scores = s.tq == 1 ? std::size_t{1} : far % 3;
                call.add(ATTN_SLOT_Q, dtype, {s.batch, s.tq, s.heads_q, s.dim}, far, call.normal());
                call.add(ATTN_SLOT_K, dtype, {s.batch, s.tk, s.heads_k, s.dim}, far, call.normal());
                call.add(ATTN_SLOT_V, dtype, {s.batch, s.tk, s.heads_k, s.dim}, far, call.normal());
                call.add_output(ATTN_SLOT_OUT, dtype, {s.batch, s.tq, s.heads_q, s.dim}, far);
                call.add_output(ATTN_SLOT_LSE, ATTN_FLOAT32, {s.batch, s.heads_q, s.tq}, scores);
                if (is_absent(call)) GTEST_SKIP() << "absent: terabytes of address space";
                call.bind(ATTN_SLOT_LSE);
                describe(s, dtype, &call);
                for (const auto &backend : backends()) {
                    SCOPED_TRACE(backend->name());
                    const PlanPointer plan = plan_dense(backend->handle(2), call, ATTN_BOTTOM_RIGHT);
                    ASSERT_TRUE(plan);
                    call.run(plan.get());
                    std::vector<Result> results;
                    Options options;
                    options.scale = 1 / std::sqrt(double(s.dim)), options.causal = ATTN_BOTTOM_RIGHT;
                    for (std::int64_t b = 0; b < s.batch; ++b)
                        results.push_back(attention(options, sequence_of(call, s, b, s.tk, [&](std::int64_t j) {
                                                        return Index{b, j, 0, 0};
                                                    })));
                    check_out(call, results, dtype);
                }
            }
}

TEST(Far, BiasAlongEveryAxis)
{
    const Sizes s = {2, 5, 19, 4, 2, 8};
    for (std::size_t far = 0; far < 4; ++far) {
        SCOPED_TRACE("axis " + std::to_string(far));
        FarCall call(session().seed + 10 + far);
        call.add(ATTN_SLOT_Q, ATTN_FLOAT32, {s.batch, s.tq, s.heads_q, s.dim}, 1, call.normal());
        call.add(ATTN_SLOT_BIAS, ATTN_FLOAT32, {s.batch, s.heads_q, s.tq, s.tk}, far, call.normal());
        call.add(ATTN_SLOT_K, ATTN_FLOAT32, {s.batch, s.tk, s.heads_k, s.dim}, 1, call.normal());
        call.add(ATTN_SLOT_V, ATTN_FLOAT32, {s.batch, s.tk, s.heads_k, s.dim}, 2, call.normal());
        call.add_output(ATTN_SLOT_OUT, ATTN_FLOAT32, {s.batch, s.tq, s.heads_q, s.dim}, 1);
        if (is_absent(call)) GTEST_SKIP() << "absent: terabytes of address space";
        call.bind(ATTN_SLOT_BIAS);
        describe(s, ATTN_FLOAT32, &call);
        std::vector<Result> results;
        Options options;
        options.scale = 1 / std::sqrt(double(s.dim));
        for (std::int64_t b = 0; b < s.batch; ++b) {
            Sequence sequence = sequence_of(call, s, b, s.tk, [&](std::int64_t j) { return Index{b, j, 0, 0}; });
            for (std::int64_t h = 0; h < s.heads_q; ++h)
                for (std::int64_t i = 0; i < s.tq; ++i)
                    for (std::int64_t j = 0; j < s.tk; ++j)
                        sequence.bias.push_back(call.near(ATTN_SLOT_BIAS).get({b, h, i, j}));
            results.push_back(attention(options, sequence));
        }
        for (const auto &backend : backends()) {
            SCOPED_TRACE(backend->name());
            const PlanPointer plan = plan_dense(backend->handle(2), call, ATTN_ALIGN_NONE);
            ASSERT_TRUE(plan);
            call.run(plan.get());
            check_out(call, results, ATTN_FLOAT32);
        }
    }
}

TEST(Far, PagesAndTheirTables)
{
    constexpr std::int64_t kPages = 23, kRows = 8, kColumns = 7;
    for (const Sizes &s : {Sizes{3, 9, kColumns * kRows, 4, 2, 16}, Sizes{3, 1, kColumns * kRows, 2, 1, 24}})
        for (const attn_dtype dtype : kDtypes)
            for (std::size_t far = 0; far < 4; ++far) {
                SCOPED_TRACE("Tq " + std::to_string(s.tq) + ", dtype " + dtype_name(dtype) + ", axis " +
                             std::to_string(far));
                FarCall call(session().seed + 20 + far);
                const auto page = [](Index at) { return double((at[0] * kColumns + at[1]) * 5 % kPages); };
                const auto length = [](Index at) { return double(kColumns * kRows - 9 * at[0]); };
                call.add(ATTN_SLOT_Q, dtype, {s.batch, s.tq, s.heads_q, s.dim}, 0, call.normal());
                call.add(ATTN_SLOT_K, dtype, {kPages, kRows, s.heads_k, s.dim}, far, call.normal());
                call.add(ATTN_SLOT_V, dtype, {kPages, kRows, s.heads_k, s.dim}, far, call.normal());
                call.add_output(ATTN_SLOT_OUT, dtype, {s.batch, s.tq, s.heads_q, s.dim}, 0);
                call.add(ATTN_SLOT_BLOCK_TABLE, ATTN_INT32, {s.batch, kColumns}, far % 2, page);
                call.add(ATTN_SLOT_SEQLENS_KV, ATTN_INT32, {s.batch}, 0, length);
                if (is_absent(call)) GTEST_SKIP() << "absent: terabytes of address space";
                call.bind(ATTN_SLOT_SEQLENS_KV);
                describe(s, dtype, &call);
                call.problem.page_size = kRows;
                std::vector<Result> results;
                Options options;
                options.scale = 1 / std::sqrt(double(s.dim));
                for (std::int64_t b = 0; b < s.batch; ++b)
                    results.push_back(
                        attention(options, sequence_of(call, s, b, std::int64_t(length({b})), [&](std::int64_t j) {
                                      return Index{std::int64_t(page({b, j / kRows})), j % kRows, 0, 0};
                                  })));
                for (const auto &backend : backends()) {
                    SCOPED_TRACE(backend->name());
                    const PlanPointer plan = plan_dense(backend->handle(2), call, ATTN_ALIGN_NONE);
                    ASSERT_TRUE(plan);
                    call.run(plan.get());
                    check_out(call, results, dtype);
                }
            }
}

TEST(Far, MergeAlongEveryAxis)
{
    const std::int64_t batch = 2, tq = 3, heads = 4, dim = 12, parts = 3;
    for (std::size_t far = 0; far < 4; ++far) {
        SCOPED_TRACE("axis " + std::to_string(far));
        FarCall call(session().seed + 30 + far);
        for (std::uint32_t part = 0; part < parts; ++part) {
            call.add(ATTN_SLOT_PARTIAL_OUT, ATTN_FLOAT32, {batch, tq, heads, dim}, far, call.normal(), part);
            call.add(ATTN_SLOT_PARTIAL_LSE, ATTN_FLOAT32, {batch, heads, tq}, far % 3, call.normal(), part);
        }
        call.add_output(ATTN_SLOT_OUT, ATTN_FLOAT32, {batch, tq, heads, dim}, far);
        call.add_output(ATTN_SLOT_LSE, ATTN_FLOAT32, {batch, heads, tq}, (far + 1) % 3);
        if (is_absent(call)) GTEST_SKIP() << "absent: terabytes of address space";
        call.bind(ATTN_SLOT_LSE);
        describe({batch, tq, 0, heads, 0, 0}, ATTN_FLOAT32, &call);
        call.problem.dim_v = dim;
        attn_merge merge = {};
        merge.size = sizeof merge, merge.problem = &call.problem, merge.parts = std::size_t(parts);
        for (const auto &backend : backends()) {
            SCOPED_TRACE(backend->name());
            attn_plan made = nullptr;
            ASSERT_EQ(attn_plan_merge(backend->handle(2), &merge, &made), ATTN_OK) << attn_last_error();
            const PlanPointer plan(made);
            call.run(made);
            const FarTensor &out = call.near(ATTN_SLOT_OUT);
            double worst = 0;
            out.for_each([&](Index at) {
                double sum = 0, wanted = 0;
                for (std::uint32_t part = 0; part < parts; ++part) {
                    const double weight = std::exp(call.near(ATTN_SLOT_PARTIAL_LSE, part).get({at[0], at[2], at[1]}));
                    sum += weight, wanted += weight * call.near(ATTN_SLOT_PARTIAL_OUT, part).get(at);
                }
                worst = std::max(worst, std::abs(out.get(at) - wanted / sum));
                const double lse = call.near(ATTN_SLOT_LSE).get({at[0], at[2], at[1]});
                worst = std::max(worst, std::abs(lse - std::log(sum)));
            });
            EXPECT_LE(worst, 1e-5);
        }
    }
}

// Caches are read and written: the near one and the far one start with the same contents.
TEST(Far, AppendAlongEveryAxis)
{
    const std::int64_t batch = 3, tq = 5, heads = 2, dim = 10, pages = 11, rows = 4, columns = 3;
    for (const bool paged : {false, true})
        for (std::size_t far = 0; far < 4; ++far) {
            SCOPED_TRACE((paged ? "paged, axis " : "axis ") + std::to_string(far));
            FarCall call(session().seed + 40 + far);
            const auto length = [](Index at) { return double(5 + 3 * at[0]); };
            const auto page = [](Index at) { return double((at[0] * columns + at[1]) * 4 % pages); };
            const std::vector<std::int64_t> cache = paged
                                                        ? std::vector<std::int64_t>{pages, rows, heads, dim}
                                                        : std::vector<std::int64_t>{batch, columns * rows, heads, dim};
            call.add(ATTN_SLOT_K, ATTN_FLOAT32, {batch, tq, heads, dim}, far, call.normal());
            call.add(ATTN_SLOT_V, ATTN_FLOAT32, {batch, tq, heads, dim}, 3 - far, call.normal());
            call.add(ATTN_SLOT_K_CACHE, ATTN_FLOAT32, cache, far, call.normal());
            call.add(ATTN_SLOT_V_CACHE, ATTN_FLOAT32, cache, far, call.normal());
            call.add(ATTN_SLOT_SEQLENS_KV, ATTN_INT32, {batch}, 0, length);
            if (paged) call.add(ATTN_SLOT_BLOCK_TABLE, ATTN_INT32, {batch, columns}, far % 2, page);
            if (is_absent(call)) GTEST_SKIP() << "absent: terabytes of address space";
            call.bind(ATTN_SLOT_SEQLENS_KV);
            describe({batch, tq, columns * rows, heads, 0, dim}, ATTN_FLOAT32, &call);
            if (paged) call.problem.page_size = rows;
            // What the caches are to hold: new rows in their places, everything else as before.
            const struct {
                attn_slot from, to;
            } pairs[] = {{ATTN_SLOT_K, ATTN_SLOT_K_CACHE}, {ATTN_SLOT_V, ATTN_SLOT_V_CACHE}};
            std::deque<FarTensor> wanted;
            for (const auto &pair : pairs) {
                wanted.emplace_back(ATTN_FLOAT32, cache);
                wanted.back().copy(call.near(pair.to));
                call.near(pair.from).for_each([&](Index at) {
                    const std::int64_t row = std::int64_t(length({at[0]})) - tq + at[1];
                    const Index place = paged ? Index{std::int64_t(page({at[0], row / rows})), row % rows, at[2], at[3]}
                                              : Index{at[0], row, at[2], at[3]};
                    wanted.back().set(place, call.near(pair.from).get(at));
                });
            }
            attn_append append = {};
            append.size = sizeof append, append.problem = &call.problem;
            for (const auto &backend : backends()) {
                SCOPED_TRACE(backend->name());
                attn_plan made = nullptr;
                ASSERT_EQ(attn_plan_append(backend->handle(2), &append, &made), ATTN_OK) << attn_last_error();
                const PlanPointer plan(made);
                call.run(made);
                EXPECT_TRUE(call.near(ATTN_SLOT_K_CACHE).same_bits(wanted[0]));
                EXPECT_TRUE(call.near(ATTN_SLOT_V_CACHE).same_bits(wanted[1]));
            }
        }
}

} // namespace
} // namespace conformance
