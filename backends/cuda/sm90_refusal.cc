#include "backends/cuda/sm90_refusal.h"

#include "backends/gpu/dense/variants.h"

namespace attn::sm90 {

std::string refuse_device(const gpu::Facts &facts)
{
    if (facts.arch != "sm_90a")
        return "needs compute capability 9.0, this is " + std::to_string(facts.major) + "." +
               std::to_string(facts.minor);
    return gpu::has_wide_memory(facts) ? "" : "needs 227 KiB of shared memory for a block of threads";
}

std::string refuse_faults(const std::vector<std::string> &faults)
{
    std::string reason;
    for (const std::string &fault : faults) reason += (reason.empty() ? "does not compute " : ", ") + fault;
    return reason;
}

std::string refuse_request(const kernel::Request &request, gpu::Device &device)
{
    return device.waits_for_compiler() || device.has(request)
               ? ""
               : "is in no pack, and the handle does not wait for a compiler";
}

} // namespace attn::sm90
