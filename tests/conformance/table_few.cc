// The table of few rows, as in decoding: one 16-bit dtype throughout, channels in multiples of 8, adjacent and aligned,
// up to 64 rows of queries on a head of K, keys from none to enough for every way of sharing them out.
#include "axis.h"

#include <algorithm>

namespace conformance {
namespace {

// Heads and tokens: together they say how many rows have the same keys.
Value queries(const Value &heads, std::int64_t tokens)
{
    return {heads.label + " x " + std::to_string(tokens), [=](Case &c) { heads.apply(c), c.max_q = tokens; }};
}

const std::vector<Axis> &axes()
{
    using Names = std::vector<std::string>;
    using Sizes = std::vector<std::int64_t>;
    using Reals = std::vector<double>;
    static const std::vector<Axis> all{
        {"dtype", {one_dtype("fp16"), one_dtype("bf16")}},
        {"dims",
         {dims(8, 8), dims(64, 64), dims(64, 128), dims(40, 200), dims(96, 96), dims(128, 128), dims(192, 128),
          dims(256, 256)}},
        // At most 16 rows, then 32, then 64.
        {"queries",
         {queries(heads(1, 1, 1), 1), queries(heads(3, 1, 1), 1), queries(heads(3, 3, 3), 5),
          queries(heads(8, 2, 2), 1), queries(heads(5, 1, 1), 3), queries(heads(4, 1, 2), 2),
          queries(heads(2, 4, 4), 16), queries(heads(16, 2, 2), 2), queries(heads(24, 1, 1), 1),
          queries(heads(8, 2, 2), 5), queries(heads(16, 2, 2), 4), queries(heads(64, 1, 1), 1),
          queries(heads(8, 2, 2), 16), queries(heads(3, 3, 3), 40)}},
        field("batch", &Case::batch, Sizes{1, 2, 5, 40}),
        field("max_kv", &Case::max_kv, Sizes{0, 1, 15, 64, 65, 128, 257, 1100, 9000, 20000}, true),
        {"layout", {layout("bshd"), layout("bhsd")}},
        field("q_lengths", &Case::q_lengths, Names{"dense", "cu", "seqlens", "cu+seqlens"}),
        {"kv_lengths",
         {lengths("dense", 0), lengths("cu", 0), lengths("seqlens", 0), lengths("cu+seqlens", 0), lengths("paged", 16),
          lengths("paged+seqlens", 1), lengths("paged+seqlens", 8), lengths("paged+seqlens", 16),
          lengths("paged+seqlens", 48), lengths("paged+seqlens", 128), lengths("paged+ptr", 64),
          lengths("paged+ptr+seqlens", 32)}},
        field("index_dtype", &Case::index_dtype, Names{"int32", "int64"}),
        {"mask",
         {mask("none", "none", "none"), mask("causal_tl", "top_left", "none"),
          mask("causal_br", "bottom_right", "none"), mask("window_br", "none", "bottom_right", 100, 31),
          mask("causal_window", "bottom_right", "none", 700, -1), mask("self", "bottom_right", "none", 0, -1),
          mask("sinks", "bottom_right", "none", 40, -1, 4), mask("many_sinks", "bottom_right", "none", 300, -1, 150)}},
        field("scale_factor", &Case::scale_factor, Reals{0, 0.5}),
        field("magnitude", &Case::magnitude, Reals{0.0625, 1, 4}),
        field("lse", &Case::lse, Sizes{0, 1}),
        field("workers", &Case::workers, Sizes{1, 3}),
        field("bounds", &Case::bounds, Names{"exact", "loose"}),
        field("batch_invariant", &Case::batch_invariant, Sizes{0, 1}),
    };
    return all;
}

const std::vector<Exclusion> &exclusions()
{
    static const std::vector<Exclusion> all{
        {"max_kv", {"9000", "20000"}, "batch", {"40"}}, // the oracle would take minutes
    };
    return all;
}

} // namespace

TableCases few_cases(std::uint64_t seed)
{
    return cover(axes(), exclusions(), seed);
}

Case random_few_case(std::uint64_t seed)
{
    constexpr double most_products = 3e7;
    for (std::uint64_t attempt = 0;; ++attempt) {
        Random random(seed, 15, attempt);
        Case c = random_of(axes(), exclusions(), random);
        const auto multiple_of_8 = [&](std::int64_t most) { return 8 * random.integer(1, most / 8); };
        if (random.chance(0.3)) c.dim_qk = multiple_of_8(256);
        if (random.chance(0.3)) c.dim_v = random.chance(0.5) ? c.dim_qk : multiple_of_8(256);
        if (random.chance(0.7)) c.max_kv = random.skewed(30000);
        if (random.chance(0.5)) c.batch = random.integer(1, 150);
        const std::int64_t rows = random.chance(0.4) ? 16 : 64;
        c.max_q = random.integer(1, std::max<std::int64_t>(1, rows / std::max<std::int64_t>(1, c.heads_q / c.heads_k)));
        if (c.window_left > 0 && random.chance(0.7)) c.window_left = random.skewed(3000);
        if (c.sink_tokens > 0 && random.chance(0.7)) c.sink_tokens = random.skewed(300);
        if (c.products() > 0 && c.products() <= most_products) return c;
    }
}

} // namespace conformance
