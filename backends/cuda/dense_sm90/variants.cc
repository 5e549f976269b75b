#include "backends/cuda/dense_sm90/variants.h"

#include "backends/cuda/sm90_model.h"
#include "backends/gpu/dense/variants.h"
#include "backends/gpu/shape_override.h"
#include "backends/gpu/views.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <initializer_list>
#include <string>

namespace attn::sm90 {
namespace {

i32 round_up(int64_t value, i32 multiple)
{
    return static_cast<i32>((value + multiple - 1) / multiple * multiple);
}

/// Registers of a thread for scores, weights and output: of 232 what the rest leaves. Found by compiling.
i32 most_tile_registers(i32 features)
{
    const i32 others = features & (kSoftcap | kAlibi | kQueryTemperature | kValueTemperature | kLowRank);
    if (features & kAnyBias) return others != 0 ? 128 : 152;
    const i32 with_gate = others | (features & kGate);
    const bool is_crowded = (features & kEpilogue) || std::popcount(static_cast<gpu::u32>(with_gate)) > 1;
    if (features & (kSigmoidWeights | kReluWeights)) return is_crowded ? 152 : 176;
    return 176;
}

/// Rows from which blocks of threads that copy K and V together are faster, with heads above 128 and with large ones up
/// to 128: d 256 767 beside 756 TFLOP/s at 8192, 531 beside 540 at 512; d 128 742 beside 746 at 2048 (H200, full).
constexpr int64_t kLongRows = 2048, kLongRowsOf128 = 4096;
/// Keys from which steps that hope are faster: d 128 full 683 beside 674 TFLOP/s at 1024, 565 beside 590 at 512; causal
/// 628 beside 625 at 2048, 503 beside 512 at 1024 (H200).
constexpr int64_t kHopefulKeys = 1024, kHopefulKeysCausal = 2048;

/// The heads that hopes and Q in registers pay for: measured with 128 channels; with 96 they gain nothing.
bool is_large(const Wish &wish)
{
    return wish.features == 0 && std::min(wish.dim_qk, wish.dim_v) > 96 && std::max(wish.dim_qk, wish.dim_v) <= 128;
}

MaskKind mask_kind(const DenseMask &mask)
{
    if (mask.align == ATTN_BY_POSITION) return kMaskPosition;
    const bool has_window = mask.has_left || mask.has_right;
    if (mask.has_left || (has_window && mask.sink_tokens > 0)) return kMaskWindow;
    return mask.causal || mask.has_right ? kMaskDiagonal : kMaskEnd;
}

i32 tile_registers(const Shape &s)
{
    return s.keys / 2 + s.keys / 4 + s.dim_v / 2;
}

} // namespace

Wish wish_of(const DenseProblem &p) noexcept
{
    Wish wish;
    wish.type = gpu::product_type(p);
    wish.dim_qk = p.dim_qk, wish.dim_v = p.dim_v;
    if (p.softcap != 0) wish.features |= kSoftcap;
    if (p.has(ATTN_SLOT_ALIBI_SLOPES)) wish.features |= kAlibi;
    if (p.has(ATTN_SLOT_Q_TEMPERATURE)) wish.features |= kQueryTemperature;
    if (p.has(ATTN_SLOT_V_TEMPERATURE)) wish.features |= kValueTemperature;
    if (p.has(ATTN_SLOT_SINK_LOGITS) || p.has(ATTN_SLOT_HEAD_WEIGHT) || p.has(ATTN_SLOT_ROW_MAX))
        wish.features |= kEpilogue;
    if (p.has(ATTN_SLOT_GATE)) wish.features |= kGate;
    if (p.activation == ATTN_SIGMOID) wish.features |= kSigmoidWeights;
    if (p.activation == ATTN_RELU) wish.features |= kReluWeights;
    if (const int bias = p.find(ATTN_SLOT_BIAS); bias >= 0) {
        i32 type = gpu::kFloat32;
        gpu::element_of(p.tensors[static_cast<size_t>(bias)].dtype, &type);
        wish.features |= type == gpu::kFloat32 ? kBiasFloat32 : type == gpu::kFloat16 ? kBiasFloat16 : kBiasBfloat16;
    }
    if (p.bias_stage == ATTN_BIAS_PRE_SOFTCAP && p.softcap != 0 && (wish.features & (kAnyBias | kAlibi)))
        wish.features |= kBiasFirst;
    wish.rank = p.bias_rank;
    if (p.bias_rank != 0) wish.features |= kLowRank;
    wish.mask = mask_kind(p.mask);
    wish.is_long = p.max_q >= (std::max(p.dim_qk, p.dim_v) > 128 ? kLongRows : kLongRowsOf128) && is_uniform(p);
    wish.hopes = p.max_kv >= (wish.mask == kMaskDiagonal ? kHopefulKeysCausal : kHopefulKeys);
    // Under a diagonal larger tiles reach further beyond it.
    wish.is_short = wish.mask == kMaskDiagonal && forward_us(p, 2, 1) < forward_us(p, 3, 1);
    return wish;
}

bool is_uniform(const DenseProblem &p) noexcept
{
    return mask_kind(p.mask) == kMaskEnd && !p.packed_q && p.storage != Storage::packed &&
           !p.has(ATTN_SLOT_SEQLENS_Q) && !p.has(ATTN_SLOT_SEQLENS_KV);
}

Shape shape_of(const Wish &wish) noexcept
{
    Shape s = {};
    s.type = wish.type, s.features = wish.features, s.mask = wish.mask;
    s.dim_qk = round_up(wish.dim_qk, 16), s.dim_v = round_up(wish.dim_v, 64), s.rank = round_up(wish.rank, 16);
    // Three consumers have fewer registers each: enough for small heads, if nothing but softmax is to be done.
    const bool is_small = s.dim_qk <= 64 && s.dim_v <= 64;
    // But their larger tiles reach further beyond a diagonal, and masks by position take registers.
    s.consumers = is_small && s.features == 0 && s.mask != kMaskPosition && !wish.is_short ? 3 : 2;
    s.stages = 2, s.query_buffers = 1, s.unroll = 1, s.cluster = 1;
    // With larger heads the registers that turns take are missing, and products are long enough without.
    s.turns = s.dim_v <= 128;
    for (const i32 keys : {128, 96, 80, 64}) {
        s.keys = keys;
        if (tile_registers(s) <= most_tile_registers(s.features) && s.fault() == nullptr) break;
    }
    s.query_buffers = 2;
    if (s.fault() != nullptr) s.query_buffers = 1;
    if (wish.is_long && s.consumers == 2 && (std::max(s.dim_qk, s.dim_v) > 128 || is_large(wish))) s.cluster = 2;
    s.holds_q = is_large(wish) && s.mask == kMaskEnd;
    s.hopes = is_large(wish) && wish.hopes && (s.mask == kMaskEnd || s.mask == kMaskDiagonal);
    return s;
}

attn_status override_shape(Shape *shape)
{
    constexpr const char *kVariable = "ATTN_GPU_SM90_SHAPE";
    const gpu::ShapeField fields[] = {{"consumers", &shape->consumers}, {"keys", &shape->keys},
                                      {"stages", &shape->stages},       {"query_buffers", &shape->query_buffers},
                                      {"turns", &shape->turns},         {"unroll", &shape->unroll},
                                      {"cluster", &shape->cluster},     {"holds_q", &shape->holds_q},
                                      {"hopes", &shape->hopes}};
    if (const attn_status status = gpu::override_fields(kVariable, fields)) return status;
    if (const char *fault = shape->fault())
        return fail(ATTN_ERROR_INVALID, "%s = %s: %s", kVariable, std::getenv(kVariable), fault);
    return ATTN_OK;
}

kernel::Request forward_request(const Shape &s)
{
    kernel::Request request;
    request.source = "backends/cuda/dense_sm90/forward.cuh";
    request.entry = "attn_dense_forward_sm90";
    request.define({{"ATTN_TYPE", s.type},
                    {"ATTN_FEATURES", s.features},
                    {"ATTN_MASK", s.mask},
                    {"ATTN_DIM_QK", s.dim_qk},
                    {"ATTN_DIM_V", s.dim_v},
                    {"ATTN_CONSUMERS", s.consumers},
                    {"ATTN_KEYS", s.keys},
                    {"ATTN_STAGES", s.stages},
                    {"ATTN_QUERY_BUFFERS", s.query_buffers},
                    {"ATTN_TURNS", s.turns},
                    {"ATTN_UNROLL", s.unroll},
                    {"ATTN_CLUSTER", s.cluster},
                    {"ATTN_RANK", s.rank},
                    {"ATTN_HOLDS_Q", s.holds_q},
                    {"ATTN_HOPES", s.hopes}});
    return request;
}

namespace {

/// A kernel of common models.
struct Common {
    i32 type, features, mask;
    int64_t dim_qk, dim_v, rank = 0;
    bool is_long = false, hopes = true;
};
constexpr i32 kHalves = 1, kBfloats = 2;

std::vector<kernel::Request> requests_for(std::initializer_list<Common> list)
{
    std::vector<kernel::Request> requests;
    for (const auto &[type, features, mask, dim_qk, dim_v, rank, is_long, hopes] : list)
        requests.push_back(
            forward_request(shape_of({type, features, mask, dim_qk, dim_v, false, is_long, rank, hopes})));
    return requests;
}

} // namespace

std::vector<kernel::Request> further_requests()
{
    return requests_for({
        {kBfloats, 0, kMaskWindow, 64, 64},
        {kBfloats, 0, kMaskEnd, 96, 96},
        {kBfloats, 0, kMaskDiagonal, 96, 96},
        {kBfloats, 0, kMaskPosition, 64, 64},
        {kBfloats, 0, kMaskPosition, 128, 128},
        {kBfloats, 0, kMaskPosition, 256, 256},
        {kBfloats, kAlibi, kMaskPosition, 128, 128},
        {kBfloats, 0, kMaskEnd, 128, 128, 0, true},
        {kBfloats, 0, kMaskEnd, 128, 128, 0, false, false},
        {kBfloats, 0, kMaskDiagonal, 128, 128, 0, false, false},
        {kHalves, 0, kMaskEnd, 128, 128, 0, true},
        {kBfloats, 0, kMaskEnd, 192, 128, 0, true},
        {kBfloats, 0, kMaskEnd, 256, 256, 0, true},
        {kBfloats, 0, kMaskWindow, 256, 256},
        {kHalves, 0, kMaskEnd, 64, 64},
        {kHalves, 0, kMaskDiagonal, 64, 64},
        {kHalves, 0, kMaskEnd, 128, 128},
        {kBfloats, kSoftcap, kMaskWindow, 128, 128},
        {kBfloats, kValueTemperature, kMaskDiagonal, 128, 128},
        {kBfloats, kAlibi, kMaskDiagonal, 128, 128},
        {kBfloats, kEpilogue, kMaskDiagonal, 64, 64},
        {kBfloats, kGate, kMaskDiagonal, 128, 128},
        {kBfloats, kSigmoidWeights, kMaskDiagonal, 128, 128},
        {kBfloats, kReluWeights, kMaskEnd, 64, 64},
        {kBfloats, kBiasBfloat16, kMaskEnd, 128, 128},
        {kHalves, kBiasFloat32, kMaskDiagonal, 64, 64},
        {kBfloats, kLowRank, kMaskEnd, 64, 64, 16},
        {kBfloats, kLowRank, kMaskDiagonal, 128, 128, 64},
        {kBfloats, kLowRank | kSoftcap, kMaskWindow, 192, 128, 32},
    });
}

std::vector<kernel::Request> default_requests()
{
    return requests_for({
        {kBfloats, 0, kMaskEnd, 64, 64},
        {kBfloats, 0, kMaskDiagonal, 64, 64},
        {kBfloats, kEpilogue, kMaskWindow, 64, 64}, // sink logits
        {kBfloats, 0, kMaskEnd, 128, 128},
        {kBfloats, 0, kMaskDiagonal, 128, 128},
        {kBfloats, 0, kMaskWindow, 128, 128},
        {kBfloats, kSoftcap, kMaskDiagonal, 128, 128},
        {kBfloats, 0, kMaskEnd, 192, 128},
        {kBfloats, 0, kMaskDiagonal, 192, 128},
        {kBfloats, 0, kMaskEnd, 256, 256},
        {kBfloats, 0, kMaskDiagonal, 256, 256},
        {kHalves, 0, kMaskDiagonal, 128, 128},
    });
}

} // namespace attn::sm90
