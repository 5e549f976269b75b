// The choice from an implementation list.
#include "backends/gpu/implementation.h"

#include "names.h"

namespace attn::gpu {

attn_status choose(std::span<const Implementation> list, const char *backend, const Problem &problem, Device &device,
                   std::unique_ptr<Executor> *executor)
{
    std::string refusals;
    for (const Implementation &implementation : list) {
        if (implementation.kind != problem.kind) continue;
        const std::string reason = implementation.refuse(problem, device);
        if (reason.empty()) return executor ? implementation.make(problem, device, executor) : ATTN_OK;
        if (!refusals.empty()) refusals += "; ";
        refusals += std::string(implementation.name) + " " + reason;
    }
    return fail(ATTN_ERROR_UNSUPPORTED, "attn_%s: no kernel of the %s backend serves this%s%s", kind_name(problem.kind),
                backend, refusals.empty() ? "" : ": ", refusals.c_str());
}

} // namespace attn::gpu
