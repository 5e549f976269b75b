// Finds a kernel, gives it to the driver, and asks what it needs.
#include "backends/cuda/kernels.h"

#include <array>
#include <atomic>
#include <cstring>
#include <vector>

namespace attn::cuda {
namespace {

/// What the driver's compiler and linker say of a module.
struct Logs {
    std::vector<char> info = std::vector<char>(4096), errors = std::vector<char>(4096);

    const char *text() const { return errors[0] ? errors.data() : info.data(); }
};

attn_status load_module(const Driver &driver, const kernel::Request &request, const kernel::Image &image,
                        CUmodule *module)
{
    Logs logs;
    std::array options = {CU_JIT_INFO_LOG_BUFFER, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES, CU_JIT_ERROR_LOG_BUFFER,
                          CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    // The driver takes sizes as pointers; one byte is kept for the end of the text.
    std::array<void *, options.size()> values = {
        logs.info.data(), reinterpret_cast<void *>(logs.info.size() - 1), // NOLINT(performance-no-int-to-ptr)
        logs.errors.data(), reinterpret_cast<void *>(logs.errors.size() - 1)};
    const CUresult result =
        driver.cuModuleLoadDataEx(module, image.data, options.size(), options.data(), values.data());
    if (result == CUDA_SUCCESS) return ATTN_OK;
    const std::string detail = std::string(image.is_ptx ? "PTX of " : "") + request.entry + " in " + request.source +
                               (*logs.text() ? ": " : "") + logs.text();
    return fail_call(driver, "cuModuleLoadDataEx", result, detail.c_str());
}

std::string key_of(const kernel::Request &request)
{
    std::string key = request.source + '\n' + request.entry + '\n';
    for (const std::string &define : request.defines) key += define + '\n';
    return key + '\n' + request.generated;
}

} // namespace

/// A kernel, from the first request for it on.
struct KernelTable::Entry {
    /// What is known for blocks of one shape.
    struct Shape {
        uint32_t threads, shared_bytes;
        int32_t blocks;
    };

