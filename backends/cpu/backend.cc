#include "backend.h"

#include "backends/cpu/dense/forward.h"
#include "backends/cpu/features.h"

namespace attn {
namespace cpu {
namespace {

/// One entry of the implementation list.
struct DenseImplementation {
    const char *name;
    /// Why it does not serve a problem; empty if it does.
    std::string (*refuse)(const DenseProblem &problem);
    std::unique_ptr<Executor> (*make)(const attn_handle_s &handle, const DenseProblem &problem, Isa isa);
};

/// Best first.
constexpr DenseImplementation kDense[] = {
    {"cpu.dense.forward", refuse_forward, make_forward},
};

class CpuBackend final : public Backend {
public:
    explicit CpuBackend(Isa isa) : isa_(isa) {}

    const char *name() const noexcept override { return "cpu"; }

    attn_status plan_dense(const attn_handle_s &handle, const DenseProblem &problem,
                           std::unique_ptr<Executor> *executor) const override
    {
        std::string refusals;
        for (const DenseImplementation &implementation : kDense) {
            const std::string reason = implementation.refuse(problem);
            if (reason.empty()) {
                if (executor) *executor = implementation.make(handle, problem, isa_);
                return ATTN_OK;
            }
            if (!refusals.empty()) refusals += "; ";
            refusals += std::string(implementation.name) + " " + reason;
        }
        return fail(ATTN_ERROR_UNSUPPORTED, "attn_dense: no kernel of the cpu backend serves this: %s",
                    refusals.c_str());
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
