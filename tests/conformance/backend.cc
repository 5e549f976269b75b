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

bool has_device_memory()
{
    return on_gpu();
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
    why = std::string("attn_create: ") + attn_status_name(result) + ": " + attn_last_error();
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

} // namespace conformance
