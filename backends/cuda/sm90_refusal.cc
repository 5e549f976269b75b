#include "backends/cuda/sm90_refusal.h"

#include "backends/gpu/dense/variants.h"

namespace attn::sm90 {
namespace {

/// Keys of a page, at least: each copy costs the engine as much.
constexpr int64_t kFewestPageKeys = 8;

} // namespace

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

std::string page_fault(const DenseProblem &p, int64_t keys)
{
    const int64_t page = p.page_size;
    if (p.storage != Storage::paged || (page >= kFewestPageKeys && (page % keys == 0 || keys % page == 0))) return "";
    return "attn_problem.page_size = " + std::to_string(page) + " (a divisor of " + std::to_string(keys) + " from " +
           std::to_string(kFewestPageKeys) + " on, or a multiple of it)";
}

std::string refuse_request(const kernel::Request &request, gpu::Device &device)
{
    return device.waits_for_compiler() || device.has(request)
               ? ""
               : "is in no pack, and the handle does not wait for a compiler";
}

} // namespace attn::sm90
