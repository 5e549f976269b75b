// Counts the allocations of this process, on any thread, while a scope is open.
#ifndef ATTN_TESTS_UNIT_CORE_ALLOCATIONS_H
#define ATTN_TESTS_UNIT_CORE_ALLOCATIONS_H

#include <cstdint>

namespace attn::test {

/// Whether this build can count: a sanitizer has its own allocator, and only glibc lets ours stand in front.
bool can_count_allocations() noexcept;

/// Counts calls of malloc, calloc, realloc, free, aligned_alloc, posix_memalign and memalign, and so of operator new
/// and delete, from here to the end of the block. One at a time.
class AllocationScope {
public:
    AllocationScope() noexcept;
    ~AllocationScope();
    AllocationScope(const AllocationScope &) = delete;
    AllocationScope &operator=(const AllocationScope &) = delete;

    int64_t count() const noexcept;
};

} // namespace attn::test

#endif
