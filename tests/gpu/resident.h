// A call whose tensors and workspace stay on the device, for tests that enqueue it more than once or check it later.
#pragma once

#include "device_memory.h"

#include "tests/conformance/block.h"

#include <attn/attn.h>

#include <cstddef>
#include <optional>
#include <vector>

namespace gpu_test {

// A stream of the context that is current.
class OwnStream {
public:
    explicit OwnStream(unsigned flags = kNonBlocking)
    {
        check(driver().stream_create(&stream_, flags), "cuStreamCreate");
    }
    ~OwnStream() { driver().stream_destroy(stream_); }
    OwnStream(const OwnStream &) = delete;
    OwnStream &operator=(const OwnStream &) = delete;
    Stream get() const { return stream_; }
    void synchronize() const { check(driver().stream_synchronize(stream_), "cuStreamSynchronize"); }

private:
    Stream stream_ = nullptr;
};

// Whether a call writes the slot.
bool is_output(attn_slot);

// The memory that the outputs among some arguments lie in, in the order of slots.
std::vector<conformance::Bytes> output_bytes(const std::vector<attn_arg> &);

// The views of `args` on the host are those of the device but for their addresses. A context must be current wherever
// an object is made, used or destroyed; only execute() does without.
class Resident {
public:
    // Copies what the arguments hold. The workspace is as large as the plan's bound and aligned as promised.
    Resident(attn_plan, const std::vector<attn_arg> &args);
    Resident(const Resident &) = delete;
    Resident &operator=(const Resident &) = delete;

    // Copies the memory of other arguments, of the same shapes and layouts, to the device; or back into them.
    void write(const std::vector<attn_arg> &from);
    void read(const std::vector<attn_arg> &to) const;
    void fill_workspace(unsigned char value);

    attn_status execute(attn_plan, Stream) const;
    const std::vector<attn_arg> &args() const { return args_; } // of the device
    void *workspace() const { return workspace_ ? workspace_->data() : nullptr; }
    std::size_t workspace_bytes() const { return workspace_ ? workspace_->bytes() : 0; }

private:
    const attn_arg &find(const std::vector<attn_arg> &, std::size_t) const;

    std::vector<attn_tensor> views_;
    std::vector<attn_arg> args_;
    std::vector<std::optional<DeviceMemory>> memory_; // by argument; none for one without memory
    std::optional<DeviceMemory> workspace_;
};

} // namespace gpu_test
