#include "backends/gpu/dense/binding.h"

#include "backends/gpu/views.h"
#include "names.h"

#include <algorithm>

namespace attn::gpu {
namespace {

constexpr double kLog2e = 1.44269504088896340736;
/// What the keys of a section may take of the L2 cache.
constexpr double kSectionShare = 0.6;

const attn_tensor *view_of(const DenseProblem &p, const Arguments &arguments, attn_slot slot) noexcept
{
    const int position = p.find(slot);
    return position < 0 ? nullptr : arguments.view[position];
}

void bind_sequences(const DenseProblem &p, const Arguments &arguments, const LaunchSizes &sizes,
                    SequenceParams *s) noexcept
{
    const auto view = [&](attn_slot slot) { return view_of(p, arguments, slot); };
    const auto integers = [&](attn_slot slot, IntegerVector *out) {
        if (const attn_tensor *v = view(slot)) *out = integer_vector(*v);
    };
    s->batch = static_cast<i32>(sizes.batch);
    s->max_q = static_cast<i32>(sizes.max_q), s->max_kv = static_cast<i32>(sizes.max_kv);
    integers(ATTN_SLOT_CU_SEQLENS_Q, &s->cu_q);
    integers(ATTN_SLOT_CU_SEQLENS_KV, &s->cu_kv);
    integers(ATTN_SLOT_SEQLENS_Q, &s->used_q);
    integers(ATTN_SLOT_SEQLENS_KV, &s->used_kv);
    integers(ATTN_SLOT_BLOCK_TABLE, &s->table);
    integers(ATTN_SLOT_BLOCK_TABLE_PTR, &s->table_ptr);
    const Sizes &extents = arguments.sizes;
    s->total_q = extents.at(Axis::total_q), s->total_kv = extents.at(Axis::total_kv);
    s->table_entries = extents.at(Axis::table_entries);
    if (const attn_tensor *table = view(ATTN_SLOT_BLOCK_TABLE); table && table->ndim == 2) {
        s->table_row_step = bytes_of_step(*table, 0);
        s->table_columns = static_cast<i32>(std::min(table->shape[1], kLongestSequence));
    }
    const int64_t k_pages = extents.at(Axis::k_pages), v_pages = extents.at(Axis::v_pages);
    s->pages = v_pages == kFree ? k_pages : std::min(k_pages, v_pages); // no V where it aliases K
}

} // namespace

ForwardParams forward_constants(const DenseProblem &p)
{
    ForwardParams c = {};
    c.dim_qk = static_cast<i32>(p.dim_qk), c.dim_v = static_cast<i32>(p.dim_v);
    c.heads_q = static_cast<i32>(p.heads_q), c.heads_k = static_cast<i32>(p.heads_k);
    c.heads_v = static_cast<i32>(p.heads_v), c.heads_out = static_cast<i32>(p.heads_out);
    c.group = static_cast<i32>(p.group);
    c.sequences.page_size = static_cast<i32>(p.page_size);
    c.sequences.bottom_right = p.mask.align == ATTN_BOTTOM_RIGHT;
    c.mask.causal = p.mask.causal, c.mask.has_left = p.mask.has_left, c.mask.has_right = p.mask.has_right;
    c.mask.by_position = p.mask.align == ATTN_BY_POSITION;
    c.mask.left = p.mask.left, c.mask.right = p.mask.right;
    c.mask.window_left = static_cast<i32>(std::min(p.mask.left, kLongestSequence));
    c.mask.window_right = static_cast<i32>(std::min(p.mask.right, kLongestSequence));
    c.mask.sink_tokens = static_cast<i32>(std::min(p.mask.sink_tokens, kLongestSequence));

    // Scores are kept in units of 1 / `unit`; see ForwardShape of the CPU.
    const bool has_bias = p.bias_table.present || p.has(ATTN_SLOT_BIAS) || p.has(ATTN_SLOT_ALIBI_SLOPES);
    const double unit = p.activation == ATTN_RELU ? 1.0 : kLog2e;
    const bool bias_first = p.softcap != 0 && has_bias && p.bias_stage == ATTN_BIAS_PRE_SOFTCAP;
    const double inner = bias_first ? 1.0 : p.softcap != 0 ? 1.0 / p.softcap : unit;
    c.unit = static_cast<float>(unit);
    c.score_factor = static_cast<float>(p.scale * inner);
    c.rank_factor = static_cast<float>(inner);
    c.cap_factor = static_cast<float>(p.softcap * unit);
    c.cap_inverse = bias_first ? static_cast<float>(1.0 / p.softcap) : 0.0f;
    c.activation = p.activation == ATTN_SIGMOID ? kSigmoid : p.activation == ATTN_RELU ? kRelu : kSoftmax;
    c.gate = p.gate == ATTN_GATE_LINEAR ? kGateLinear : p.gate == ATTN_GATE_SILU ? kGateSilu : kGateSigmoid;
    c.weight_bias = static_cast<float>(p.activation_bias * kLog2e);
    c.weight_length = p.activation_length;
    c.has_entropy = p.has(ATTN_SLOT_ROW_ENTROPY);
    c.bias_rank = static_cast<i32>(p.bias_rank);
    c.mask_heads = 1;
    const BiasTable &table = p.bias_table;
    if (!table.present) return c;
    c.lookup = table.kind == ATTN_TABLE_GRID ? kTableByGrid : kTableByDistance;
    c.max_distance = table.max_distance;
    c.grid_tokens = static_cast<i32>(table.grid_offset.size());
    c.grid_center = static_cast<i32>(table.grid_center);
    return c;
}

LaunchSizes launch_sizes(const DenseProblem &p, const Sizes &sizes) noexcept
{
    const auto within = [](int64_t bound, int64_t extent) { return extent == kFree ? bound : std::min(bound, extent); };
    LaunchSizes s;
    s.batch = within(p.batch, sizes.at(Axis::batch));
    s.max_q = within(within(p.max_q, sizes.at(Axis::query)), sizes.at(Axis::total_q));
    s.max_kv = within(within(p.max_kv, sizes.at(Axis::key)), sizes.at(Axis::total_kv));
    return s;
}

void bind_forward(const DenseProblem &p, const Arguments &arguments, const LaunchSizes &sizes,
                  ForwardParams *params) noexcept
{
    bind_sequences(p, arguments, sizes, &params->sequences);
    const auto view = [&](attn_slot slot) { return view_of(p, arguments, slot); };
    const bool packed_q = p.packed_q, packed_kv = p.storage == Storage::packed;
    const auto token = [&](attn_slot slot, bool query, bool heads, bool channels, TokenView *out) {
        if (const attn_tensor *v = view(slot)) *out = token_view(*v, query ? !packed_q : !packed_kv, heads, channels);
    };
    const auto score = [&](attn_slot slot, bool packed, bool keys, ScoreView *out) {
        if (const attn_tensor *v = view(slot)) *out = score_view(*v, packed, keys);
    };
    ForwardParams &f = *params;
    token(ATTN_SLOT_Q, true, true, true, &f.q);
    token(ATTN_SLOT_K, false, true, true, &f.k);
    token(p.flags & ATTN_V_ALIASES_K ? ATTN_SLOT_K : ATTN_SLOT_V, false, true, true, &f.v);
    token(ATTN_SLOT_OUT, true, true, true, &f.out);
    score(ATTN_SLOT_LSE, packed_q, false, &f.lse);
    token(ATTN_SLOT_POSITIONS_Q, true, false, false, &f.mask.q_positions);
    token(ATTN_SLOT_POSITIONS_KV, false, false, false, &f.mask.k_positions);
    token(ATTN_SLOT_Q_TEMPERATURE, true, true, false, &f.q_temperature);
    token(ATTN_SLOT_V_TEMPERATURE, false, true, false, &f.v_temperature);
    token(ATTN_SLOT_BIAS_LOWRANK_Q, true, true, true, &f.rank_q);
    token(ATTN_SLOT_BIAS_LOWRANK_K, false, true, true, &f.rank_k);
    token(ATTN_SLOT_GATE, true, true, true, &f.gate_values);
    token(ATTN_SLOT_HEAD_WEIGHT, true, true, false, &f.head_weight);
    score(ATTN_SLOT_BIAS, packed_q, true, &f.bias);
    score(ATTN_SLOT_ROW_MAX, packed_q, false, &f.row_max);
    score(ATTN_SLOT_ROW_ENTROPY, packed_q, false, &f.row_entropy);
    if (const attn_tensor *v = view(ATTN_SLOT_COLUMN_MASS)) { // its last axis is keys, or rows of K
        f.column_mass = score_view(*v, packed_kv, true);
        if (packed_kv) f.column_mass.keys = INT32_MAX;
    }
    const auto by_head = [&](attn_slot slot, const char **base, i64 *step) {
        if (const attn_tensor *v = view(slot)) *base = address_of(*v), *step = bytes_of_step(*v, 0);
    };
    by_head(ATTN_SLOT_ALIBI_SLOPES, &f.slopes, &f.slope_step);
    by_head(ATTN_SLOT_SINK_LOGITS, &f.sinks, &f.sink_step);
    if (const attn_tensor *v = view(ATTN_SLOT_BIAS_TABLE)) {
        f.table = address_of(*v);
        f.table_entry_step = bytes_of_step(*v, 0), f.table_head_step = bytes_of_step(*v, 1);
    }
}

i32 section_of(const DenseProblem &p, const Facts &facts, const LaunchSizes &sizes, int64_t pairs) noexcept
{
    const double bytes = static_cast<double>(sizes.max_kv) * static_cast<double>(p.dim_qk + p.dim_v) *
                         static_cast<double>(dtype_bytes(p.k_dtype));
    const double share = kSectionShare * static_cast<double>(facts.l2_bytes);
    return static_cast<i32>(
        std::clamp(share / std::max(bytes, 1.0), 1.0, static_cast<double>(std::max<int64_t>(pairs, 1))));
}

} // namespace attn::gpu
