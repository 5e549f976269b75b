// Handles of every instruction set that the processor has, whose loops run on the calling thread with changing worker
// numbers: what an input does then depends on the input alone.
#ifndef ATTN_TESTS_FUZZ_HANDLES_H
#define ATTN_TESTS_FUZZ_HANDLES_H

#include "check.h"

#include <cstdint>
#include <vector>

namespace attn::fuzz {

constexpr int32_t kWorkers = 3;

inline void ATTN_CALL run_backwards(void *, int64_t count, attn_task task, void *arg)
{
    for (int64_t i = count; i-- > 0;) task(arg, i, static_cast<int32_t>(i % kWorkers));
}

/// A list whose elements are destroyed at the end of the process, so that a leak check finds the library's own only.
template <class T, void (*destroy)(T)>
struct Kept {
    std::vector<T> all;

    Kept() = default;
    Kept(const Kept &) = delete;
    Kept &operator=(const Kept &) = delete;
    ~Kept()
    {
        for (T element : all) destroy(element);
    }
};

/// Made once. The first is that of the best instruction set.
inline const std::vector<attn_handle> &handles()
{
    static Kept<attn_handle, attn_destroy> kept;
    if (!kept.all.empty()) return kept.all;
    for (const char *isa : {"avx512", "avx2", "baseline"}) {
        setenv("ATTN_CPU_ISA", isa, 1);
        attn_options options = {};
        options.size = sizeof options;
        options.max_workers = kWorkers;
        options.parallel_for = run_backwards;
        attn_handle handle = nullptr;
        if (check_status(attn_create(&options, &handle)) == ATTN_OK) kept.all.push_back(handle);
    }
    unsetenv("ATTN_CPU_ISA");
    check(!kept.all.empty(), "the baseline kernels run everywhere");
    return kept.all;
}

} // namespace attn::fuzz

#endif
