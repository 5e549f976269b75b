// What a row cannot see never influences it: the future, keys outside the window, NaN and infinity among them.
#include "property.h"
#include "refusal.h"

#include <cmath>
#include <iterator>
#include <limits>

namespace conformance {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

void set_key(const Case &c, Sequence &s, std::int64_t j, double k, double v)
{
    const std::int64_t width_k = s.heads_k * s.dim_qk, width_v = s.heads_v * s.dim_v;
    for (std::int64_t n = 0; n < width_k; ++n) s.k[j * width_k + n] = round_to(dtype_of(c.k_dtype), k);
    for (std::int64_t n = 0; n < width_v; ++n) s.v[j * width_v + n] = round_to(dtype_of(c.v_dtype), v);
}

// Whether one row of all heads has the same bits in both.
bool row_same(const Sequence &s, std::int64_t i, const std::vector<double> &a, const std::vector<double> &b)
{
    const std::int64_t width = s.heads_out() * s.dim_v;
    return same_bits({a.begin() + i * width, a.begin() + (i + 1) * width},
                     {b.begin() + i * width, b.begin() + (i + 1) * width});
}

bool lse_same(const Sequence &s, std::int64_t i, const std::vector<double> &a, const std::vector<double> &b)
{
    for (std::int64_t h = 0; h < s.heads_out() && !a.empty(); ++h)
        if (!same_bits({a[h * s.tq + i]}, {b[h * s.tq + i]})) return false;
    return true;
}

// Keys that only blind rows see, or none: what they received cannot have changed.
std::vector<bool> seen_by_blind_rows(const Options &o, const Sequence &s, const std::vector<bool> &blind)
{
    std::vector<bool> only(s.tk, true);
    for (std::int64_t j = 0; j < s.tk; ++j)
        for (std::int64_t i = 0; i < s.tq; ++i) only[j] = only[j] && (blind[i] || !visible(o, s, 0, i, j));
    return only;
}

// Changes the given keys of every sequence in several ways; rows that see none of them must keep every bit, and so must
// the column mass that comes from such rows alone.
void check_blind_rows(const Case &c, const std::function<std::vector<std::int64_t>(const Sequence &)> &choose)
{
    const bool any_v = !on_gpu() || c.strict_nonfinite; // else only a K that is not finite stays where it is seen
    const Options o = oracle_options(c);
    const auto contents = draw_contents(c);
    std::vector<std::vector<bool>> blind(contents.size()), unaffected(contents.size());
    std::vector<std::vector<std::int64_t>> keys;
    for (std::size_t b = 0; b < contents.size(); ++b) {
        const Sequence &s = contents[b].used;
        keys.push_back(choose(s));
        for (std::int64_t i = 0; i < s.tq; ++i) {
            bool sees = false;
            for (std::int64_t j : keys[b]) sees = sees || visible(o, s, 0, i, j);
            blind[b].push_back(!sees);
        }
        if (c.column_mass) unaffected[b] = seen_by_blind_rows(o, s, blind[b]);
    }
    struct Change {
        double k, v;
    };
    constexpr Change changes[] = {{NAN, NAN},     {infinity, -infinity}, {1, NAN}, {NAN, 1},
                                  {-infinity, 3}, {3, infinity},         {40, 2}};
    Instance first(c, contents, 0);
    for_each_backend([&](const Backend &backend) {
        const PlanPointer plan = plan_for(backend.handle(c.workers), first);
        ASSERT_TRUE(plan);
        const Output expected = run(plan.get(), first);
        for (const Change &change : changes) {
            if (!any_v && !std::isfinite(change.v)) continue;
            auto changed = contents;
            for (std::size_t b = 0; b < contents.size(); ++b)
                for (std::int64_t j : keys[b]) set_key(c, changed[b].used, j, change.k, change.v);
            Instance instance(c, changed, 0);
            const Output got = run(plan.get(), instance);
            for (std::size_t b = 0; b < contents.size(); ++b) {
                const Sequence &s = contents[b].used;
                for (std::int64_t i = 0; i < s.tq; ++i) {
                    if (!blind[b][i]) continue;
                    ASSERT_TRUE(row_same(s, i, expected.out[b], got.out[b]))
                        << "row " << i << " of sequence " << b << ", K set to " << change.k << ", V to " << change.v;
                    ASSERT_TRUE(lse_same(s, i, expected.lse[b], got.lse[b])) << "LSE of row " << i << " of " << b;
                }
                for (std::size_t n = 0; n < got.mass[b].size(); ++n) {
                    const std::size_t key = n % std::size_t(s.tk);
                    ASSERT_TRUE(!unaffected[b][key] || same_bits({expected.mass[b][n]}, {got.mass[b][n]}))
                        << "COLUMN_MASS of key " << key << " of sequence " << b << ", K set to " << change.k;
                }
            }
        }
    });
}

std::vector<std::int64_t> nth(const Sequence &s, Random &random, int count)
{
    std::vector<std::int64_t> keys;
    for (int n = 0; n < count && s.tk > 0; ++n) keys.push_back(random.integer(0, s.tk - 1));
    return keys;
}

TEST(PropertyVisibility, TheFutureOfCausalRows)
{
    const auto change = [](Case &c) {
        if (c.causal == "none") c.causal = c.seed % 2 ? "bottom_right" : "top_left", c.align = "none";
        c.window_left = c.window_right = -1, c.sink_tokens = 0, c.align = "none";
    };
    for (const Case &c : sample(20, 40, change)) {
        ATTN_TRACE_CASE(c);
        Random random(c.seed, 21);
        check_blind_rows(c, [&](const Sequence &s) { // all keys beyond the diagonal of one row
            std::vector<std::int64_t> keys;
            if (s.tq == 0) return keys;
            const std::int64_t row = random.integer(0, s.tq - 1);
            for (std::int64_t j = 0; j < s.tk; ++j)
                if (distance(s, align_of(c.causal), row, j) > 0) keys.push_back(j);
            return keys;
        });
    }
}

TEST(PropertyVisibility, SingleKeysOutsideWindows)
{
    const auto keep = [](const Case &c) { return c.windowed() || c.causal != "none"; };
    for (const Case &c : sample(
             22, 60, [](Case &) {}, keep)) {
        ATTN_TRACE_CASE(c);
        Random random(c.seed, 23);
        check_blind_rows(c, [&](const Sequence &s) { return nth(s, random, 1 + int(c.seed % 3)); });
    }
}

TEST(PropertyVisibility, SingleKeysOfPlainTiles)
{
    // Kernels of the plain operator may leave out what does not matter to most rows, but rows do not depend on others:
    // nor on what those see in a block of keys after the first.
    const auto change = [](Case &c) {
        const Case drawn = c;
        c = {};
        c.seed = drawn.seed;
        c.q_dtype = c.k_dtype = c.v_dtype = c.out_dtype = c.seed % 3 ? "bf16" : "fp16";
        c.heads_q = c.heads_k = c.heads_v = 1;
        c.max_q = c.seed % 5 < 2 ? 2 + std::int64_t(c.seed % 7) : 18 + std::int64_t(c.seed % 19);
        c.max_kv = 130 + std::int64_t(c.seed % 53);
        c.causal = "bottom_right", c.workers = drawn.workers;
    };
    for (const Case &c : sample(28, 60, change)) {
        ATTN_TRACE_CASE(c);
        Random random(c.seed, 29);
        check_blind_rows(c, [&](const Sequence &s) { // a key level with a row
            return std::vector<std::int64_t>{s.tk - s.tq + random.integer(1, s.tq - 1)};
        });
    }
}

TEST(PropertyVisibility, SingleKeysOutsideMaskPrograms)
{
    // The same for all heads. Blocks of keys are hidden as a whole, shown as a whole, and neither.
    constexpr const char *programs[] = {"id_eq causal:br and",
                                        "id_ge/1 not prefix(9) or",
                                        "band:tl(20,3) vertical(5,0,30) or",
                                        "causal:br pow2:br(3) and first_rows(4) or",
                                        "id_kv(1) not id_q(2) or prefix(5)+0.5 and",
                                        "band:pos(7,2) last_rows(30) not or"};
    Case any;
    any.mask = "prefix(1)";
    for (const auto &backend : backends())
        if (!refusal(*backend, any).names.empty()) GTEST_SKIP() << backend->name() << " refuses masks";
    const auto change = [&](Case &c) { c.mask = programs[c.seed % std::size(programs)]; };
    for (const Case &c : sample(26, 30, change)) {
        ATTN_TRACE_CASE(c);
        Random random(c.seed, 27);
        check_blind_rows(c, [&](const Sequence &s) { return nth(s, random, 1 + int(c.seed % 3)); });
    }
}

TEST(PropertyVisibility, TilesSharedWithRowsThatSeeTheKey)
{
    // Long enough for several tiles; the poisoned key is seen by neighbours of the rows that do not see it.
    struct Setting {
        std::int64_t tq, tk, left, right, sinks;
        const char *causal;
    };
    constexpr Setting settings[] = {{300, 600, -1, -1, 0, "bottom_right"}, {300, 300, 20, -1, 0, "top_left"},
                                    {257, 400, 64, 10, 4, "none"},         {1, 600, 100, -1, 130, "bottom_right"},
                                    {5, 700, 200, -1, 3, "bottom_right"},  {400, 130, 0, 0, 1, "none"}};
    for (const Setting &x : settings) {
        for (const char *dtype : {"fp32", "bf16"}) {
            // One dtype for each setting.
            if (session().subset && (&x - settings + (*dtype == 'b')) % 2 != 0) continue;
            Case c;
            c.seed = session().seed, c.workers = 2, c.heads_q = 4, c.heads_k = c.heads_v = 2;
            c.dim_qk = 24, c.dim_v = 40;
            c.q_dtype = c.k_dtype = c.v_dtype = c.out_dtype = dtype;
            c.max_q = x.tq, c.max_kv = x.tk, c.causal = x.causal, c.window_left = x.left, c.window_right = x.right;
            c.sink_tokens = x.sinks, c.column_mass = 1;
            if (c.causal == "none") c.align = "bottom_right";
            Random random(c.seed, 24);
            for (int repeat = 0; repeat < (session().subset ? 2 : 4); ++repeat) {
                c.strict_nonfinite = repeat != 0;
                ATTN_TRACE_CASE(c);
                check_blind_rows(c, [&](const Sequence &s) { return nth(s, random, 1); });
            }
        }
    }
}

TEST(PropertyVisibility, RowsThatSeeNanAreNan)
{
    Case c; // the reverse, so that the tests above cannot pass by ignoring values
    c.max_q = 40, c.max_kv = 300, c.causal = "bottom_right", c.window_left = 30, c.column_mass = 1;
    c.strict_nonfinite = 1;
    ATTN_TRACE_CASE(c);
    auto contents = draw_contents(c);
    set_key(c, contents[0].used, 270, NAN, NAN);
    Instance instance(c, contents, 0);
    for_each_backend([&](const Backend &backend) {
        const Output got = run_alone(backend, instance);
        const Sequence &s = contents[0].used;
        for (std::int64_t i = 0; i < s.tq; ++i)
            EXPECT_EQ(std::isnan(got.out[0][i * s.heads_out() * s.dim_v]), visible(oracle_options(c), s, 0, i, 270))
                << "row " << i;
        // Rows 10 .. 39 are NaN: keys 240 .. 299 get a part of them, the others nothing.
        for (std::size_t n = 0; n < got.mass[0].size(); ++n)
            EXPECT_EQ(std::isnan(got.mass[0][n]), std::int64_t(n) % s.tk >= 240) << "key " << std::int64_t(n) % s.tk;
    });
}

// Elements of K and V that are not finite make of OUT what the equations say, of the rows and channels that they reach,
// and leave the others as they are. Few rows, whose products the CPU has in many ways. (GPUs promise less of V.)
TEST(PropertyVisibility, WhatIsNotFiniteIsSeen)
{
    if (on_gpu()) GTEST_SKIP() << "V that is not finite may make NaN of other channels";
    constexpr double values[] = {NAN, infinity, -infinity};
    const std::int64_t heads[][2] = {{1, 1}, {4, 1}, {5, 1}, {8, 1}, {16, 2}, {16, 1}, {11, 1}};
    const struct {
        const char *name;
        double tolerance;
    } dtypes[] = {{"fp32", 1e-5}, {"fp16", 2e-3}, {"bf16", 2e-2}};
    for (const auto &dtype : dtypes)
        for (const auto &[heads_q, heads_k] : heads)
            for (const std::int64_t dim : {40, 64, 96, 128}) {
                Random random(session().seed, 24, static_cast<std::uint64_t>(100 * heads_q + dim));
                Case c;
                c.seed = random.next();
                c.q_dtype = c.k_dtype = c.v_dtype = c.out_dtype = dtype.name;
                c.dim_qk = dim, c.dim_v = dim == 96 ? 64 : dim;
                c.heads_q = heads_q, c.heads_k = c.heads_v = heads_k;
                c.max_q = 1, c.max_kv = random.integer(33, 900);
                c.kv_layout = random.chance(0.5) ? "bshd" : "bhsd";
                ATTN_TRACE_CASE(c);
                auto contents = draw_contents(c);
                Sequence &s = contents[0].used;
                const auto spoil = [&](std::vector<double> &x) {
                    x[static_cast<std::size_t>(random.integer(0, std::int64_t(x.size()) - 1))] =
                        values[random.integer(0, 2)];
                };
                spoil(s.v), spoil(s.v);
                if (random.chance(0.3)) spoil(s.k); // of which whole rows become NaN
                const Result expected = attention(oracle_options(c), s);
                Instance instance(c, contents, 0);
                for_each_backend([&](const Backend &backend) {
                    const Output got = run_alone(backend, instance);
                    ASSERT_EQ(got.out[0].size(), expected.out.size());
                    for (std::size_t i = 0; i < expected.out.size(); ++i) {
                        const double want = expected.out[i], have = got.out[0][i];
                        if (std::isfinite(want))
                            ASSERT_NEAR(have, want, dtype.tolerance * (1 + std::fabs(want))) << i;
                        else
                            ASSERT_TRUE(std::isnan(want) ? std::isnan(have) : have == want)
                                << "element " << i << " is " << have << ", not " << want;
                    }
                });
            }
}

} // namespace
} // namespace conformance
