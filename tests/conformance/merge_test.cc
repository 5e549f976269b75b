// Merge plans against their equations in fp64.
#include "merge_call.h"
#include "property.h"
#include "refusal.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace conformance {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

using Call = MergeCall;

void expect_right(const MergeCase &setup)
{
    SCOPED_TRACE(setup.text());
    Call call(setup);
    for_each_backend([&](const Backend &backend) {
        std::string why;
        const attn_handle handle = backend.handle(setup.workers);
        const PlanPointer plan = call.plan(handle, why);
        if (lacks_compiler(attn_plan_supports(handle, ATTN_KIND_MERGE, &call.merge), why)) {
            Summary::instance().add_refusal(backend.name(), {"merge without a compiler"});
            return;
        }
        ASSERT_TRUE(plan) << why;
        call.run(plan.get());
        call.check();
    });
}

MergeCase random_case_of_merge(std::uint64_t seed)
{
    Random r(seed, 701);
    const auto dtype = [&] {
        static const attn_dtype all[] = {ATTN_FLOAT32, ATTN_FLOAT16, ATTN_BFLOAT16};
        return all[r.integer(0, 2)];
    };
    MergeCase s;
    s.seed = seed;
    s.activation = r.chance(0.7) ? ATTN_SOFTMAX : static_cast<attn_activation>(r.integer(1, 2));
    s.batch = r.integer(0, 4), s.tq = r.chance(0.4) ? 1 : r.integer(0, 20), s.heads = r.integer(1, 6);
    s.dim = r.chance(0.5) ? 1 << r.integer(0, 7) : r.integer(1, 700);
    s.parts = r.chance(0.8) ? r.integer(1, 6) : r.integer(7, 100);
    if (s.parts * s.dim > 2000) s.tq = std::min<std::int64_t>(s.tq, 2);
    s.slack = r.integer(0, 2), s.workers = r.integer(1, 3);
    s.q_dtype = dtype(), s.part_dtype = r.chance(0.6) ? attn_dtype{ATTN_FLOAT32} : dtype(), s.out_dtype = dtype();
    s.index_dtype = r.chance(0.5) ? ATTN_INT32 : ATTN_INT64;
    s.packed = r.chance(0.4), s.shortened = r.chance(0.3);
    s.lse = s.weighed() && r.chance(0.7), s.sinks = s.weighed() && r.chance(0.4);
    s.gate = r.integer(-3, 2), s.gate = std::max<std::int64_t>(s.gate, -1);
    if (s.gate >= 0) {
        s.gate_dtype = r.chance(0.5) ? 0 : dtype();
        if (r.chance(0.4)) s.broadcast = s.packed ? 1 << 2 : 1 << 3;
        if (r.chance(0.1)) s.broadcast |= static_cast<std::uint32_t>(r.integer(0, 3));
    }
    s.head_weight = r.chance(0.3);
    s.lse_spread = r.chance(0.2) ? 1e4 : 2;
    static const char *outputs[] = {"bshd", "bhsd", "gaps", "reversed", "strided"};
    s.out_layout = outputs[r.integer(0, 4)], s.layout = r.chance(0.7) ? "any" : "bshd";
    return s;
}

TEST(Merge, FollowsTheEquations)
{
    const std::int64_t count = session().subset ? 60 : 400;
    Random seeds(session().seed, 702);
    for (std::int64_t n = 0; n < count; ++n) {
        expect_right(random_case_of_merge(seeds.next()));
        if (testing::Test::HasFailure()) return; // the first says enough
    }
}

TEST(Merge, EveryDtype)
{
    for (const attn_dtype part : {ATTN_FLOAT32, ATTN_FLOAT16, ATTN_BFLOAT16})
        for (const attn_dtype out : {ATTN_FLOAT32, ATTN_FLOAT16, ATTN_BFLOAT16})
            for (const attn_dtype gate : {ATTN_FLOAT32, ATTN_FLOAT16, ATTN_BFLOAT16})
                for (const attn_activation activation : {ATTN_SOFTMAX, ATTN_SIGMOID, ATTN_RELU}) {
                    MergeCase s;
                    s.seed = session().seed, s.activation = activation, s.lse = s.weighed();
                    s.part_dtype = part, s.out_dtype = out, s.gate_dtype = gate, s.gate = activation, s.dim = 77;
                    expect_right(s);
                }
}

TEST(Merge, NothingToDo)
{
    for (const bool packed : {false, true})
        for (const std::int64_t batch : {0, 1, 3})
            for (const std::int64_t tq : {0, 2}) {
                MergeCase s;
                s.seed = session().seed, s.packed = packed, s.batch = batch, s.tq = tq;
                s.shortened = batch != 1, s.gate = 0, s.head_weight = true, s.sinks = true;
                expect_right(s);
            }
}

