#include "dense.h"

#include "abi.h"
#include "dense_tensors.h"
#include "descriptor_parts.h"
#include "names.h"
#include "option_checks.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>

namespace attn {
namespace {

attn_status read_mask(const attn_dense &d, DenseMask *out)
{
    if (const attn_status status = check_enum("attn_dense.causal", d.causal, ATTN_BY_POSITION)) return status;
    if (const attn_status status = check_enum("attn_dense.align", d.align, ATTN_BY_POSITION)) return status;
    if (d.causal && d.align && d.causal != d.align)
        return fail(ATTN_ERROR_INVALID, "attn_dense.align = %s: must be that of attn_dense.causal, %s, or 0",
                    align_name(d.align), align_name(d.causal));
    out->causal = d.causal != ATTN_ALIGN_NONE;
    out->align = d.causal ? d.causal : d.align;
    out->has_left = (d.flags & ATTN_WINDOW_LEFT) != 0;
    out->has_right = (d.flags & ATTN_WINDOW_RIGHT) != 0;
    const struct {
        const char *field;
        bool present;
        int64_t value;
        const char *flag;
    } sides[] = {{"attn_dense.window_left", out->has_left, d.window_left, "flag ATTN_WINDOW_LEFT is set"},
                 {"attn_dense.window_right", out->has_right, d.window_right, "flag ATTN_WINDOW_RIGHT is set"}};
    for (const auto &side : sides) {
        if (side.value < 0)
            return fail(ATTN_ERROR_INVALID, "%s = %lld: must be >= 0; clear its flag for an unlimited window",
                        side.field, static_cast<long long>(side.value));
        if (!side.present && side.value != 0)
            return fail(ATTN_ERROR_INVALID, "%s = %lld: must be 0 unless %s", side.field,
                        static_cast<long long>(side.value), side.flag);
    }
    if ((out->has_left || out->has_right) && out->align == ATTN_ALIGN_NONE)
        return fail(ATTN_ERROR_INVALID, "attn_dense.align = 0: a window needs a diagonal, set align or causal");
    // A wider window than any sequence sees everything on its side; the clamp keeps later sums within 64 bits. By
    // position any distance of two 64-bit positions may occur, and comparisons saturate instead.
    const int64_t widest = out->align == ATTN_BY_POSITION ? INT64_MAX : 2 * kLargestExtent;
    out->left = std::min(d.window_left, widest);
    out->right = std::min(d.window_right, widest);
    if (d.sink_tokens < 0)
        return fail(ATTN_ERROR_INVALID, "attn_dense.sink_tokens = %lld: must be >= 0",
                    static_cast<long long>(d.sink_tokens));
    if (d.sink_tokens != 0 && !out->has_left && !out->has_right)
        return fail(ATTN_ERROR_INVALID,
                    "attn_dense.sink_tokens = %lld: must be 0 without a window, every key being in reach",
                    static_cast<long long>(d.sink_tokens));
    out->sink_tokens = std::min(d.sink_tokens, kLargestExtent);
    return ATTN_OK;
}

attn_status read_activation(const attn_dense &d, DenseProblem *out)
{
    if (const attn_status status = check_enum("attn_dense.activation", d.activation, ATTN_RELU)) return status;
    if (!std::isfinite(d.activation_bias))
        return fail(ATTN_ERROR_INVALID, "attn_dense.activation_bias = %g: must be finite", d.activation_bias);
    if (d.activation != ATTN_SIGMOID)
        if (const attn_status status =
                check_unused("attn_dense.activation_bias", d.activation_bias, "attn_dense.activation is ATTN_SIGMOID"))
            return status;
    if (const attn_status status = check_extent("attn_dense.activation_length", d.activation_length, 0)) return status;
    if (d.activation != ATTN_RELU && d.activation_length != 0)
        return fail(ATTN_ERROR_INVALID, "attn_dense.activation_length = %lld: must be 0 unless activation is ATTN_RELU",
                    static_cast<long long>(d.activation_length));
    out->activation = d.activation;
    out->activation_bias = d.activation_bias;
    out->activation_length = d.activation_length;
    return ATTN_OK;
}

/// T5: half of the buckets are exact, the others grow logarithmically up to max_distance (Raffel et al. 2020).
int32_t bucket_of(int64_t distance, int64_t buckets, int64_t max_distance, bool bidirectional)
{
    int64_t first = 0, back = std::max<int64_t>(-distance, 0);
    if (bidirectional) {
        buckets /= 2;
        if (distance > 0) first = buckets;
        back = std::abs(distance);
    }
    const int64_t exact = buckets / 2;
    if (back < exact) return static_cast<int32_t>(first + back);
    const double ratio = std::log(static_cast<double>(back) / static_cast<double>(exact)) /
                         std::log(static_cast<double>(max_distance) / static_cast<double>(exact));
    const int64_t large = exact + static_cast<int64_t>(ratio * static_cast<double>(buckets - exact));
    return static_cast<int32_t>(first + std::min(large, buckets - 1));
}

constexpr int64_t kLargestGrid = int64_t{1} << 26;

attn_status read_grid(const attn_bias_table &table, BiasTable *out)
{
    int axes = 0;
    int64_t tokens = 1;
    out->entries = 1;
    while (axes < 4 && table.grid[axes] != 0) {
        if (const attn_status status = check_extent("attn_bias_table.grid", table.grid[axes], 1, int64_t{1} << 20))
            return status;
        if (__builtin_mul_overflow(tokens, table.grid[axes], &tokens) ||
            __builtin_mul_overflow(out->entries, 2 * table.grid[axes] - 1, &out->entries) || out->entries > INT32_MAX)
            return fail(ATTN_ERROR_INVALID, "attn_bias_table.grid: its entries must be at most 2^31 - 1");
        ++axes;
    }
    if (tokens > kLargestGrid)
        return fail(ATTN_ERROR_INVALID, "attn_bias_table.grid: %lld tokens, must be at most %lld",
                    static_cast<long long>(tokens), static_cast<long long>(kLargestGrid));
    out->grid_offset.resize(static_cast<size_t>(tokens));
    for (int64_t token = 0; token < tokens; ++token) {
        int64_t rest = token, step = 1, offset = 0;
        for (int axis = axes - 1; axis >= 0; --axis) {
            offset += rest % table.grid[axis] * step;
            rest /= table.grid[axis];
            step *= 2 * table.grid[axis] - 1;
        }
        out->grid_offset[static_cast<size_t>(token)] = static_cast<int32_t>(offset);
    }
    out->grid_center = (out->entries - 1) / 2;
    return ATTN_OK;
}

attn_status read_bias_table(const attn_bias_table *given, DenseProblem *out)
{
    attn_bias_table table;
    if (const attn_status status = read_struct(given, "attn_bias_table", &table)) return status;
    if (const attn_status status = no_extensions(table.next, "attn_bias_table")) return status;
    if (const attn_status status = check_bias_table(given)) return status;
    BiasTable &result = out->bias_table;
    result.present = true;
    result.kind = table.kind;
    std::copy(std::begin(table.grid), std::end(table.grid), result.grid);
    const bool bucket = table.kind == ATTN_TABLE_BUCKET, grid = table.kind == ATTN_TABLE_GRID;
    if (grid) return read_grid(table, &result);
    const int64_t buckets = table.buckets ? table.buckets : 32;
    result.buckets = bucket ? buckets : 0;
    result.bidirectional = table.bidirectional != 0;
    result.max_distance = table.max_distance ? table.max_distance : 128;
    if (const attn_status status = check_extent("attn_bias_table.max_distance", result.max_distance, 1, 1 << 24))
        return status;
    if (bucket) {
        const int64_t least = table.bidirectional ? 4 : 2;
        if (const attn_status status = check_extent("attn_bias_table.buckets", buckets, least, 1 << 20)) return status;
        const int64_t exact = buckets / (table.bidirectional ? 4 : 2);
        if (result.max_distance <= exact)
            return fail(ATTN_ERROR_INVALID,
                        "attn_bias_table.max_distance = %lld: must be more than the %lld exact buckets",
                        static_cast<long long>(result.max_distance), static_cast<long long>(exact));
    }
    result.entries = bucket ? buckets : 2 * result.max_distance + 1;
    for (int64_t d = -result.max_distance; d <= result.max_distance; ++d)
        result.entry_of_distance.push_back(bucket ? bucket_of(d, buckets, result.max_distance, table.bidirectional != 0)
                                                  : static_cast<int32_t>(d + result.max_distance));
    return ATTN_OK;
}

/// Score and epilogue options; what is known but not computed yet is named in `unserved`.
attn_status read_options(const attn_dense &d, DenseProblem *out)
{
    if (!std::isfinite(d.softcap) || d.softcap < 0)
        return fail(ATTN_ERROR_INVALID, "attn_dense.softcap = %g: must be finite and >= 0", d.softcap);
    // A cap that underflows or overflows as a float would turn scores into NaN.
    if (d.softcap != 0 && (d.softcap < 1e-30 || d.softcap > 1e30))
        return fail(ATTN_ERROR_INVALID, "attn_dense.softcap = %g: must be 0 or 1e-30 .. 1e30", d.softcap);
    out->softcap = d.softcap;
    if (const attn_status status = read_activation(d, out)) return status;
    if (const attn_status status = check_enum("attn_dense.bias_stage", d.bias_stage, ATTN_BIAS_PRE_SOFTCAP))
        return status;
    out->bias_stage = d.bias_stage;
    if (const attn_status status = check_enum("attn_dense.gate", d.gate, ATTN_GATE_SILU)) return status;
    out->gate = d.gate;
    if (const attn_status status = check_extent("attn_dense.bias_rank", d.bias_rank, 0, kLargestHeadDim)) return status;
    out->bias_rank = d.bias_rank;
    if (d.bias_table)
        if (const attn_status status = read_bias_table(d.bias_table, out)) return status;
    if (d.mask) {
        const MaskScope scope = {out->heads_k, out->heads_out, out->mask.align};
        if (const attn_status status = read_mask_program(d.mask, scope, &out->program, &out->unserved)) return status;
    }
    if (d.rope) {
        if (const attn_status status = check_rope(d.rope, out->dim_qk)) return status;
        out->unserved.push_back("attn_dense.rope");
    }
    return ATTN_OK;
}

/// Fields that mean nothing without a tensor or another field: set alone they are a mistake, never ignored.
attn_status check_companions(const attn_dense &d, const DenseProblem &p, const Binds &binds)
{
    const bool bias = binds.has(ATTN_SLOT_BIAS) || binds.has(ATTN_SLOT_ALIBI_SLOPES) || d.bias_table;
    if (d.bias_stage != 0 && !bias)
        return fail(ATTN_ERROR_INVALID, "attn_dense.bias_stage = %d: must be 0 where no bias is bound", d.bias_stage);
    if (d.gate != 0 && !binds.has(ATTN_SLOT_GATE))
        return fail(ATTN_ERROR_INVALID, "attn_dense.gate = %d: must be 0 where slot GATE is not bound", d.gate);
    if (d.activation != ATTN_SOFTMAX)
        for (const attn_slot slot : {ATTN_SLOT_LSE, ATTN_SLOT_SINK_LOGITS, ATTN_SLOT_ROW_ENTROPY})
            if (binds.has(slot))
                return fail(ATTN_ERROR_INVALID, "attn_dense.activation = %s: slot %s is for softmax only",
                            activation_name(d.activation), slot_name(slot));
    const bool table_distance = d.bias_table && d.bias_table->kind != ATTN_TABLE_GRID;
    if ((table_distance || binds.has(ATTN_SLOT_ALIBI_SLOPES)) && !d.causal && !d.align)
        return fail(ATTN_ERROR_INVALID,
                    "attn_dense.align = 0: a bias by distance needs a diagonal, set align or causal");
    // Of a program that is not served it is not known.
    const bool mask = p.program.by_diagonal || (d.mask && !p.program.present());
    const bool diagonal = d.causal || (d.flags & (ATTN_WINDOW_LEFT | ATTN_WINDOW_RIGHT)) || mask || table_distance ||
                          binds.has(ATTN_SLOT_ALIBI_SLOPES);
    if (d.align != ATTN_ALIGN_NONE && !diagonal)
        return fail(ATTN_ERROR_INVALID,
                    "attn_dense.align = %s: must be 0 where no window, bias or mask needs a diagonal",
                    align_name(d.align));
    return ATTN_OK;
}

/// Axis of the heads of BIAS_LOWRANK_K.
int lowrank_head_axis(const Binds &binds)
{
    return binds.has(ATTN_SLOT_CU_SEQLENS_KV) ? 1 : 2;
}

} // namespace

attn_status read_dense(const attn_dense *given, DenseProblem *out)
{
    attn_dense d;
    if (const attn_status status = read_struct(given, "attn_dense", &d)) return status;
    static constexpr attn_ext_type kDropout = ATTN_EXT_DROPOUT;
    const attn_ext *dropout = nullptr;
    if (const attn_status status = read_extensions(d.next, "attn_dense", &kDropout, 1, &dropout)) return status;
    if (dropout) {
        if (const attn_status status = check_dropout(dropout)) return status;
        out->unserved.push_back("attn_dense.next: ATTN_EXT_DROPOUT");
    }
    if (const attn_status status = check_flags("attn_dense.flags", d.flags, ATTN_WINDOW_LEFT | ATTN_WINDOW_RIGHT))
        return status;
    if (d.reserved != 0) return fail(ATTN_ERROR_INVALID, "attn_dense.reserved = %d: must be 0", d.reserved);
    if (!d.problem) return fail(ATTN_ERROR_INVALID, "attn_dense.problem = NULL: required");
    out->kind = ATTN_KIND_DENSE;
    if (const attn_status status = read_problem(d.problem, out)) return status;
    out->group = std::gcd(out->heads_out / out->heads_k, out->heads_out / out->heads_v);
    if (const attn_status status = read_mask(d, &out->mask)) return status;
    if (const attn_status status = read_options(d, out)) return status;
    // Kernels multiply by the scale as a float, in units of log2(e) or over the softcap.
    const double factor = std::abs(out->scale) * (out->softcap != 0 ? 1 / out->softcap : 1.4426950408889634);
    if (factor > static_cast<double>(std::numeric_limits<float>::max()))
        return fail(ATTN_ERROR_INVALID, "attn_problem.scale = %g: too large for a float, with the softcap or log2(e)",
                    out->scale);
    Binds binds;
    if (const attn_status status = binds.read(*d.problem)) return status;
    if (const attn_status status = check_companions(d, *out, binds)) return status;
    // Query rows share a tile where their heads share all that a block of keys needs.
    if (out->bias_rank && !binds.broadcasts(ATTN_SLOT_BIAS_LOWRANK_K, lowrank_head_axis(binds))) out->group = 1;
    if (const attn_status status = list_dense_tensors(&binds, out)) return status;
    const struct {
        const char *field;
        int64_t value;
        bool packed;
        const char *slot;
    } totals[] = {{"attn_problem.total_q", d.problem->total_q, out->packed_q, "CU_SEQLENS_Q"},
                  {"attn_problem.total_kv", d.problem->total_kv, out->storage == Storage::packed, "CU_SEQLENS_KV"}};
    for (const auto &total : totals)
        if (total.value != 0 && !total.packed)
            return fail(ATTN_ERROR_INVALID, "%s = %lld: must be 0 where slot %s is not bound", total.field,
                        static_cast<long long>(total.value), total.slot);
    return ATTN_OK;
}

} // namespace attn
