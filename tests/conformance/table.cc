#include "table.h"

#include "axis.h"
#include "number.h"

#include <algorithm>
#include <functional>
#include <string>

namespace conformance {
namespace {

const std::vector<Axis> &axes()
{
    using Names = std::vector<std::string>;
    using Sizes = std::vector<std::int64_t>;
    using Reals = std::vector<double>;
    const Names dtypes{"fp32", "fp16", "bf16"};
    static const std::vector<Axis> all{
        field("q_dtype", &Case::q_dtype, dtypes),
        field("k_dtype", &Case::k_dtype, dtypes),
        field("v_dtype", &Case::v_dtype, dtypes),
        field("out_dtype", &Case::out_dtype, dtypes),
        {"dims",
         {dims(1, 1), dims(3, 5), dims(16, 16), dims(40, 40), dims(64, 64), dims(64, 128), dims(80, 80), dims(96, 96),
          dims(128, 128), dims(192, 128), dims(256, 256), dims(576, 512), dims(1024, 1024)}},
        // MHA, GQA, MQA; then fewer K heads than V heads, and more key than query heads
        {"heads", {heads(1, 1, 1), heads(3, 3, 3), heads(6, 2, 2), heads(5, 1, 1), heads(4, 1, 2), heads(2, 4, 4)}},
        field("batch", &Case::batch, Sizes{0, 1, 2, 3}, true),
        // Query tiles have about 200 rows, key tiles 128 to 256: below, at and beyond them.
        field("max_q", &Case::max_q, Sizes{0, 1, 7, 65, 130, 257, 300}, true),
        field("max_kv", &Case::max_kv, Sizes{0, 1, 7, 65, 128, 257, 600}, true),
        field("q_layout", &Case::q_layout, Names{"bshd", "bhsd", "gaps", "reversed", "strided"}),
        field("kv_layout", &Case::kv_layout, Names{"bshd", "bhsd", "gaps", "reversed", "strided", "repeated"}),
        field("out_layout", &Case::out_layout, Names{"bshd", "bhsd", "gaps", "reversed", "strided"}),
        field("q_lengths", &Case::q_lengths, Names{"dense", "cu", "seqlens", "cu+seqlens"}),
        {"kv_lengths",
         {lengths("dense", 0), lengths("cu", 0), lengths("seqlens", 0), lengths("cu+seqlens", 0), lengths("paged", 1),
          lengths("paged", 16), lengths("paged+seqlens", 1), lengths("paged+seqlens", 3), lengths("paged+seqlens", 16),
          lengths("paged+seqlens", 128), lengths("paged+ptr", 3), lengths("paged+ptr", 128),
          lengths("paged+ptr+seqlens", 1), lengths("paged+ptr+seqlens", 16)}},
        field("index_dtype", &Case::index_dtype, Names{"int32", "int64"}),
        {"diagonal",
         {diagonal("none", "none", "none"), diagonal("causal_tl", "top_left", "none"),
          diagonal("causal_br", "bottom_right", "none"), diagonal("causal_pos", "by_position", "none"),
          diagonal("align_tl", "none", "top_left"), diagonal("align_br", "none", "bottom_right"),
          diagonal("align_pos", "none", "by_position"), diagonal("align_too", "top_left", "top_left")}},
        {"window",
         {window("none", -1, -1), window("self", 0, 0), window("left_0", 0, -1), window("left_13", 13, -1),
          window("left_150", 150, -1), window("right_0", -1, 0), window("right_20", -1, 20), window("5_5", 5, 5),
          window("100_31", 100, 31)}},
        field("sink_tokens", &Case::sink_tokens, Sizes{0, 1, 4, 150}),
        field("scale_factor", &Case::scale_factor, Reals{0, 0.5, -1}),
        field("softcap", &Case::softcap, Reals{0, 2, 30}),
        field("magnitude", &Case::magnitude, Reals{0.0625, 1, 4, 8}),
        field("lse", &Case::lse, Sizes{0, 1}),
        field("workers", &Case::workers, Sizes{1, 2, 3, 4}),
        field("bounds", &Case::bounds, Names{"exact", "loose"}),
        field("batch_invariant", &Case::batch_invariant, Sizes{0, 1}),
        field("strict_nonfinite", &Case::strict_nonfinite, Sizes{0, 1}),
    };
    return all;
}

// A field without the mode that uses it is an error of the descriptor.
const std::vector<Exclusion> &exclusions()
{
    const std::vector<std::string> windows{"self",    "left_0",   "left_13", "left_150",
                                           "right_0", "right_20", "5_5",     "100_31"};
    const std::vector<std::string> only_align{"align_tl", "align_br", "align_pos", "align_too"};
    static const std::vector<Exclusion> all{
        {"diagonal", {"none"}, "window", windows},              // a window needs a diagonal
        {"diagonal", only_align, "window", {"none"}},           // align is for windows
        {"sink_tokens", {"1", "4", "150"}, "window", {"none"}}, // sink tokens are an exception from a window
        {"sink_tokens", {"1", "4", "150"}, "diagonal", {"none"}},
    };
    return all;
}

} // namespace

TableCases pairwise_cases(std::uint64_t seed)
{
    return cover(axes(), exclusions(), seed);
}

Case random_case(std::uint64_t seed)
{
    constexpr double most_products = 3e7;
    for (std::uint64_t attempt = 0;; ++attempt) {
        Random random(seed, 9, attempt);
        Case c = random_of(axes(), exclusions(), random);
        const auto skewed = [&](std::int64_t most) { return random.skewed(most); };
        if (random.chance(0.7)) c.dim_qk = skewed(300);
        if (random.chance(0.7)) c.dim_v = random.chance(0.5) ? c.dim_qk : skewed(300);
        if (random.chance(0.8)) c.max_q = skewed(700) - 1;
        if (random.chance(0.8)) c.max_kv = skewed(1500) - 1;
        if (random.chance(0.5)) c.batch = random.integer(1, 6);
        if (random.chance(0.5))
            c.heads_k = c.heads_v = random.integer(1, 3), c.heads_q = c.heads_k * random.integer(1, 3);
        if (random.chance(0.5)) c.page_size = skewed(200);
        if (c.window_left >= 0 && random.chance(0.7)) c.window_left = skewed(400) - 1;
        if (c.window_right >= 0 && random.chance(0.7)) c.window_right = skewed(400) - 1;
        if (c.sink_tokens > 0 && random.chance(0.7)) c.sink_tokens = skewed(300);
        if (c.softcap != 0 && random.chance(0.7)) c.softcap = 0.5 + 40 * random.uniform();
        if (c.scale_factor != 0 && random.chance(0.7)) c.scale_factor = 2 * random.uniform() - 1;
        if (c.products() <= most_products) return c;
    }
}

} // namespace conformance
