#include "backends/cpu/sequence/call.h"

#include "backends/cpu/views.h"
#include "names.h"

#include <algorithm>

namespace attn::cpu {
namespace {

constexpr attn_slot kReals[] = {ATTN_SLOT_X,        ATTN_SLOT_OUT,         ATTN_SLOT_DECAY,    ATTN_SLOT_WRITE,
                                ATTN_SLOT_RESIDUAL, ATTN_SLOT_CONV_WEIGHT, ATTN_SLOT_CONV_BIAS};

long long wide(int64_t value)
{
    return value;
}

TokenOutput output_of(const TokenView &view)
{
    // Views of outputs come from attn_tensor::data, which is not const.
    return {const_cast<char *>(view.base), view.token_step, view.channel_step, view.type};
}

} // namespace

std::string refuse_sequence(const Problem &problem, Isa)
{
    std::string reason;
    for (const std::string &option : problem.unserved) reason += (reason.empty() ? "does not compute " : ", ") + option;
    if (!reason.empty()) return reason;
    for (const attn_slot slot : kReals) {
        const int position = problem.find(slot);
        Element element;
        if (position < 0 || element_of(problem.tensors[static_cast<size_t>(position)].dtype, &element)) continue;
        return std::string("slot ") + slot_name(slot) + " of dtype " +
               dtype_text(problem.tensors[static_cast<size_t>(position)].dtype) +
               ": needs float32, float16 or bfloat16";
    }
    return "";
}

const SequenceKernel &sequence_kernel(Isa isa)
{
#if defined(__x86_64__)
    if (isa >= Isa::avx512) return kSequenceAvx512;
    if (isa == Isa::avx2) return kSequenceAvx2;
#elif defined(__aarch64__)
    if (isa == Isa::neon) return kSequenceNeon;
#endif
    static_cast<void>(isa);
    return kSequenceBaseline;
}

SequenceCall::SequenceCall(const SequenceProblem &problem, const Arguments &arguments) noexcept
    : problem_(problem),
      arguments_(arguments),
      batch_(arguments.sizes.at(Axis::batch)),
      tq_(arguments.sizes.at(Axis::query)),
      total_q_(arguments.sizes.at(Axis::total_q)),
      strips_of_head_((problem.dim_qk + kStripChannels - 1) / kStripChannels)
{
    if (const attn_tensor *given = view(ATTN_SLOT_CU_SEQLENS_Q)) cu_ = IntegerView(*given);
    if (const attn_tensor *given = view(ATTN_SLOT_SEQLENS_Q)) used_ = IntegerView(*given);
    if (const attn_tensor *given = view(ATTN_SLOT_STATE_INDEX)) index_ = IntegerView(*given);
}

const attn_tensor *SequenceCall::view(attn_slot slot) const noexcept
{
    const int position = problem_.find(slot);
    return position < 0 ? nullptr : arguments_.view[position];
}

int64_t SequenceCall::tokens(int64_t b) const noexcept
{
    return used_ ? used_[b] : problem_.packed_q ? cu_[b + 1] - cu_[b] : tq_;
}

bool SequenceCall::writes_nothing() const noexcept
{
    return batch_ == 0 || (!problem_.has(ATTN_SLOT_STATE_OUT) && (problem_.packed_q ? total_q_ : tq_) == 0);
}

attn_status SequenceCall::check() const noexcept
{
    if (problem_.packed_q)
        if (const attn_status status = check_boundaries("CU_SEQLENS_Q", cu_, batch_, total_q_, problem_.max_q))
            return status;
    for (int64_t b = 0; used_ && b < batch_; ++b)
        if (const attn_status status =
                check_length("SEQLENS_Q", b, used_[b], problem_.packed_q ? cu_[b + 1] - cu_[b] : tq_))
            return status;
    if (!index_) return ATTN_OK;
    const int64_t states = arguments_.sizes.at(Axis::states);
    for (int64_t b = 0; b < batch_; ++b)
        if (index_[b] < 0 || index_[b] >= states)
            return fail(ATTN_ERROR_DATA, "STATE_INDEX[%lld] = %lld: must be 0 .. %lld", wide(b), wide(index_[b]),
                        wide(states - 1));
    if (!problem_.checked() || !problem_.has(ATTN_SLOT_STATE_OUT)) return ATTN_OK;
    for (int64_t b = 0; b < batch_; ++b)
        for (int64_t other = 0; other < b; ++other)
            if (index_[b] == index_[other])
                return fail(ATTN_ERROR_DATA, "STATE_INDEX[%lld] = %lld: is that of sequence %lld too, both would write",
                            wide(b), wide(index_[b]), wide(other));
    return ATTN_OK;
}

TokenView SequenceCall::token_view(attn_slot slot, int64_t b, int64_t head, int64_t first) const noexcept
{
    TokenView result = {};
    const attn_tensor *given = view(slot);
    if (!given) return result;
    const Bytes bytes(*given);
    const int token = problem_.packed_q ? 0 : 1;
    const int64_t outer = problem_.packed_q ? cu_[b] * bytes.step[0] : b * bytes.step[0];
    result.type = bytes.type;
    result.token_step = bytes.step[token];
    result.channel_step = step_of(*given, token + 2);
    result.base =
        bytes.at(outer + head * bytes.step[token + 1] + first * result.channel_step * element_bytes(bytes.type));
    return result;
}

TokenView SequenceCall::state_view(attn_slot slot, int64_t b, int64_t head, int64_t first) const noexcept
{
    TokenView result = {};
    const attn_tensor *given = view(slot);
    if (!given) return result;
    const Bytes bytes(*given);
    const int last = given->ndim - 1;
    result.type = bytes.type;
    result.token_step = last == 3 ? bytes.step[1] : 0;
    result.channel_step = step_of(*given, last);
    result.base = bytes.at((index_ ? index_[b] : b) * bytes.step[0] + head * bytes.step[last - 1] +
                           first * result.channel_step * element_bytes(bytes.type));
    return result;
}

SequenceStrip SequenceCall::strip(int64_t b, int64_t number) const noexcept
{
    const int64_t head = number / strips_of_head_, first = number % strips_of_head_ * kStripChannels;
    SequenceStrip strip = {};
    strip.tokens = tokens(b);
    strip.channels = std::min(kStripChannels, problem_.dim_qk - first);
    strip.x = token_view(ATTN_SLOT_X, b, head, first);
    strip.decay = token_view(ATTN_SLOT_DECAY, b, head, first);
    strip.write = token_view(ATTN_SLOT_WRITE, b, head, first);
    strip.residual = token_view(ATTN_SLOT_RESIDUAL, b, head, first);
    strip.out = output_of(token_view(ATTN_SLOT_OUT, b, head, first));
    strip.state_in = state_view(ATTN_SLOT_STATE_IN, b, head, first);
    strip.state_out = output_of(state_view(ATTN_SLOT_STATE_OUT, b, head, first));
    return strip;
}

TokenView SequenceCall::channels(attn_slot slot, int64_t number, bool row) const noexcept
{
    TokenView result = {};
    const attn_tensor *given = view(slot);
    if (!given) return result;
    const int64_t head = number / strips_of_head_, first = number % strips_of_head_ * kStripChannels;
    const Bytes bytes(*given);
    const int64_t step = step_of(*given, 1);
    result.type = bytes.type;
    result.token_step = row ? 0 : step * element_bytes(bytes.type);
    result.channel_step = row ? step : step_of(*given, 2);
    result.base = bytes.at(head * bytes.step[0] + first * step * element_bytes(bytes.type));
    return result;
}

} // namespace attn::cpu
