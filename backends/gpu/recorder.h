// A device that is not there: plans for an architecture, and hands over what they load.
#ifndef ATTN_BACKENDS_GPU_RECORDER_H
#define ATTN_BACKENDS_GPU_RECORDER_H

#include "backends/gpu/device.h"

#include <functional>
#include <mutex>
#include <set>
#include <string>

namespace attn::gpu {

/// Typical facts of the devices that code for a target ("sm_90a", "compute_80") is for. False if none are known; then
/// `why` lists the targets that are.
bool typical_facts(const std::string &target, Facts *out, std::string *why);

/// Has every kernel, and gives each request to a function before it says so.
class Recorder final : public Device {
public:
    /// Takes a request for a kernel; called once for each, by any thread that plans.
    using Keep = std::function<attn_status(const kernel::Request &)>;

    Recorder(Facts facts, Keep keep) : facts_(std::move(facts)), keep_(std::move(keep)) {}

    const Facts &facts() const noexcept override { return facts_; }
    [[nodiscard]] attn_status load(const kernel::Request &request, bool compile, uint32_t threads,
                                   uint32_t shared_bytes, Kernel *out) override;
    bool has(const kernel::Request &) override { return true; }
    bool waits_for_compiler() const noexcept override { return true; }
    [[nodiscard]] attn_status upload(const void *data, size_t bytes, std::unique_ptr<Buffer> *out) override;

    [[nodiscard]] attn_status enter(void *stream) const noexcept override;
    void leave() const noexcept override {}
    [[nodiscard]] attn_status launch(const Kernel &kernel, const Grid &grid, void *stream,
                                     void **parameters) const noexcept override;

private:
    const Facts facts_;
    const Keep keep_;
    std::mutex mutex_; ///< Guards the names.
    std::set<std::string> names_;
};

} // namespace attn::gpu

#endif
