// Every method against the recurrence, and pairs of storage options with every method: all instruction sets.
#include "covering.h"
#include "linear_call.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>

namespace linear {
namespace {

struct Choice {
    std::string label;
    std::function<void(Spec &)> apply;
};
struct Option {
    std::string name;
    std::vector<Choice> choices;
};

template <class T>
Option option(const char *name, T Spec::*member, std::vector<T> values)
{
    Option result{name, {}};
    for (std::size_t i = 0; i < values.size(); ++i) {
        const T value = values[i];
        result.choices.push_back({std::to_string(i), [member, value](Spec &s) { s.*member = value; }});
    }
    return result;
}

std::vector<Option> options()
{
    std::vector<Option> all;
    Option method{"method", {}};
    for (const Method &m : methods()) method.choices.push_back({m.name, [name = m.name](Spec &s) { s.method = name; }});
    all.push_back(method);
    all.push_back({"dtype",
                   {{"f32", [](Spec &) {}},
                    {"bf16", [](Spec &s) { s.dtype = s.out = s.gate = ATTN_BFLOAT16; }},
                    {"f16", [](Spec &s) { s.dtype = s.out = ATTN_FLOAT16; }},
                    {"bf16 to f32", [](Spec &s) { s.dtype = ATTN_BFLOAT16; }}}});
    all.push_back({"heads",
                   {{"1", [](Spec &s) { s.heads_q = s.heads_k = s.heads_v = 1; }},
                    {"more values", [](Spec &s) { s.heads_q = s.heads_k = 2, s.heads_v = 4; }},
                    {"more queries", [](Spec &s) { s.heads_q = 6, s.heads_k = 1, s.heads_v = 2; }}}});
    all.push_back({"dims",
                   {{"8/8", [](Spec &) {}},
                    {"16/40", [](Spec &s) { s.dim_qk = 16, s.dim_v = 40; }},
                    {"5/3", [](Spec &s) { s.dim_qk = 5, s.dim_v = 3; }},
                    {"33/17", [](Spec &s) { s.dim_qk = 33, s.dim_v = 17; }}}});
    all.push_back(option<std::int64_t>("tokens", &Spec::tokens, {1, 7, 21, 70, 0}));
    all.push_back(option<std::int64_t>("chunk", &Spec::chunk, {0, 1, 16, 24, 64}));
    all.push_back({"lengths",
                   {{"full", [](Spec &) {}},
                    {"used", [](Spec &s) { s.used = true, s.batch = 3; }},
                    {"packed", [](Spec &s) { s.packed = true, s.batch = 4; }},
                    {"packed and used", [](Spec &s) { s.packed = s.used = true, s.batch = 3; }}}});
    all.push_back({"state",
                   {{"in and out", [](Spec &) {}},
                    {"none", [](Spec &s) { s.state_in = s.state_out = false; }},
                    {"out", [](Spec &s) { s.state_in = false; }},
                    {"in place", [](Spec &s) { s.in_place = true; }},
                    {"pool in place", [](Spec &s) { s.in_place = s.pool = true; }},
                    {"pool", [](Spec &s) { s.pool = true; }},
                    {"per token", [](Spec &s) { s.per_token = true; }},
                    {"per token from a pool", [](Spec &s) { s.per_token = s.pool = true; }}}});
    all.push_back(option<bool>("value-major", &Spec::value_major, {false, true}));
    all.push_back(option<attn_dtype>("state dtype", &Spec::state, {ATTN_FLOAT32, ATTN_BFLOAT16, ATTN_FLOAT16}));
    all.push_back(option<std::int32_t>("workers", &Spec::workers, {1, 3}));
    all.push_back(option<bool>("broadcast", &Spec::broadcast, {false, true}));
    all.push_back(option<std::string>("layout", &Spec::layout, {"bshd", "bhsd", "gaps", "reversed", "strided"}));
    all.push_back(option<std::string>("state layout", &Spec::state_layout, {"bshd", "bhsd", "gaps", "strided"}));
    all.push_back(option<bool>("recurrent", &Spec::recurrent, {false, true}));
    return all;
}

/// What a descriptor does not allow is left out of the case, so that every row is a valid one.
Spec make_spec(const std::vector<Option> &all, const std::vector<int> &row, std::uint64_t seed)
{
    Spec s;
    s.seed = seed;
    for (std::size_t i = 0; i < all.size(); ++i) all[i].choices[std::size_t(row[i])].apply(s);
    const bool full = (method(s.method).flags & ATTN_LINEAR_BIDIRECTIONAL) != 0;
    if (full) {
        s.per_token = false;
        s.keys = s.tokens + 5;
    }
    if (s.recurrent) s.chunk = 0;
    if (!s.state_in && !s.state_out) s.value_major = false, s.state = ATTN_FLOAT32;
    return s;
}

/// Runs a case on every instruction set; the first failure of each is reported. Returns the worst errors.
Errors run(const Spec &s)
{
    Errors worst;
    for (const auto &backend : conformance::backends()) {
        Call call(s);
        const Errors errors = call.run(backend->handle(s.workers));
        EXPECT_EQ(errors.failure, "") << backend->name() << ": " << s.text();
        worst.out = std::max(worst.out, errors.out), worst.row = std::max(worst.row, errors.row);
        worst.state = std::max(worst.state, errors.state);
        if (s.recurrent) break; // one path for all
    }
    return worst;
}

TEST(LinearTable, EveryMethod)
{
    std::printf("%-18s %-58s %9s %9s %9s %9s\n", "method", "descriptor", "f32 out", "f32 state", "bf16 out",
                "bf16 state");
    for (const Method &m : methods()) {
        Errors worst[2];
        int runs = 0;
        for (const attn_dtype dtype : {ATTN_FLOAT32, ATTN_BFLOAT16})
            for (const std::int64_t tokens :
                 session().subset ? std::vector<std::int64_t>{37} : std::vector<std::int64_t>{64, 131})
                for (const int heads : {0, 1, 2})
                    for (const bool packed : {false, true})
                        for (const bool recurrent : {false, true}) {
                            if (session().subset && packed != (heads == 1)) continue;
                            Spec s;
                            s.method = m.name, s.seed = session().seed + std::uint64_t(runs), s.tokens = tokens;
                            s.dtype = s.out = dtype, s.packed = packed, s.recurrent = recurrent;
                            s.dim_qk = m.map == ATTN_FEATURE_TAYLOR2 ? 8 : 32, s.dim_v = 24;
                            s.batch = packed ? 3 : 1;
                            s.heads_q = heads == 2 ? 4 : 2, s.heads_k = heads == 2 ? 1 : 2,
                            s.heads_v = heads == 1 ? 4 : 2;
                            s.workers = 2;
                            const Errors e = run(s);
                            Errors &w = worst[dtype == ATTN_BFLOAT16];
                            w.out = std::max(w.out, e.out), w.state = std::max(w.state, e.state);
                            ++runs;
                        }
        std::printf("%-18s %-58s %9.1e %9.1e %9.1e %9.1e\n", m.name.c_str(), m.line.c_str(), worst[0].out,
                    worst[0].state, worst[1].out, worst[1].state);
        // States keep to the bounds of the issue whatever the inputs' rounding does to OUT.
        EXPECT_LE(worst[0].state, 1e-5) << m.name;
        EXPECT_LE(worst[1].state, 1e-3) << m.name;
    }
}

TEST(LinearTable, PairsOfOptions)
{
    const std::vector<Option> all = options();
    std::vector<conformance::AxisShape> shapes;
    for (const Option &o : all) {
        conformance::AxisShape shape{o.name, {}, {}};
        for (const Choice &c : o.choices) shape.values.push_back(c.label), shape.hollow.push_back(false);
        shapes.push_back(shape);
    }
    const conformance::CoveringArray array = conformance::cover_pairs(shapes, {}, session().seed);
    EXPECT_EQ(array.pairs_covered, array.pairs_possible);
    std::size_t count = 0;
    for (const std::vector<int> &row : array.rows) {
        if (session().subset && count % 4 != session().seed % 4) {
            ++count;
            continue;
        }
        run(make_spec(all, row, session().seed * 1000 + count++));
    }
    const int random = session().subset ? 25 : 150;
    for (int i = 0; i < random; ++i, ++count)
        run(make_spec(all, conformance::random_row(shapes, {}, session().seed + std::uint64_t(i)),
                      session().seed * 1000 + count));
    std::printf("%zu cases, %zu pairs of values\n", count, array.pairs_covered);
}

/// Decays so strong that products of factors would leave the range of float.
TEST(LinearTable, StrongDecaysStayFinite)
{
    for (const char *name :
         {"retnet", "hgrn2", "rwkv6", "gated_deltanet_2", "rwkv7", "kda", "gated_deltanet", "mamba2"})
        for (const double size : {0.5, 2.0, 5.0, 40.0, 200.0})
            for (const std::int64_t chunk : {0, 64}) {
                if (session().subset && chunk != 0) continue;
                Spec s;
                s.method = name, s.seed = session().seed, s.tokens = 70, s.gate_size = size, s.dim_qk = 32;
                s.chunk = chunk;
                run(s);
            }
}

/// The table would notice: an input changed behind the oracle's back fails it.
TEST(LinearTable, NoticesAnError)
{
    for (const Method &m : methods()) {
        Spec s;
        s.method = m.name, s.seed = session().seed;
        Call call(s);
        conformance::PlanPointer plan;
        ASSERT_EQ(call.plan(conformance::backends().front()->handle(1), plan), ATTN_OK) << attn_last_error();
        ASSERT_EQ(call.execute(plan.get()), ATTN_OK) << attn_last_error();
        ASSERT_EQ(call.compare().failure, "") << m.name;
        const conformance::Index first = call.token_index(ATTN_SLOT_V, 0, 0, 0, 0);
        call.at(ATTN_SLOT_V).set(first, call.at(ATTN_SLOT_V).get(first) + 0.01);
        EXPECT_NE(call.compare().failure, "") << m.name;
    }
}

} // namespace
} // namespace linear
