// The choice from an implementation list.
#include "backends/gpu/implementation.h"

#include "names.h"

#include <cstdlib>
#include <string_view>
#include <utility>
#include <vector>

namespace attn::gpu {
namespace {

constexpr const char *kVariable = "ATTN_GPU_IMPLEMENTATION";

/// Why the implementation is not taken; empty if it is.
std::string refuse(const Implementation &implementation, Selection selection, const Problem &problem, Device &device)
{
    if (implementation.family == Family::sm90 && selection == Selection::portable)
        return std::string("is not portable: ") + kVariable + " = portable";
    return implementation.refuse(problem, device);
}

} // namespace

attn_status read_selection(Selection *out)
{
    const char *text = secure_getenv(kVariable);
    *out = Selection::standard;
    if (!text || !*text) return ATTN_OK;
    const std::string_view name = text;
    if (name != "portable") return fail(ATTN_ERROR_INVALID, "%s = %s: must be portable, or not set", kVariable, text);
    *out = Selection::portable;
    return ATTN_OK;
}

attn_status choose(std::span<const Implementation> list, Selection selection, const char *backend,
                   const Problem &problem, Device &device, std::unique_ptr<Executor> *executor)
{
    std::vector<Refusal> refusals;
    for (const Implementation &implementation : list) {
        if (implementation.kind != problem.kind) continue;
        std::string reason = refuse(implementation, selection, problem, device);
        if (reason.empty()) {
            if (!executor) return ATTN_OK;
            const attn_status status = implementation.make(problem, device, executor);
            if (status == ATTN_OK) {
                (*executor)->refusals = std::move(refusals);
                return ATTN_OK;
            }
            if (status != ATTN_ERROR_COMPILE || implementation.family == Family::portable) return status;
            reason = last_error();
        }
        refusals.push_back({implementation.name, std::move(reason)});
    }
    std::string text;
    for (const Refusal &refusal : refusals)
        text += (text.empty() ? ": " : "; ") + refusal.kernel + " " + refusal.reason;
    return fail(ATTN_ERROR_UNSUPPORTED, "attn_%s: no kernel of the %s backend serves this%s", kind_name(problem.kind),
                backend, text.c_str());
}

} // namespace attn::gpu
