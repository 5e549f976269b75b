// The table of options: biases, temperatures, sinks, gates, activations, statistics and mask programs, each crossed
// with the others and with a smaller choice of the axes of table.cc.
#include "axis.h"
#include "mask_text.h"
#include "refusal.h"
#include "table_masks.h"

namespace conformance {
namespace {

Value dtypes(const std::string &q, const std::string &k, const std::string &v, const std::string &out)
{
    const bool same = q == k && k == v && v == out;
    return {same ? q : q + "/" + k + "/" + v + "/" + out,
            [=](Case &c) { c.q_dtype = q, c.k_dtype = k, c.v_dtype = v, c.out_dtype = out; }};
}

Value relative(const char *label, std::int64_t alibi, const char *table, std::int64_t buckets = 0,
               std::int64_t distance = 0)
{
    return {label, [=](Case &c) {
                c.alibi = alibi, c.bias_table = table, c.table_buckets = buckets, c.table_distance = distance;
            }};
}

const std::vector<Axis> &axes()
{
    using Names = std::vector<std::string>;
    using Sizes = std::vector<std::int64_t>;
    using Reals = std::vector<double>;
    const Names optional_dtypes{"default", "fp32", "fp16", "bf16"};
    static const std::vector<Axis> all{
        {"dtypes",
         {dtypes("fp32", "fp32", "fp32", "fp32"), dtypes("fp16", "fp16", "fp16", "fp16"),
          dtypes("bf16", "bf16", "bf16", "bf16"), dtypes("bf16", "bf16", "bf16", "fp32"),
          dtypes("fp32", "fp16", "bf16", "fp16")}},
        {"dims", {dims(1, 1), dims(16, 16), dims(17, 33), dims(40, 24), dims(64, 64), dims(144, 128)}},
        {"heads", {heads(1, 1, 1), heads(3, 3, 3), heads(6, 2, 2), heads(5, 1, 1), heads(4, 1, 2), heads(2, 4, 4)}},
        field("batch", &Case::batch, Sizes{1, 2, 3}),
        field("max_q", &Case::max_q, Sizes{1, 5, 70, 300}),
        field("max_kv", &Case::max_kv, Sizes{0, 1, 33, 130, 300}, true),
        {"layout", {layout("bshd"), layout("bhsd"), layout("gaps"), layout("strided")}},
        field("option_layout", &Case::option_layout, Names{"bshd", "bhsd", "gaps", "reversed", "strided"}),
        field("q_lengths", &Case::q_lengths, Names{"dense", "cu", "seqlens", "cu+seqlens"}),
        {"kv_lengths",
         {lengths("dense", 0), lengths("cu", 0), lengths("seqlens", 0), lengths("cu+seqlens", 0), lengths("paged", 16),
          lengths("paged+seqlens", 3), lengths("paged+ptr+seqlens", 16)}},
        {"mask",
         {mask("none", "none", "none"), mask("causal_tl", "top_left", "none"),
          mask("causal_br", "bottom_right", "none"), mask("causal_pos", "by_position", "none"),
          mask("align_tl", "none", "top_left"), mask("align_br", "none", "bottom_right"),
          mask("align_pos", "none", "by_position"), mask("window_tl", "none", "top_left", 13, 5),
          mask("window_br", "none", "bottom_right", 100, -1), mask("window_pos", "none", "by_position", 30, 10),
          mask("causal_window", "bottom_right", "none", 40, -1, 4)}},
        field("scale_factor", &Case::scale_factor, Reals{0, 0.5}),
        field("softcap", &Case::softcap, Reals{0, 5}),
        field("magnitude", &Case::magnitude, Reals{1, 4}),
        field("lse", &Case::lse, Sizes{0, 1}),
        field("workers", &Case::workers, Sizes{1, 3}),
        field("bounds", &Case::bounds, Names{"exact", "loose"}),

        field("bias", &Case::bias, Names{"none", "default", "fp32", "fp16", "bf16"}),
        field("bias_broadcast", &Case::bias_broadcast, Names{"none", "batch", "heads", "queries", "batch+heads"}),
        field("bias_stage", &Case::bias_stage, Names{"post", "pre"}),
        {"relative",
         {relative("none", 0, "none"), relative("alibi", 1, "none"), relative("distance", 0, "distance"),
          relative("distance_9", 0, "distance", 0, 9), relative("bucket", 0, "bucket"),
          relative("bucket_8_20", 0, "bucket", 8, 20), relative("bucket_bi", 0, "bucket_bi"),
          relative("bucket_bi_10_40", 0, "bucket_bi", 10, 40), relative("grid", 0, "grid"),
          relative("alibi+distance", 1, "distance", 0, 50)}},
        field("bias_rank", &Case::bias_rank, Sizes{0, 1, 2, 5}),
        field("lowrank_broadcast", &Case::lowrank_broadcast, Names{"none", "heads"}),
        field("sink_logits", &Case::sink_logits, Sizes{0, 1}),
        field("q_temperature", &Case::q_temperature, Sizes{0, 1}),
        field("v_temperature", &Case::v_temperature, Sizes{0, 1}),
        field("gate", &Case::gate, Names{"none", "sigmoid", "linear", "silu"}),
        field("gate_dtype", &Case::gate_dtype, optional_dtypes),
        field("gate_broadcast", &Case::gate_broadcast, Names{"none", "channels"}),
        field("head_weight", &Case::head_weight, Sizes{0, 1}),
        {"activation",
         {activation("softmax", "softmax", 0, 0), activation("sigmoid", "sigmoid", 0, 0),
          activation("sigmoid_-3.5", "sigmoid", -3.5, 0), activation("relu", "relu", 0, 0),
          activation("relu_50", "relu", 0, 50)}},
        field("row_max", &Case::row_max, Sizes{0, 1}),
        field("row_entropy", &Case::row_entropy, Sizes{0, 1}),
        field("column_mass", &Case::column_mass, Sizes{0, 1}),
        field("v_aliases_k", &Case::v_aliases_k, Sizes{0, 1}),
        field("index_dtype", &Case::index_dtype, Names{"int32", "int64"}),
        mask_programs(),
    };
    return all;
}

const std::vector<Exclusion> &exclusions()
{
    const std::vector<std::string> by_distance{"alibi",       "distance",  "distance_9",      "bucket",
                                               "bucket_8_20", "bucket_bi", "bucket_bi_10_40", "alibi+distance"};
    const std::vector<std::string> not_softmax{"sigmoid", "sigmoid_-3.5", "relu", "relu_50"};
    static const std::vector<Exclusion> all{
        // A diagonal is needed by biases that count from it, and an error where nothing does.
        {"relative", by_distance, "mask", {"none"}},
        {"program", programs_by_diagonal(), "mask", {"none"}},
        {"relative", {"none", "grid"}, "mask", {"align_tl", "align_br", "align_pos"}},
        // What belongs to an option that is not in use.
        {"bias", {"none"}, "bias_broadcast", {"batch", "heads", "queries", "batch+heads"}},
        {"bias", {"none"}, "bias_stage", {"pre"}},
        {"bias_rank", {"0"}, "lowrank_broadcast", {"heads"}},
        {"gate", {"none"}, "gate_dtype", {"fp32", "fp16", "bf16"}},
        {"gate", {"none"}, "gate_broadcast", {"channels"}},
        // Packed queries have no batch axis.
        {"q_lengths", {"cu", "cu+seqlens"}, "bias_broadcast", {"batch", "batch+heads"}},
        // Without softmax there is no sum that a sink could join, nor a logarithm of it or an entropy.
        {"activation", not_softmax, "lse", {"1"}},
        {"activation", not_softmax, "sink_logits", {"1"}},
        {"activation", not_softmax, "row_entropy", {"1"}},
        // V is part of K.
        {"v_aliases_k", {"1"}, "dims", {"17/33"}},
        {"v_aliases_k", {"1"}, "heads", {"4/1/2"}},
        {"v_aliases_k", {"1"}, "dtypes", {"fp32/fp16/bf16/fp16"}},
    };
    return all;
}

} // namespace

TableCases option_cases(std::uint64_t seed)
{
    return cover(axes(), exclusions(), seed);
}

Case random_option_case(std::uint64_t seed)
{
    constexpr double most_products = 1e7;
    for (std::uint64_t attempt = 0;; ++attempt) {
        Random random(seed, 12, attempt);
        Case c = random_of(axes(), exclusions(), random);
        const double removed = random.uniform(); // from crowded cases to those with one option or two
        for (const Option &option : options())
            if (random.chance(removed)) option.remove(c);
        if (c.has_staged_bias() && random.chance(0.3)) c.bias_stage = "pre"; // also without BIAS
        if (c.has_mask() && random.chance(0.6)) c.mask = random_mask(c, random);
        tidy(c);
        if (random.chance(0.5)) c.max_q = random.skewed(400);
        if (random.chance(0.5)) c.max_kv = random.skewed(700) - 1;
        if (random.chance(0.5)) c.dim_qk = random.skewed(150), c.dim_v = random.integer(1, c.dim_qk);
        if (c.bias_rank > 0 && random.chance(0.5)) c.bias_rank = random.skewed(40);
        const bool bucket = c.bias_table.rfind("bucket", 0) == 0;
        if (bucket && random.chance(0.5)) {
            c.table_buckets = 2 * random.integer(2, 40);
            c.table_distance = c.table_buckets + random.skewed(200);
        }
        if (c.bias_table == "distance" && random.chance(0.5)) c.table_distance = random.skewed(400);
        if (c.activation == "sigmoid" && random.chance(0.5)) c.activation_bias = 2 * random.normal();
        if (c.activation == "relu" && random.chance(0.5)) c.activation_length = random.skewed(1000);
        if (c.softcap != 0 && random.chance(0.5)) c.softcap = 0.5 + 40 * random.uniform();
        if (c.products() > 0 && c.products() <= most_products) return c;
    }
}

} // namespace conformance
