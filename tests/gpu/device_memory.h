// Device memory of the tests. A context must be current wherever an object is made, used or destroyed.
#pragma once

#include "driver.h"

#include <utility>
#include <vector>

namespace gpu_test {

// `bytes` of device memory, the last of which ends its allocation, so that a memory checker sees what goes beyond.
class DeviceMemory {
public:
    // The address is `like` modulo 512.
    explicit DeviceMemory(std::size_t bytes, std::uintptr_t like = 0);
    ~DeviceMemory();
    DeviceMemory(DeviceMemory &&other) noexcept;
    DeviceMemory(const DeviceMemory &) = delete;
    DeviceMemory &operator=(const DeviceMemory &) = delete;
    DeviceMemory &operator=(DeviceMemory &&) = delete;

    Pointer address() const { return address_; }
    void *data() const { return reinterpret_cast<void *>(static_cast<std::uintptr_t>(address_)); }
    std::size_t bytes() const { return bytes_; }
    // Synchronous.
    void write(const void *from, std::size_t offset, std::size_t bytes);
    void read(void *to, std::size_t offset, std::size_t bytes) const;

private:
    Pointer allocation_ = 0, address_ = 0;
    std::size_t bytes_ = 0;
};

// Not enough device memory, or a driver that cannot map it piece by piece.
class SparseMemoryAbsent : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// A range of device addresses with memory behind parts of it only; touching the rest is an error of the kernel.
class SparseMemory {
public:
    using Part = std::pair<std::size_t, std::size_t>; // first byte, byte behind the last
    // The address is `like` modulo 512. What is mapped beyond the parts is filled with 0xff.
    SparseMemory(std::size_t bytes, std::uintptr_t like, const std::vector<Part> &parts);
    ~SparseMemory();
    SparseMemory(SparseMemory &&) = delete;
    SparseMemory(const SparseMemory &) = delete;
    SparseMemory &operator=(const SparseMemory &) = delete;
    SparseMemory &operator=(SparseMemory &&) = delete;

    Pointer address() const { return base_ + lead_; }

private:
    void map(std::size_t granule);
    void release();

    Pointer base_ = 0;
    std::size_t lead_ = 0, reserved_ = 0, granularity_ = 0;
    std::vector<std::pair<std::size_t, Allocation>> granules_; // mapped: number, memory
};

} // namespace gpu_test
