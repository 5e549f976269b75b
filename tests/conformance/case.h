// A case of the conformance table: a plain value that prints as one JSON line and reads back from it.
#pragma once

#include <attn/attn.h>

#include <cstdint>
#include <string>

namespace attn::cli {
class JsonValue;
}

namespace conformance {

struct Case {
    std::uint64_t seed = 0; // of everything random below: lengths, contents, placement

    std::string q_dtype = "fp32", k_dtype = "fp32", v_dtype = "fp32", out_dtype = "fp32";
    std::int64_t dim_qk = 64, dim_v = 64;
    std::int64_t heads_q = 2, heads_k = 2, heads_v = 2;
    std::int64_t batch = 1, max_q = 7, max_kv = 7;                          // actual sizes
    std::string q_layout = "bshd", kv_layout = "bshd", out_layout = "bshd"; // see tensor.cc

    // dense; cu: packed; seqlens: used lengths; cu+seqlens
    std::string q_lengths = "dense";
    // as above; paged: whole pages; paged+seqlens; paged+ptr: flat table; paged+ptr+seqlens
    std::string kv_lengths = "dense";
    std::int64_t page_size = 16;       // used where kv_lengths is paged
    std::string index_dtype = "int32"; // of all integer tensors

    std::string causal = "none", align = "none";      // none, top_left, bottom_right, by_position
    std::int64_t window_left = -1, window_right = -1; // -1: not in use
    std::int64_t sink_tokens = 0;
    double scale_factor = 0; // scale = factor / sqrt(dim_qk); 0: the default of the library
    double softcap = 0;
    double magnitude = 1; // standard deviation of the scores, before scale_factor
    std::int64_t lse = 1;
    std::int64_t workers = 1;
    std::string bounds = "exact"; // of the plan: exact or loose
    std::int64_t batch_invariant = 0, strict_nonfinite = 0;

    // Options of table_options.cc. Where a dtype is "default", the bind leaves it to the library.
    std::string bias = "none";           // dtype of BIAS: none, default, fp32, fp16, bf16
    std::string bias_broadcast = "none"; // batch, heads, queries, batch+heads
    std::string bias_stage = "post";     // pre or post softcap; of BIAS, ALiBi and the table
    std::int64_t alibi = 0;
    std::string bias_table = "none";                    // distance, bucket, bucket_bi, grid
    std::int64_t table_buckets = 0, table_distance = 0; // 0: the defaults of the library
    std::int64_t bias_rank = 0;                         // 0: no low-rank bias
    std::string lowrank_broadcast = "none";             // heads: of the factor of K
    std::int64_t sink_logits = 0, q_temperature = 0, v_temperature = 0;
    std::string gate = "none";                                   // sigmoid, linear, silu
    std::string gate_dtype = "default", gate_broadcast = "none"; // channels
    std::int64_t head_weight = 0;
    std::string activation = "softmax"; // sigmoid, relu
    double activation_bias = 0;
    std::int64_t activation_length = 0;
    std::int64_t row_max = 0, row_entropy = 0, column_mass = 0;
    std::int64_t v_aliases_k = 0;
    std::string mask = "none";          // a mask program, see mask_text.h
    std::string option_layout = "bshd"; // of the inputs that belong to options

    bool paged() const { return kv_lengths.rfind("paged", 0) == 0; }
    bool q_packed() const { return q_lengths.rfind("cu", 0) == 0; }
    bool kv_packed() const { return kv_lengths.rfind("cu", 0) == 0; }
    bool q_shortened() const { return q_lengths.find("seqlens") != std::string::npos; }
    bool kv_shortened() const { return kv_lengths.find("seqlens") != std::string::npos; }
    bool flat_table() const { return kv_lengths.find("ptr") != std::string::npos; }
    bool by_position() const;
    bool has_mask() const { return mask != "none"; }
    bool has_staged_bias() const { return bias != "none" || alibi || bias_table != "none"; }
    bool has_table() const { return bias_table != "none"; }
    bool windowed() const { return window_left >= 0 || window_right >= 0; }
    std::int64_t heads_out() const;
    double scale() const;
    double products() const; // multiplications of q.k and p.v without a mask, the cost of the oracle
};

// Calls visit(name, field) for every field: the one list behind printing and reading.
template <class C, class Visitor>
void visit_fields(C &c, Visitor &&visit)
{
    visit("seed", c.seed);
    visit("q_dtype", c.q_dtype), visit("k_dtype", c.k_dtype), visit("v_dtype", c.v_dtype);
    visit("out_dtype", c.out_dtype), visit("dim_qk", c.dim_qk), visit("dim_v", c.dim_v);
    visit("heads_q", c.heads_q), visit("heads_k", c.heads_k), visit("heads_v", c.heads_v);
    visit("batch", c.batch), visit("max_q", c.max_q), visit("max_kv", c.max_kv);
    visit("q_layout", c.q_layout), visit("kv_layout", c.kv_layout), visit("out_layout", c.out_layout);
    visit("q_lengths", c.q_lengths), visit("kv_lengths", c.kv_lengths), visit("page_size", c.page_size);
    visit("index_dtype", c.index_dtype), visit("causal", c.causal), visit("align", c.align);
    visit("window_left", c.window_left), visit("window_right", c.window_right);
    visit("sink_tokens", c.sink_tokens), visit("scale_factor", c.scale_factor), visit("softcap", c.softcap);
    visit("magnitude", c.magnitude), visit("lse", c.lse), visit("workers", c.workers);
    visit("bounds", c.bounds), visit("batch_invariant", c.batch_invariant);
    visit("strict_nonfinite", c.strict_nonfinite);
    visit("bias", c.bias), visit("bias_broadcast", c.bias_broadcast), visit("bias_stage", c.bias_stage);
    visit("alibi", c.alibi), visit("bias_table", c.bias_table), visit("table_buckets", c.table_buckets);
    visit("table_distance", c.table_distance), visit("bias_rank", c.bias_rank);
    visit("lowrank_broadcast", c.lowrank_broadcast), visit("sink_logits", c.sink_logits);
    visit("q_temperature", c.q_temperature), visit("v_temperature", c.v_temperature), visit("gate", c.gate);
    visit("gate_dtype", c.gate_dtype), visit("gate_broadcast", c.gate_broadcast);
    visit("head_weight", c.head_weight), visit("activation", c.activation);
    visit("activation_bias", c.activation_bias), visit("activation_length", c.activation_length);
    visit("row_max", c.row_max), visit("row_entropy", c.row_entropy), visit("column_mass", c.column_mass);
    visit("v_aliases_k", c.v_aliases_k), visit("mask", c.mask), visit("option_layout", c.option_layout);
}

std::string to_json(const Case &);
// Fields that are not given keep their defaults. Throws std::invalid_argument, "line:column: reason", for a field that
// does not exist, a name that means nothing in its field and a size that no tensor can have.
Case from_json(const std::string &line);
Case from_json(const attn::cli::JsonValue &);

attn_dtype dtype_of(const std::string &name);
attn_align align_of(const std::string &name);
attn_activation activation_of(const std::string &name);

} // namespace conformance
