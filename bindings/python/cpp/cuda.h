/**
 * @file cuda.h
 * @brief What handing CUDA arrays over takes of the driver, beside what libattn does: order between streams, scratch
 *        memory, and waiting. The driver is found as libattn finds it, and only when one of these is called.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace attn_python::cuda {

/** A CUstream as a number: 0 or 1 the legacy default stream, 2 the per-thread one. */
using Stream = std::uintptr_t;

/** Ordinal of the device that an address belongs to. */
int device_of(const void *address);

/** Lets `consumer` wait for what is in `producer` now. Does not wait itself. */
void order(int device_id, Stream producer, Stream consumer);

/** Waits for the stream, without the GIL. */
void synchronize(int device_id, Stream stream);

/** Device memory at `address`, once the stream has come that far; waits, without the GIL. */
std::string read(std::uintptr_t address, std::size_t bytes, int device_id, Stream stream);

/** Memory of a device, allocated and freed in the order of a stream. */
class Scratch {
public:
    Scratch(std::size_t bytes, int device_id, Stream stream);
    ~Scratch();
    Scratch(const Scratch &) = delete;
    Scratch &operator=(const Scratch &) = delete;
    std::uintptr_t address() const { return static_cast<std::uintptr_t>(memory_); }

private:
    unsigned long long memory_ = 0; /* CUdeviceptr */
    int device_id_;
    Stream stream_;
};

} // namespace attn_python::cuda
