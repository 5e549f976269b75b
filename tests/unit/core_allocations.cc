#include "core_allocations.h"

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ATTN_TEST_COUNT_ALLOCATIONS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define ATTN_TEST_COUNT_ALLOCATIONS 0
#endif
#endif
#if !defined(ATTN_TEST_COUNT_ALLOCATIONS)
#if defined(__GLIBC__)
#define ATTN_TEST_COUNT_ALLOCATIONS 1
#else
#define ATTN_TEST_COUNT_ALLOCATIONS 0
#endif
#endif

namespace attn::test {
namespace {

std::atomic<bool> counting{false};
std::atomic<int64_t> calls{0};

} // namespace

bool can_count_allocations() noexcept
{
    return ATTN_TEST_COUNT_ALLOCATIONS;
}

AllocationScope::AllocationScope() noexcept
{
    calls.store(0);
    counting.store(true);
}

AllocationScope::~AllocationScope()
{
    counting.store(false);
}

int64_t AllocationScope::count() const noexcept
{
    return calls.load();
}

#if ATTN_TEST_COUNT_ALLOCATIONS

static void note() noexcept
{
    if (counting.load(std::memory_order_relaxed)) calls.fetch_add(1, std::memory_order_relaxed);
}

extern "C" {

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *memory, size_t bytes);
void __libc_free(void *memory);
void *__libc_memalign(size_t alignment, size_t bytes);

void *malloc(size_t bytes)
{
    note();
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    note();
    return __libc_calloc(count, bytes);
}

void *realloc(void *memory, size_t bytes)
{
    note();
    return __libc_realloc(memory, bytes);
}

void free(void *memory)
{
    note();
    __libc_free(memory);
}

void *memalign(size_t alignment, size_t bytes)
{
    note();
    return __libc_memalign(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    note();
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **memory, size_t alignment, size_t bytes)
{
    note();
    *memory = __libc_memalign(alignment, bytes);
    return *memory ? 0 : ENOMEM;
}

} // extern "C"

#endif

} // namespace attn::test
