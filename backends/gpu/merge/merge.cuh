// Merge of partial results: OUT = sum over parts of exp(LSE of the part - LSE of all) * its OUT, or their plain sum.
//
// A thread serves 4 channels of one row (a token and a head) and one slice of the parts; slices exist where parts are
// many, so that few rows occupy the GPU too, and their number follows from the plan alone. A block:
//
//     row 0   slice 0   lanes along the channels    run<0>: largest LSE of the slice
//             slice 1   ...                         run<1>: weights, weighted sum of the slice
//             ...                                   run<2>: slice 0 adds the others, gates, writes
//     row 1   slice 0   ...
//
// Each part is read once, 16 bytes of float32 at a time in the vector kernel. Weights are computed by every thread for
// itself: about 30 instructions for 4 channels, which memory hides.
//
// Defines: ATTN_VECTOR 1: the steps of all parts are the same, their rows and those of OUT aligned to 4 elements,
// channels adjacent, their number a multiple of 4; 0: anything; none: the kernel that prepares.
#include "backends/gpu/faults.cuh"
#include "backends/gpu/functions.cuh"
#include "backends/gpu/merge/params.h"

namespace attn::gpu {

/// LSE of a part without keys: -inf.
ATTN_DEVICE float no_keys()
{
    return float_of_bits(0xff800000);
}

template <bool Vector>
class Merge {
public:
    using Parameters = MergeParameters;
    static constexpr i32 kPhases = 3;
    static constexpr i32 kChannels = kMergeChannels;

    /// By thread.
    struct Shared {
        float values[kMergeThreads][kChannels];
        double sum[kMergeThreads];
        float top[kMergeThreads];
        i32 any[kMergeThreads];
    };

    ATTN_DEVICE Merge(const Parameters &p, Shared &shared, const Place &place)
        : p_(p), shared_(shared), parts_(p.table ? p.table : p.parts), thread_(place.thread)
    {
        const u32 lanes = static_cast<u32>(p.lanes), slices = static_cast<u32>(p.slices);
        const u32 group = thread_ / lanes, lane = thread_ - group * lanes;
        const u32 row = group / slices;
        slice_ = static_cast<i32>(group - row * slices);
        first_thread_ = thread_ - static_cast<u32>(slice_) * lanes;
        // The vector kernel takes 4 channels in a row; else neighbouring threads take neighbouring channels.
        const i32 before = static_cast<i32>(place.block_row) * p.lanes * kChannels;
        channel_ = before + static_cast<i32>(lane) * (Vector ? kChannels : 1);
        channel_step_ = Vector ? 1 : p.lanes;
        leader_ = lane == 0 && place.block_row == 0 && slice_ == 0;
        active_ = static_cast<i32>(row) < p.rows_per_block &&
                  locate(static_cast<i64>(place.block) * p.rows_per_block + static_cast<i64>(row));
    }

    template <i32 Phase>
    ATTN_DEVICE void run()
    {
        if constexpr (Phase == 0) find_largest();
        if constexpr (Phase == 1) sum_slice();
        if constexpr (Phase == 2) finish();
    }

private:
    /// Where row `row` of all lies; false if it is not in use.
    ATTN_DEVICE bool locate(i64 row)
    {
        if (row >= p_.rows) return false;
        token_ = divide(row, p_.heads, &head_);
        if (!p_.cu_seqlens.base) {
            batch_ = divide(token_, p_.tq, &token_);
            return !p_.seqlens.base || is_used(batch_, token_, p_.tq);
        }
        if (token_ < load_integer(p_.cu_seqlens, 0) || token_ >= load_integer(p_.cu_seqlens, p_.batch)) return false;
        if (!p_.seqlens.base) return true;
        const i64 b = sequence_of(p_.cu_seqlens, p_.batch, token_);
        const i64 begin = load_integer(p_.cu_seqlens, b), end = load_integer(p_.cu_seqlens, b + 1);
        return begin >= 0 && begin <= end && is_used(b, token_ - begin, end - begin);
    }
    /// Whether SEQLENS_Q uses a row of a sequence of at most `longest`; a length that breaks the rule uses none.
    ATTN_DEVICE bool is_used(i64 b, i64 row, i64 longest) const
    {
        const i64 length = load_integer(p_.seqlens, b);
        return row < length && length <= longest;
    }

