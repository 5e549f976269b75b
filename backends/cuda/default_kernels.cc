#include "backends/cuda/default_kernels.h"

#include "backends/cuda/decode_sm90/variants.h"
#include "backends/cuda/dense_sm90/variants.h"
#include "backends/cuda/latent_sm90/variants.h"
#include "backends/gpu/append/executor.h"
#include "backends/gpu/dense/mask_bits.h"
#include "backends/gpu/dense/variants.h"
#include "backends/gpu/merge/executor.h"

#include <algorithm>

namespace attn::cuda {

std::vector<kernel::Request> default_kernels(const DefaultTarget &target)
{
    std::vector<kernel::Request> all;
    // Where there are kernels for Hopper, portable ones of many rows are left to the general kernel, their spare.
    std::vector<kernel::Request> hopper;
    if (target.hopper)
        for (const auto &requests :
             {sm90::default_requests(), sm90::default_decode_requests(), sm90::default_latent_requests()})
            hopper.insert(hopper.end(), requests.begin(), requests.end());
    for (const std::vector<kernel::Request> &family :
         {hopper, gpu::default_requests(target.wide_memory, !target.hopper),
          std::vector<kernel::Request>{gpu::mask_bits_request()}, gpu::merge_requests(), gpu::append_requests()})
        for (const kernel::Request &request : family)
            if (std::find(all.begin(), all.end(), request) == all.end()) all.push_back(request);
    return all;
}

} // namespace attn::cuda
