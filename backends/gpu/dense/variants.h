// Which kernel of dense attention a plan gets: the shapes there are, and the requests that name them.
#ifndef ATTN_BACKENDS_GPU_DENSE_VARIANTS_H
#define ATTN_BACKENDS_GPU_DENSE_VARIANTS_H

#include "backends/gpu/dense/shape.h"
#include "backends/gpu/device.h"
#include "dense.h"

#include <vector>

namespace attn::gpu {

/// What a plan wants of its kernel.
struct Wish {
    i32 type = 0;         ///< Element of the products.
    bool general = false; ///< Options beyond the plain operator.
    bool few = false;     ///< Every tile has at most 16 rows, as when decoding.
    int64_t dim_qk = 0, dim_v = 0;
    bool exact = false;       ///< Channels rounded up no further than products need; else to those of the default pack.
    bool wide_memory = false; ///< Blocks of threads may have 227 KiB of shared memory; else 99.
};

/// Elements that products may keep: halves and bfloat16 only where all tensors have that type and nothing asks for
/// more.
i32 product_type(const DenseProblem &problem) noexcept;
/// Whether the problem is the plain operator: scale, causal, window, lengths, pages, groups of heads, LSE.
bool is_plain(const DenseProblem &problem) noexcept;
/// Whether the device has the shared memory of the larger shapes.
bool has_wide_memory(const Facts &facts) noexcept;

/// The shape for a wish. Head dims are at most kLargestDimQk and kLargestDimV.
Shape shape_of(const Wish &wish) noexcept;
/// Likewise for the pass over columns.
Shape mass_shape_of(const Wish &wish) noexcept;

/// Changes fields of a shape as the environment variable ATTN_GPU_DENSE_SHAPE says ("keys=64,stages=1"), for tests and
/// for tuning. Fails if it names no field or gives no number.
[[nodiscard]] attn_status override_shape(Shape *shape);

constexpr int64_t kLargestDimQk = 576, kLargestDimV = 512;

kernel::Request forward_request(const Shape &shape);
/// `programmatic`: one that waits for the kernel before it, see Grid; for sm_90a.
kernel::Request combine_request(bool programmatic);
/// Its blocks of threads, of kCombineThreads, for so many rows.
int64_t combine_blocks(int64_t rows, int64_t dim_v) noexcept;
constexpr uint32_t kCombineThreads = 128;
kernel::Request check_request();
kernel::Request mass_request(const Shape &shape);

/// What the default pack has, for devices with and without wide memory. Without `all_plain` a plain kernel of the most
/// common decoding alone: the device has better ones.
std::vector<kernel::Request> default_requests(bool wide_memory, bool all_plain);

} // namespace attn::gpu

#endif
