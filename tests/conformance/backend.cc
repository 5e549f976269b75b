#include "backend.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace conformance {
namespace {

struct Entry {
    const char *name, *isa; // isa: value of ATTN_CPU_ISA
};
// One line per backend.
constexpr Entry entries[] = {
    {"cpu/baseline", "baseline"},       {"cpu/neon", "neon"}, {"cpu/avx2", "avx2"}, {"cpu/avx512", "avx512"},
    {"cpu/avx512_bf16", "avx512_bf16"}, {"cpu/amx", "amx"},
};

struct Found {
    std::vector<std::unique_ptr<Backend>> present;
    std::map<std::string, std::string> absent;
};

const Found &found()
{
    static const Found all = [] {
        Found f;
        const char *variable = std::getenv("ATTN_TEST_BACKEND");
        const std::string only = variable ? variable : "";
        for (const Entry &entry : entries) {
            if (!only.empty() && only != entry.name) continue;
            auto backend = std::make_unique<Backend>(entry.name, entry.isa);
            std::string why;
            attn_status status = ATTN_OK;
            attn_options options{};
            options.max_workers = 1;
            if (backend->create(options, why, &status)) {
                f.present.push_back(std::move(backend));
            } else if (status == ATTN_ERROR_NO_DEVICE || status == ATTN_ERROR_UNSUPPORTED) {
                f.absent[entry.name] = why;
            } else { // an absent device is no failure, anything else is
                throw std::runtime_error(std::string(entry.name) + ": attn_create: " + why);
            }
        }
        if (f.present.empty())
            throw std::runtime_error("no backend to test" + (only.empty() ? only : ": ATTN_TEST_BACKEND = " + only));
        return f;
    }();
    return all;
}

std::string failure(const char *function, attn_status status)
{
    return std::string(function) + ": " + attn_status_name(status) + ": " + attn_last_error();
}

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
    std::vector<unsigned char> block_;
};

} // namespace

const std::vector<std::unique_ptr<Backend>> &backends()
{
    return found().present;
}
const std::map<std::string, std::string> &absent_backends()
{
    return found().absent;
}

HandlePointer Backend::create(attn_options options, std::string &why, attn_status *status) const
{
    setenv("ATTN_CPU_ISA", isa_.c_str(), 1);
    options.size = sizeof options;
    attn_handle handle = nullptr;
    const attn_status result = attn_create(&options, &handle);
    if (status) *status = result;
    if (result == ATTN_OK) return HandlePointer(handle);
    why = failure("attn_create", result);
    return nullptr;
}

attn_handle Backend::handle(std::int64_t workers) const
{
    HandlePointer &slot = handles_[workers];
    if (!slot) {
        attn_options options{};
        options.max_workers = static_cast<std::int32_t>(workers);
        std::string why;
        slot = create(options, why);
        if (!slot) throw std::runtime_error(name_ + ": " + why);
    }
    return slot.get();
}

PlanPointer make_plan(attn_handle handle, const Descriptor &descriptor, std::string &why)
{
    attn_plan plan = nullptr;
    const attn_status status = attn_plan_dense(handle, &descriptor.dense, &plan);
    if (status == ATTN_OK) return PlanPointer(plan);
    why = failure("attn_plan_dense", status);
    return nullptr;
}

std::string execute(attn_plan plan, Instance &instance, WorkspaceSize kind)
{
    std::size_t bytes = 0, alignment = 1;
    if (const attn_status status = attn_plan_workspace(plan, &bytes, &alignment))
        return failure("attn_plan_workspace", status);
    if (alignment < 1 || alignment > 16 || (alignment & (alignment - 1)) != 0)
        return "workspace alignment " + std::to_string(alignment) + " is not a power of two up to 16";
    if (kind == WorkspaceSize::for_actual_sizes) {
        Bounds actual = instance.actual();
        actual.max_q = actual.max_kv = 0; // the longest used lengths, not the rows reserved for them
        for (const Content &c : instance.contents()) {
            actual.max_q = std::max(actual.max_q, c.used.tq);
            actual.max_kv = std::max(actual.max_kv, c.used.tk);
        }
        attn_sizes sizes{};
        sizes.size = sizeof sizes;
        sizes.batch = actual.batch, sizes.max_q = actual.max_q, sizes.max_kv = actual.max_kv;
        if (instance.spec().q_packed()) sizes.total_q = actual.total_q;
        if (instance.spec().kv_packed()) sizes.total_kv = actual.total_kv;
        std::size_t needed = 0;
        if (const attn_status status = attn_plan_workspace_for(plan, &sizes, &needed))
            return failure("attn_plan_workspace_for", status);
        if (needed > bytes)
            return "workspace for the actual sizes, " + std::to_string(needed) + ", exceeds the bound of the plan, " +
                   std::to_string(bytes);
        bytes = needed;
    }
    FencedMemory workspace(bytes, alignment);
    const std::vector<attn_arg> args = instance.args();
    const attn_status status = attn_execute(plan, args.data(), args.size(), workspace.data(), bytes, nullptr);
    if (status != ATTN_OK) return failure("attn_execute", status);
    if (!workspace.intact()) return "attn_execute wrote outside the workspace of " + std::to_string(bytes) + " bytes";
    return "";
}

} // namespace conformance