    ATTN_DEVICE i64 offset(i64 batch, i64 token, i64 head) const
    {
        return batch_ * batch + token_ * token + head_ * head;
    }
    ATTN_DEVICE char *at(const TokenView &v) const { return v.base + offset(v.batch_step, v.token_step, v.head_step); }
    ATTN_DEVICE char *at(const ScoreView &v) const { return v.base + offset(v.batch_step, v.query_step, v.head_step); }

    ATTN_DEVICE i32 slice_begin() const
    {
        const i32 each = (p_.part_count + p_.slices - 1) / p_.slices;
        const i32 begin = slice_ * each;
        return begin < p_.part_count ? begin : p_.part_count;
    }
    ATTN_DEVICE i32 slice_end() const
    {
        const i32 each = (p_.part_count + p_.slices - 1) / p_.slices;
        const i32 end = (slice_ + 1) * each;
        return end < p_.part_count ? end : p_.part_count;
    }

    ATTN_DEVICE const char *score_row(i32 part) const
    {
        return parts_[part].score + (Vector ? common_score_ : score_offset(parts_[part]));
    }
    ATTN_DEVICE const char *out_row(i32 part) const
    {
        return parts_[part].out + (Vector ? common_out_ : out_offset(parts_[part]));
    }
    ATTN_DEVICE i64 score_offset(const MergePart &part) const
    {
        return offset(part.score_batch, part.score_token, part.score_head);
    }
    ATTN_DEVICE i64 out_offset(const MergePart &part) const
    {
        return offset(part.out_batch, part.out_token, part.out_head);
    }

    /// Phase 0.
    ATTN_DEVICE void find_largest()
    {
        if (!active_) return;
        common_score_ = score_offset(p_.parts[0]);
        common_out_ = out_offset(p_.parts[0]);
        if (p_.head_weight.base) factor_ = load<float>(at(p_.head_weight));
        skipped_ = factor_ == 0 && !p_.score.base; // 0 is exact, whatever the rest holds
        if (skipped_ || !p_.weighed) return;
        float top = no_keys();
        bool any = false;
        const i32 end = slice_end();
        for (i32 part = slice_begin(); part < end; ++part) {
            const float lse = load<float>(score_row(part));
            any |= lse != no_keys(); // so is a NaN
            if (lse > top) top = lse;
        }
        shared_.top[thread_] = top;
        shared_.any[thread_] = any;
    }

    /// Phase 1.
    ATTN_DEVICE void sum_slice()
    {
        if (!active_ || skipped_) return;
        if (p_.weighed) {
            sink_ = p_.sinks ? load<float>(p_.sinks + head_ * p_.sink_step) : no_keys();
            top_ = sink_;
            any_ = false;
            for (i32 slice = 0; slice < p_.slices; ++slice) {
                const u32 other = first_thread_ + static_cast<u32>(slice * p_.lanes);
                if (shared_.top[other] > top_) top_ = shared_.top[other];
                any_ |= shared_.any[other] != 0;
            }
            if (!any_) return;
        }
        const bool needs_values = factor_ != 0; // else the sum of weights is wanted, for LSE
        switch (p_.part_type) {
        case kFloat32:
            sum_parts<kFloat32>(needs_values);
            break;
        case kFloat16:
            sum_parts<kFloat16>(needs_values);
            break;
        case kBfloat16:
            sum_parts<kBfloat16>(needs_values);
            break;
        }
        if (p_.slices == 1) return;
        ATTN_UNROLL
        for (i32 c = 0; c < kChannels; ++c) shared_.values[thread_][c] = values_[c];
        shared_.sum[thread_] = sum_;
    }

