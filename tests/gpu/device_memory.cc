#include "device_memory.h"

#include <algorithm>
#include <set>

namespace gpu_test {
namespace {

constexpr std::size_t kAlignment = 512; // of allocations of the driver, and twice what any workspace asks for

} // namespace

DeviceMemory::DeviceMemory(std::size_t bytes, std::uintptr_t like) : bytes_(bytes)
{
    const std::size_t lead = like % kAlignment;
    check(driver().mem_alloc(&allocation_, std::max<std::size_t>(lead + bytes, 1)), "cuMemAlloc");
    address_ = allocation_ + lead;
    if (allocation_ % kAlignment == 0) return;
    // The driver promises 256 only.
    driver().mem_free(allocation_);
    allocation_ = 0;
    check(driver().mem_alloc(&allocation_, lead + bytes + kAlignment), "cuMemAlloc");
    address_ = (allocation_ + kAlignment - 1) / kAlignment * kAlignment + lead;
}

DeviceMemory::~DeviceMemory()
{
    if (allocation_) driver().mem_free(allocation_);
}

DeviceMemory::DeviceMemory(DeviceMemory &&other) noexcept
    : allocation_(std::exchange(other.allocation_, 0)), address_(other.address_), bytes_(other.bytes_)
{
}

void DeviceMemory::write(const void *from, std::size_t offset, std::size_t bytes)
{
    if (bytes) check(driver().memcpy_to_device(address_ + offset, from, bytes), "cuMemcpyHtoD");
}

void DeviceMemory::read(void *to, std::size_t offset, std::size_t bytes) const
{
    if (bytes) check(driver().memcpy_to_host(to, address_ + offset, bytes), "cuMemcpyDtoH");
}

SparseMemory::SparseMemory(std::size_t bytes, std::uintptr_t like, const std::vector<Part> &parts)
{
    const Driver &d = driver();
    const AllocationProperties properties;
    try {
        check(d.mem_get_allocation_granularity(&granularity_, &properties, kGranularityMinimum),
              "cuMemGetAllocationGranularity");
    } catch (const DriverError &error) {
        throw SparseMemoryAbsent(std::string("memory that is mapped piece by piece: ") + error.what());
    }
    lead_ = like % kAlignment;
    std::set<std::size_t> granules;
    for (const Part &part : parts)
        for (std::size_t g = (lead_ + part.first) / granularity_; g * granularity_ < lead_ + part.second; ++g)
            granules.insert(g);
    std::size_t free = 0, total = 0;
    check(d.mem_get_info(&free, &total), "cuMemGetInfo");
    const std::size_t needed = granules.size() * granularity_, spare = std::size_t{1} << 30;
    if (free < needed + spare)
        throw SparseMemoryAbsent(std::to_string(needed >> 20) + " MiB of device memory, " + std::to_string(free >> 20) +
                                 " MiB are free");
    reserved_ = (lead_ + bytes + granularity_ - 1) / granularity_ * granularity_;
    if (d.mem_address_reserve(&base_, reserved_, 0, 0, 0) != 0) throw SparseMemoryAbsent("device address space");
    try {
        for (const std::size_t granule : granules) map(granule);
    } catch (...) {
        release();
        throw;
    }
}

void SparseMemory::map(std::size_t granule)
{
    const Driver &d = driver();
    const AllocationProperties properties;
    const AccessDescription access;
    const Pointer at = base_ + granule * granularity_;
    Allocation memory = 0;
    check(d.mem_create(&memory, granularity_, &properties, 0), "cuMemCreate");
    if (const int result = d.mem_map(at, granularity_, 0, memory, 0)) {
        d.mem_release(memory);
        check(result, "cuMemMap");
    }
    granules_.emplace_back(granule, memory);
    check(d.mem_set_access(at, granularity_, &access, 1), "cuMemSetAccess");
    check(d.memset_bytes(at, 0xff, granularity_), "cuMemsetD8");
}

void SparseMemory::release()
{
    for (const auto &[granule, memory] : granules_) {
        driver().mem_unmap(base_ + granule * granularity_, granularity_);
        driver().mem_release(memory);
    }
    if (base_) driver().mem_address_free(base_, reserved_);
}

SparseMemory::~SparseMemory()
{
    release();
}

} // namespace gpu_test
