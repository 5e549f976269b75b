// Planning and executing dense plans, for backend.h.
#include "backend.h"
#include "launch.h"

#include <algorithm>
#include <stdexcept>

namespace conformance {
namespace {

std::string failure(const char *function, attn_status status)
{
    return std::string(function) + ": " + attn_status_name(status) + ": " + attn_last_error();
}

} // namespace

PlanPointer make_plan(attn_handle handle, const Descriptor &descriptor, std::string &why)
{
    attn_plan plan = nullptr;
    const attn_status status = attn_plan_dense(handle, &descriptor.dense, &plan);
    if (status == ATTN_OK) return PlanPointer(plan);
    why = failure("attn_plan_dense", status);
    return nullptr;
}

std::string execute(attn_plan plan, Instance &instance, WorkspaceSize kind)
{
    std::size_t bytes = 0;
    if (const attn_status status = attn_plan_workspace(plan, &bytes, nullptr))
        return failure("attn_plan_workspace", status);
    if (kind == WorkspaceSize::for_actual_sizes) {
        Bounds actual = instance.actual();
        actual.max_q = actual.max_kv = 0; // the longest used lengths, not the rows reserved for them
        for (const Content &c : instance.contents()) {
            actual.max_q = std::max(actual.max_q, c.used.tq);
            actual.max_kv = std::max(actual.max_kv, c.used.tk);
        }
        attn_sizes sizes{};
        sizes.size = sizeof sizes;
        sizes.batch = actual.batch, sizes.max_q = actual.max_q, sizes.max_kv = actual.max_kv;
        if (instance.spec().q_packed()) sizes.total_q = actual.total_q;
        if (instance.spec().kv_packed()) sizes.total_kv = actual.total_kv;
        std::size_t needed = 0;
        if (const attn_status status = attn_plan_workspace_for(plan, &sizes, &needed))
            return failure("attn_plan_workspace_for", status);
        if (needed > bytes)
            return "workspace for the actual sizes, " + std::to_string(needed) + ", exceeds the bound of the plan, " +
                   std::to_string(bytes);
        bytes = needed;
    }
    try {
        const attn_status status = launch(plan, instance.args(), bytes);
        return status == ATTN_OK ? "" : failure("attn_execute", status);
    } catch (const std::exception &error) {
        return error.what();
    }
}

} // namespace conformance