    template <i32 Type>
    ATTN_DEVICE void sum_parts(bool needs_values)
    {
        constexpr i32 kAtOnce = Vector ? 4 : 2; // loads in flight
        const i32 end = slice_end();
        for (i32 part = slice_begin(); part < end;) {
            const i32 group_end = part + kPartsPerSum < end ? part + kPartsPerSum : end;
            float group[kChannels];
            ATTN_UNROLL
            for (i32 c = 0; c < kChannels; ++c) group[c] = -0.0f;
            for (; part < group_end; part += kAtOnce) {
                float weights[kAtOnce], rows[kAtOnce][kChannels] = {};
                bool present[kAtOnce];
                ATTN_UNROLL
                for (i32 i = 0; i < kAtOnce; ++i) {
                    present[i] = part + i < group_end;
                    weights[i] = 1;
                    if (!present[i] || !p_.weighed) continue;
                    const float lse = load<float>(score_row(part + i));
                    present[i] = lse != no_keys();
                    weights[i] = present[i] ? exp_difference(lse, top_) : 0.0f;
                    sum_ += static_cast<double>(weights[i]);
                }
                if (!needs_values) continue;
                ATTN_UNROLL
                for (i32 i = 0; i < kAtOnce; ++i)
                    if (present[i]) load_part<Type>(part + i, rows[i]);
                ATTN_UNROLL
                for (i32 i = 0; i < kAtOnce; ++i)
                    if (present[i]) ATTN_UNROLL
                for (i32 c = 0; c < kChannels; ++c) group[c] = multiply_add(weights[i], rows[i][c], group[c]);
            }
            part = group_end;
            ATTN_UNROLL
            for (i32 c = 0; c < kChannels; ++c) values_[c] += group[c];
        }
    }

    ATTN_DEVICE bool has_channel(i32 c) const { return channel_ + c * channel_step_ < p_.channels; }

    template <i32 Type>
    ATTN_DEVICE void load_part(i32 part, float *to) const
    {
        const char *row = out_row(part);
        if constexpr (Vector) {
            if (has_channel(0)) load_four(Type, row + channel_ * bytes_of(Type), to);
        } else {
            const i64 step = parts_[part].out_channel;
            ATTN_UNROLL
            for (i32 c = 0; c < kChannels; ++c)
                if (has_channel(c)) to[c] = load_element(Type, row + (channel_ + c * channel_step_) * step);
        }
    }

    /// Phase 2.
    ATTN_DEVICE void finish()
    {
        if (!active_ || slice_ != 0) return;
        double sum = sum_;
        if (any_ && !skipped_)
            for (i32 slice = 1; slice < p_.slices; ++slice) {
                const u32 other = first_thread_ + static_cast<u32>(slice * p_.lanes);
                sum += shared_.sum[other];
                ATTN_UNROLL
                for (i32 c = 0; c < kChannels; ++c) values_[c] += shared_.values[other][c];
            }
        const bool zeros = factor_ == 0 || !any_;
        if (p_.weighed && !skipped_) {
            if (any_ && sink_ != no_keys()) sum += static_cast<double>(exp_difference(sink_, top_));
            if (leader_ && p_.score.base)
                store(at(p_.score), any_ ? static_cast<float>(static_cast<double>(top_) + logarithm(sum)) : sink_);
        }
        if (zeros) {
            ATTN_UNROLL
            for (i32 c = 0; c < kChannels; ++c) values_[c] = 0;
            return write();
        }
        if (p_.weighed) {
            const double inverse = 1 / sum;
            ATTN_UNROLL
            for (i32 c = 0; c < kChannels; ++c)
                values_[c] = static_cast<float>(static_cast<double>(values_[c]) * inverse);
        }
        ATTN_UNROLL
        for (i32 c = 0; c < kChannels; ++c) values_[c] *= factor_;
        if (p_.gate.base) apply_gate();
        write();
    }

    ATTN_DEVICE void apply_gate()
    {
        const TokenView &gate = p_.gate;
        const char *row = at(gate);
        float gates[kChannels] = {};
        if (Vector && gate.vector) {
            if (has_channel(0)) load_four(gate.type, row + channel_ * gate.channel_step, gates);
        } else {
            ATTN_UNROLL
            for (i32 c = 0; c < kChannels; ++c)
                if (has_channel(c))
                    gates[c] = load_element(gate.type, row + (channel_ + c * channel_step_) * gate.channel_step);
        }
        ATTN_UNROLL
        for (i32 c = 0; c < kChannels; ++c) {
            const float g = gates[c];
            values_[c] *= p_.gate_kind == kGateLinear ? g : p_.gate_kind == kGateSilu ? g * sigmoid(g) : sigmoid(g);
        }
    }

