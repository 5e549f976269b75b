#include "backends/cuda/decode_sm90/variants.h"

#include "backends/gpu/shape_override.h"

#include <cstdlib>

namespace attn::sm90 {
namespace {

constexpr i32 kHalves = 1, kBfloats = 2;

i32 round_up(int64_t value, i32 multiple)
{
    return static_cast<i32>((value + multiple - 1) / multiple * multiple);
}

/// Stages that two blocks of threads on an SM need at least, or one gets all of its memory.
constexpr i32 kFewestShared = 3;
/// Bytes asked for ahead, of a block alone on its SM: 96, 128, 160, 192 KiB read 131072 keys of 8 heads in 134, 126,
/// 126, 128 us, with half of the SMs (H200).
constexpr i32 kEnoughAhead = 160 * 1024;

} // namespace

DecodeShape decode_shape_of(i32 type, int64_t rows, int64_t dim_qk, int64_t dim_v, bool alone) noexcept
{
    DecodeShape s = {};
    s.type = type;
    s.rows = DecodeShape::kWarpRows;
    while (s.rows < rows && s.rows < DecodeShape::kMostRows) s.rows *= 2;
    // Of many rows registers are so few that each kernel is looked at, so there are not many.
    s.dim_qk = round_up(dim_qk, s.rows > DecodeShape::kWarpRows ? 64 : 16), s.dim_v = round_up(dim_v, 64);
    for (s.blocks = alone ? 1 : 2; s.blocks >= 1; --s.blocks) {
        s.stages = DecodeShape::kMostStages;
        while (s.stages > 2 && s.fault() != nullptr) --s.stages;
        if (s.stages >= kFewestShared && s.fault() == nullptr) break;
    }
    if (s.blocks < 1) s.blocks = 1;
    while (alone && s.stages > kFewestShared && s.stages * s.stage_bytes() > kEnoughAhead) --s.stages;
    return s;
}

attn_status override_decode_shape(DecodeShape *shape)
{
    constexpr const char *kVariable = "ATTN_GPU_DECODE_SHAPE";
    const i32 least = shape->rows;
    const gpu::ShapeField fields[] = {{"rows", &shape->rows}, {"stages", &shape->stages}, {"blocks", &shape->blocks}};
    if (const attn_status status = gpu::override_fields(kVariable, fields)) return status;
    if (shape->rows < least)
        return fail(ATTN_ERROR_INVALID, "%s = %s: the plan has tiles of more than %d rows", kVariable,
                    std::getenv(kVariable), static_cast<int>(shape->rows));
    if (const char *fault = shape->fault())
        return fail(ATTN_ERROR_INVALID, "%s = %s: %s", kVariable, std::getenv(kVariable), fault);
    return ATTN_OK;
}

kernel::Request decode_request(const DecodeShape &s)
{
    kernel::Request request;
    request.source = "backends/cuda/decode_sm90/decode.cuh";
    request.entry = "attn_dense_decode_sm90";
    request.define({{"ATTN_TYPE", s.type},
                    {"ATTN_ROWS", s.rows},
                    {"ATTN_DIM_QK", s.dim_qk},
                    {"ATTN_DIM_V", s.dim_v},
                    {"ATTN_STAGES", s.stages},
                    {"ATTN_BLOCKS", s.blocks}});
    return request;
}

std::vector<kernel::Request> default_decode_requests()
{
    return {decode_request(decode_shape_of(kBfloats, 16, 64, 64)),
            decode_request(decode_shape_of(kBfloats, 16, 128, 128)),
            decode_request(decode_shape_of(kBfloats, 64, 128, 128)),
            decode_request(decode_shape_of(kHalves, 16, 128, 128))};
}

std::vector<kernel::Request> further_decode_requests()
{
    std::vector<kernel::Request> requests = {decode_request(decode_shape_of(kHalves, 16, 64, 64)),
                                             decode_request(decode_shape_of(kBfloats, 16, 256, 256)),
                                             decode_request(decode_shape_of(kBfloats, 16, 64, 64, true)),
                                             decode_request(decode_shape_of(kBfloats, 16, 128, 128, true)),
                                             decode_request(decode_shape_of(kHalves, 16, 128, 128, true)),
                                             decode_request(decode_shape_of(kBfloats, 16, 96, 96)),
                                             decode_request(decode_shape_of(kBfloats, 16, 192, 128))};
    for (const int64_t rows : {32, 64}) {
        for (int64_t dim_qk = 64; dim_qk <= kLargestDecodeDim; dim_qk += 64)
            for (int64_t dim_v = 64; dim_v <= kLargestDecodeDim; dim_v += 64)
                if (rows != 64 || dim_qk != 128 || dim_v != 128) // which the default pack has
                    requests.push_back(decode_request(decode_shape_of(kBfloats, rows, dim_qk, dim_v)));
        requests.push_back(decode_request(decode_shape_of(kHalves, rows, 128, 128)));
    }
    return requests;
}

} // namespace attn::sm90
