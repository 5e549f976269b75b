#include "device.h"

#include "backends/gpu/append/append.cuh"
#include "backends/gpu/dense/check.cuh"
#include "backends/gpu/merge/merge.cuh"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <utility>

namespace gpu_emulated {
namespace {

using attn::gpu::Append;
using attn::gpu::AppendIndex;
using attn::gpu::DenseCheck;
using attn::gpu::Merge;
using attn::gpu::MergePrepare;

const Program kPrograms[] = {
    {"backends/gpu/merge/merge.cuh", "attn_merge", "ATTN_VECTOR=1", run_grid<Merge<true>>},
    {"backends/gpu/merge/merge.cuh", "attn_merge", "ATTN_VECTOR=0", run_grid<Merge<false>>},
    {"backends/gpu/merge/merge.cuh", "attn_merge_prepare", "", run_grid<MergePrepare>},
    {"backends/gpu/append/append.cuh", "attn_append", "ATTN_VECTOR=1", run_grid<Append<true>>},
    {"backends/gpu/append/append.cuh", "attn_append", "ATTN_VECTOR=0", run_grid<Append<false>>},
    {"backends/gpu/append/append.cuh", "attn_append_index", "", run_grid<AppendIndex>},
    {"backends/gpu/dense/check.cuh", "attn_dense_check", "", run_grid<DenseCheck>},
};

// They add themselves before main().
std::vector<Program> &kernels_on_fibers()
{
    static std::vector<Program> all;
    return all;
}

const Program *program_of(const attn::kernel::Request &request)
{
    std::string defines;
    for (const std::string &define : request.defines) defines += (defines.empty() ? "" : " ") + define;
    const auto is_wanted = [&](const Program &p) {
        return request.generated.empty() && request.source == p.source && request.entry == p.entry &&
               defines == p.defines;
    };
    for (const Program &p : kPrograms)
        if (is_wanted(p)) return &p;
    for (const Program &p : kernels_on_fibers())
        if (is_wanted(p)) return &p;
    return nullptr;
}

class HostBuffer final : public attn::gpu::Buffer {
public:
    HostBuffer(const void *data, std::size_t bytes)
        : bytes_(static_cast<const char *>(data), static_cast<const char *>(data) + bytes)
    {
        data_ = bytes_.data();
    }

private:
    std::vector<char> bytes_;
};

[[noreturn]] void stop(const char *why)
{
    std::fprintf(stderr, "emulated GPU: %s\n", why);
    std::abort();
}

std::mutex launches_mutex;
std::vector<Launch> launches;
thread_local int entered = 0;

} // namespace

AddKernel::AddKernel(const char *source, const char *entry, const char *defines, RunKernel run)
{
    kernels_on_fibers().push_back({source, entry, defines, nullptr, run});
}

Device::Device()
{
    facts_.arch = "sm_90"; // without the instructions that sm_90a alone has
    facts_.major = 9;
    facts_.compute_units = 4;
    facts_.shared_bytes_block = 227 << 10, facts_.shared_bytes_unit = 228 << 10;
    facts_.l2_bytes = 50 << 20, facts_.memory_bytes = std::int64_t{1} << 36;
}

attn_status Device::load(const attn::kernel::Request &request, bool, std::uint32_t, std::uint32_t,
                         attn::gpu::Kernel *out)
{
    const Program *program = program_of(request);
    if (!program)
        return attn::fail(ATTN_ERROR_COMPILE, "the emulated GPU has no kernel %s of %s", request.entry.c_str(),
                          request.source.c_str());
    *out = {};
    out->function = const_cast<Program *>(program);
    return ATTN_OK;
}

bool Device::has(const attn::kernel::Request &request)
{
    return program_of(request) != nullptr;
}

attn_status Device::upload(const void *data, std::size_t bytes, std::unique_ptr<attn::gpu::Buffer> *out)
{
    *out = std::make_unique<HostBuffer>(data, bytes);
    return ATTN_OK;
}

attn_status Device::enter(void *) const noexcept
{
    if (entered++ != 0) stop("a call within a call");
    return ATTN_OK;
}

void Device::leave() const noexcept
{
    --entered;
}

attn_status Device::launch(const attn::gpu::Kernel &kernel, const attn::gpu::Grid &grid, void *,
                           void **parameters) const noexcept
{
    if (entered != 1) stop("a launch outside of a call");
    if (!kernel.function) stop("a launch of no kernel");
    const std::uint64_t blocks = std::uint64_t{grid.x} * grid.y * grid.z;
    if (blocks == 0 || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) stop("an impossible grid");
    if (grid.threads == 0 || grid.threads > 1024) stop("an impossible block");
    const auto &program = *static_cast<const Program *>(kernel.function);
    static std::atomic<unsigned> count = 0; // of calls with an odd number of launches every other begins backwards
    {
        const std::lock_guard lock(launches_mutex);
        launches.push_back({program.entry, program.defines, grid});
    }
    if (program.kernel) {
        static std::mutex fibers; // there is one set of them
        const std::lock_guard lock(fibers);
        program.kernel({grid.x, grid.y, grid.z}, grid.threads, parameters);
        return ATTN_OK;
    }
    program.run(grid, parameters, count++ % 2 ? Order::backward : Order::forward);
    return ATTN_OK;
}

std::vector<Launch> take_launches()
{
    const std::lock_guard lock(launches_mutex);
    return std::exchange(launches, {});
}

} // namespace gpu_emulated
