#include "dense.h"

#include "abi.h"
#include "descriptor_parts.h"
#include "names.h"
#include "option_checks.h"

#include <cmath>
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

/// Options of the descriptor that are known but not computed yet: validated, then named in `unserved`.
attn_status read_options(const attn_dense &d, DenseProblem *out)
{
    if (!std::isfinite(d.softcap) || d.softcap < 0)
        return fail(ATTN_ERROR_INVALID, "attn_dense.softcap = %g: must be finite and >= 0", d.softcap);
    // A cap that underflows or overflows as a float would turn scores into NaN.
    if (d.softcap != 0 && (d.softcap < 1e-30 || d.softcap > 1e30))
        return fail(ATTN_ERROR_INVALID, "attn_dense.softcap = %g: must be 0 or 1e-30 .. 1e30", d.softcap);
    out->softcap = d.softcap;

    if (const attn_status status = check_enum("attn_dense.activation", d.activation, ATTN_RELU)) return status;
    if (const attn_status status = check_enum("attn_dense.bias_stage", d.bias_stage, ATTN_BIAS_PRE_SOFTCAP))
        return status;
    if (const attn_status status = check_enum("attn_dense.gate", d.gate, ATTN_GATE_SILU)) return status;
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
    if (const attn_status status = check_extent("attn_dense.bias_rank", d.bias_rank, 0, kLargestHeadDim)) return status;
    if (d.activation != ATTN_SOFTMAX)
        out->unserved.push_back(std::string("attn_dense.activation = ") + activation_name(d.activation));
    if (d.bias_rank != 0) out->unserved.push_back("attn_dense.bias_rank");

    if (d.mask) {
        if (const attn_status status = check_program(d.mask, out->mask.align != ATTN_ALIGN_NONE)) return status;
        out->unserved.push_back("attn_dense.mask");
    }
    if (d.rope) {
        if (const attn_status status = check_rope(d.rope, out->dim_qk)) return status;
        out->unserved.push_back("attn_dense.rope");
    }
    if (d.bias_table) {
        if (const attn_status status = check_bias_table(d.bias_table)) return status;
        out->unserved.push_back("attn_dense.bias_table");
    }
    return ATTN_OK;
}

/// Builds the list of tensors a dense plan takes.
class DenseTensors {
public:
    DenseTensors(Binds *binds, DenseProblem *problem) : binds_(*binds), p_(*problem) {}

