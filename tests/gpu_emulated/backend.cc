// The list of backends of the conformance tests, in a program whose only backend is the emulated GPU. Without
// ATTN_EMULATED_DENSE dense plans, which some tests of merges and appends need, run on the CPU there.
#include "tests/conformance/backend.h"

#include "backend.h"
#include "backends/gpu/append/executor.h"
#include "backends/gpu/dense/executor.h"
#include "backends/gpu/implementation.h"
#include "backends/gpu/merge/executor.h"
#include "device.h"
#include "handle.h"

#include <array>
#include <stdexcept>
#include <unistd.h>

namespace conformance {
namespace {

class EmulatedBackend final : public attn::Backend {
public:
    EmulatedBackend()
    {
        if (attn::open_cpu_backend(&cpu_) != ATTN_OK) throw std::runtime_error(attn_last_error());
    }
    const char *name() const noexcept override { return "emulated"; }
    attn_status plan(const attn_handle_s &handle, const attn::Problem &problem,
                     std::unique_ptr<attn::Executor> *executor) const override
    {
        static constexpr std::array<attn::gpu::Implementation, 2> list = {{
            {ATTN_KIND_MERGE, "gpu.merge", attn::gpu::Family::portable, attn::gpu::refuse_merge, attn::gpu::make_merge},
            {ATTN_KIND_APPEND, "gpu.append", attn::gpu::Family::portable, attn::gpu::refuse_append,
             attn::gpu::make_append},
        }};
#if defined(ATTN_EMULATED_DENSE)
        static constexpr std::array<attn::gpu::Implementation, 1> dense = {
            {{ATTN_KIND_DENSE, "gpu.dense.forward", attn::gpu::Family::portable, attn::gpu::refuse_forward,
              attn::gpu::make_forward}}};
        if (problem.kind == ATTN_KIND_DENSE)
            return attn::gpu::choose(dense, attn::gpu::Selection::standard, name(), problem, device_, executor);
#endif
        if (problem.kind == ATTN_KIND_DENSE) return cpu_->plan(handle, problem, executor);
        return attn::gpu::choose(list, attn::gpu::Selection::standard, name(), problem, device_, executor);
    }

private:
    std::unique_ptr<attn::Backend> cpu_;
    mutable gpu_emulated::Device device_;
};

} // namespace

const std::vector<std::unique_ptr<Backend>> &backends()
{
    static const auto all = [] {
        std::vector<std::unique_ptr<Backend>> list;
        list.push_back(std::make_unique<Backend>("cuda/emulated", ATTN_DEVICE_CUDA, ""));
        return list;
    }();
    return all;
}

const std::map<std::string, std::string> &absent_backends()
{
    static const std::map<std::string, std::string> none;
    return none;
}

bool on_gpu()
{
    return true;
}

bool has_device_memory()
{
    return false;
}

bool forbids_compiler()
{
    return true; // what there is no kernel of counts as refused
}

HandlePointer Backend::create(attn_options, std::string &, attn_status *status) const
{
    auto handle = std::make_unique<attn_handle_s>();
    handle->device = ATTN_DEVICE_CUDA;
    handle->process = getpid();
    handle->backend = std::make_unique<EmulatedBackend>();
    if (status) *status = ATTN_OK;
    return HandlePointer(handle.release());
}

attn_handle Backend::handle(std::int64_t) const
{
    HandlePointer &slot = handles_[0];
    std::string why;
    if (!slot) slot = create({}, why);
    return slot.get();
}

} // namespace conformance
