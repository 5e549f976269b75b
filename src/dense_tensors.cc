#include "dense_tensors.h"

#include "names.h"

#include <initializer_list>

namespace attn {
namespace {

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
            if (!status) status = add_tensor(slot, 0, dtype, output, axes, heads, channels);
        };
        const auto token = [&](attn_slot slot, attn_dtype dtype, bool output, bool query, Axis pages, int64_t heads,
                               int64_t channels, uint32_t index = 0) {
            const Axis packed = query ? Axis::total_q : Axis::total_kv;
            const bool is_packed = query ? p_.packed_q : p_.storage == Storage::packed;
            std::vector<Axis> axes;
            if (is_packed)
                axes = {packed};
            else if (!query && p_.storage == Storage::paged)
                axes = {pages, Axis::fixed};
            else
                axes = {Axis::batch, query ? Axis::query : Axis::key};
            if (!status) status = add_tensor(slot, index, dtype, output, axes, heads, channels);
        };

        token(ATTN_SLOT_Q, p_.q_dtype, false, true, Axis::fixed, p_.heads_q, p_.dim_qk);
        token(ATTN_SLOT_K, p_.k_dtype, false, false, Axis::k_pages, p_.heads_k, p_.dim_qk);
        if (!(p_.flags & ATTN_V_ALIASES_K))
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
        if (p_.mask.align == ATTN_BY_POSITION || p_.program.by_position) {
            token(ATTN_SLOT_POSITIONS_Q, ATTN_INT32, false, true, Axis::fixed, 0, 0);
            token(ATTN_SLOT_POSITIONS_KV, ATTN_INT32, false, false, Axis::k_pages, 0, 0);
        }
        for (const MaskPair &pair : p_.program.pairs) {
            if (pair.q) token(ATTN_SLOT_IDS_Q, ATTN_INT32, false, true, Axis::fixed, 0, 0, pair.index);
            if (pair.kv) token(ATTN_SLOT_IDS_KV, ATTN_INT32, false, false, Axis::k_pages, 0, 0, pair.index);
        }
        if (binds_.has(ATTN_SLOT_BIAS)) {
            if (p_.packed_q)
                add(ATTN_SLOT_BIAS, p_.q_dtype, false, {Axis::fixed, Axis::total_q, Axis::key}, p_.heads_out);
            else
                add(ATTN_SLOT_BIAS, p_.q_dtype, false, {Axis::batch, Axis::fixed, Axis::query, Axis::key},
                    p_.heads_out);
        }
        if (p_.bias_table.present)
            add(ATTN_SLOT_BIAS_TABLE, ATTN_FLOAT32, false, {}, p_.bias_table.entries, p_.heads_out);
        if (p_.bias_rank) {
            token(ATTN_SLOT_BIAS_LOWRANK_Q, p_.q_dtype, false, true, Axis::fixed, p_.heads_out, p_.bias_rank);
            token(ATTN_SLOT_BIAS_LOWRANK_K, p_.q_dtype, false, false, Axis::k_pages, p_.heads_out, p_.bias_rank);
        }
        if (binds_.has(ATTN_SLOT_ALIBI_SLOPES)) add(ATTN_SLOT_ALIBI_SLOPES, ATTN_FLOAT32, false, {}, p_.heads_out);
        if (binds_.has(ATTN_SLOT_SINK_LOGITS)) add(ATTN_SLOT_SINK_LOGITS, ATTN_FLOAT32, false, {}, p_.heads_out);
        if (binds_.has(ATTN_SLOT_Q_TEMPERATURE))
            token(ATTN_SLOT_Q_TEMPERATURE, ATTN_FLOAT32, false, true, Axis::fixed, p_.heads_q, 0);
        if (binds_.has(ATTN_SLOT_V_TEMPERATURE))
            token(ATTN_SLOT_V_TEMPERATURE, ATTN_FLOAT32, false, false, Axis::v_pages, p_.heads_v, 0);
        if (binds_.has(ATTN_SLOT_GATE))
            token(ATTN_SLOT_GATE, p_.q_dtype, false, true, Axis::fixed, p_.heads_out, p_.dim_v);
        if (binds_.has(ATTN_SLOT_HEAD_WEIGHT))
            token(ATTN_SLOT_HEAD_WEIGHT, ATTN_FLOAT32, false, true, Axis::fixed, p_.heads_out, 0);
        for (const attn_slot slot : {ATTN_SLOT_ROW_MAX, ATTN_SLOT_ROW_ENTROPY}) {
            if (!binds_.has(slot)) continue;
            if (p_.packed_q)
                add(slot, ATTN_FLOAT32, true, {Axis::fixed, Axis::total_q}, p_.heads_out);
            else
                add(slot, ATTN_FLOAT32, true, {Axis::batch, Axis::fixed, Axis::query}, p_.heads_out);
        }
        if (binds_.has(ATTN_SLOT_COLUMN_MASS)) {
            if (packed_kv)
                add(ATTN_SLOT_COLUMN_MASS, ATTN_FLOAT32, true, {Axis::fixed, Axis::total_kv}, p_.heads_out);
            else
                add(ATTN_SLOT_COLUMN_MASS, ATTN_FLOAT32, true, {Axis::batch, Axis::fixed, Axis::key}, p_.heads_out);
        }
        if (!status) status = add_status(&binds_, &p_);
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
    attn_status add_tensor(attn_slot slot, uint32_t index, attn_dtype dtype, bool output, const Axes &axes,
                           int64_t heads, int64_t channels)
    {
        TensorSpec spec;
        spec.slot = slot;
        spec.index = index;
        spec.dtype = dtype;
        spec.output = output;
        const auto push = [&](Axis axis, int64_t bound) {
            spec.axes[spec.ndim] = axis;
            spec.bounds[spec.ndim++] = bound;
        };
        // Score tensors name their head axis; in token tensors heads follow the tokens.
        const bool score = slot == ATTN_SLOT_LSE || slot == ATTN_SLOT_ROW_MAX || slot == ATTN_SLOT_ROW_ENTROPY ||
                           slot == ATTN_SLOT_COLUMN_MASS || slot == ATTN_SLOT_BIAS;
        for (const Axis axis : axes)
            push(axis, axis != Axis::fixed ? p_.bounds[static_cast<int>(axis)] : score ? heads : p_.page_size);
        if (heads && !score) push(Axis::fixed, heads);
        if (channels) push(Axis::fixed, channels);

        if (const attn_bind *bind = binds_.take(slot, index)) {
            const bool option = slot == ATTN_SLOT_BIAS || slot == ATTN_SLOT_GATE || slot == ATTN_SLOT_BIAS_LOWRANK_Q ||
                                slot == ATTN_SLOT_BIAS_LOWRANK_K;
            const DtypeChoice choice = dtype == ATTN_INT32 ? DtypeChoice::integer
                                       : option            ? DtypeChoice::real
                                                           : DtypeChoice::fixed;
            const bool broadcast = option || slot == ATTN_SLOT_Q_TEMPERATURE || slot == ATTN_SLOT_V_TEMPERATURE ||
                                   slot == ATTN_SLOT_HEAD_WEIGHT || slot == ATTN_SLOT_ALIBI_SLOPES ||
                                   slot == ATTN_SLOT_SINK_LOGITS || slot == ATTN_SLOT_BIAS_TABLE;
            if (const attn_status status = apply_bind(*bind, choice, broadcast, &spec)) return status;
        }
        p_.tensors.push_back(spec);
        return ATTN_OK;
    }