    attn_status build()
    {
        p_.packed_q = binds_.take(ATTN_SLOT_CU_SEQLENS_Q) != nullptr;
        const bool packed_kv = binds_.take(ATTN_SLOT_CU_SEQLENS_KV) != nullptr;
        const bool flat_table = binds_.take(ATTN_SLOT_BLOCK_TABLE_PTR) != nullptr;
        if (packed_kv && p_.page_size)
            return fail(ATTN_ERROR_INVALID,
                        "attn_problem.page_size = %lld: must be 0 where CU_SEQLENS_KV is bound; K is packed or paged",
                        static_cast<long long>(p_.page_size));
        if (flat_table && !p_.page_size)
            return fail(ATTN_ERROR_INVALID, "attn_problem.page_size = 0: BLOCK_TABLE_PTR is bound, so it must be >= 1");
        p_.storage = p_.page_size ? Storage::paged : packed_kv ? Storage::packed : Storage::batched;
        set_bounds();

        attn_status status = ATTN_OK;
        const auto add = [&](attn_slot slot, attn_dtype dtype, bool output, std::initializer_list<Axis> axes,
                             int64_t heads = 0, int64_t channels = 0) {
            if (!status) status = add_tensor(slot, dtype, output, axes, heads, channels);
        };
        const auto token = [&](attn_slot slot, attn_dtype dtype, bool output, bool query, Axis pages, int64_t heads,
                               int64_t channels) {
            const Axis packed = query ? Axis::total_q : Axis::total_kv;
            const bool is_packed = query ? p_.packed_q : p_.storage == Storage::packed;
            std::vector<Axis> axes;
            if (is_packed)
                axes = {packed};
            else if (!query && p_.storage == Storage::paged)
                axes = {pages, Axis::fixed};
            else
                axes = {Axis::batch, query ? Axis::query : Axis::key};
            if (!status) status = add_tensor(slot, dtype, output, axes, heads, channels);
        };

        token(ATTN_SLOT_Q, p_.q_dtype, false, true, Axis::fixed, p_.heads_q, p_.dim_qk);
        token(ATTN_SLOT_K, p_.k_dtype, false, false, Axis::k_pages, p_.heads_k, p_.dim_qk);
        token(ATTN_SLOT_V, p_.v_dtype, false, false, Axis::v_pages, p_.heads_v, p_.dim_v);
        token(ATTN_SLOT_OUT, p_.out_dtype, true, true, Axis::fixed, p_.heads_out, p_.dim_v);
        if (binds_.take(ATTN_SLOT_LSE)) {
            if (p_.packed_q)
                add(ATTN_SLOT_LSE, ATTN_FLOAT32, true, {Axis::fixed, Axis::total_q}, p_.heads_out);
            else
                add(ATTN_SLOT_LSE, ATTN_FLOAT32, true, {Axis::batch, Axis::fixed, Axis::query}, p_.heads_out);
        }
        if (p_.packed_q) add(ATTN_SLOT_CU_SEQLENS_Q, ATTN_INT32, false, {Axis::batch_plus_1});
        if (packed_kv) add(ATTN_SLOT_CU_SEQLENS_KV, ATTN_INT32, false, {Axis::batch_plus_1});
        if (binds_.take(ATTN_SLOT_SEQLENS_Q)) add(ATTN_SLOT_SEQLENS_Q, ATTN_INT32, false, {Axis::batch});
        if (binds_.take(ATTN_SLOT_SEQLENS_KV)) add(ATTN_SLOT_SEQLENS_KV, ATTN_INT32, false, {Axis::batch});
        if (p_.storage == Storage::paged) {
            if (flat_table) {
                add(ATTN_SLOT_BLOCK_TABLE, ATTN_INT32, false, {Axis::table_entries});
                add(ATTN_SLOT_BLOCK_TABLE_PTR, ATTN_INT32, false, {Axis::batch_plus_1});
            } else {
                add(ATTN_SLOT_BLOCK_TABLE, ATTN_INT32, false, {Axis::batch, Axis::table_columns});
            }
        }
        if (p_.mask.align == ATTN_BY_POSITION) {
            token(ATTN_SLOT_POSITIONS_Q, ATTN_INT32, false, true, Axis::fixed, 0, 0);
            token(ATTN_SLOT_POSITIONS_KV, ATTN_INT32, false, false, Axis::k_pages, 0, 0);
        }
        if (status) return status;
        binds_.for_each_left([&](size_t i, const attn_bind &bind) {
            if (!status) status = leftover(i, bind);
        });
        return status;
    }

private:
    void set_bounds()
    {
        for (int64_t &bound : p_.bounds) bound = kFree;
        const auto at = [&](Axis axis) -> int64_t & { return p_.bounds[static_cast<int>(axis)]; };
        at(Axis::batch) = p_.batch;
        at(Axis::batch_plus_1) = p_.batch + 1;
        at(Axis::query) = p_.max_q;
        at(Axis::key) = p_.max_kv;
        at(Axis::total_q) = p_.total_q;
        at(Axis::total_kv) = p_.total_kv;
    }

    /// Heads stand for the (next) fixed axis, a page's rows for the one before the heads, channels come last.
    template <class Axes>
    attn_status add_tensor(attn_slot slot, attn_dtype dtype, bool output, const Axes &axes, int64_t heads,
                           int64_t channels)
    {
        TensorSpec spec;
        spec.slot = slot;
        spec.dtype = dtype;
        spec.output = output;
        const auto push = [&](Axis axis, int64_t bound) {
            spec.axes[spec.ndim] = axis;
            spec.bounds[spec.ndim++] = bound;
        };
        const bool score = slot == ATTN_SLOT_LSE;
        for (const Axis axis : axes)
            push(axis, axis != Axis::fixed ? p_.bounds[static_cast<int>(axis)] : score ? heads : p_.page_size);
        if (heads && !score) push(Axis::fixed, heads);
        if (channels) push(Axis::fixed, channels);

        if (const attn_bind *bind = binds_.take(slot)) {
            if (const attn_status status = apply_bind(*bind, &spec)) return status;
        }
        p_.tensors.push_back(spec);
        return ATTN_OK;
    }

