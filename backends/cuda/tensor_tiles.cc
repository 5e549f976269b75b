#include "backends/cuda/tensor_tiles.h"

namespace attn::sm90 {
namespace {

/// Coordinates of tiles are 32-bit numbers.
constexpr int64_t kMostPlaces = (int64_t{1} << 31) - 1;
/// Steps in memory that a tensor map can have.
constexpr int64_t kMostBytes = (int64_t{1} << 40) - 1;
/// Channels of a block in shared memory.
constexpr uint32_t kBlockChannels = 64;

} // namespace

bool tiles_of(const gpu::TokenView &view, int64_t channels, int64_t rows, int64_t heads, int64_t outer,
              int64_t tile_rows, gpu::TensorTiles *out) noexcept
{
    const int64_t extents[] = {channels, rows, heads, outer};
    const int64_t steps[] = {0, view.token_step, view.head_step, view.batch_step};
    if (!view.base || !view.vector) return false;
    out->base = view.base;
    out->element = view.type;
    for (int axis = 0; axis < 4; ++axis) {
        if (extents[axis] < 1 || extents[axis] > kMostPlaces) return false;
        out->extents[axis] = static_cast<uint64_t>(extents[axis]);
        out->tile[axis] = 1;
        if (axis == 0) continue;
        // Along an axis of one place any step will do.
        const int64_t step = extents[axis] == 1 ? (2 * channels + 15) / 16 * 16 : steps[axis];
        if (step <= 0 || step > kMostBytes) return false;
        out->steps[axis - 1] = static_cast<uint64_t>(step);
    }
    out->tile[0] = kBlockChannels;
    out->tile[1] = static_cast<uint32_t>(tile_rows);
    return true;
}

} // namespace attn::sm90
