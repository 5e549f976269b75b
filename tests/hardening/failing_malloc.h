// An allocator in front of the C library's that fails when told to.
#ifndef ATTN_TESTS_HARDENING_FAILING_MALLOC_H
#define ATTN_TESTS_HARDENING_FAILING_MALLOC_H

#include <cstdint>

namespace attn::hardening {

/// Blocks allocated and not freed, by anyone in this process.
int64_t live_blocks() noexcept;

/// From here to the end of the block, the allocation after the first `served` fails; and where `from_then_on`, every
/// later one too. On any thread; one at a time.
class FailingAllocations {
public:
    FailingAllocations(int64_t served, bool from_then_on) noexcept;
    ~FailingAllocations();
    FailingAllocations(const FailingAllocations &) = delete;
    FailingAllocations &operator=(const FailingAllocations &) = delete;

    /// Whether any has failed yet.
    bool fired() const noexcept;
};

} // namespace attn::hardening

#endif