    std::mutex mutex;
    CUmodule module = nullptr; ///< NULL until a request succeeds.
    std::atomic<bool> loaded{false};
    CUfunction function = nullptr;
    int32_t registers = 0, local_bytes = 0;
    uint32_t shared_limit = 0; ///< Dynamic shared memory that launches may ask for.
    kernel::Origin origin = kernel::Origin::embedded;
    std::vector<Shape> shapes;
};

KernelTable::KernelTable(const Context &context, std::unique_ptr<kernel::Store> store)
    : context_(context), store_(std::move(store))
{
}

KernelTable::~KernelTable()
{
    if (entries_.empty() || context_.forked()) return;
    const PlanningScope scope(context_);
    if (!scope.entered()) return; // the context is gone, and its modules with it
    for (const auto &[key, entry] : entries_)
        if (entry->module) static_cast<void>(context_.driver().cuModuleUnload(entry->module));
}

bool KernelTable::has(const kernel::Request &request, const std::string &arch)
{
    {
        const std::lock_guard lock(mutex_);
        const auto found = entries_.find(key_of(request));
        if (found != entries_.end() && found->second->loaded.load(std::memory_order_relaxed)) return true;
    }
    return store_->has(request, arch);
}

attn_status KernelTable::load(const kernel::Request &request, const std::string &arch, bool compile, uint32_t threads,
                              uint32_t shared_bytes, gpu::Kernel *out)
{
    std::shared_ptr<Entry> entry;
    {
        const std::lock_guard lock(mutex_);
        std::shared_ptr<Entry> &place = entries_[key_of(request)];
        if (!place) place = std::make_shared<Entry>();
        entry = place;
    }
    const std::lock_guard lock(entry->mutex);
    if (!entry->module)
        if (const attn_status status = fill(request, arch, compile, entry.get())) return status;
    int32_t blocks = 0;
    if (const attn_status status = prepare(request, threads, shared_bytes, entry.get(), &blocks)) return status;
    *out = {entry->function, entry->registers, entry->local_bytes, blocks, entry->origin};
    return ATTN_OK;
}

attn_status KernelTable::fill(const kernel::Request &request, const std::string &arch, bool compile, Entry *entry)
{
    kernel::Image image;
    if (const attn_status status = store_->find(request, arch, compile, &image)) return status;
    const PlanningScope scope(context_);
    if (const attn_status status = scope.status()) return status;
    const Driver &driver = context_.driver();
    CUmodule module = nullptr;
    if (const attn_status status = load_module(driver, request, image, &module)) return status;
    const auto ready = [&]() -> attn_status {
        const auto failed = [&](const char *call, CUresult result) {
            return fail_call(driver, call, result, (request.entry + " in " + request.source).c_str());
        };
        if (const CUresult result = driver.cuModuleGetFunction(&entry->function, module, request.entry.c_str()))
            return failed("cuModuleGetFunction", result);
        // Now and not at the first launch, which may be captured and must not allocate. Older drivers do it when asked
        // for an attribute.
        if (driver.cuFuncLoad)
            if (const CUresult result = driver.cuFuncLoad(entry->function)) return failed("cuFuncLoad", result);
        if (const CUresult result =
                driver.cuFuncGetAttribute(&entry->registers, CU_FUNC_ATTRIBUTE_NUM_REGS, entry->function))
            return failed("cuFuncGetAttribute", result);
        if (const CUresult result =
                driver.cuFuncGetAttribute(&entry->local_bytes, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, entry->function))
            return failed("cuFuncGetAttribute", result);
        return ATTN_OK;
    };
    if (const attn_status status = ready()) {
        static_cast<void>(driver.cuModuleUnload(module));
        return status;
    }
    entry->module = module;
    entry->loaded.store(true, std::memory_order_relaxed);
    entry->origin = image.origin;
    return ATTN_OK;
}

attn_status KernelTable::prepare(const kernel::Request &request, uint32_t threads, uint32_t shared_bytes, Entry *entry,
                                 int32_t *blocks)
{
    for (const Entry::Shape &shape : entry->shapes) {
        if (shape.threads != threads || shape.shared_bytes != shared_bytes) continue;
        *blocks = shape.blocks;
        return ATTN_OK;
    }
    const PlanningScope scope(context_);
    if (const attn_status status = scope.status()) return status;
    const Driver &driver = context_.driver();
    const auto failed = [&](const char *call, CUresult result) {
        const std::string detail = request.entry + " in " + request.source + ", " + std::to_string(threads) +
                                   " threads, " + std::to_string(shared_bytes) + " bytes of shared memory";
        return fail_call(driver, call, result, detail.c_str());
    };
    if (shared_bytes > entry->shared_limit) {
        if (const CUresult result = driver.cuFuncSetAttribute(
                entry->function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, static_cast<int>(shared_bytes)))
            return failed("cuFuncSetAttribute", result);
        // What these kernels read again they keep in shared memory: none of it is left to the L1 cache.
        if (const CUresult result =
                driver.cuFuncSetAttribute(entry->function, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, 100))
            return failed("cuFuncSetAttribute", result);
        entry->shared_limit = shared_bytes;
    }
    int count = 0;
    if (const CUresult result = driver.cuOccupancyMaxActiveBlocksPerMultiprocessor(
            &count, entry->function, static_cast<int>(threads), shared_bytes))
        return failed("cuOccupancyMaxActiveBlocksPerMultiprocessor", result);
    if (count < 1)
        return fail(ATTN_ERROR_UNSUPPORTED,
                    "%s in %s: a block of %u threads with %u bytes of shared memory does not fit an SM",
                    request.entry.c_str(), request.source.c_str(), threads, shared_bytes);
    entry->shapes.push_back({threads, shared_bytes, count});
    *blocks = count;
    return ATTN_OK;
}

attn_status KernelTable::count_clusters(const gpu::Kernel &kernel, const gpu::Grid &grid, int32_t *out)
{
    const std::lock_guard lock(mutex_);
    const auto [place, is_new] =
        clusters_.try_emplace({kernel.function, grid.cluster, grid.threads, grid.shared_bytes}, 0);
    *out = place->second;
    if (!is_new) return ATTN_OK;
    const auto count = [&]() -> attn_status {
        const PlanningScope scope(context_);
        if (const attn_status status = scope.status()) return status;
        const Driver &driver = context_.driver();
        CUlaunchAttribute attributes[kMostLaunchAttributes] = {};
        const CUlaunchConfig config = launch_config(grid, false, attributes);
        const CUresult result =
            driver.cuOccupancyMaxActiveClusters(out, static_cast<CUfunction>(kernel.function), &config);
        if (result == CUDA_ERROR_INVALID_CLUSTER_SIZE)
            *out = 0;
        else if (result != CUDA_SUCCESS)
            return fail_call(driver, "cuOccupancyMaxActiveClusters", result);
        return ATTN_OK;
    };
    const attn_status status = count();
    if (status == ATTN_OK)
        place->second = *out;
    else
        clusters_.erase(place);
    return status;
}

CUlaunchConfig launch_config(const gpu::Grid &grid, bool programmatic,
                             CUlaunchAttribute (&attributes)[kMostLaunchAttributes]) noexcept
{
    CUlaunchConfig config = {};
    config.gridDimX = grid.x, config.gridDimY = grid.y, config.gridDimZ = grid.z;
    config.blockDimX = grid.threads, config.blockDimY = 1, config.blockDimZ = 1;
    config.sharedMemBytes = grid.shared_bytes;
    config.attrs = attributes;
    if (grid.cluster > 1) {
        CUlaunchAttribute &cluster = attributes[config.numAttrs++];
        cluster.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
        cluster.value.clusterDim = {grid.cluster, 1, 1};
    }
    if (grid.cluster > 1 && grid.balanced) {
        CUlaunchAttribute &policy = attributes[config.numAttrs++];
        policy.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE;
        policy.value.clusterSchedulingPolicyPreference = CU_CLUSTER_SCHEDULING_POLICY_LOAD_BALANCING;
    }
    if (grid.programmatic && programmatic) {
        CUlaunchAttribute &order = attributes[config.numAttrs++];
        order.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
        order.value.programmaticStreamSerializationAllowed = 1;
    }
    return config;
}

} // namespace attn::cuda