    ATTN_DEVICE void write() const
    {
        char *row = at(p_.out);
        if constexpr (Vector) {
            if (has_channel(0)) store_four(p_.out.type, row + channel_ * p_.out.channel_step, values_);
        } else {
            ATTN_UNROLL
            for (i32 c = 0; c < kChannels; ++c)
                if (has_channel(c))
                    store_element(p_.out.type, row + (channel_ + c * channel_step_) * p_.out.channel_step, values_[c]);
        }
    }

    const Parameters &p_;
    Shared &shared_;
    const MergePart *const parts_; ///< In memory, or among the parameters.
    const u32 thread_;
    u32 first_thread_; ///< Of this row and channel, the thread of slice 0.
    i32 slice_, channel_, channel_step_;
    bool leader_, active_;
    bool skipped_ = false, any_ = true; ///< No work to do; any part has keys.
    i64 batch_ = 0, token_ = 0, head_ = 0;
    i64 common_score_ = 0, common_out_ = 0; ///< Offsets of all parts, in the vector kernel.
    float factor_ = 1, sink_ = no_keys(), top_ = no_keys();
    double sum_ = 0;
    float values_[kChannels] = {-0.0f, -0.0f, -0.0f, -0.0f}; ///< Not 0: added to -0 it changes nothing.
};

/// Writes the views of parts to the workspace, or looks for faults.
class MergePrepare {
public:
    using Parameters = MergePrepareParameters;
    static constexpr i32 kPhases = 2;
    using Shared = FaultTable;

    ATTN_DEVICE MergePrepare(const Parameters &p, Shared &shared, const Place &place)
        : p_(p), shared_(shared), thread_(static_cast<i32>(place.thread))
    {
    }

    template <i32 Phase>
    ATTN_DEVICE void run()
    {
        if constexpr (Phase == 0) p_.to ? write_parts() : find_faults();
        if constexpr (Phase == 1)
            if (!p_.to && thread_ == 0) report_first(shared_, p_.status);
    }

private:
    ATTN_DEVICE void write_parts() const
    {
        for (i32 part = thread_; part < p_.count; part += kFaultThreads) p_.to[part] = p_.parts[part];
    }

    ATTN_DEVICE void find_faults()
    {
        Fault first = {};
        if (p_.cu_seqlens.base)
            for (i64 i = thread_; i <= p_.batch; i += kFaultThreads)
                keep_first(boundary_fault(p_.cu_seqlens, i, p_.total_rows, p_.longest, 1, kSlotCuSeqlensQ), &first);
        if (p_.seqlens.base)
            for (i64 b = thread_; b < p_.batch; b += kFaultThreads) {
                const i64 length = load_integer(p_.seqlens, b);
                if (length < 0 || length > rows_of(b)) keep_first({2, kSlotSeqlensQ, b, length}, &first);
            }
        shared_.first[thread_] = first;
    }

    /// Of a sequence, in use or not.
    ATTN_DEVICE i64 rows_of(i64 b) const
    {
        return p_.cu_seqlens.base ? load_integer(p_.cu_seqlens, b + 1) - load_integer(p_.cu_seqlens, b) : p_.tq;
    }

    const Parameters &p_;
    Shared &shared_;
    const i32 thread_;
};

#if defined(__CUDACC__)
#if defined(ATTN_VECTOR)
extern "C" __global__ void __launch_bounds__(kMergeThreads, 3)
    attn_merge(const __grid_constant__ MergeParameters parameters)
{
    using Program = Merge<ATTN_VECTOR != 0>;
    __shared__ Program::Shared shared;
    run_program<Program>(parameters, shared);
}
#else
extern "C" __global__ void __launch_bounds__(kFaultThreads)
    attn_merge_prepare(const __grid_constant__ MergePrepareParameters parameters)
{
    __shared__ MergePrepare::Shared shared;
    run_program<MergePrepare>(parameters, shared);
}
#endif
#endif

} // namespace attn::gpu
