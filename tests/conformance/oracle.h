// The reference: dense attention in fp64, written from the equations and sharing no code with the library. It favours
// being obviously right over being fast. Only enumeration values and attn_term come from attn.h.
//
// Everything here concerns ONE sequence. All arrays are row-major doubles whose shape stands beside them;
// tq, tk are the used lengths, ho = max(heads_q, heads_k, heads_v).
#pragma once

#include <attn/attn.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace conformance {

struct Sequence {
    std::int64_t tq = 0, tk = 0;
    std::int64_t heads_q = 1, heads_k = 1, heads_v = 1, dim_qk = 1, dim_v = 1;
    std::vector<double> q; // [tq, heads_q, dim_qk]
    std::vector<double> k; // [tk, heads_k, dim_qk]
    std::vector<double> v; // [tk, heads_v, dim_v]

    // Empty: the option is not in use.
    std::vector<double> bias;                             // [ho, tq, tk]
    std::vector<double> bias_table;                       // [entries, ho]
    std::vector<double> lowrank_q, lowrank_k;             // [tq, ho, rank], [tk, ho, rank]
    std::vector<double> alibi_slopes;                     // [ho]
    std::vector<double> sink_logits;                      // [ho]
    std::vector<double> q_temperature;                    // [tq, heads_q]
    std::vector<double> v_temperature;                    // [tk, heads_v]
    std::vector<double> gate;                             // [tq, ho, dim_v]
    std::vector<double> head_weight;                      // [tq, ho]
    std::vector<std::int64_t> positions_q;                // [tq]
    std::vector<std::int64_t> positions_kv;               // [tk]
    std::vector<std::vector<std::int64_t>> ids_q, ids_kv; // pair, then [tq] and [tk]
    std::vector<std::vector<std::uint8_t>> masks;         // index, then [ho, tq, width], of the last `width` keys

    std::int64_t heads_out() const;
    std::int64_t q_head(std::int64_t h) const { return h * heads_q / heads_out(); }
    std::int64_t k_head(std::int64_t h) const { return h * heads_k / heads_out(); }
    std::int64_t v_head(std::int64_t h) const { return h * heads_v / heads_out(); }
};

// Parameters by head of a mask term: values + slopes * tk, both [rows, columns]; rows is ho, a divisor of it, or 1.
struct HeadTable {
    std::vector<double> values, slopes;
    std::int64_t rows = 1, columns = 1;
};

struct MaskProgram {
    std::vector<attn_term> terms; // postfix
    std::vector<HeadTable> tables;
    std::vector<std::int64_t> grid_q, grid_kv;
};

struct BiasTable {
    attn_table_kind kind = ATTN_TABLE_DISTANCE;
    bool bidirectional = false;
    std::int64_t buckets = 32, max_distance = 128;
    std::vector<std::int64_t> grid;
};

struct Options {
    double scale = 1;
    attn_align causal = ATTN_ALIGN_NONE;
    attn_align align = ATTN_ALIGN_NONE; // none: that of causal
    std::optional<std::int64_t> window_left, window_right;
    std::int64_t sink_tokens = 0;
    double softcap = 0;
    attn_bias_stage bias_stage = ATTN_BIAS_POST_SOFTCAP;
    attn_activation activation = ATTN_SOFTMAX;
    double activation_bias = 0;
    std::int64_t activation_length = 0; // 0: tk
    attn_gate gate = ATTN_GATE_SIGMOID;
    std::int64_t bias_rank = 0;
    std::optional<BiasTable> bias_table;
    std::optional<MaskProgram> mask;

    attn_align diagonal() const { return align != ATTN_ALIGN_NONE ? align : causal; }
};

struct Result {
    std::vector<double> out;         // [tq, ho, dim_v]
    std::vector<double> lse;         // [ho, tq]; softmax only
    std::vector<double> row_max;     // [ho, tq], over keys; -inf for an empty row
    std::vector<double> row_entropy; // [ho, tq], -sum p ln p over keys
    std::vector<double> column_mass; // [ho, tk]
    // For the error measures, not outputs of the operator:
    std::vector<double> natural_size; // [tq, ho]: sqrt(sum_jc (p_ij v_jc)^2), the norm of a row of OUT if its terms
                                      // were independent. A row much smaller than that has cancelled by accident.
                                      // ReLU: of the terms before the clamp, which passes on their rounding.
    // A weight is as wrong, relatively, as its score is absolutely, and a score rounds by the size of all that is added
    // up in it: |q.k|, or what independent terms make of it where they cancel, likewise the low-rank bias, and each
    // bias.
    std::vector<double> largest_score;  // [ho, tq]: largest such size before softcap and bias, of visible keys
    std::vector<double> largest_biased; // [ho, tq]: largest such size after them, of keys with a thousandth or more of
                                        // the largest weight of the row: far keys of ALiBi round coarsely, but in vain
};

// The key that query i is level with; with ATTN_BY_POSITION the position of query i.
std::int64_t diagonal_key(const Sequence &, attn_align, std::int64_t i);
// j minus diagonal_key, or the difference of positions.
std::int64_t distance(const Sequence &, attn_align, std::int64_t i, std::int64_t j);
// Whether key j is in the set of the mask program.
bool in_program(const MaskProgram &, const Sequence &, attn_align diagonal, std::int64_t h, std::int64_t i,
                std::int64_t j);
// Whether query row i of head h sees key j: length, causal, window or sink token, program.
bool visible(const Options &, const Sequence &, std::int64_t h, std::int64_t i, std::int64_t j);
// Row of BIAS_TABLE for a query and a key.
std::int64_t table_entry(const BiasTable &, const Sequence &, attn_align diagonal, std::int64_t i, std::int64_t j);

Result attention(const Options &, const Sequence &);

} // namespace conformance
