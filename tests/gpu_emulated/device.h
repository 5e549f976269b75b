// A GPU that is the CPU: its memory is that of the host, and it runs device code in an emulator. Everything around the
// kernels is what runs on a GPU too: executors, schedules, parameters.
#pragma once

#include "backends/gpu/device.h"
#include "emulator.h"
#include "fibers.h"

#include <string>
#include <vector>

namespace gpu_emulated {

using RunGrid = void (*)(const attn::gpu::Grid &, void **parameters, Order);

// A kernel, by the request that names it.
struct Program {
    std::string source, entry, defines; // defines: those of the request, each but the first after a blank
    RunGrid run;                        // as a program of phases,
    RunKernel kernel = nullptr;         // or on fibers
};

// What a launch was like, for tests of what a graph would hold.
struct Launch {
    std::string entry, define; ///< define: "" if its request has none.
    attn::gpu::Grid grid;
};

class Device final : public attn::gpu::Device {
public:
    Device();
    const attn::gpu::Facts &facts() const noexcept override { return facts_; }
    attn_status load(const attn::kernel::Request &request, bool compile, std::uint32_t threads,
                     std::uint32_t shared_bytes, attn::gpu::Kernel *out) override;
    bool has(const attn::kernel::Request &request) override;
    bool waits_for_compiler() const noexcept override { return false; }
    attn_status upload(const void *data, std::size_t bytes, std::unique_ptr<attn::gpu::Buffer> *out) override;
    attn_status enter(void *stream) const noexcept override;
    void leave() const noexcept override;
    attn_status launch(const attn::gpu::Kernel &kernel, const attn::gpu::Grid &grid, void *stream,
                       void **parameters) const noexcept override;

private:
    attn::gpu::Facts facts_;
};

// Since the last call. Launches of all threads; tests that ask run alone.
std::vector<Launch> take_launches();

} // namespace gpu_emulated
