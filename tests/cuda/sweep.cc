#include "tests/cuda/sweep.h"

#include "tests/cuda/session.h"

#include <cstdio>

namespace attn::cuda::test {
namespace {

/// What gives something back. It does so though it fails, and nobody is told: there is nothing that one could do.
bool gives_back(const std::string &entry)
{
    for (const char *name :
         {"cuDevicePrimaryCtxRelease", "cuCtxPopCurrent", "cuModuleUnload", "cuStreamDestroy", "cuMemFree"})
        if (entry == name) return true;
    return false;
}

std::map<std::string, int64_t> count_calls()
{
    std::map<std::string, int64_t> calls;
    for (int i = 0; i < fake_cuda_entry_count(); ++i)
        if (const int64_t count = fake_cuda_calls(fake_cuda_entry_name(i))) calls[fake_cuda_entry_name(i)] = count;
    return calls;
}

} // namespace

Sweep fail_every_call(const Scenario &scenario)
{
    Sweep sweep;
    std::map<std::string, int64_t> before_end;
    const auto note = [&] { before_end = count_calls(); };
    const auto nothing = [] {};
    EXPECT_EQ(scenario(nothing), ATTN_OK) << last_error(); // also opens the driver, if no test before did
    fake_cuda_reset();
    EXPECT_EQ(scenario(note), ATTN_OK) << last_error();
    const int64_t launches = fake_cuda_launch_count();
    for (const auto &[entry, count] : count_calls()) {
        for (int64_t n = 1; n <= count; ++n) {
            SCOPED_TRACE(testing::Message() << entry << ", call " << n << " of " << count);
            // Not supported, an answer where SMs of a context are asked for.
            const bool answer = entry == "cuCtxGetDevResource";
            fake_cuda_reset();
            fake_cuda_fail(entry.c_str(), n, answer ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_NOT_SUPPORTED);
            const attn_status status = scenario(nothing);
            ++sweep.faults[entry];
            ++sweep.total;
            EXPECT_TRUE(fake_cuda_has_failed());
            // The mode of captures is exchanged twice, and putting it back is giving back.
            const bool silent = gives_back(entry) || n > before_end[entry] ||
                                (entry == "cuThreadExchangeStreamCaptureMode" && n % 2 == 0);
            if (silent) {
                EXPECT_EQ(status, ATTN_OK) << last_error();
                EXPECT_EQ(fake_cuda_launch_count(), launches);
            } else {
                ++sweep.told;
                std::string text = entry;
                text += answer ? ": CUDA_ERROR_INVALID_VALUE (1): invalid argument"
                               : ": CUDA_ERROR_NOT_SUPPORTED (801): operation not supported";
                EXPECT_TRUE(failed_with(status, ATTN_ERROR_RUNTIME, {text}));
                EXPECT_EQ(fake_cuda_launches_after_failure(), 0);
            }
            EXPECT_EQ(describe_live(), "");
            EXPECT_EQ(violations(), "");
            EXPECT_EQ(fake_cuda_current(), nullptr);
            fake_cuda_set_capture_mode(CU_STREAM_CAPTURE_MODE_GLOBAL);
            EXPECT_EQ(scenario(nothing), ATTN_OK) << last_error();
            EXPECT_EQ(violations(), "");
            if (testing::Test::HasFailure()) return sweep;
        }
    }
    std::printf("faults: %zu entry points, %lld calls made to fail, %lld of them told\n", sweep.faults.size(),
                static_cast<long long>(sweep.total), static_cast<long long>(sweep.told));
    return sweep;
}

} // namespace attn::cuda::test