TEST(Merge, ManyPartsAndWideHeads)
{
    MergeCase s;
    s.seed = session().seed;
    s.batch = 1, s.tq = 1, s.heads = 2, s.parts = 1024, s.dim = 64, s.workers = 2, s.sinks = true;
    expect_right(s);
    s.parts = 33, s.dim = 1000; // more than is summed at a time, of parts and of channels
    expect_right(s);
    s.parts = 64, s.dim = 257, s.empty = 0.9;
    expect_right(s);
    s.activation = ATTN_RELU, s.lse = s.sinks = false, s.parts = 1024, s.dim = 3;
    expect_right(s);
}

// The same random numbers in tensors of the parts and outputs of one merge.
struct Values {
    std::vector<double> out, lse;
};
Values values_of(Call &call)
{
    Values v;
    call.for_each_row([&](std::int64_t b, std::int64_t i, std::int64_t h) {
        for (std::int64_t c = 0; c < call.setup().dim; ++c) v.out.push_back(call.out().get(call.token(b, i, h, c)));
        v.lse.push_back(call.lse().get(call.score(b, h, i)));
    });
    return v;
}
void copy_part(Call &from, std::size_t part, Call &to, std::size_t place)
{
    from.for_each_row([&](std::int64_t b, std::int64_t i, std::int64_t h) {
        to.partial_lse(place).set(to.score(b, h, i), from.partial_lse(part).get(from.score(b, h, i)));
        for (std::int64_t c = 0; c < from.setup().dim; ++c)
            to.partial_out(place).set(to.token(b, i, h, c), from.partial_out(part).get(from.token(b, i, h, c)));
    });
}
void copy_result(Call &from, Call &to, std::size_t place)
{
    from.for_each_row([&](std::int64_t b, std::int64_t i, std::int64_t h) {
        to.partial_lse(place).set(to.score(b, h, i), from.lse().get(from.score(b, h, i)));
        for (std::int64_t c = 0; c < from.setup().dim; ++c)
            to.partial_out(place).set(to.token(b, i, h, c), from.out().get(from.token(b, i, h, c)));
    });
}
void run_on(const Backend &backend, Call &call)
{
    std::string why;
    const PlanPointer plan = call.plan(backend.handle(call.setup().workers), why);
    ASSERT_TRUE(plan) << why;
    call.run(plan.get());
}
void expect_near(const Values &got, const Values &wanted)
{
    ASSERT_EQ(got.out.size(), wanted.out.size());
    double error = 0, norm = 0;
    for (std::size_t n = 0; n < got.out.size(); ++n) {
        error += (got.out[n] - wanted.out[n]) * (got.out[n] - wanted.out[n]);
        norm += wanted.out[n] * wanted.out[n];
    }
    EXPECT_LE(std::sqrt(error), 2e-6 * std::sqrt(norm));
    for (std::size_t n = 0; n < got.lse.size(); ++n)
        EXPECT_NEAR(got.lse[n], wanted.lse[n], 2e-6 * std::max(1.0, std::abs(wanted.lse[n])));
}

TEST(Merge, APartWithoutKeysChangesNoBit)
{
    for_each_backend([&](const Backend &backend) {
        for (const std::size_t place : {0, 1, 2}) {
            Call call(plain_merge(3));
            for (std::size_t p = 0; p < 3; ++p) // two parts without keys, full of poison
                if (p != place) {
                    call.partial_out(p).poison();
                    call.for_each_row([&](std::int64_t b, std::int64_t i, std::int64_t h) {
                        call.partial_lse(p).set(call.score(b, h, i), -infinity);
                    });
                }
            call.partial_out(place).set(call.token(0, 0, 0, 1), -0.0); // keeps its sign too
            run_on(backend, call);
            call.for_each_row([&](std::int64_t b, std::int64_t i, std::int64_t h) {
                EXPECT_EQ(call.lse().get(call.score(b, h, i)), call.partial_lse(place).get(call.score(b, h, i)));
                for (std::int64_t c = 0; c < call.setup().dim; ++c)
                    EXPECT_EQ(call.out().get(call.token(b, i, h, c)),
                              call.partial_out(place).get(call.token(b, i, h, c)));
            });
            EXPECT_TRUE(std::signbit(call.out().get(call.token(0, 0, 0, 1))));
        }
    });
}

TEST(Merge, TheOrderOfPartsHardlyMatters)
{
    for_each_backend([&](const Backend &backend) {
        Call forward(plain_merge(5)), backward(plain_merge(5));
        for (std::size_t p = 0; p < 5; ++p) copy_part(forward, p, backward, 4 - p);
        run_on(backend, forward);
        run_on(backend, backward);
        expect_near(values_of(backward), values_of(forward));
    });
}

TEST(Merge, AMergeOfMergesIsTheMergeOfAll)
{
    for_each_backend([&](const Backend &backend) {
        Call all(plain_merge(5)), first(plain_merge(2)), second(plain_merge(3)), both(plain_merge(2));
        for (std::size_t p = 0; p < 5; ++p) copy_part(all, p, p < 2 ? first : second, p < 2 ? p : p - 2);
        for (Call *call : {&all, &first, &second}) run_on(backend, *call);
        copy_result(first, both, 0);
        copy_result(second, both, 1);
        run_on(backend, both);
        expect_near(values_of(both), values_of(all));
    });
}