    /// A bind that none of the tensors above asked for: known to dense plans but not computed yet, or misplaced.
    attn_status leftover(size_t i, const attn_bind &bind)
    {
        static constexpr attn_slot kLater[] = {
            ATTN_SLOT_BIAS,           ATTN_SLOT_ALIBI_SLOPES,  ATTN_SLOT_SINK_LOGITS,
            ATTN_SLOT_Q_TEMPERATURE,  ATTN_SLOT_V_TEMPERATURE, ATTN_SLOT_GATE,
            ATTN_SLOT_HEAD_WEIGHT,    ATTN_SLOT_BIAS_TABLE,    ATTN_SLOT_BIAS_LOWRANK_Q,
            ATTN_SLOT_BIAS_LOWRANK_K, ATTN_SLOT_IDS_Q,         ATTN_SLOT_IDS_KV,
            ATTN_SLOT_MASK_TABLE,     ATTN_SLOT_MASK,          ATTN_SLOT_ROPE_COS,
            ATTN_SLOT_ROPE_SIN,       ATTN_SLOT_COLUMN_MASS,   ATTN_SLOT_ROW_MAX,
            ATTN_SLOT_ROW_ENTROPY,    ATTN_SLOT_STATUS,        ATTN_SLOT_RNG};
        const bool derived =
            (bind.slot & (ATTN_SLOT_GRAD | ATTN_SLOT_TANGENT | ATTN_SLOT_SCALE | ATTN_SLOT_ZERO_POINT));
        if (derived || std::find(std::begin(kLater), std::end(kLater), bind.slot) != std::end(kLater)) {
            p_.unserved.push_back(std::string("slot ") + slot_name(bind.slot));
            return ATTN_OK;
        }
        if (bind.index != 0)
            return fail(ATTN_ERROR_INVALID, "attn_problem.binds[%zu].index = %u: slot %s has index 0 only", i,
                        bind.index, slot_name(bind.slot));
        const bool position = bind.slot == ATTN_SLOT_POSITIONS_Q || bind.slot == ATTN_SLOT_POSITIONS_KV;
        const bool table = bind.slot == ATTN_SLOT_BLOCK_TABLE;
        return fail(ATTN_ERROR_INVALID, "attn_problem.binds[%zu].slot = %s: a dense plan %s", i, slot_name(bind.slot),
                    position ? "takes it only where the alignment is ATTN_BY_POSITION"
                    : table  ? "takes it only where attn_problem.page_size is set"
                             : "does not take it");
    }

    Binds &binds_;
    DenseProblem &p_;
};

/// Fields that mean nothing without a tensor or another field: set alone they are a mistake, never ignored.
attn_status check_companions(const attn_dense &d, const Binds &binds)
{
    const bool bias = binds.has(ATTN_SLOT_BIAS) || binds.has(ATTN_SLOT_ALIBI_SLOPES) || d.bias_table;
    if (d.bias_stage != 0 && !bias)
        return fail(ATTN_ERROR_INVALID, "attn_dense.bias_stage = %d: must be 0 where no bias is bound", d.bias_stage);
    if (d.gate != 0 && !binds.has(ATTN_SLOT_GATE))
        return fail(ATTN_ERROR_INVALID, "attn_dense.gate = %d: must be 0 where slot GATE is not bound", d.gate);
    const bool diagonal = d.causal || (d.flags & (ATTN_WINDOW_LEFT | ATTN_WINDOW_RIGHT)) || d.mask || d.bias_table ||
                          binds.has(ATTN_SLOT_ALIBI_SLOPES);
    if (d.align != ATTN_ALIGN_NONE && !diagonal)
        return fail(ATTN_ERROR_INVALID,
                    "attn_dense.align = %s: must be 0 where no window, bias or mask needs a diagonal",
                    align_name(d.align));
    return ATTN_OK;
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
    if (const attn_status status = check_companions(d, binds)) return status;
    if (const attn_status status = DenseTensors(&binds, out).build()) return status;
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
