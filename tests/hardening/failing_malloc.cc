#include "failing_malloc.h"

#include "sanitizer.h"

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>

namespace attn::hardening {
namespace {

constexpr int64_t kNever = INT64_MAX;

std::atomic<int64_t> live{0};
std::atomic<int64_t> left{kNever}; ///< Allocations to serve before the one that fails.
std::atomic<bool> repeats{false}, failed{false};

} // namespace

int64_t live_blocks() noexcept
{
    return live.load();
}

FailingAllocations::FailingAllocations(int64_t served, bool from_then_on) noexcept
{
    failed.store(false);
    repeats.store(from_then_on);
    left.store(served);
}

FailingAllocations::~FailingAllocations()
{
    left.store(kNever);
    repeats.store(false);
}

bool FailingAllocations::fired() const noexcept
{
    return failed.load();
}

#if ATTN_TEST_CAN_INTERPOSE

/// Whether this allocation is to fail.
static bool fails() noexcept
{
    if (left.load(std::memory_order_relaxed) == kNever) return false;
    const int64_t before = left.fetch_sub(1);
    if (before > 0 || (before < 0 && !repeats.load())) return false;
    failed.store(true);
    errno = ENOMEM;
    return true;
}

static void *counted(void *block) noexcept
{
    if (block) live.fetch_add(1, std::memory_order_relaxed);
    return block;
}

extern "C" {

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *memory, size_t bytes);
void __libc_free(void *memory);
void *__libc_memalign(size_t alignment, size_t bytes);

void *malloc(size_t bytes)
{
    return fails() ? nullptr : counted(__libc_malloc(bytes));
}

void *calloc(size_t count, size_t bytes)
{
    return fails() ? nullptr : counted(__libc_calloc(count, bytes));
}

void *realloc(void *memory, size_t bytes)
{
    if (fails()) return nullptr;
    void *block = __libc_realloc(memory, bytes);
    return memory ? block : counted(block);
}

void free(void *memory)
{
    if (memory) live.fetch_sub(1, std::memory_order_relaxed);
    __libc_free(memory);
}

void *memalign(size_t alignment, size_t bytes)
{
    return fails() ? nullptr : counted(__libc_memalign(alignment, bytes));
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    return fails() ? nullptr : counted(__libc_memalign(alignment, bytes));
}

int posix_memalign(void **memory, size_t alignment, size_t bytes)
{
    void *block = fails() ? nullptr : counted(__libc_memalign(alignment, bytes));
    if (!block) return ENOMEM;
    *memory = block;
    return 0;
}

} // extern "C"

#endif

} // namespace attn::hardening
