#include "backends/gpu/default_kernels.h"

#include "backends/gpu/append/executor.h"
#include "backends/gpu/dense/mask_bits.h"
#include "backends/gpu/dense/variants.h"
#include "backends/gpu/merge/executor.h"

#include <algorithm>

namespace attn::gpu {

std::vector<kernel::Request> default_kernels(const DefaultTarget &target)
{
    std::vector<kernel::Request> all;
    for (const std::vector<kernel::Request> &family :
         {default_requests(target.wide_memory), std::vector<kernel::Request>{mask_bits_request()}, merge_requests(),
          append_requests()})
        for (const kernel::Request &request : family)
            if (std::find(all.begin(), all.end(), request) == all.end()) all.push_back(request);
    return all;
}

} // namespace attn::gpu
