#include "backend.h"

#include "backends/cpu/append/write.h"
#include "backends/cpu/dense/forward.h"
#include "backends/cpu/features.h"
#include "backends/cpu/linear/executor.h"
#include "backends/cpu/merge/executor.h"
#include "backends/cpu/sequence/executor.h"
#include "names.h"

namespace attn {
namespace cpu {
namespace {

/// One entry of the implementation list. It gets problems of its kind only.
struct Implementation {
    attn_kind kind;
    const char *name;
    /// Why it does not serve a problem; empty if it does.
    std::string (*refuse)(const Problem &problem, Isa isa);
    std::unique_ptr<Executor> (*make)(const attn_handle_s &handle, const Problem &problem, Isa isa);
};

/// For each kind the best first.
constexpr Implementation kImplementations[] = {
    {ATTN_KIND_DENSE, "cpu.dense.forward_bf16", refuse_forward_bf16, make_forward_bf16},
    {ATTN_KIND_DENSE, "cpu.dense.forward", refuse_forward, make_forward},
    {ATTN_KIND_MERGE, "cpu.merge", refuse_merge, make_merge},
    {ATTN_KIND_APPEND, "cpu.append", refuse_append, make_append},
    {ATTN_KIND_LINEAR, "cpu.linear.chunk", refuse_linear_chunk, make_linear_chunk},
    {ATTN_KIND_LINEAR, "cpu.linear.recurrent", refuse_linear_recurrent, make_linear_recurrent},
    {ATTN_KIND_CONV, "cpu.conv", refuse_sequence, make_conv},
    {ATTN_KIND_SCAN, "cpu.scan", refuse_sequence, make_scan},
};

class CpuBackend final : public Backend {
public:
    explicit CpuBackend(Isa isa) : isa_(isa) {}

    const char *name() const noexcept override { return "cpu"; }

    attn_status plan(const attn_handle_s &handle, const Problem &problem,
                     std::unique_ptr<Executor> *executor) const override
    {
        std::string refusals;
        for (const Implementation &implementation : kImplementations) {
            if (implementation.kind != problem.kind) continue;
            const std::string reason = implementation.refuse(problem, isa_);
            if (reason.empty()) {
                if (executor) *executor = implementation.make(handle, problem, isa_);
                return ATTN_OK;
            }
            if (!refusals.empty()) refusals += "; ";
            refusals += std::string(implementation.name) + " " + reason;
        }
        return fail(ATTN_ERROR_UNSUPPORTED, "attn_%s: no kernel of the cpu backend serves this%s%s",
                    kind_name(problem.kind), refusals.empty() ? "" : ": ", refusals.c_str());
    }

private:
    Isa isa_;
};

} // namespace
} // namespace cpu

attn_status open_cpu_backend(std::unique_ptr<Backend> *out)
{
    cpu::Isa isa;
    if (const attn_status status = cpu::choose_isa(&isa)) return status;
    *out = std::make_unique<cpu::CpuBackend>(isa);
    return ATTN_OK;
}

} // namespace attn
