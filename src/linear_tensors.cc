#include "linear_tensors.h"

#include "names.h"

#include <algorithm>
#include <initializer_list>
#include <iterator>

namespace attn {
namespace {

/// Builds the list of tensors a linear plan takes.
class LinearTensors {
public:
    LinearTensors(Binds *binds, LinearProblem *problem) : binds_(*binds), p_(*problem) {}

    attn_status build()
    {
        set_bounds();
        const int64_t hv = p_.heads_v, dk = p_.dim_k, dv = p_.dim_v;
        add_token(ATTN_SLOT_Q, p_.q_dtype, {p_.heads_q, p_.dim_qk});
        add_token(ATTN_SLOT_K, p_.k_dtype, {p_.heads_k, p_.dim_qk});
        add_token(ATTN_SLOT_V, p_.v_dtype, {hv, dv});
        add_token(ATTN_SLOT_OUT, p_.out_dtype, {p_.heads_out, dv});
        if (p_.decay == ATTN_DECAY_HEAD) add(ATTN_SLOT_DECAY, ATTN_FLOAT32, {}, {hv});
        if (p_.decay == ATTN_DECAY_TOKEN) add_token(ATTN_SLOT_DECAY, ATTN_FLOAT32, {hv});
        if (p_.decay == ATTN_DECAY_CHANNEL) add_token(ATTN_SLOT_DECAY, ATTN_FLOAT32, {hv, dk});
        if (p_.decay_form == ATTN_DECAY_SOFTPLUS || p_.decay_form == ATTN_DECAY_SIGMOID) {
            add(ATTN_SLOT_A_LOG, ATTN_FLOAT32, {}, {hv});
            if (p_.decay == ATTN_DECAY_CHANNEL)
                add(ATTN_SLOT_DT_BIAS, ATTN_FLOAT32, {}, {hv, dk});
            else
                add(ATTN_SLOT_DT_BIAS, ATTN_FLOAT32, {}, {hv});
        }
        if (p_.update == ATTN_UPDATE_DELTA) add_token(ATTN_SLOT_BETA, ATTN_FLOAT32, {hv});
        if (p_.update == ATTN_UPDATE_GATED_DELTA) {
            add_token(ATTN_SLOT_ERASE, ATTN_FLOAT32, {hv, dk});
            add_token(ATTN_SLOT_WRITE, ATTN_FLOAT32, {hv, dv});
        }
        if (p_.update == ATTN_UPDATE_DPLR) {
            add_token(ATTN_SLOT_DPLR_B, p_.q_dtype, {hv, dk});
            add_token(ATTN_SLOT_DPLR_C, p_.q_dtype, {hv, dk});
        }
        if (p_.read == ATTN_READ_BEFORE) add(ATTN_SLOT_BONUS, ATTN_FLOAT32, {}, {hv, dk});
        if (p_.feature_map == ATTN_FEATURE_HEDGEHOG) {
            add(ATTN_SLOT_FEATURE, ATTN_FLOAT32, {}, {p_.heads_q, p_.dim_qk, p_.dim_qk + 1}, 0);
            add(ATTN_SLOT_FEATURE, ATTN_FLOAT32, {}, {p_.heads_k, p_.dim_qk, p_.dim_qk + 1}, 1);
        }
        add_states();
        add_lengths();
        if (status_) return status_;
        binds_.for_each_left([&](size_t i, const attn_bind &bind) {
            if (!status_) status_ = leftover(i, bind);
        });
        return status_;
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

    void add_states()
    {
        // A pool of states has any size; without it there is a state for each sequence.
        const bool pool = binds_.has(ATTN_SLOT_STATE_INDEX);
        const Axis states = pool ? Axis::states : Axis::batch;
        const bool value_major = p_.state_layout == ATTN_STATE_VK;
        const int64_t rows = value_major ? p_.state_columns : p_.dim_k;
        const int64_t columns = value_major ? p_.dim_k : p_.state_columns;
        if (binds_.has(ATTN_SLOT_STATE_IN))
            add(ATTN_SLOT_STATE_IN, p_.state_dtype, {states}, {p_.heads_v, rows, columns});
        if (binds_.has(ATTN_SLOT_STATE_OUT)) {
            if (p_.state_keep == ATTN_STATE_PER_TOKEN)
                add_token(ATTN_SLOT_STATE_OUT, p_.state_dtype, {p_.heads_v, rows, columns});
            else
                add(ATTN_SLOT_STATE_OUT, p_.state_dtype, {states}, {p_.heads_v, rows, columns});
        }
        const bool indexed =
            binds_.has(ATTN_SLOT_STATE_IN) || (binds_.has(ATTN_SLOT_STATE_OUT) && p_.state_keep == ATTN_STATE_FINAL);
        if (pool && indexed) add(ATTN_SLOT_STATE_INDEX, ATTN_INT32, {Axis::batch}, {});
    }

    void add_lengths()
    {
        if (p_.packed_q) add(ATTN_SLOT_CU_SEQLENS_Q, ATTN_INT32, {Axis::batch_plus_1}, {});
        if (p_.packed_kv) add(ATTN_SLOT_CU_SEQLENS_KV, ATTN_INT32, {Axis::batch_plus_1}, {});
        if (binds_.has(ATTN_SLOT_SEQLENS_Q)) add(ATTN_SLOT_SEQLENS_Q, ATTN_INT32, {Axis::batch}, {});
        if (p_.bidirectional && binds_.has(ATTN_SLOT_SEQLENS_KV))
            add(ATTN_SLOT_SEQLENS_KV, ATTN_INT32, {Axis::batch}, {});
    }

    /// Keys of bidirectional plans have a length of their own.
    void add_token(attn_slot slot, attn_dtype dtype, std::initializer_list<int64_t> fixed)
    {
        const bool keys = p_.bidirectional && (slot == ATTN_SLOT_K || slot == ATTN_SLOT_V);
        if (keys && p_.packed_kv)
            add(slot, dtype, {Axis::total_kv}, fixed);
        else if (keys)
            add(slot, dtype, {Axis::batch, Axis::key}, fixed);
        else if (p_.packed_q)
            add(slot, dtype, {Axis::total_q}, fixed);
        else
            add(slot, dtype, {Axis::batch, Axis::query}, fixed);
    }

    void add(attn_slot slot, attn_dtype dtype, std::initializer_list<Axis> axes, std::initializer_list<int64_t> fixed,
             uint32_t index = 0)
    {
        if (status_) return;
        TensorSpec spec;
        spec.slot = slot;
        spec.index = index;
        spec.dtype = dtype;
        spec.output = slot == ATTN_SLOT_OUT || slot == ATTN_SLOT_STATE_OUT;
        const auto push = [&](Axis axis, int64_t bound) {
            spec.axes[spec.ndim] = axis;
            spec.bounds[spec.ndim++] = bound;
        };
        for (const Axis axis : axes) push(axis, p_.bounds[static_cast<int>(axis)]);
        for (const int64_t extent : fixed) push(Axis::fixed, extent);
        if (const attn_bind *bind = binds_.take(slot, index)) {
            const bool gate = slot >= ATTN_SLOT_DECAY && slot <= ATTN_SLOT_FEATURE;
            const DtypeChoice choice = dtype == ATTN_INT32 ? DtypeChoice::integer
                                       : gate              ? DtypeChoice::real
                                                           : DtypeChoice::fixed;
            status_ = apply_bind(*bind, choice, gate, &spec);
        }
        if (!status_) p_.tensors.push_back(spec);
    }

    /// A bind that none of the tensors above asked for: known but not computed, or misplaced.
    attn_status leftover(size_t i, const attn_bind &bind)
    {
        const bool derived =
            (bind.slot & (ATTN_SLOT_GRAD | ATTN_SLOT_TANGENT | ATTN_SLOT_SCALE | ATTN_SLOT_ZERO_POINT)) != 0;
        if (derived || bind.slot == ATTN_SLOT_STATUS) {
            p_.unserved.push_back(std::string("slot ") + slot_name(bind.slot));
            return ATTN_OK;
        }
        if (bind.index != 0)
            return fail(ATTN_ERROR_INVALID, "attn_problem.binds[%zu].index = %u: slot %s has index 0 only%s", i,
                        bind.index, slot_name(bind.slot),
                        bind.slot == ATTN_SLOT_FEATURE ? ", and 1 with ATTN_FEATURE_HEDGEHOG" : "");
        static constexpr struct {
            attn_slot slot;
            const char *rule;
        } kRules[] = {
            {ATTN_SLOT_DECAY, "takes it only where attn_linear.decay is set"},
            {ATTN_SLOT_BETA, "takes it only with ATTN_UPDATE_DELTA"},
            {ATTN_SLOT_ERASE, "takes it only with ATTN_UPDATE_GATED_DELTA"},
            {ATTN_SLOT_WRITE, "takes it only with ATTN_UPDATE_GATED_DELTA"},
            {ATTN_SLOT_DPLR_B, "takes it only with ATTN_UPDATE_DPLR"},
            {ATTN_SLOT_DPLR_C, "takes it only with ATTN_UPDATE_DPLR"},
            {ATTN_SLOT_BONUS, "takes it only with ATTN_READ_BEFORE"},
            {ATTN_SLOT_A_LOG, "takes it only with ATTN_DECAY_SOFTPLUS and ATTN_DECAY_SIGMOID"},
            {ATTN_SLOT_DT_BIAS, "takes it only with ATTN_DECAY_SOFTPLUS and ATTN_DECAY_SIGMOID"},
            {ATTN_SLOT_FEATURE, "takes it only with ATTN_FEATURE_HEDGEHOG"},
            {ATTN_SLOT_STATE_INDEX, "takes it only where a pool of states, STATE_IN or STATE_OUT, is bound"},
            {ATTN_SLOT_CU_SEQLENS_KV, "takes it only where it is bidirectional; CU_SEQLENS_Q packs keys too"},
            {ATTN_SLOT_SEQLENS_KV, "takes it only where it is bidirectional; SEQLENS_Q shortens keys too"},
        };
        const auto *rule = std::find_if(std::begin(kRules), std::end(kRules),
                                        [&](const auto &entry) { return entry.slot == bind.slot; });
        return fail(ATTN_ERROR_INVALID, "attn_problem.binds[%zu].slot = %s: a linear plan %s", i, slot_name(bind.slot),
                    rule != std::end(kRules) ? rule->rule : "does not take it");
    }

    Binds &binds_;
    LinearProblem &p_;
    attn_status status_ = ATTN_OK; ///< The first failure.
};

} // namespace

attn_status list_linear_tensors(Binds *binds, LinearProblem *problem)
{
    return LinearTensors(binds, problem).build();
}

} // namespace attn
