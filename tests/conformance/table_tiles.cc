// The table of tiles: one 16-bit dtype throughout, channels in multiples of 8, adjacent and aligned, more than 16 rows.
// The other tables hold few such cases, and the fastest kernels serve no others.
#include "axis.h"
#include "refusal.h"

namespace conformance {
namespace {

Value biases(const char *label, std::int64_t alibi, const char *bias, const char *stage)
{
    return {label, [=](Case &c) { c.alibi = alibi, c.bias = bias, c.bias_stage = stage; }};
}

const std::vector<Axis> &axes()
{
    using Names = std::vector<std::string>;
    using Sizes = std::vector<std::int64_t>;
    using Reals = std::vector<double>;
    static const std::vector<Axis> all{
        {"dtype", {one_dtype("fp16"), one_dtype("bf16")}},
        {"dims",
         {dims(8, 8), dims(64, 64), dims(64, 128), dims(40, 200), dims(80, 80), dims(96, 96), dims(128, 128),
          dims(192, 128), dims(256, 256)}},
        {"heads", {heads(1, 1, 1), heads(3, 3, 3), heads(4, 2, 2), heads(5, 1, 1), heads(4, 1, 2), heads(2, 4, 4)}},
        field("batch", &Case::batch, Sizes{1, 2, 3}),
        field("max_q", &Case::max_q, Sizes{17, 64, 65, 128, 130, 200, 257}),
        field("max_kv", &Case::max_kv, Sizes{0, 1, 64, 65, 128, 257, 400}, true),
        {"layout", {layout("bshd"), layout("bhsd")}},
        field("q_lengths", &Case::q_lengths, Names{"dense", "cu", "seqlens", "cu+seqlens"}),
        field("kv_lengths", &Case::kv_lengths, Names{"dense", "cu", "seqlens", "cu+seqlens"}),
        field("index_dtype", &Case::index_dtype, Names{"int32", "int64"}),
        {"mask",
         {mask("none", "none", "none"), mask("causal_tl", "top_left", "none"),
          mask("causal_br", "bottom_right", "none"), mask("window_tl", "none", "top_left", 13, 5),
          mask("window_br", "none", "bottom_right", 100, 31), mask("right_only", "none", "bottom_right", -1, 20),
          mask("self", "top_left", "none", 0, -1), mask("causal_window", "bottom_right", "none", 150, -1),
          mask("many_sinks", "top_left", "none", 30, -1, 150), mask("causal_pos", "by_position", "none"),
          mask("window_pos", "none", "by_position", 90, 31), mask("sinks_pos", "by_position", "none", 40, -1, 150)}},
        field("scale_factor", &Case::scale_factor, Reals{0, 0.5}),
        field("magnitude", &Case::magnitude, Reals{0.0625, 1, 4}),
        field("softcap", &Case::softcap, Reals{0, 2, 30}),
        {"biases",
         {biases("none", 0, "none", "post"), biases("alibi", 1, "none", "post"), biases("alibi_pre", 1, "none", "pre"),
          biases("bias", 0, "default", "post"), biases("bias_pre", 0, "default", "pre"),
          biases("fp32", 0, "fp32", "post"), biases("fp32_pre", 0, "fp32", "pre"), biases("fp16", 0, "fp16", "post"),
          biases("bf16_pre", 0, "bf16", "pre"), biases("alibi+bias", 1, "default", "post"),
          biases("alibi+fp32_pre", 1, "fp32", "pre")}},
        field("bias_broadcast", &Case::bias_broadcast, Names{"none", "batch", "heads", "queries", "batch+heads"}),
        field("bias_rank", &Case::bias_rank, Sizes{0, 8, 16, 40, 64}),
        field("lowrank_broadcast", &Case::lowrank_broadcast, Names{"none", "heads"}),
        field("option_layout", &Case::option_layout, Names{"bshd", "gaps", "strided"}),
        {"activation",
         {activation("softmax", "softmax", 0, 0), activation("sigmoid", "sigmoid", 0, 0),
          activation("sigmoid_-3.5", "sigmoid", -3.5, 0), activation("relu", "relu", 0, 0),
          activation("relu_50", "relu", 0, 50)}},
        field("q_temperature", &Case::q_temperature, Sizes{0, 1}),
        field("v_temperature", &Case::v_temperature, Sizes{0, 1}),
        field("sink_logits", &Case::sink_logits, Sizes{0, 1}),
        field("gate", &Case::gate, Names{"none", "sigmoid", "linear", "silu"}),
        field("head_weight", &Case::head_weight, Sizes{0, 1}),
        field("row_max", &Case::row_max, Sizes{0, 1}),
        field("lse", &Case::lse, Sizes{0, 1}),
        field("workers", &Case::workers, Sizes{1, 3}),
        field("bounds", &Case::bounds, Names{"exact", "loose"}),
    };
    return all;
}

const std::vector<Exclusion> &exclusions()
{
    const std::vector<std::string> alibi{"alibi", "alibi_pre", "alibi+bias", "alibi+fp32_pre"};
    const std::vector<std::string> not_softmax{"sigmoid", "sigmoid_-3.5", "relu", "relu_50"};
    static const std::vector<Exclusion> all{
        {"biases", alibi, "mask", {"none"}}, // it counts from a diagonal
        {"biases", {"none", "alibi", "alibi_pre"}, "bias_broadcast", {"batch", "heads", "queries", "batch+heads"}},
        {"bias_rank", {"0"}, "lowrank_broadcast", {"heads"}},
        // Packed queries have no batch axis.
        {"q_lengths", {"cu", "cu+seqlens"}, "bias_broadcast", {"batch", "batch+heads"}},
        // Without softmax there is no sum that a sink could join, nor a logarithm of it.
        {"activation", not_softmax, "lse", {"1"}},
        {"activation", not_softmax, "sink_logits", {"1"}},
    };
    return all;
}

} // namespace

TableCases tile_cases(std::uint64_t seed)
{
    return cover(axes(), exclusions(), seed);
}

Case random_tile_case(std::uint64_t seed)
{
    constexpr double most_products = 3e7;
    for (std::uint64_t attempt = 0;; ++attempt) {
        Random random(seed, 13, attempt);
        Case c = random_of(axes(), exclusions(), random);
        const double removed = random.uniform(); // from crowded cases to plain ones
        for (const Option &option : options())
            if (random.chance(removed)) option.remove(c);
        tidy(c);
        const auto multiple_of_8 = [&](std::int64_t most) { return 8 * random.integer(1, most / 8); };
        if (random.chance(0.5)) c.dim_qk = multiple_of_8(256);
        if (random.chance(0.5)) c.dim_v = random.chance(0.5) ? c.dim_qk : multiple_of_8(256);
        if (c.bias_rank > 0 && random.chance(0.5)) c.bias_rank = multiple_of_8(64);
        if (random.chance(0.7)) c.max_q = 16 + random.skewed(1200);
        if (random.chance(0.7)) c.max_kv = random.skewed(1500);
        if (random.chance(0.3)) c.batch = random.integer(1, 6);
        if (c.window_left > 0 && random.chance(0.7)) c.window_left = random.skewed(400);
        if (c.window_right > 0 && random.chance(0.7)) c.window_right = random.skewed(400);
        if (c.sink_tokens > 0 && random.chance(0.7)) c.sink_tokens = random.skewed(300);
        if (c.softcap != 0 && random.chance(0.7)) c.softcap = 0.5 + 40 * random.uniform();
        if (c.activation == "sigmoid" && random.chance(0.5)) c.activation_bias = 2 * random.normal();
        if (c.activation == "relu" && random.chance(0.5)) c.activation_length = random.skewed(1000);
        if (c.products() > 0 && c.products() <= most_products) return c;
    }
}

} // namespace conformance