TEST(Merge, HugeDifferencesOfLse)
{
    for_each_backend([&](const Backend &backend) {
        for (const double top : {0.0, 80.0, -80.0, 1e5, -1e5, 3e38, -3e38}) {
            Call call(plain_merge(2));
            call.for_each_row([&](std::int64_t b, std::int64_t i, std::int64_t h) {
                call.partial_lse(0).set(call.score(b, h, i), top);
                call.partial_lse(1).set(call.score(b, h, i), i % 2 ? top : -3.3e38);
            });
            run_on(backend, call);
            call.check();
        }
    });
}

TEST(Merge, ANaNReachesItsOwnRowOnly)
{
    for_each_backend([&](const Backend &backend) {
        Call clean(plain_merge(2)), call(plain_merge(2));
        call.partial_out(1).set(call.token(0, 0, 0, 3), NAN);
        call.partial_lse(0).set(call.score(1, 2, 1), NAN);
        run_on(backend, clean);
        run_on(backend, call);
        call.for_each_row([&](std::int64_t b, std::int64_t i, std::int64_t h) {
            const bool bad_lse = b == 1 && h == 2 && i == 1;
            EXPECT_EQ(std::isnan(call.lse().get(call.score(b, h, i))), bad_lse);
            for (std::int64_t c = 0; c < 40; ++c) {
                const double got = call.out().get(call.token(b, i, h, c));
                if (bad_lse || (b == 0 && i == 0 && h == 0 && c == 3))
                    EXPECT_TRUE(std::isnan(got));
                else
                    EXPECT_EQ(got, clean.out().get(clean.token(b, i, h, c)));
            }
        });
    });
}

TEST(Merge, EmptyRowsAndZeroWeightsAreExact)
{
    for_each_backend([&](const Backend &backend) {
        MergeCase s = plain_merge(2);
        s.gate = ATTN_GATE_LINEAR;
        Call call(s);
        call.gate().poison(); // no gate turns an empty row into anything else
        for (std::size_t p = 0; p < 2; ++p) {
            call.partial_out(p).poison();
            call.for_each_row([&](std::int64_t b, std::int64_t i, std::int64_t h) {
                call.partial_lse(p).set(call.score(b, h, i), -infinity);
            });
        }
        run_on(backend, call);
        call.check();
        s.empty = 1, s.sinks = true; // the sink alone
        expect_right(s);
        s.empty = 0, s.zero_weight = 1, s.head_weight = true, s.lse = false;
        Call skipped(s);
        skipped.partial_lse(0).poison();
        run_on(backend, skipped);
        skipped.check();
    });
}

TEST(Merge, ThreadsChangeNoBit)
{
    for_each_backend([&](const Backend &backend) {
        MergeCase s = plain_merge(3);
        s.batch = 4, s.tq = 300, s.shortened = true, s.sinks = true, s.gate = 2, s.heads = 2;
        Call one(s);
        run_on(backend, one);
        s.workers = 3;
        Call three(s);
        run_on(backend, three);
        EXPECT_EQ(one.out().bytes(), three.out().bytes());
        EXPECT_EQ(one.lse().bytes(), three.lse().bytes());
        three.check();
    });
}

TEST(Merge, DescribesItself)
{
    MergeCase s = plain_merge(3);
    s.gate = ATTN_GATE_SILU, s.part_dtype = ATTN_BFLOAT16;
    Call call(s);
    std::string why;
    const PlanPointer plan = call.plan(backends()[0]->handle(1), why);
    ASSERT_TRUE(plan) << why;
    std::size_t needed = 0;
    ASSERT_EQ(attn_plan_describe(plan.get(), nullptr, 0, &needed), ATTN_OK);
    std::string text(needed, ' ');
    ASSERT_EQ(attn_plan_describe(plan.get(), text.data(), needed, nullptr), ATTN_OK);
    const std::string kernel = "\"kernel\":\"" + backends()[0]->kernels() + ".merge";
    for (const char *part : {"\"kind\":\"merge\"", kernel.c_str(), "\"merge\":{\"parts\":3", "\"gate\":\"silu\"",
                             "\"slot\":\"PARTIAL_OUT\",\"index\":2,\"dtype\":\"bfloat16\""})
        EXPECT_NE(text.find(part), std::string::npos) << part << " in " << text;
    attn_bind bind{};
    attn_tensor bounds{};
    ASSERT_EQ(attn_plan_slot(plan.get(), 1, &bind, &bounds), ATTN_OK);
    EXPECT_EQ(bind.slot, ATTN_SLOT_PARTIAL_LSE);
    EXPECT_EQ(bounds.ndim, 3);
    attn_sizes sizes{};
    sizes.size = sizeof sizes, sizes.batch = 1;
    std::size_t bytes = 1;
    EXPECT_EQ(attn_plan_workspace_for(plan.get(), &sizes, &bytes), ATTN_OK) << attn_last_error();
    EXPECT_TRUE(bytes == 0 || on_gpu()) << bytes;
}

} // namespace
} // namespace conformance
