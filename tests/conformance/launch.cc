#include "launch.h"

#include "backend.h"
#include "block.h"

#include "tests/gpu/device_memory.h"

#include <atomic>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>

namespace conformance {
namespace {

// Memory of exactly `bytes` at an address aligned to `alignment` and not to twice that, between two fences.
class FencedMemory {
public:
    FencedMemory(std::size_t bytes, std::size_t alignment) : bytes_(bytes)
    {
        block_.assign(bytes + 2 * fence + 4 * alignment, fence_byte);
        const auto base = reinterpret_cast<std::uintptr_t>(block_.data()) + fence;
        start_ = fence + (2 * alignment - base % (2 * alignment)) + alignment;
        std::memset(data(), 0xff, bytes);
    }
    void *data() { return block_.data() + start_; }
    bool intact() const
    {
        for (std::size_t n = 0; n < block_.size(); ++n)
            if ((n < start_ || n >= start_ + bytes_) && block_[n] != fence_byte) return false;
        return true;
    }

private:
    static constexpr std::size_t fence = 128;
    static constexpr unsigned char fence_byte = 0xc5;
    std::size_t bytes_, start_ = 0;
    Bytes block_;
};

// The copies of a call's blocks on the device.
class Mirror {
public:
    // The device address that stands for a host address; copies its block the first time.
    void *of(const void *host)
    {
        if (!host) return nullptr;
        const Block block = block_of(host);
        auto found = copies_.find(block.data);
        if (found == copies_.end()) found = copies_.emplace(block.data, make_copy(block)).first;
        const auto offset = static_cast<const unsigned char *>(host) - block.data;
        return reinterpret_cast<void *>(static_cast<std::uintptr_t>(found->second.address) + offset);
    }
    void copy_back() const
    {
        for (const auto &[data, copy] : copies_)
            for (const auto &[first, last] : copy.parts)
                gpu_test::check(gpu_test::driver().memcpy_to_host(data + first, copy.address + first, last - first),
                                "cuMemcpyDtoH");
    }

private:
    struct Copy {
        std::unique_ptr<gpu_test::DeviceMemory> whole;
        std::unique_ptr<gpu_test::SparseMemory> sparse;
        gpu_test::Pointer address = 0;
        std::vector<std::pair<std::size_t, std::size_t>> parts;
    };

    static Copy make_copy(const Block &block)
    {
        Copy copy;
        const auto like = reinterpret_cast<std::uintptr_t>(block.data);
        copy.parts = block.parts;
        if (block.parts.empty()) {
            copy.parts = {{0, block.bytes}};
            copy.whole = std::make_unique<gpu_test::DeviceMemory>(block.bytes, like);
            copy.address = copy.whole->address();
        } else {
            copy.sparse = std::make_unique<gpu_test::SparseMemory>(block.bytes, like, block.parts);
            copy.address = copy.sparse->address();
        }
        for (const auto &[first, last] : copy.parts)
            gpu_test::check(gpu_test::driver().memcpy_to_device(copy.address + first, block.data + first, last - first),
                            "cuMemcpyHtoD");
        return copy;
    }

    std::map<unsigned char *, Copy> copies_;
};

// A stream for one call: of its own, or one of those that are always there.
class CallStream {
public:
    CallStream()
    {
        static std::atomic<unsigned> calls = 0;
        constexpr unsigned own = 5; // of eight
        const unsigned kind = calls++ % 8;
        if (kind < own)
            gpu_test::check(gpu_test::driver().stream_create(&own_, kind % 2 ? gpu_test::kNonBlocking : 0),
                            "cuStreamCreate");
        stream_ = kind < own    ? own_
                  : kind == own ? nullptr
                                : (kind == own + 1 ? gpu_test::kLegacyStream : gpu_test::kPerThreadStream);
    }
    ~CallStream()
    {
        if (own_) gpu_test::driver().stream_destroy(own_);
    }
    CallStream(const CallStream &) = delete;
    CallStream &operator=(const CallStream &) = delete;
    gpu_test::Stream get() const { return stream_; }

private:
    gpu_test::Stream own_ = nullptr, stream_ = nullptr;
};

// The library finds no context current, as in a thread that knows nothing of GPUs.
attn_status execute_on_gpu(attn_plan plan, const std::vector<attn_arg> &args, void *workspace, std::size_t bytes)
{
    const std::size_t count = args.size();
    std::vector<attn_tensor> views(count);
    std::vector<attn_arg> moved = args;
    std::optional<gpu_test::ContextScope> scope(std::in_place);
    Mirror mirror;
    const CallStream stream;
    for (std::size_t n = 0; n < count; ++n) {
        views[n] = *args[n].tensor;
        views[n].data = mirror.of(views[n].data);
        if (n % 2) views[n].device = ATTN_DEVICE_CUDA; // the others leave it to the handle
        moved[n].tensor = &views[n];
    }
    void *device_workspace = mirror.of(workspace);
    gpu_test::check(gpu_test::driver().stream_synchronize(nullptr), "cuStreamSynchronize"); // of the copies
    scope.reset();
    const attn_status status = attn_execute(plan, moved.data(), count, device_workspace, bytes, stream.get());
    scope.emplace();
    gpu_test::check(gpu_test::driver().stream_synchronize(stream.get()), "cuStreamSynchronize");
    mirror.copy_back();
    return status;
}

std::size_t workspace_alignment(attn_plan plan, std::size_t *bytes)
{
    std::size_t alignment = 1;
    if (const attn_status status = attn_plan_workspace(plan, bytes, &alignment))
        throw std::runtime_error(std::string("attn_plan_workspace: ") + attn_status_name(status) + ": " +
                                 attn_last_error());
    const std::size_t most = on_gpu() ? 256 : 16;
    if (alignment < 1 || alignment > most || (alignment & (alignment - 1)) != 0)
        throw std::runtime_error("workspace alignment " + std::to_string(alignment) + " is not a power of two up to " +
                                 std::to_string(most));
    return alignment;
}

attn_status launch_aligned(attn_plan plan, const std::vector<attn_arg> &args, std::size_t bytes, std::size_t alignment)
{
    static std::atomic<unsigned> empty = 0;
    FencedMemory fenced(bytes, alignment);
    void *workspace = bytes == 0 && empty++ % 2 ? nullptr : fenced.data(); // one of no size may be NULL
    const attn_status status = has_device_memory()
                                   ? execute_on_gpu(plan, args, workspace, bytes)
                                   : attn_execute(plan, args.data(), args.size(), workspace, bytes, nullptr);
    if (!fenced.intact())
        throw std::runtime_error("attn_execute wrote outside the workspace of " + std::to_string(bytes) + " bytes");
    return status;
}

} // namespace

attn_status launch(attn_plan plan, const std::vector<attn_arg> &args)
{
    std::size_t bytes = 0;
    const std::size_t alignment = workspace_alignment(plan, &bytes);
    return launch_aligned(plan, args, bytes, alignment);
}

attn_status launch(attn_plan plan, const std::vector<attn_arg> &args, std::size_t bytes)
{
    std::size_t bound = 0;
    const std::size_t alignment = workspace_alignment(plan, &bound);
    return launch_aligned(plan, args, bytes, alignment);
}

} // namespace conformance
