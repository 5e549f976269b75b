// Options that are identities of others: what one of them computes, another way of asking for must compute too.
#include "property.h"
#include "refusal.h"

#include <cmath>
#include <functional>
#include <limits>
#include <set>

namespace conformance {
namespace {

constexpr double both_round = 2; // two results of the library are compared: each has its error

double sigmoid(double x)
{
    return 1 / (1 + std::exp(-x));
}

// Runs the cases that backends serve and remembers which options the others refused.
class Serving {
public:
    // Calls body(backend) for backends that serve all the cases; false if there is none.
    bool run(const std::vector<Case> &cases, const std::function<void(const Backend &)> &body)
    {
        bool any = false;
        for_each_backend([&](const Backend &backend) {
            bool serves = true;
            for (const Case &c : cases) {
                const Refusal r = refusal(backend, c);
                EXPECT_EQ(r.broken, "");
                names_.insert(r.names.begin(), r.names.end());
                if (!r.whole.empty()) names_.insert(r.whole);
                serves = serves && r.served();
            }
            any = any || serves;
            if (serves) body(backend);
        });
        return any;
    }

    // At the end of a test: it does not count as passed where something was refused.
    void skip_if_refused() const
    {
        if (names_.empty()) return;
        std::string list;
        for (const std::string &name : names_) list += (list.empty() ? "" : ", ") + name;
        GTEST_SKIP() << "refused: " << list;
    }

private:
    std::set<std::string> names_;
};

// Plain cases with an fp32 output and LSE, which the tests then change.
std::vector<Case> plain(std::uint64_t purpose, int count, const std::function<void(Case &)> &change = {})
{
    return sample(purpose, count, [&](Case &c) {
        c.out_dtype = "fp32", c.lse = 1;
        if (c.magnitude > 4) c.magnitude = 4;
        if (change) change(c);
    });
}

// The same case with an option, sharing every number that both have.
Case with(Case c, const std::function<void(Case &)> &change)
{
    change(c);
    return c;
}

// Runs `c`, whose reference is `expected` but for what `transform` makes of the outputs that `plain` had.
using Transform = std::function<void(const Sequence &, const std::vector<double> &out, const std::vector<double> &lse,
                                     Result &expected)>;
void check_transformed(const Backend &backend, const Case &before, const Case &after,
                       const std::vector<Content> &contents_before, const std::vector<Content> &contents_after,
                       const Transform &transform)
{
    Instance first(before, contents_before, 0), second(after, contents_after, 0);
    const Output from = run_alone(backend, first);
    std::vector<Result> expected = reference(after, contents_after); // for the sizes of rows
    for (std::size_t b = 0; b < expected.size(); ++b)
        transform(contents_after[b].used, from.out[b], from.lse[b], expected[b]);
    run_alone(backend, second);
    EXPECT_EQ(compare(second, expected, both_round).broken, "");
}

void same(const Sequence &, const std::vector<double> &out, const std::vector<double> &lse, Result &expected)
{
    expected.out = out, expected.lse = lse;
}

// Every factor of OUT: [tq, ho, dim_v].
Transform times(const std::function<double(const Sequence &, std::size_t n)> &factor)
{
    return
        [factor](const Sequence &s, const std::vector<double> &out, const std::vector<double> &lse, Result &expected) {
            expected.lse = lse;
            for (std::size_t n = 0; n < out.size(); ++n) expected.out[n] = out[n] * factor(s, n);
        };
}

TEST(PropertyOptions, SinkLogitIsAnEpilogue)
{
    Serving serving;
    for (const Case &c : plain(60, 20)) {
        const Case after = with(c, [](Case &x) { x.sink_logits = 1; });
        ATTN_TRACE_CASE(after);
        const bool any = serving.run({after}, [&](const Backend &backend) {
            check_transformed(backend, c, after, draw_contents(c), draw_contents(after),
                              [](const Sequence &s, const auto &out, const auto &lse, Result &expected) {
                                  for (std::size_t n = 0; n < out.size(); ++n) {
                                      const std::int64_t row = std::int64_t(n) / s.dim_v, ho = s.heads_out();
                                      const std::int64_t h = row % ho, i = row / ho;
                                      expected.out[n] = out[n] * sigmoid(lse[h * s.tq + i] - s.sink_logits[h]);
                                  }
                                  for (std::size_t n = 0; n < lse.size(); ++n) {
                                      const double sink = s.sink_logits[n / s.tq], top = std::max(sink, lse[n]);
                                      expected.lse[n] = top + std::log(std::exp(sink - top) + std::exp(lse[n] - top));
                                  }
                              });
        });
        if (!any) break;
    }
    serving.skip_if_refused();
}

TEST(PropertyOptions, AlibiIsABias)
{
    Serving serving;
    const auto with_diagonal = [](Case &x) {
        if (x.align == "none" && x.causal == "none") x.align = x.seed % 2 ? "bottom_right" : "top_left";
    };
    for (const Case &c : plain(61, 20)) {
        const Case before = with(c, [&](Case &x) { with_diagonal(x), x.alibi = 1; }),
                   after = with(c, [&](Case &x) {
                       with_diagonal(x);
                       x.bias = "fp32";
                       if (!x.windowed() && x.causal == "none") x.align = "none";
                   });
        ATTN_TRACE_CASE(before);
        auto alibi = draw_contents(before), bias = draw_contents(after);
        for (std::size_t b = 0; b < alibi.size(); ++b) {
            Sequence &s = alibi[b].used, &t = bias[b].used;
            for (std::int64_t h = 0; h < s.heads_out(); ++h) { // powers of two: their products are exact
                s.alibi_slopes[h] = std::exp2(-double(h % 8 + 1));
                for (std::int64_t i = 0; i < s.tq; ++i)
                    for (std::int64_t j = 0; j < s.tk; ++j) {
                        const double d = static_cast<double>(distance(s, oracle_options(before).diagonal(), i, j));
                        t.bias[(h * s.tq + i) * s.tk + j] = -s.alibi_slopes[h] * std::abs(d);
                    }
            }
        }
        const bool any = serving.run({before, after}, [&](const Backend &backend) {
            check_transformed(backend, before, after, alibi, bias, same);
        });
        if (!any) break;
    }
    serving.skip_if_refused();
}

TEST(PropertyOptions, LowRankBiasIsABias)
{
    Serving serving;
    for (const Case &c : plain(62, 20)) {
        const Case before = with(c, [](Case &x) { x.bias_rank = 1 + std::int64_t(x.seed % 5); }),
                   after = with(c, [](Case &x) { x.bias = "fp32", x.bias_stage = "pre"; });
        ATTN_TRACE_CASE(before);
        const auto lowrank = draw_contents(before);
        auto bias = draw_contents(after);
        for (std::size_t b = 0; b < bias.size(); ++b) {
            const Sequence &s = lowrank[b].used;
            const std::int64_t ho = s.heads_out(), rank = before.bias_rank;
            for (std::int64_t h = 0; h < ho; ++h)
                for (std::int64_t i = 0; i < s.tq; ++i)
                    for (std::int64_t j = 0; j < s.tk; ++j) {
                        double sum = 0;
                        for (std::int64_t r = 0; r < rank; ++r)
                            sum += s.lowrank_q[(i * ho + h) * rank + r] * s.lowrank_k[(j * ho + h) * rank + r];
                        bias[b].used.bias[(h * s.tq + i) * s.tk + j] = round_to(ATTN_FLOAT32, sum);
                    }
        }
        const bool any = serving.run({before, after}, [&](const Backend &backend) {
            check_transformed(backend, before, after, lowrank, bias, same);
        });
        if (!any) break;
    }
    serving.skip_if_refused();
}

TEST(PropertyOptions, GateMultipliesThePlainResult)
{
    Serving serving;
    for (const Case &c : plain(63, 24)) {
        const char *kinds[] = {"sigmoid", "linear", "silu"};
        const Case after = with(c, [&](Case &x) {
            x.gate = kinds[x.seed % 3], x.gate_dtype = x.seed % 2 ? "default" : "fp32";
            x.gate_broadcast = x.seed % 5 < 2 ? "channels" : "none";
        });
        ATTN_TRACE_CASE(after);
        const bool any = serving.run({after}, [&](const Backend &backend) {
            check_transformed(backend, c, after, draw_contents(c), draw_contents(after),
                              times([&](const Sequence &s, std::size_t n) {
                                  const double g = s.gate[n];
                                  return after.gate == "linear" ? g : (after.gate == "silu" ? g : 1) * sigmoid(g);
                              }));
        });
        if (!any) break;
    }
    serving.skip_if_refused();
}

TEST(PropertyOptions, HeadWeightMultipliesThePlainResult)
{
    Serving serving;
    for (const Case &c : plain(64, 20)) {
        const Case after = with(c, [](Case &x) { x.head_weight = 1; });
        ATTN_TRACE_CASE(after);
        const bool any = serving.run({after}, [&](const Backend &backend) {
            check_transformed(
                backend, c, after, draw_contents(c), draw_contents(after),
                times([](const Sequence &s, std::size_t n) { return s.head_weight[n / std::size_t(s.dim_v)]; }));
        });
        if (!any) break;
    }
    serving.skip_if_refused();
}

TEST(PropertyOptions, VThatAliasesKIsACopyOfIt)
{
    Serving serving;
    const auto change = [](Case &c) {
        c.heads_v = c.heads_k, c.v_dtype = c.k_dtype, c.dim_v = std::min(c.dim_v, c.dim_qk);
    };
    for (const Case &c : plain(65, 20, change)) {
        const Case after = with(c, [](Case &x) { x.v_aliases_k = 1; });
        ATTN_TRACE_CASE(after);
        const bool any =
            serving.run({after}, [&](const Backend &backend) { // both from contents in which V is part of K
                check_transformed(backend, c, after, draw_contents(after), draw_contents(after), same);
            });
        if (!any) break;
    }
    serving.skip_if_refused();
}

TEST(PropertyOptions, HiddenBiasIsNeverUsed)
{
    Serving serving;
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const auto change = [](Case &c) {
        const char *broadcasts[] = {"none", "heads", "batch"};
        c.bias = c.seed % 2 ? "fp32" : "default", c.bias_stage = c.seed % 7 < 3 ? "pre" : "post";
        c.bias_broadcast = broadcasts[c.seed / 2 % (c.q_packed() ? 2 : 3)];
        if (c.causal == "none" && !c.windowed()) c.causal = "bottom_right";
        if (c.causal != "none") c.align = "none";
    };
    for (const Case &c : plain(66, 24, change)) {
        ATTN_TRACE_CASE(c);
        const auto contents = draw_contents(c);
        const bool any = serving.run({c}, [&](const Backend &backend) {
            Instance poisoned(c, contents, 0);
            const Output expected = run_alone(backend, poisoned);
            for (double value : {0.0, infinity, -infinity, 1e30}) {
                Instance other(c, contents, 0);
                other.set_hidden_bias(value);
                EXPECT_TRUE(same_bits(expected, run_alone(backend, other))) << "hidden elements set to " << value;
            }
        });
        if (!any) break;
    }
    serving.skip_if_refused();
}

} // namespace
} // namespace conformance
