#include "backends/gpu/dense/variants.h"

#include "backends/gpu/shape_override.h"
#include "backends/gpu/views.h"

#include <algorithm>
#include <cstdlib>
#include <string>

namespace attn::gpu {
namespace {

constexpr i32 kFloats = 0, kHalves = 1, kBfloats = 2;

i32 round_up(int64_t value, i32 multiple)
{
    return static_cast<i32>((value + multiple - 1) / multiple * multiple);
}

/// Padded channels: those of the default pack are few.
i32 padded(int64_t dim, bool exact, i32 multiple)
{
    if (exact) return round_up(dim, multiple);
    for (const i32 bucket : {64, 128, 256})
        if (dim <= bucket) return bucket;
    return 576;
}

void set_float_shape(const Wish &wish, Shape *s)
{
    const i32 dim = std::max(s->dim_qk, s->dim_v);
    s->keys = 32, s->stages = 1, s->general = 1, s->blocks = 1;
    if (wish.few)
        s->warps_m = 1, s->warps_n = 4;
    else if (dim <= 128)
        s->warps_m = 4, s->warps_n = 1;
    else if (dim <= 256)
        s->warps_m = 2, s->warps_n = 2;
    else
        s->warps_m = 2, s->warps_n = 4;
    if (dim > 256 && !wish.wide_memory) s->warps_m = 1, s->warps_n = 2, s->keys = 16;
}

void set_pair_shape(const Wish &wish, Shape *s)
{
    const i32 dim = std::max(s->dim_qk, s->dim_v);
    s->keys = 64, s->stages = 2, s->blocks = 1;
    if (dim > 256) { // channels of the output over warps
        s->stages = 1;
        s->warps_n = 4;
        s->warps_m = wish.few ? 1 : 2;
        if (!wish.wide_memory) s->warps_m = 1, s->warps_n = 2, s->keys = 32;
        return;
    }
    if (wish.few) {
        s->warps_m = 1, s->warps_k = 4;
        if (dim <= 128) s->blocks = wish.general ? 2 : 3;
        if (dim > 128 && !wish.wide_memory) s->warps_k = 2, s->keys = 32;
        return;
    }
    s->warps_m = 4;
    if (dim <= 128) {
        s->blocks = 2;
        if (!wish.general) s->row_tiles = 2;
        if (!wish.general && dim <= 64) s->keys = 128;
        if (!wish.general && dim > 64 && !wish.wide_memory) s->keys = 32;
        return;
    }
    if (!wish.general && wish.wide_memory) s->warps_m = 8;
    if (!wish.wide_memory) s->keys = 32, s->stages = 1;
}

} // namespace

i32 product_type(const DenseProblem &p) noexcept
{
    const attn_dtype type = p.q_dtype;
    const bool same = p.k_dtype == type && p.v_dtype == type && p.out_dtype == type;
    i32 element = kFloats;
    if (!same || !element_of(type, &element) || (p.flags & ATTN_STRICT_NONFINITE)) return kFloats;
    // Halves end at 65504, which weights of ReLU and weights times temperatures need not keep to.
    if (element == kHalves && (p.activation == ATTN_RELU || p.has(ATTN_SLOT_V_TEMPERATURE))) return kFloats;
    return element;
}

bool is_plain(const DenseProblem &p) noexcept
{
    if (p.program.present() || product_type(p) == kFloats || p.scale <= 0 || p.mask.align == ATTN_BY_POSITION ||
        p.dim_v % 8 != 0)
        return false;
    if (p.softcap != 0 || p.activation != ATTN_SOFTMAX || p.bias_rank != 0 || p.bias_table.present) return false;
    for (const attn_slot slot : {ATTN_SLOT_BIAS, ATTN_SLOT_ALIBI_SLOPES, ATTN_SLOT_SINK_LOGITS, ATTN_SLOT_Q_TEMPERATURE,
                                 ATTN_SLOT_V_TEMPERATURE, ATTN_SLOT_GATE, ATTN_SLOT_HEAD_WEIGHT, ATTN_SLOT_ROW_MAX,
                                 ATTN_SLOT_ROW_ENTROPY, ATTN_SLOT_COLUMN_MASS})
        if (p.has(slot)) return false;
    return true;
}

bool has_wide_memory(const Facts &facts) noexcept
{
    return facts.shared_bytes_block >= 227 * 1024;
}

Shape shape_of(const Wish &wish) noexcept
{
    Shape s = {};
    s.type = wish.type;
    s.general = wish.general;
    s.row_tiles = s.warps_m = s.warps_n = s.warps_k = 1;
    s.dim_qk = padded(wish.dim_qk, wish.exact, 16);
    s.dim_v = padded(wish.dim_v, wish.exact, 16);
    if (!wish.exact) s.dim_qk = s.dim_v = std::max(s.dim_qk, s.dim_v); // the pack has shapes of equal channels
    s.dim_v = std::min(s.dim_v, static_cast<i32>(kLargestDimV));
    if (wish.type == kFloats)
        set_float_shape(wish, &s);
    else
        set_pair_shape(wish, &s);
    s.dim_v = round_up(s.dim_v, 16 * s.warps_n);
    return s;
}

Shape mass_shape_of(const Wish &wish) noexcept
{
    Shape s = {};
    s.type = wish.exact ? wish.type : kFloats; // the pack has the one that serves all types
    s.general = 1;
    s.row_tiles = s.warps_n = s.warps_k = s.stages = s.blocks = 1;
    s.warps_m = 4;
    s.dim_qk = padded(wish.dim_qk, wish.exact, 16);
    s.dim_v = 16; // V takes no part
    const bool large = s.dim_qk > 256;
    s.keys = s.floats() ? 32 : 64;
    if (large && !wish.wide_memory) s.keys /= 2;
    if (large) s.warps_m = s.floats() ? 1 : wish.wide_memory ? 4 : 2;
    if (s.dim_qk > 128 && !large && s.floats() && !wish.wide_memory) s.warps_m = 2;
    return s;
}

attn_status override_shape(Shape *shape)
{
    constexpr const char *kVariable = "ATTN_GPU_DENSE_SHAPE";
    const ShapeField fields[] = {
        {"type", &shape->type},       {"general", &shape->general},     {"dim_qk", &shape->dim_qk},
        {"dim_v", &shape->dim_v},     {"row_tiles", &shape->row_tiles}, {"warps_m", &shape->warps_m},
        {"warps_n", &shape->warps_n}, {"warps_k", &shape->warps_k},     {"keys", &shape->keys},
        {"stages", &shape->stages},   {"blocks", &shape->blocks}};
    if (const attn_status status = override_fields(kVariable, fields)) return status;
    const char *fault = shape->fault();
    if (fault && std::getenv(kVariable)) return fail(ATTN_ERROR_INVALID, "%s: %s", kVariable, fault);
    return ATTN_OK;
}

namespace {

kernel::Request request_of(const char *source, const char *entry, const Shape &s)
{
    kernel::Request request;
    request.source = source;
    request.entry = entry;
    request.define({{"ATTN_TYPE", s.type},
                    {"ATTN_GENERAL", s.general},
                    {"ATTN_DIM_QK", s.dim_qk},
                    {"ATTN_DIM_V", s.dim_v},
                    {"ATTN_ROW_TILES", s.row_tiles},
                    {"ATTN_WARPS_M", s.warps_m},
                    {"ATTN_WARPS_N", s.warps_n},
                    {"ATTN_WARPS_K", s.warps_k},
                    {"ATTN_KEYS", s.keys},
                    {"ATTN_STAGES", s.stages},
                    {"ATTN_BLOCKS", s.blocks}});
    return request;
}

} // namespace

kernel::Request forward_request(const Shape &shape)
{
    return request_of("backends/gpu/dense/forward.cuh", "attn_dense_forward", shape);
}

kernel::Request mass_request(const Shape &shape)
{
    return request_of("backends/gpu/dense/column_mass.cuh", "attn_dense_column_mass", shape);
}

kernel::Request combine_request(bool programmatic)
{
    kernel::Request request;
    request.source = "backends/gpu/dense/combine.cuh";
    request.entry = "attn_dense_combine";
    if (programmatic) request.define({{"ATTN_PROGRAMMATIC", 1}});
    return request;
}

int64_t combine_blocks(int64_t rows, int64_t dim_v) noexcept
{
    constexpr int64_t kWarps = kCombineThreads / 32, kChannels = 32; // a warp for so many of a row
    return (rows * ((dim_v + kChannels - 1) / kChannels) + kWarps - 1) / kWarps;
}

kernel::Request check_request()
{
    kernel::Request request;
    request.source = "backends/gpu/dense/check.cuh";
    request.entry = "attn_dense_check";
    return request;
}

std::vector<kernel::Request> default_requests(bool wide_memory, bool all_plain)
{
    std::vector<kernel::Request> requests = {combine_request(!all_plain), check_request()};
    for (const i32 type : {kFloats, kHalves, kBfloats})
        for (const int64_t dim : {64, 128, 256, 576})
            for (const bool few : {false, true})
                for (const bool general : {false, true}) {
                    if (!general && (type == kFloats || dim > 256 || (dim == 256 && few))) continue;
                    // Where Hopper's kernels serve most plans, others of few rows get the kernel for any number.
                    const bool is_common = dim == 576 || (dim == 128 && type != kHalves);
                    if (!all_plain && few && general && !is_common) continue;
                    if (!general && !all_plain && !(few && type == kBfloats && dim == 128)) continue;
                    Wish wish;
                    wish.type = type, wish.general = general, wish.few = few;
                    wish.dim_qk = dim, wish.dim_v = std::min<int64_t>(dim, kLargestDimV);
                    wish.wide_memory = wide_memory;
                    requests.push_back(forward_request(shape_of(wish)));
                    if (general && !few && type == kFloats) requests.push_back(mass_request(mass_shape_of(wish)));
                }
    return requests;
}

} // namespace attn::gpu
