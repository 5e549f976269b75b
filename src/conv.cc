#include "conv.h"

#include "abi.h"

namespace attn {

attn_status read_conv(const attn_conv *given, ConvProblem *out)
{
    attn_conv d;
    if (const attn_status status = read_struct(given, "attn_conv", &d)) return status;
    if (const attn_status status = no_extensions(d.next, "attn_conv")) return status;
    if (const attn_status status = check_flags("attn_conv.flags", d.flags, 0)) return status;
    if (!d.problem) return fail(ATTN_ERROR_INVALID, "attn_conv.problem = NULL: required");
    constexpr const char *kPlan = "a convolution";
    out->kind = ATTN_KIND_CONV;
    Binds binds;
    if (const attn_status status = read_sequence_problem(d.problem, kPlan, &binds, out)) return status;
    if (d.width < 1 || d.width > kWidestConvolution)
        return fail(ATTN_ERROR_INVALID, "attn_conv.width = %zu: must be 1 .. %zu", d.width, kWidestConvolution);
    if (const attn_status status = check_enum("attn_conv.activation", d.activation, ATTN_CONV_SILU)) return status;
    if (const attn_status status = read_state_dtype("attn_conv.state_dtype", d.state_dtype, out->q_dtype, binds, out))
        return status;
    out->width = static_cast<int64_t>(d.width);
    out->activation = d.activation;

    SequenceTensors tensors(kPlan, &binds, out);
    tensors.add_token(ATTN_SLOT_X, out->q_dtype);
    tensors.add_channel(ATTN_SLOT_CONV_WEIGHT, ATTN_FLOAT32, {out->width});
    if (tensors.has(ATTN_SLOT_CONV_BIAS)) tensors.add_channel(ATTN_SLOT_CONV_BIAS, ATTN_FLOAT32);
    if (tensors.has(ATTN_SLOT_RESIDUAL)) tensors.add_token(ATTN_SLOT_RESIDUAL, out->q_dtype);
    tensors.add_token(ATTN_SLOT_OUT, out->out_dtype);
    if (d.width > 1) tensors.add_states(out->width - 1);
    tensors.add_lengths();
    constexpr const char *kWide = "where attn_conv.width is more than 1";
    return tensors.finish({{ATTN_SLOT_STATE_IN, kWide},
                           {ATTN_SLOT_STATE_OUT, kWide},
                           {ATTN_SLOT_STATE_INDEX, "where a pool of states, STATE_IN or STATE_OUT, is bound"}});
}

} // namespace attn
