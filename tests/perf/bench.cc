#include "bench.h"

#include "machine.h"

#include "src/cli/measure/ceiling.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>

namespace attn::perf {
namespace {

constexpr int kRoundsToChoose = 3; ///< Between the ways of the unfused baseline.

double difference(const Buffer<float> &a, const Buffer<float> &b)
{
    double worst = 0, largest = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        const double delta = std::fabs(static_cast<double>(a[i]) - b[i]);
        if (std::isnan(delta)) return delta;
        worst = std::max(worst, delta);
        largest = std::max(largest, std::fabs(static_cast<double>(b[i])));
    }
    return worst / largest;
}

} // namespace

double Result::rate() const
{
    return (shape.is_decode() ? shape.kv_bytes() : shape.flops()) / attention.median;
}

Bench::Bench(int threads, int repetitions)
    : repetitions_(repetitions),
      handle_(open_handle(threads)),
      team_(threads),
      rows_(row_kernels(library_isa())),
      scores_(2048, 2048, 128, team_),
      cube_(2048, 2048, 2048, team_)
{
}

std::string Bench::measure_products()
{
    const std::vector<Times> times = race({[&] { scores_.run(Split::inside); }, [&] { scores_.run(Split::outside); },
                                           [&] { cube_.run(Split::inside); }, [&] { cube_.run(Split::outside); }},
                                          repetitions_);
    scores_split_ = times[0].min <= times[1].min ? Split::inside : Split::outside;
    const auto rate = [](const Product &product, const Times &t) { return product.flops() / t.median * 1e-9; };
    char text[256];
    snprintf(text, sizeof text,
             "sgemm, GFLOP/s, threads inside OpenBLAS / outside: 2048x2048x128 %.1f / %.1f, 2048^3 %.1f / %.1f; "
             "ceiling: 2048x2048x128 %s",
             rate(scores_, times[0]), rate(scores_, times[1]), rate(cube_, times[2]), rate(cube_, times[3]),
             split_name(scores_split_));
    return text;
}

Result Bench::measure(const Case &shape)
{
    const Inputs inputs(shape);
    Attention attention(handle_, shape, inputs);
    Unfused unfused(shape, inputs, team_, rows_);

    const std::vector<Times> ways =
        race({[&] { unfused.run(Split::inside); }, [&] { unfused.run(Split::outside); }}, kRoundsToChoose);
    const Split split = ways[0].min <= ways[1].min ? Split::inside : Split::outside;
    attention.run();
    const double error = difference(attention.out(), unfused.out());

    Result result = {shape, {}, {}, {}, {}, 0, split, error};
    Contenders contenders = {[&] { attention.run(); }, [&] { unfused.run(split); }};
    std::vector<Times> times;
    if (shape.is_decode()) {
        Read read(team_, ceiling_loops(library_isa()));
        contenders.emplace_back([&] { read.run(); });
        std::optional<Attention> ungrouped; // on the same keys and values
        if (shape.heads_q > shape.heads_kv) {
            Case plain = shape;
            plain.heads_q = shape.heads_kv;
            ungrouped.emplace(handle_, plain, inputs);
            contenders.emplace_back([&] { ungrouped->run(); });
        }
        times = race(contenders, repetitions_);
        result.ceiling_rate = read.bytes() / times[2].median;
        if (ungrouped) result.ungrouped = times[3];
    } else {
        contenders.emplace_back([&] { scores_.run(scores_split_); });
        times = race(contenders, repetitions_);
        result.ceiling_rate = scores_.flops() / times[2].median;
    }
    result.attention = times[0], result.unfused = times[1], result.ceiling = times[2];
    return result;
}

} // namespace attn::perf
