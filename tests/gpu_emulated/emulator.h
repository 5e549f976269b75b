// Runs programs of phases, see backends/gpu/threads.cuh, on the CPU: block by block, and in each phase thread by
// thread.
#pragma once

#include "backends/gpu/device.h"
#include "backends/gpu/threads.cuh"

#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

namespace gpu_emulated {

// The orders in which the blocks of a launch and the threads of a phase take their turns. Results may not depend on it.
enum class Order { forward, backward };

template <class Program, int Phase = 0>
void run_phases(std::vector<Program> &threads, Order order)
{
    const std::size_t count = threads.size();
    for (std::size_t n = 0; n < count; ++n) threads[order == Order::forward ? n : count - 1 - n].template run<Phase>();
    if constexpr (Phase + 1 < Program::kPhases) run_phases<Program, Phase + 1>(threads, order);
}

template <class Program>
void run_grid(const attn::gpu::Grid &grid, void **all_parameters, Order order)
{
    const void *parameters = all_parameters[0];
    static_assert(std::is_trivially_default_constructible_v<typename Program::Shared>);
    const auto &typed = *static_cast<const typename Program::Parameters *>(parameters);
    const std::uint64_t blocks = std::uint64_t{grid.x} * grid.z, all = blocks * grid.y;
    const auto shared = std::make_unique<typename Program::Shared>();
    std::vector<Program> threads;
    threads.reserve(grid.threads);
    for (std::uint64_t n = 0; n < all; ++n) {
        const std::uint64_t number = order == Order::forward ? n : all - 1 - n;
        // Shared memory holds anything at first.
        std::memset(static_cast<void *>(shared.get()), 0xff, sizeof *shared);
        threads.clear();
        for (std::uint32_t thread = 0; thread < grid.threads; ++thread)
            threads.emplace_back(
                typed, *shared,
                attn::gpu::Place{number % blocks, blocks, static_cast<attn::gpu::u32>(number / blocks), thread});
        run_phases(threads, order);
    }
}

} // namespace gpu_emulated
