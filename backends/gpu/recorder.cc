#include "backends/gpu/recorder.h"

#include "kernel/target.h"

#include <algorithm>
#include <vector>

namespace attn::gpu {
namespace {

constexpr int64_t kKib = 1024;
constexpr int64_t kReserved = 1 * kKib; ///< Of an SM's shared memory, for each block.

/// Shared memory by compute capability; units and caches of a common model.
struct Model {
    int32_t number;
    int64_t shared_unit;
    int32_t compute_units;
    int64_t l2_bytes, memory_bytes;
};
constexpr Model kModels[] = {{80, 164 * kKib, 108, 40 << 20, int64_t{40} << 30},    // A100
                             {86, 100 * kKib, 84, 6 << 20, int64_t{24} << 30},      // RTX 3090, A10
                             {87, 164 * kKib, 16, 4 << 20, int64_t{32} << 30},      // Orin
                             {89, 100 * kKib, 128, 72 << 20, int64_t{24} << 30},    // RTX 4090, L40
                             {90, 228 * kKib, 132, 50 << 20, int64_t{80} << 30},    // H100, H200
                             {100, 228 * kKib, 148, 126 << 20, int64_t{180} << 30}, // B200
                             {103, 228 * kKib, 148, 126 << 20, int64_t{270} << 30}, // B300
                             {120, 100 * kKib, 170, 96 << 20, int64_t{32} << 30},   // RTX 5090
                             {121, 100 * kKib, 48, 24 << 20, int64_t{128} << 30}};  // GB10

class HostBuffer final : public Buffer {
public:
    explicit HostBuffer(size_t bytes) : memory_(bytes) { data_ = memory_.data(); }

private:
    std::vector<char> memory_;
};

attn_status refuse_to_execute()
{
    return fail(ATTN_ERROR_NO_DEVICE, "this plan was made for a pack: it has no device to be executed on");
}

} // namespace

bool typical_facts(const std::string &target, Facts *out, std::string *why)
{
    kernel::Architecture wanted;
    bool is_ptx = false;
    const bool is_name = kernel::read_target(target, &wanted, &is_ptx);
    *why = target + " is no known target; those are compute_NN for PTX, and sm_NN, with a where there is one,";
    for (const Model &model : kModels) {
        *why += ' ' + std::to_string(model.number);
        if (!is_name || model.number != wanted.number) continue;
        out->arch = "sm_" + std::to_string(wanted.number) + (wanted.specific ? "a" : "");
        out->major = wanted.number / 10, out->minor = wanted.number % 10;
        out->compute_units = model.compute_units;
        // PTX for Ampere is for what comes later with as little as any has.
        out->shared_bytes_unit = is_ptx && wanted.number < 90 ? 100 * kKib : model.shared_unit;
        out->shared_bytes_block = out->shared_bytes_unit - kReserved;
        out->l2_bytes = model.l2_bytes;
        out->memory_bytes = model.memory_bytes;
        return true;
    }
    return false;
}

attn_status Recorder::load(const kernel::Request &request, bool, uint32_t threads, uint32_t shared_bytes, Kernel *out)
{
    if (shared_bytes > static_cast<uint64_t>(facts_.shared_bytes_block))
        return fail(ATTN_ERROR_UNSUPPORTED, "%s in %s: %u bytes of shared memory: %s has %lld for a block",
                    request.entry.c_str(), request.source.c_str(), shared_bytes, facts_.arch.c_str(),
                    static_cast<long long>(facts_.shared_bytes_block));
    std::string name = request.source + '\n' + request.entry;
    for (const std::string &define : request.defines) name += '\n' + define;
    name += "\n\n" + request.generated;
    bool is_new = false;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        is_new = names_.insert(std::move(name)).second;
    }
    if (is_new)
        if (const attn_status status = keep_(request)) return status;
    out->function = this; // any address: it is launched nowhere
    out->registers = 0;
    out->local_bytes = 0;
    constexpr int64_t kThreadsOfUnit = 1536; // fewest of all
    const int64_t by_memory = facts_.shared_bytes_unit / (shared_bytes + kReserved);
    const int64_t by_threads = kThreadsOfUnit / std::max<int64_t>(threads, 1);
    out->blocks_per_unit = static_cast<int32_t>(std::max<int64_t>(1, std::min({by_memory, by_threads, int64_t{16}})));
    out->origin = kernel::Origin::compiled;
    return ATTN_OK;
}

attn_status Recorder::upload(const void *, size_t bytes, std::unique_ptr<Buffer> *out)
{
    *out = std::make_unique<HostBuffer>(bytes);
    return ATTN_OK;
}

attn_status Recorder::enter(void *) const noexcept
{
    return refuse_to_execute();
}

attn_status Recorder::launch(const Kernel &, const Grid &, void *, void **) const noexcept
{
    return refuse_to_execute();
}

} // namespace attn::gpu
