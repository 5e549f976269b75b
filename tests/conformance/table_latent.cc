// The table of latent attention, absorbed MLA: V is the first 512 of the 576 channels of K, many heads of Q on a head
// of K, one 16-bit dtype throughout, few tokens, keys from none to enough for every way of sharing them out.
#include "axis.h"

#include <algorithm>

namespace conformance {
namespace {

Value latent(const char *dtype)
{
    const Value same = one_dtype(dtype), wide = dims(576, 512);
    return {dtype, [same, wide](Case &c) { same.apply(c), wide.apply(c), c.v_aliases_k = 1; }};
}

const std::vector<Axis> &axes()
{
    using Names = std::vector<std::string>;
    using Sizes = std::vector<std::int64_t>;
    using Reals = std::vector<double>;
    static const std::vector<Axis> all{
        {"dtype", {latent("fp16"), latent("bf16")}},
        {"heads",
         {heads(1, 1, 1), heads(16, 1, 1), heads(20, 1, 1), heads(64, 1, 1), heads(128, 1, 1), heads(8, 2, 2)}},
        field("batch", &Case::batch, Sizes{1, 2, 3, 9}),
        field("max_q", &Case::max_q, Sizes{1, 2, 3, 5, 16}),
        field("max_kv", &Case::max_kv, Sizes{0, 1, 15, 64, 65, 128, 129, 257, 640, 1100, 9000}, true),
        {"layout", {layout("bshd"), layout("bhsd")}},
        field("q_lengths", &Case::q_lengths, Names{"dense", "cu", "seqlens", "cu+seqlens"}),
        {"kv_lengths",
         {lengths("dense", 0), lengths("cu", 0), lengths("seqlens", 0), lengths("cu+seqlens", 0), lengths("paged", 64),
          lengths("paged+seqlens", 1), lengths("paged+seqlens", 8), lengths("paged+seqlens", 16),
          lengths("paged+seqlens", 64), lengths("paged+seqlens", 128), lengths("paged+ptr", 64),
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
        // the oracle would take minutes
        {"max_kv", {"9000"}, "batch", {"9"}},
        {"max_kv", {"9000"}, "heads", {"64/1/1", "128/1/1"}},
        {"max_kv", {"9000"}, "max_q", {"3", "5", "16"}},
        {"max_kv", {"640", "1100"}, "max_q", {"16"}},
        {"max_kv", {"1100"}, "heads", {"128/1/1"}},
        {"batch", {"9"}, "heads", {"128/1/1"}},
        {"batch", {"9"}, "max_q", {"16"}},
    };
    return all;
}

} // namespace

TableCases latent_cases(std::uint64_t seed)
{
    return cover(axes(), exclusions(), seed);
}

Case random_latent_case(std::uint64_t seed)
{
    constexpr double most_products = 1e8;
    for (std::uint64_t attempt = 0;; ++attempt) {
        Random random(seed, 17, attempt);
        Case c = random_of(axes(), exclusions(), random);
        if (random.chance(0.5)) c.heads_q = c.heads_k * random.integer(1, 130);
        if (random.chance(0.7)) c.max_kv = random.skewed(12000);
        if (random.chance(0.5)) c.batch = random.integer(1, 40);
        if (random.chance(0.5)) c.max_q = random.integer(1, 20);
        if (c.window_left > 0 && random.chance(0.7)) c.window_left = random.skewed(3000);
        if (c.sink_tokens > 0 && random.chance(0.7)) c.sink_tokens = random.skewed(300);
        if (c.products() > 0 && c.products() <= most_products) return c;
    }
}

} // namespace conformance
