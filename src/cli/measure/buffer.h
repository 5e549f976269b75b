// Memory on cache lines: what the figures say must not depend on where the allocator happens to put a tensor.
#ifndef ATTN_SRC_CLI_MEASURE_BUFFER_H
#define ATTN_SRC_CLI_MEASURE_BUFFER_H

#include <cstddef>
#include <new>
#include <vector>

namespace attn::perf {

template <class T>
struct CacheAligned {
    using value_type = T;
    static constexpr std::align_val_t kAlign{64};

    CacheAligned() = default;
    template <class U>
    CacheAligned(const CacheAligned<U> &)
    {
    }
    T *allocate(size_t count) { return static_cast<T *>(::operator new(count * sizeof(T), kAlign)); }
    void deallocate(T *p, size_t) { ::operator delete(p, kAlign); }
    bool operator==(const CacheAligned &) const = default;
};

template <class T>
using Buffer = std::vector<T, CacheAligned<T>>;

} // namespace attn::perf

#endif
