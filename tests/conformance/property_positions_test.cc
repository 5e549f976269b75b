// Positions are integers of 64 bits: masks, ALiBi and tables by distance compute the same near and far.
#include "property.h"
#include "refusal.h"

#include <cmath>

namespace conformance {
namespace {

// Cases by position, two thirds of them with a table, a third with ALiBi.
void by_position(Case &c)
{
    constexpr const char *tables[] = {"none", "distance", "none", "bucket", "grid", "bucket_bi"};
    c.out_dtype = "fp32", c.index_dtype = "int64";
    if (c.magnitude > 4) c.magnitude = 4;
    c.causal = c.seed % 2 ? "by_position" : "none", c.align = "by_position";
    c.bias_table = tables[c.seed / 2 % 6];
    c.table_buckets = 0, c.table_distance = c.seed / 12 % 2 && c.bias_table[0] == 'd' ? 100000 : 0;
    c.alibi = c.seed / 24 % 3 == 0;
    const bool by_distance = c.alibi || (c.has_table() && c.bias_table != "grid");
    if (!c.windowed() && c.causal == "none" && !by_distance) c.window_right = 5;
    if (!c.windowed()) c.sink_tokens = 0;
    if (!c.has_staged_bias()) c.bias_stage = "post";
}

// Positions `factor` times as far apart, a power of two; slopes so much less.
void spread(std::vector<Content> &contents, std::int64_t factor)
{
    for (Content &content : contents) {
        Sequence &s = content.used;
        for (auto *positions : {&s.positions_q, &s.positions_kv})
            for (auto &position : *positions) position *= factor;
        for (auto &slope : s.alibi_slopes) slope /= static_cast<double>(factor);
    }
}

TEST(PropertyPositions, NearAndFar)
{
    std::int64_t served = 0;
    for (const Case &c : sample(70, 40, by_position)) {
        const std::int64_t factor = std::int64_t{1} << std::vector{0, 2, 12, 21, 32, 50}[c.seed / 72 % 6];
        ATTN_TRACE_CASE(c);
        SCOPED_TRACE(factor);
        auto contents = draw_contents(c);
        spread(contents, factor);
        const std::vector<Result> expected = reference(c, contents);
        for_each_backend([&](const Backend &backend) {
            const Refusal refused = refusal(backend, c);
            EXPECT_EQ(refused.broken, "");
            if (!refused.served()) return;
            Instance instance(c, contents, 0);
            run_alone(backend, instance);
            EXPECT_EQ(compare(instance, expected).broken, "");
            ++served;
        });
    }
    if (served == 0) GTEST_SKIP() << "refused by all backends";
}

} // namespace
} // namespace conformance
