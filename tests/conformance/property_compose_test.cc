// Parts that add up to the whole: keys split and merged by LSE, queries split into chunks and single tokens, column
// mass of queries in any order and of parts of them.
#include "property.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace conformance {
namespace {

// The rows of `tokens` of a [tokens, width] array, in that order.
template <class T>
std::vector<T> rows_of(const std::vector<T> &x, const std::vector<std::int64_t> &tokens, std::int64_t width)
{
    std::vector<T> out;
    for (std::int64_t t : tokens) out.insert(out.end(), x.begin() + t * width, x.begin() + (t + 1) * width);
    return out;
}

Content with_keys(const Content &whole, const std::vector<std::int64_t> &keys)
{
    Content part = whole;
    Sequence &s = part.used;
    s.tk = part.k_rows = static_cast<std::int64_t>(keys.size());
    s.k = rows_of(s.k, keys, s.heads_k * s.dim_qk), s.v = rows_of(s.v, keys, s.heads_v * s.dim_v);
    if (!s.positions_kv.empty()) s.positions_kv = rows_of(s.positions_kv, keys, 1);
    return part;
}

Content with_queries(const Content &whole, const std::vector<std::int64_t> &rows)
{
    Content part = whole;
    Sequence &s = part.used;
    s.tq = part.q_rows = static_cast<std::int64_t>(rows.size());
    s.q = rows_of(s.q, rows, s.heads_q * s.dim_qk);
    if (!s.positions_q.empty()) s.positions_q = rows_of(s.positions_q, rows, 1);
    return part;
}

struct Parts {
    std::vector<std::vector<double>> out, lse; // by part; [tq, ho, dim_v], [ho, tq]
};

// O = sum exp(lse_p - lse) O_p, in fp64.
void merge(const Parts &parts, const Sequence &s, std::vector<double> &out, std::vector<double> &lse)
{
    const std::int64_t ho = s.heads_out();
    out.assign(s.tq * ho * s.dim_v, 0), lse.assign(ho * s.tq, -std::numeric_limits<double>::infinity());
    for (std::int64_t h = 0; h < ho; ++h)
        for (std::int64_t i = 0; i < s.tq; ++i) {
            double top = -std::numeric_limits<double>::infinity(), sum = 0;
            for (const auto &part : parts.lse) top = std::max(top, part[h * s.tq + i]);
            if (std::isinf(top)) continue;
            for (const auto &part : parts.lse) sum += std::exp(part[h * s.tq + i] - top);
            const double total = lse[h * s.tq + i] = top + std::log(sum);
            for (std::size_t p = 0; p < parts.out.size(); ++p) {
                const double weight = std::exp(parts.lse[p][h * s.tq + i] - total);
                for (std::int64_t c = 0; c < s.dim_v; ++c)
                    out[(i * ho + h) * s.dim_v + c] += weight * parts.out[p][(i * ho + h) * s.dim_v + c];
            }
        }
}

double relative(const std::vector<double> &x, const std::vector<double> &y)
{
    double difference = 0, norm = 0;
    for (std::size_t n = 0; n < x.size(); ++n) difference += (x[n] - y[n]) * (x[n] - y[n]), norm += y[n] * y[n];
    return norm > 0 ? std::sqrt(difference / norm) : difference;
}

// Cases of one dense sequence whose mask depends on positions only, so that keys may be taken apart.
Case splittable(Case c)
{
    c.batch = 1, c.q_lengths = c.kv_lengths = "dense", c.lse = 1, c.out_dtype = "fp32", c.bounds = "exact";
    c.sink_tokens = 0; // counted by index
    if (c.causal != "none") c.causal = "by_position";
    c.align = c.windowed() && c.causal == "none" ? "by_position" : "none";
    return c;
}

TEST(PropertyCompose, SplitKeysMergeByLse)
{
    const auto keep = [](const Case &c) { return c.dim_v >= 8 && c.max_kv >= 2; };
    for (const Case &c : sample(
             40, 30, [](Case &x) { x = splittable(x); }, keep)) {
        ATTN_TRACE_CASE(c);
        const auto contents = draw_contents(c);
        const Sequence &s = contents[0].used;
        const std::vector<Result> whole = reference(c, contents);
        Random random(c.seed, 41);
        const std::int64_t count = random.integer(2, 4);
        const bool scattered = random.chance(0.5); // any split: also one that is not contiguous
        std::vector<std::vector<std::int64_t>> split(count);
        for (std::int64_t j = 0; j < s.tk; ++j)
            split[scattered ? random.integer(0, count - 1) : j * count / s.tk].push_back(j);
        for_each_backend([&](const Backend &backend) {
            Parts parts;
            for (const auto &keys : split) {
                Case part = c;
                part.max_kv = static_cast<std::int64_t>(keys.size());
                Instance instance(part, {with_keys(contents[0], keys)}, 0);
                const Output got = run_alone(backend, instance);
                parts.out.push_back(got.out[0]), parts.lse.push_back(got.lse[0]);
            }
            std::vector<double> out, lse;
            merge(parts, s, out, lse);
            EXPECT_LE(relative(out, whole[0].out), tolerance(ATTN_FLOAT32).global);
            for (std::size_t n = 0; n < lse.size(); ++n) {
                if (std::isinf(whole[0].lse[n]))
                    EXPECT_EQ(lse[n], whole[0].lse[n]);
                else
                    EXPECT_NEAR(lse[n], whole[0].lse[n], 2e-5 * std::max(1.0, std::abs(whole[0].lse[n])));
            }
        });
    }
}

// Runs rows [first, first + count) of the queries with the keys that a cache holds by then, and compares with the rows
// of the whole.
void check_chunk(const Backend &backend, const Case &c, const Content &whole, const Result &expected,
                 std::int64_t first, std::int64_t count, attn_plan plan)
{
    const Sequence &s = whole.used;
    std::vector<std::int64_t> keys(s.tk - s.tq + first + count);
    for (std::size_t j = 0; j < keys.size(); ++j) keys[j] = static_cast<std::int64_t>(j);
    std::vector<std::int64_t> rows(count);
    std::iota(rows.begin(), rows.end(), first);
    const Content content = with_queries(with_keys(whole, keys), rows);
    Case chunk = c;
    chunk.max_q = count, chunk.max_kv = content.used.tk;
    Instance instance(chunk, {content}, static_cast<std::uint64_t>(first));
    const Output got = plan ? run(plan, instance) : run_alone(backend, instance);
    const std::int64_t width = s.heads_out() * s.dim_v;
    const std::vector<double> out(expected.out.begin() + first * width, expected.out.begin() + (first + count) * width);
    EXPECT_LE(relative(got.out[0], out), tolerance(dtype_of(c.out_dtype)).worst_row) << "rows from " << first;
    for (std::int64_t h = 0; h < s.heads_out(); ++h)
        for (std::int64_t i = 0; i < count; ++i) {
            const double y = expected.lse[h * s.tq + first + i];
            EXPECT_NEAR(got.lse[0][h * count + i], y, 2e-5 * std::max(1.0, std::abs(y)));
        }
}

TEST(PropertyCompose, PrefillEqualsChunksEqualsDecode)
{
    const auto change = [](Case &c) {
        c.batch = 1, c.q_lengths = "dense", c.lse = 1, c.causal = "bottom_right", c.align = "none";
        if (c.kv_lengths == "paged" || c.kv_lengths == "paged+ptr") c.kv_lengths += "+seqlens";
        if (!c.paged()) c.kv_lengths = "dense";
        c.max_q = std::min<std::int64_t>(c.max_q, 150);
        c.window_right = -1;
        if (!c.windowed()) c.sink_tokens = 0;
    };
    const auto keep = [](const Case &c) { // without rows that cancel to almost nothing
        return c.max_q >= 2 && c.max_kv >= c.max_q && c.dim_v >= 16 && c.magnitude <= 1;
    };
    for (const Case &c : sample(42, 15, change, keep)) {
        ATTN_TRACE_CASE(c);
        const auto contents = draw_contents(c);
        const Sequence &s = contents[0].used;
        Instance whole(c, contents, 0);
        const std::vector<Result> expected = reference(c, contents);
        for_each_backend([&](const Backend &backend) {
            const PlanPointer prefill = plan_for(backend.handle(c.workers), whole);
            ASSERT_TRUE(prefill);
            run(prefill.get(), whole);
            EXPECT_EQ(compare(whole, expected).broken, "");
            Random random(c.seed, 43);
            for (std::int64_t first = 0; first < s.tq;) { // chunks through the plan of the whole
                const std::int64_t count = std::min(random.integer(1, 70), s.tq - first);
                check_chunk(backend, c, contents[0], expected[0], first, count, prefill.get());
                first += count;
            }
            Bounds one = whole.bounds();
            one.max_q = 1;
            const PlanPointer decode = plan_for(backend.handle(c.workers), c, one);
            ASSERT_TRUE(decode);
            for (std::int64_t i = 0; i < s.tq; ++i)
                check_chunk(backend, c, contents[0], expected[0], i, 1, decode.get());
        });
    }
}

// The factor by which sums of weights may differ more than those of small scores; see compare_statistics().
double mass_allowance(const Result &r)
{
    double largest = 0;
    for (double x : r.largest_score) largest = std::max(largest, x);
    for (double x : r.largest_biased) largest = std::max(largest, x);
    return tolerance(ATTN_FLOAT32).statistic * std::max(1.0, largest / 32);
}

TEST(PropertyCompose, ColumnMassOfPartsOfTheQueriesAddsUp)
{
    const auto change = [](Case &c) { c = splittable(c), c.column_mass = 1; };
    const auto keep = [](const Case &c) { return c.max_q >= 2; };
    for (const Case &c : sample(44, 30, change, keep)) {
        ATTN_TRACE_CASE(c);
        const auto contents = draw_contents(c);
        const std::vector<Result> whole = reference(c, contents);
        Random random(c.seed, 45);
        std::vector<std::vector<std::int64_t>> parts(random.integer(1, 3)); // of one part: another order
        for (std::int64_t i = 0; i < contents[0].used.tq; ++i) parts[random.integer(0, 7) % parts.size()].push_back(i);
        for (auto &rows : parts) std::reverse(rows.begin(), rows.end());
        for_each_backend([&](const Backend &backend) {
            Instance undivided(c, contents, 0);
            const std::vector<double> expected = run_alone(backend, undivided).mass[0];
            std::vector<double> sum(expected.size());
            for (const auto &rows : parts) {
                Case part = c;
                part.max_q = static_cast<std::int64_t>(rows.size());
                Instance instance(part, {with_queries(contents[0], rows)}, 0);
                const Output got = run_alone(backend, instance);
                for (std::size_t n = 0; n < sum.size(); ++n) sum[n] += got.mass[0][n];
            }
            for (std::size_t n = 0; n < sum.size(); ++n)
                EXPECT_NEAR(sum[n], expected[n], mass_allowance(whole[0]) * std::max(1.0, expected[n])) << n;
        });
    }
}

// A row gives away 1, less what its sink takes, whatever its head weight; an empty row nothing. Keys that no row sees
// get exactly 0. With one query and many keys, the keys are split among threads and the parts merged.
TEST(PropertyCompose, ColumnMassSumsToTheRows)
{
    const auto change = [](Case &c) {
        c.column_mass = 1, c.sink_logits = c.lse = std::int64_t(c.seed % 2), c.head_weight = !c.lse;
        if (c.seed % 3 == 0) c.max_q = 1 + std::int64_t(c.seed % 5), c.max_kv += 600, c.workers = 3;
    };
    for (const Case &c : sample(46, 60, change)) {
        ATTN_TRACE_CASE(c);
        const auto contents = draw_contents(c);
        const Options o = oracle_options(c);
        const std::vector<Result> results = reference(c, contents);
        Instance instance(c, contents, 0);
        for_each_backend([&](const Backend &backend) {
            const Output got = run_alone(backend, instance);
            for (std::size_t b = 0; b < contents.size(); ++b) {
                const Sequence &s = contents[b].used;
                std::vector<std::int64_t> seen(s.tk), sees(s.tq); // how many rows, how many keys
                for (std::int64_t i = 0; i < s.tq; ++i)
                    for (std::int64_t j = 0; j < s.tk; ++j)
                        if (visible(o, s, 0, i, j)) ++seen[j], ++sees[i];
                for (std::int64_t h = 0; h < s.heads_out(); ++h) {
                    double given = 0, received = 0, rounding = 0; // of what sinks take, as LSE is rounded to fp32
                    for (std::int64_t i = 0; i < s.tq; ++i) {
                        if (!sees[i]) continue;
                        const double lse = c.lse ? got.lse[b][h * s.tq + i] : 0;
                        const double taken = c.lse ? std::exp(s.sink_logits[h] - lse) : 0;
                        given += 1 - taken, rounding += taken * std::abs(lse) * 0x1p-24;
                    }
                    for (std::int64_t j = 0; j < s.tk; ++j) {
                        const double mass = got.mass[b][h * s.tk + j];
                        received += mass;
                        EXPECT_TRUE(seen[j] || mass == 0) << "key " << j << ": " << mass;
                    }
                    EXPECT_NEAR(received, given, mass_allowance(results[b]) * std::max(1.0, given) + rounding)
                        << "sequence " << b << ", head " << h;
                }
            }
        });
    }
}

} // namespace
} // namespace conformance