    /// A bind that none of the tensors above asked for: known to dense plans but not computed yet, or misplaced.
    attn_status leftover(size_t i, const attn_bind &bind)
    {
        static constexpr attn_slot kLater[] = {ATTN_SLOT_MASK_TABLE, ATTN_SLOT_MASK,   ATTN_SLOT_ROPE_COS,
                                               ATTN_SLOT_ROPE_SIN,   ATTN_SLOT_STATUS, ATTN_SLOT_RNG};
        const bool derived =
            (bind.slot & (ATTN_SLOT_GRAD | ATTN_SLOT_TANGENT | ATTN_SLOT_SCALE | ATTN_SLOT_ZERO_POINT));
        if (derived || std::find(std::begin(kLater), std::end(kLater), bind.slot) != std::end(kLater)) {
            p_.unserved.push_back(std::string("slot ") + slot_name(bind.slot));
            return ATTN_OK;
        }
        const bool ids = bind.slot == ATTN_SLOT_IDS_Q || bind.slot == ATTN_SLOT_IDS_KV;
        if (ids)
            return fail(ATTN_ERROR_INVALID,
                        "attn_problem.binds[%zu].slot = %s, index %u: a dense plan takes it only where a term of "
                        "attn_dense.mask reads it",
                        i, slot_name(bind.slot), bind.index);
        if (bind.index != 0)
            return fail(ATTN_ERROR_INVALID, "attn_problem.binds[%zu].index = %u: slot %s has index 0 only", i,
                        bind.index, slot_name(bind.slot));
        const bool position = bind.slot == ATTN_SLOT_POSITIONS_Q || bind.slot == ATTN_SLOT_POSITIONS_KV;
        const bool table = bind.slot == ATTN_SLOT_BLOCK_TABLE;
        const bool rank = bind.slot == ATTN_SLOT_BIAS_LOWRANK_Q || bind.slot == ATTN_SLOT_BIAS_LOWRANK_K;
        return fail(ATTN_ERROR_INVALID, "attn_problem.binds[%zu].slot = %s: a dense plan %s", i, slot_name(bind.slot),
                    position                            ? "takes it only where an alignment is ATTN_BY_POSITION"
                    : table                             ? "takes it only where attn_problem.page_size is set"
                    : rank                              ? "takes it only where attn_dense.bias_rank is set"
                    : bind.slot == ATTN_SLOT_BIAS_TABLE ? "takes it only where attn_dense.bias_table is set"
                    : bind.slot == ATTN_SLOT_V          ? "that aliases K takes no V"
                                                        : "does not take it");
    }

    Binds &binds_;
    DenseProblem &p_;
};

} // namespace

attn_status list_dense_tensors(Binds *binds, DenseProblem *problem)
{
    return DenseTensors(binds, problem).build();
}

} // namespace attn
