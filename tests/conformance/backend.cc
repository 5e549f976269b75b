#include "backend.h"

#include "launch.h"

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <stdexcept>

namespace conformance {
namespace {

struct Entry {
    const char *name;
    attn_device device;
    const char *isa; // of the CPU
};
// One line per backend.
constexpr Entry entries[] = {
    {"cpu/baseline", ATTN_DEVICE_CPU, "baseline"},
    {"cpu/neon", ATTN_DEVICE_CPU, "neon"},
    {"cpu/avx2", ATTN_DEVICE_CPU, "avx2"},
    {"cpu/avx512", ATTN_DEVICE_CPU, "avx512"},
    {"cpu/avx512_bf16", ATTN_DEVICE_CPU, "avx512_bf16"},
    {"cpu/amx", ATTN_DEVICE_CPU, "amx"},
    {"cuda", ATTN_DEVICE_CUDA, ""},
};

std::string variable(const char *name)
{
    const char *text = std::getenv(name);
    return text ? text : "";
}

// ATTN_TEST_HANDLE_FLAGS: "NO_COMPILE,NO_DISK_CACHE".
std::uint64_t handle_flags()
{
    static constexpr struct {
        const char *name;
        std::uint64_t flag;
    } known[] = {{"NO_COMPILE", ATTN_HANDLE_NO_COMPILE},
                 {"NO_DISK_CACHE", ATTN_HANDLE_NO_DISK_CACHE},
                 {"NO_WAIT", ATTN_HANDLE_NO_WAIT}};
    std::uint64_t flags = 0;
    std::istringstream list(variable("ATTN_TEST_HANDLE_FLAGS"));
    for (std::string name; std::getline(list, name, ',');) {
        const auto *found =
            std::find_if(std::begin(known), std::end(known), [&](const auto &k) { return k.name == name; });
        if (found == std::end(known)) throw std::runtime_error("ATTN_TEST_HANDLE_FLAGS: no flag " + name);
        flags |= found->flag;
    }
    return flags;
}

struct Found {
    std::vector<std::unique_ptr<Backend>> present;
    std::map<std::string, std::string> absent;
};

const Found &found()
{
    static const Found all = [] {
        Found f;
        const std::string only = variable("ATTN_TEST_BACKEND");
        for (const Entry &entry : entries) {
            if (only.empty() ? entry.device != ATTN_DEVICE_CPU : only != entry.name) continue;
            auto backend = std::make_unique<Backend>(entry.name, entry.device, entry.isa);
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
        if (f.present.empty()) {
            const auto absent = f.absent.find(only);
            throw std::runtime_error("no backend to test" + (only.empty() ? only : ": ATTN_TEST_BACKEND = " + only) +
                                     (absent == f.absent.end() ? "" : ": " + absent->second));
        }
        return f;
    }();
    return all;
}

std::string failure(const char *function, attn_status status)
{
    return std::string(function) + ": " + attn_status_name(status) + ": " + attn_last_error();
}

} // namespace

const std::vector<std::unique_ptr<Backend>> &backends()
{
    return found().present;
}
const std::map<std::string, std::string> &absent_backends()
{
    return found().absent;
}

bool on_gpu()
{
    return backends().front()->is_gpu();
}

bool forbids_compiler()
{
    return (handle_flags() & ATTN_HANDLE_NO_COMPILE) != 0;
}

HandlePointer Backend::create(attn_options options, std::string &why, attn_status *status) const
{
    options.size = sizeof options;
    if (is_gpu()) {
        options.device = device_;
        options.max_workers = 0;
        options.flags |= handle_flags();
    } else {
        setenv("ATTN_CPU_ISA", isa_.c_str(), 1);
    }
    attn_handle handle = nullptr;
    const attn_status result = attn_create(&options, &handle);
    if (status) *status = result;
    if (result == ATTN_OK) return HandlePointer(handle);
    why = failure("attn_create", result);
    return nullptr;
}

attn_handle Backend::handle(std::int64_t workers) const
{
    if (is_gpu()) workers = 0;
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
    std::size_t bytes = 0;
    if (const attn_status status = attn_plan_workspace(plan, &bytes, nullptr))
        return failure("attn_plan_workspace", status);
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
    try {
        const attn_status status = launch(plan, instance.args(), bytes);
        return status == ATTN_OK ? "" : failure("attn_execute", status);
    } catch (const std::exception &error) {
        return error.what();
    }
}

} // namespace conformance
