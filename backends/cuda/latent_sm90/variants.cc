#include "backends/cuda/latent_sm90/variants.h"

namespace attn::sm90 {
namespace {

constexpr i32 kHalves = 1, kBfloats = 2;

} // namespace

kernel::Request latent_request(const LatentShape &shape)
{
    kernel::Request request;
    request.source = "backends/cuda/latent_sm90/latent.cuh";
    request.entry = "attn_dense_latent_sm90";
    request.define({{"ATTN_TYPE", shape.type}});
    return request;
}

std::vector<kernel::Request> default_latent_requests()
{
    return {latent_request({kBfloats})};
}

std::vector<kernel::Request> further_latent_requests()
{
    return {latent_request({kHalves})};
}

} // namespace attn::sm90
