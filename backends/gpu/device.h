// What planning and executing on a GPU need of its runtime. CUDA and HIP implement it; the executors in backends/gpu
// know nothing else of a driver.
#ifndef ATTN_BACKENDS_GPU_DEVICE_H
#define ATTN_BACKENDS_GPU_DEVICE_H

#include "kernel/store.h"
#include "status.h"

#include <cstdint>
#include <memory>
#include <string>

namespace attn::gpu {

/// What schedules depend on.
struct Facts {
    std::string arch;               ///< "sm_90a"
    int32_t major = 0, minor = 0;   ///< Compute capability.
    int32_t compute_units = 0;      ///< SMs usable here: those of a MIG slice or a green context.
    int64_t shared_bytes_block = 0; ///< Dynamic shared memory that one block may have at most.
    int64_t shared_bytes_unit = 0;  ///< Shared memory of an SM.
    int64_t l2_bytes = 0;
    int64_t memory_bytes = 0;
    bool programmatic = false; ///< Kernels can wait for the one before them: see Grid.
};

/// A loaded kernel.
struct Kernel {
    void *function = nullptr;
    int32_t registers = 0;
    int32_t local_bytes = 0;
    int32_t blocks_per_unit = 0; ///< That fit an SM at once, with the threads and shared memory it was loaded for.
    kernel::Origin origin = kernel::Origin::embedded;
};

/// Of threads, in a cluster, on any GPU that has clusters.
constexpr uint32_t kMostClusterBlocks = 8;

struct Grid {
    uint32_t x = 1, y = 1, z = 1;
    uint32_t threads = 1;      ///< Of a block.
    uint32_t shared_bytes = 0; ///< Dynamic.
    uint32_t cluster = 1;      ///< Blocks of a cluster, along x; at most kMostClusterBlocks of a GPU that has them.
    /// The kernel may begin before the one before it on the stream has ended: it waits for that itself, in all of its
    /// blocks, before it touches memory. Only where Facts::programmatic says so.
    bool programmatic = false;
    /// Blocks of a cluster go where there is room, several to one SM too; else each to another as far as there are
    /// enough.
    bool balanced = false;
};

/// A tensor of four axes, innermost first, and the tile that a kernel copies of it at a time. Addresses and steps are
/// multiples of 16 bytes.
struct TensorTiles {
    const void *base = nullptr;
    int32_t element = 0; ///< gpu::Element.
    uint64_t extents[4] = {};
    uint64_t steps[3] = {}; ///< Bytes along the axes 1 .. 3.
    uint32_t tile[4] = {};  ///< Of the innermost axis 128 bytes: what is swizzled in shared memory.
};

/// What the copy engine of a device is told of a tensor: a parameter of kernels.
struct alignas(128) TensorMap {
    uint64_t opaque[16];
};

/// Memory of a device that a plan owns; freed with it.
class Buffer {
public:
    virtual ~Buffer() = default;
    void *data() const noexcept { return data_; }

protected:
    void *data_ = nullptr;
};

/// One device of one handle. Thread-safe.
class Device {
public:
    virtual ~Device() = default;
    virtual const Facts &facts() const noexcept = 0;

    // Planning.

    /// Finds, loads and prepares a kernel; compiles it if the handle and `compile` allow. Loaded kernels are kept until
    /// the device goes, so the same request again costs a look-up. The context is entered as needed.
    [[nodiscard]] virtual attn_status load(const kernel::Request &request, bool compile, uint32_t threads,
                                           uint32_t shared_bytes, Kernel *out) = 0;
    /// Whether load() without compiling would succeed.
    virtual bool has(const kernel::Request &request) = 0;
    /// Whether the handle waits for a compiler: it may compile, and was not told to take what there is.
    virtual bool waits_for_compiler() const noexcept = 0;
    /// How many clusters of such a launch run at once; 0 where they are too large. The kernel was loaded for as much
    /// shared memory.
    [[nodiscard]] virtual attn_status count_clusters(const Kernel &, const Grid &, int32_t *out)
    {
        *out = 0;
        return ATTN_OK;
    }
    /// Copies constants of a plan to the device, at an address aligned to 256 bytes.
    [[nodiscard]] virtual attn_status upload(const void *data, size_t bytes, std::unique_ptr<Buffer> *out) = 0;

    // Executing; see Call.

    /// Makes the device's context current for this thread, after checking that the process has not forked and that
    /// `stream` is NULL or of this context. Not to be nested.
    [[nodiscard]] virtual attn_status enter(void *stream) const noexcept = 0;
    virtual void leave() const noexcept = 0;
    /// Makes the map of a tensor, where the device has an engine that copies tiles. On the host alone, allocates
    /// nothing.
    [[nodiscard]] virtual attn_status encode(const TensorTiles &, TensorMap *) const noexcept
    {
        return fail(ATTN_ERROR_UNSUPPORTED, "this device copies no tiles");
    }
    /// Enqueues zeros: at an address, so many words of 4 bytes, on a stream.
    [[nodiscard]] virtual attn_status clear(void *, size_t, void *) const noexcept
    {
        return fail(ATTN_ERROR_UNSUPPORTED, "this device clears no memory");
    }
    /// Enqueues a kernel; `parameters` as the driver wants them, an array of addresses.
    [[nodiscard]] virtual attn_status launch(const Kernel &kernel, const Grid &grid, void *stream,
                                             void **parameters) const noexcept = 0;
};

/// The calls of one execute: the context is current while it lives.
class Call {
public:
    Call(const Device &device, void *stream) : device_(device), status_(device.enter(stream)) {}
    ~Call()
    {
        if (status_ == ATTN_OK) device_.leave();
    }
    Call(const Call &) = delete;
    Call &operator=(const Call &) = delete;
    attn_status status() const noexcept { return status_; }

private:
    const Device &device_;
    attn_status status_;
};

} // namespace attn::gpu

#endif
