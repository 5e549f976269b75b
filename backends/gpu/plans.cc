#include "backends/gpu/plans.h"

#include "backends/gpu/views.h"
#include "names.h"

#include <algorithm>

namespace attn::gpu {

std::string refuse_common(const Problem &problem, const Device &device, std::initializer_list<attn_slot> slots)
{
    if (!problem.unserved.empty()) {
        std::string reason = "does not compute ";
        for (size_t i = 0; i < problem.unserved.size(); ++i) reason += (i ? ", " : "") + problem.unserved[i];
        return reason;
    }
    const Facts &facts = device.facts();
    if (facts.major < 8)
        return "needs compute capability 8.0, this is " + std::to_string(facts.major) + "." +
               std::to_string(facts.minor);
    for (const attn_slot slot : slots) {
        const int position = problem.find(slot);
        if (position < 0) continue;
        const attn_dtype dtype = problem.tensors[static_cast<size_t>(position)].dtype;
        i32 element;
        if (!element_of(dtype, &element))
            return std::string("slot ") + slot_name(slot) + " of " + dtype_text(dtype) +
                   ": needs float32, float16 or bfloat16";
    }
    return "";
}

Grid grid_of(uint64_t blocks, uint32_t rows, uint32_t threads) noexcept
{
    constexpr uint64_t kMostX = 0x7fffffff;
    Grid grid;
    grid.x = static_cast<uint32_t>(std::min(blocks, kMostX));
    grid.y = rows;
    grid.z = static_cast<uint32_t>((blocks + kMostX - 1) / kMostX);
    grid.threads = threads;
    return grid;
}

} // namespace attn::gpu
