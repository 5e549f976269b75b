// The oracle against closed forms and identities, option by option.
#include "number.h"
#include "oracle.h"

#include <gtest/gtest.h>

#include <cmath>

namespace conformance {
namespace {

constexpr double tiny = 1e-13;

Sequence sequence(std::int64_t tq, std::int64_t tk, std::int64_t hq = 2, std::int64_t hk = 2, std::int64_t hv = 2,
                  std::int64_t dim_qk = 4, std::int64_t dim_v = 3)
{
    Random random(11);
    Sequence s;
    s.tq = tq, s.tk = tk, s.heads_q = hq, s.heads_k = hk, s.heads_v = hv, s.dim_qk = dim_qk, s.dim_v = dim_v;
    const auto draw = [&](std::int64_t n) {
        std::vector<double> x(n);
        for (double &y : x) y = random.normal();
        return x;
    };
    s.q = draw(tq * hq * dim_qk), s.k = draw(tk * hk * dim_qk), s.v = draw(tk * hv * dim_v);
    return s;
}

void expect_near(const std::vector<double> &a, const std::vector<double> &b, double tolerance = tiny)
{
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t n = 0; n < a.size(); ++n) EXPECT_NEAR(a[n], b[n], tolerance) << "at " << n;
}

TEST(Oracle, EqualScoresAverageTheValues)
{
    Sequence s = sequence(3, 5);
    std::fill(s.q.begin(), s.q.end(), 0.0);
    const Result r = attention({}, s);
    for (std::int64_t i = 0; i < s.tq; ++i)
        for (std::int64_t h = 0; h < 2; ++h) {
            for (std::int64_t c = 0; c < 3; ++c) {
                double mean = 0;
                for (std::int64_t j = 0; j < 5; ++j) mean += s.v[(j * 2 + h) * 3 + c] / 5;
                EXPECT_NEAR(r.out[(i * 2 + h) * 3 + c], mean, tiny);
            }
            EXPECT_NEAR(r.lse[h * 3 + i], std::log(5), tiny);
            EXPECT_NEAR(r.row_entropy[h * 3 + i], std::log(5), tiny);
            EXPECT_EQ(r.row_max[h * 3 + i], 0);
        }
    for (double mass : r.column_mass) EXPECT_NEAR(mass, 3.0 / 5, tiny);
}

TEST(Oracle, TwoKeysAreALogisticFunction)
{
    Sequence s = sequence(1, 2, 1, 1, 1, 1, 1);
    s.q = {2}, s.k = {3, 5}, s.v = {1, 0};
    Options o;
    o.scale = 0.25;
    const Result r = attention(o, s); // scores 1.5, 2.5
    EXPECT_NEAR(r.out[0], 1 / (1 + std::exp(1.0)), tiny);
    EXPECT_NEAR(r.lse[0], 2.5 + std::log1p(std::exp(-1.0)), tiny);
    EXPECT_NEAR(r.row_max[0], 2.5, tiny);
    EXPECT_NEAR(r.largest_score[0], 2.5, tiny);
    EXPECT_NEAR(r.natural_size[0], r.out[0], tiny);
}

TEST(Oracle, OrderIsScaleTemperatureLowRankSoftcapBias)
{
    Sequence s = sequence(1, 1, 1, 1, 1, 1, 1);
    s.q = {2}, s.k = {3}, s.v = {1}, s.q_temperature = {0.5}, s.lowrank_q = {0.25}, s.lowrank_k = {2};
    s.bias = {1.25};
    Options o;
    o.scale = 0.5, o.softcap = 2, o.bias_rank = 1;
    EXPECT_NEAR(attention(o, s).lse[0], 2 * std::tanh((1.5 + 0.5) / 2) + 1.25, tiny);
    o.bias_stage = ATTN_BIAS_PRE_SOFTCAP;
    EXPECT_NEAR(attention(o, s).lse[0], 2 * std::tanh((1.5 + 0.5 + 1.25) / 2), tiny);
}

TEST(Oracle, SizeOfAScoreIsThatOfItsTerms)
{
    Sequence s = sequence(1, 1, 1, 1, 1, 2, 1);
    s.q = {3, -4}, s.k = {4, 3}, s.v = {1}, s.q_temperature = {-0.5}, s.lowrank_q = {2}, s.lowrank_k = {-1};
    s.bias = {1.75}, s.alibi_slopes = {0.25}; // the key is the one level with the query: no ALiBi
    Options o;
    o.scale = 0.5, o.bias_rank = 1, o.align = ATTN_TOP_LEFT;
    const double product = 0.25 * 12 * std::sqrt(2.0) + 2; // q.k has cancelled
    const Result softmax = attention(o, s);
    EXPECT_NEAR(softmax.row_max[0], -0.25, tiny);
    EXPECT_NEAR(softmax.largest_score[0], product, tiny);
    EXPECT_NEAR(softmax.largest_biased[0], product + 1.75, tiny);

    o.softcap = 2;
    const double steep = 1 - std::tanh(-1.0) * std::tanh(-1.0), steeper = 1 - std::tanh(-0.125) * std::tanh(-0.125);
    EXPECT_NEAR(attention(o, s).largest_biased[0], product * steep + 1.75, tiny);
    o.bias_stage = ATTN_BIAS_PRE_SOFTCAP;
    EXPECT_NEAR(attention(o, s).largest_biased[0], (product + 1.75) * steeper, tiny);
    o.softcap = 0.0625; // flat: only what is left after it counts
    EXPECT_NEAR(attention(o, s).largest_biased[0], 0.0625 * std::tanh(4.0), 1e-3);

    o.softcap = 0, o.activation = ATTN_SIGMOID, o.activation_bias = -3;
    EXPECT_NEAR(attention(o, s).largest_biased[0], product + 1.75 + 3, tiny);
    s.q = {3, 4}; // no cancelling
    EXPECT_NEAR(attention(o, s).largest_score[0], 0.25 * 24 + 2, tiny);
}

TEST(Oracle, LowRankBiasIsMoreChannels)
{
    Sequence s = sequence(3, 4, 2, 2, 2), wide = s;
    s.lowrank_q.assign(3 * 2 * 2, 0), s.lowrank_k.assign(4 * 2 * 2, 0);
    Random random(5);
    for (auto *x : {&s.lowrank_q, &s.lowrank_k})
        for (double &y : *x) y = random.normal();
    const auto widen = [](const std::vector<double> &a, std::int64_t rows, const std::vector<double> &b, double scale) {
        std::vector<double> out;
        for (std::int64_t n = 0; n < rows; ++n) {
            for (std::int64_t c = 0; c < 4; ++c) out.push_back(a[n * 4 + c] * scale);
            for (std::int64_t c = 0; c < 2; ++c) out.push_back(b[n * 2 + c]);
        }
        return out;
    };
    wide.dim_qk = 6, wide.q = widen(s.q, 6, s.lowrank_q, 0.3), wide.k = widen(s.k, 8, s.lowrank_k, 1);
    Options o;
    o.scale = 0.3, o.bias_rank = 2;
    expect_near(attention(o, s).out, attention({}, wide).out);
}

TEST(Oracle, AlibiShiftsOnlyTheLseOfItsCausalForm)
{
    // For causal rows -m |i + off - j| = m j - m (i + off): the same output, LSE shifted.
    Sequence s = sequence(3, 5), tensor = s;
    s.alibi_slopes = {0.5, 0.125};
    for (std::int64_t h = 0; h < 2; ++h)
        for (std::int64_t i = 0; i < 3; ++i)
            for (std::int64_t j = 0; j < 5; ++j) tensor.bias.push_back(s.alibi_slopes[h] * double(j));
    Options o;
    o.causal = ATTN_BOTTOM_RIGHT;
    const Result a = attention(o, s), b = attention(o, tensor);
    expect_near(a.out, b.out);
    for (std::int64_t h = 0; h < 2; ++h)
        for (std::int64_t i = 0; i < 3; ++i)
            EXPECT_NEAR(a.lse[h * 3 + i] + s.alibi_slopes[h] * double(i + 2), b.lse[h * 3 + i], tiny);
}

TEST(Oracle, SinkLogitIsAnEpilogue)
{
    Sequence s = sequence(4, 4);
    Options o;
    o.causal = ATTN_TOP_LEFT;
    const Result plain = attention(o, s);
    s.sink_logits = {0.7, -1.5};
    const Result sink = attention(o, s);
    for (std::int64_t h = 0; h < 2; ++h)
        for (std::int64_t i = 0; i < 4; ++i) {
            const double l = plain.lse[h * 4 + i], x = s.sink_logits[h];
            EXPECT_NEAR(sink.lse[h * 4 + i], std::log(std::exp(l) + std::exp(x)), tiny);
            for (std::int64_t c = 0; c < 3; ++c)
                EXPECT_NEAR(sink.out[(i * 2 + h) * 3 + c], plain.out[(i * 2 + h) * 3 + c] / (1 + std::exp(x - l)),
                            tiny);
        }
}

TEST(Oracle, EmptyRowsAreZero)
{
    Sequence s = sequence(5, 2);
    Options o;
    o.causal = ATTN_BOTTOM_RIGHT; // rows 0, 1, 2 lie above the first key
    const Result r = attention(o, s);
    for (std::int64_t i = 0; i < 3; ++i) {
        EXPECT_EQ(r.lse[i], -INFINITY);
        EXPECT_EQ(r.row_max[i], -INFINITY);
        for (std::int64_t c = 0; c < 6; ++c) EXPECT_EQ(r.out[i * 6 + c], 0);
    }
    EXPECT_EQ(r.out[3 * 6], s.v[0]); // row 3 sees the first key only
    s.sink_logits = {0.5, 0.25};
    EXPECT_EQ(attention(o, s).lse[0], 0.5);
    EXPECT_EQ(attention(o, s).out[0], 0);
    EXPECT_EQ(attention({}, sequence(3, 0)).lse[0], -INFINITY);
    EXPECT_TRUE(attention({}, sequence(0, 3)).out.empty());
}

TEST(Oracle, SigmoidAndReluAddOverKeys)
{
    Sequence s = sequence(1, 2, 1, 1, 1, 1, 1);
    s.q = {1}, s.k = {2, -3}, s.v = {10, 100};
    Options o;
    o.activation = ATTN_SIGMOID, o.activation_bias = -1;
    EXPECT_NEAR(attention(o, s).out[0], 10 / (1 + std::exp(-1.0)) + 100 / (1 + std::exp(4.0)), tiny);
    o.activation = ATTN_RELU;
    EXPECT_NEAR(attention(o, s).out[0], 10 * 2 / 2.0, tiny); // L = tk
    o.activation_length = 8;
    EXPECT_NEAR(attention(o, s).out[0], 10 * 2 / 8.0, tiny);
}

TEST(Oracle, EpilogueScalesValuesAndOutput)
{
    Sequence s = sequence(1, 1, 1, 1, 1, 1, 2);
    s.v = {4, 6}, s.v_temperature = {0.5}, s.gate = {0, 2}, s.head_weight = {3};
    Options o;
    expect_near(attention(o, s).out, {4 * 0.5 * 0.5 * 3, 6 * 0.5 * 3 / (1 + std::exp(-2.0))});
    o.gate = ATTN_GATE_LINEAR;
    expect_near(attention(o, s).out, {0, 6 * 0.5 * 2 * 3});
    o.gate = ATTN_GATE_SILU;
    expect_near(attention(o, s).out, {0, 6 * 0.5 * 3 * 2 / (1 + std::exp(-2.0))});
}

TEST(Oracle, HeadsMapInBlocks)
{
    // Every head of the uneven form equals one head of MHA with the tensors repeated.
    const std::int64_t counts[][3] = {{6, 2, 2}, {5, 1, 1}, {4, 1, 2}, {2, 4, 4}, {8, 2, 4}};
    for (const auto &n : counts) {
        const Sequence s = sequence(2, 3, n[0], n[1], n[2]);
        const std::int64_t ho = s.heads_out();
        const Result r = attention({}, s);
        for (std::int64_t h = 0; h < ho; ++h) {
            Sequence one = sequence(2, 3, 1, 1, 1);
            const auto pick = [](const std::vector<double> &x, std::int64_t t, std::int64_t heads, std::int64_t head,
                                 std::int64_t dim) {
                std::vector<double> y;
                for (std::int64_t i = 0; i < t; ++i)
                    for (std::int64_t c = 0; c < dim; ++c) y.push_back(x[(i * heads + head) * dim + c]);
                return y;
            };
            one.q = pick(s.q, 2, n[0], h / (ho / n[0]), 4), one.k = pick(s.k, 3, n[1], h / (ho / n[1]), 4);
            one.v = pick(s.v, 3, n[2], h / (ho / n[2]), 3);
            expect_near(pick(r.out, 2, ho, h, 3), attention({}, one).out);
        }
    }
}

TEST(Oracle, PartsMergeByLse)
{
    const Sequence s = sequence(3, 7);
    Sequence a = s, b = s;
    a.tk = 4, b.tk = 3;
    a.k.resize(4 * 8), a.v.resize(4 * 6);
    b.k.erase(b.k.begin(), b.k.begin() + 4 * 8), b.v.erase(b.v.begin(), b.v.begin() + 4 * 6);
    const Result whole = attention({}, s), ra = attention({}, a), rb = attention({}, b);
    for (std::int64_t h = 0; h < 2; ++h)
        for (std::int64_t i = 0; i < 3; ++i) {
            const double la = ra.lse[h * 3 + i], lb = rb.lse[h * 3 + i], l = std::log(std::exp(la) + std::exp(lb));
            EXPECT_NEAR(whole.lse[h * 3 + i], l, tiny);
            for (std::int64_t c = 0; c < 3; ++c) {
                const std::int64_t at = (i * 2 + h) * 3 + c;
                EXPECT_NEAR(whole.out[at], std::exp(la - l) * ra.out[at] + std::exp(lb - l) * rb.out[at], tiny);
            }
        }
}

} // namespace
} // namespace conformance
