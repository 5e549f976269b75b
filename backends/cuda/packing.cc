// The backend of handles that make packs: the implementations of CUDA, on a device that is not there.
#include "packing.h"
#include "backend.h"

#include "backends/cuda/implementations.h"
#include "backends/gpu/recorder.h"
#include "kernel/pack_builder.h"

#include <cstring>

namespace attn {
namespace {

class PackingBackend final : public Backend {
public:
    PackingBackend(const Packing &packing, const kernel::StoreOptions &options, const gpu::Facts &facts,
                   gpu::Selection selection)
        : packing_(packing),
          target_(packing.target),
          selection_(selection),
          builder_(kernel::embedded_sources(), options),
          device_(facts, [this](const kernel::Request &request) { return keep(request); })
    {
    }

    attn_status open()
    {
        std::string why;
        if (builder_.open(&why)) return ATTN_OK;
        return fail(ATTN_ERROR_INVALID, "%s", why.c_str());
    }
    const char *name() const noexcept override { return "cuda"; }
    attn_status plan(const attn_handle_s &, const Problem &problem, std::unique_ptr<Executor> *executor) const override
    {
        return gpu::choose(cuda::implementations(), selection_, name(), problem, device_, executor);
    }

private:
    attn_status keep(const kernel::Request &request)
    {
        kernel::PackImage made;
        std::string why;
        if (!builder_.make({request, target_}, &made, &why))
            return fail(ATTN_ERROR_COMPILE, "kernel %s in %s, for %s: %s", request.entry.c_str(),
                        request.source.c_str(), target_.c_str(), why.c_str());
        PackedKernel kernel = {};
        static_assert(sizeof kernel.key == sizeof made.entry.key);
        std::memcpy(kernel.key, made.entry.key.data(), sizeof kernel.key);
        kernel.target = made.entry.target.c_str();
        kernel.label = made.entry.label.c_str();
        kernel.compiler = made.entry.compiler;
        kernel.is_ptx = made.entry.is_ptx;
        kernel.image = made.image.data();
        kernel.bytes = made.image.size();
        packing_.keep(packing_.ctx, &kernel);
        return ATTN_OK;
    }

    const Packing packing_;
    const std::string target_;
    const gpu::Selection selection_;
    kernel::PackBuilder builder_;
    mutable gpu::Recorder device_; // planning changes a device, here by what it has seen
};

} // namespace

attn_status open_packing_backend(const attn_options &options, const attn_ext &extension, std::unique_ptr<Backend> *out)
{
    if (extension.size != sizeof(Packing))
        return fail(ATTN_ERROR_ABI, "Packing.size = %zu: must be %zu, that of this library", extension.size,
                    sizeof(Packing));
    const Packing &packing = reinterpret_cast<const Packing &>(extension);
    if (options.device != ATTN_DEVICE_CUDA || !packing.target || !packing.keep)
        return fail(ATTN_ERROR_INVALID, "Packing: needs ATTN_DEVICE_CUDA, a target and a function");
    gpu::Selection selection = gpu::Selection::standard;
    if (const attn_status status = gpu::read_selection(&selection)) return status;
    gpu::Facts facts;
    std::string why;
    if (!gpu::typical_facts(packing.target, &facts, &why)) return fail(ATTN_ERROR_INVALID, "%s", why.c_str());
    kernel::StoreOptions store;
    store.disk_cache = !(options.flags & ATTN_HANDLE_NO_DISK_CACHE);
    if (options.cache_dir) store.cache_dir = options.cache_dir;
    if (options.compiler_path) store.compiler_path = options.compiler_path;
    auto backend = std::make_unique<PackingBackend>(packing, store, facts, selection);
    if (const attn_status status = backend->open()) return status;
    *out = std::move(backend);
    return ATTN_OK;
}

} // namespace attn
