// A compiler for tests: a library with the functions of NVRTC that counts, waits and fails as it is told.
#ifndef ATTN_TESTS_KERNEL_FAKE_NVRTC_H
#define ATTN_TESTS_KERNEL_FAKE_NVRTC_H

#include <atomic>

/// One for the process. Set before the calls that it is for.
struct FakeNvrtc {
    std::atomic<int> version{13000};
    std::atomic<int> latest{120};               ///< Of the architectures; 80 and 90 are there too.
    std::atomic<int> milliseconds{0};           ///< That a compile takes.
    std::atomic<const char *> failing{nullptr}; ///< The function that fails, "nvrtcGetCUBIN".
    std::atomic<int> log_lines{1};              ///< Of a compile that fails.
    std::atomic<int> compiles{0}, programs{0};  ///< Calls so far; programs that are not destroyed.
};

#endif
