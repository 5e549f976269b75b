#include "backends/cuda/latent_sm90/variants.h"

#include "backends/gpu/shape_override.h"

#include <cstdlib>

namespace attn::sm90 {
namespace {

constexpr i32 kHalves = 1, kBfloats = 2;

} // namespace

LatentShape latent_shape_of(i32 type) noexcept
{
    return {type, 1};
}

attn_status override_latent_shape(LatentShape *shape)
{
    constexpr const char *kVariable = "ATTN_GPU_LATENT_SHAPE";
    const gpu::ShapeField fields[] = {{"cluster", &shape->cluster}};
    if (const attn_status status = gpu::override_fields(kVariable, fields)) return status;
    if (const char *fault = shape->fault())
        return fail(ATTN_ERROR_INVALID, "%s = %s: %s", kVariable, std::getenv(kVariable), fault);
    return ATTN_OK;
}

kernel::Request latent_request(const LatentShape &shape)
{
    kernel::Request request;
    request.source = "backends/cuda/latent_sm90/latent.cuh";
    request.entry = "attn_dense_latent_sm90";
    request.define({{"ATTN_TYPE", shape.type}, {"ATTN_CLUSTER", shape.cluster}});
    return request;
}

std::vector<kernel::Request> default_latent_requests()
{
    return {latent_request(latent_shape_of(kBfloats))};
}

std::vector<kernel::Request> further_latent_requests()
{
    return {latent_request(latent_shape_of(kHalves)), latent_request({kBfloats, 2})};
}

} // namespace attn::sm90
