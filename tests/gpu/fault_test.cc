// What must not pass unnoticed: a device that has faulted, a process that has forked. Both in programs of their own,
// since the context is useless afterwards.
#include "call.h"
#include "resident.h"

#include "tests/conformance/session.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

namespace gpu_test {
namespace {

// Writes to address 16, which is never mapped.
constexpr const char *kFaultingKernel = R"(
.version 7.0
.target sm_70
.address_size 64
.visible .entry fault()
{
    .reg .b64 %rd<2>;
    .reg .b32 %r<2>;
    mov.u64 %rd1, 16;
    mov.u32 %r1, 1;
    st.global.u32 [%rd1], %r1;
    ret;
}
)";

// Ends the program with 0 if all that a death test looked at was right, after saying what was wrong.
class Verdict {
public:
    void require(bool right, const std::string &what)
    {
        if (right) return;
        std::fprintf(stderr, "wrong: %s\n", what.c_str());
        wrong_ = true;
    }
    [[noreturn]] void end() const { std::_Exit(wrong_ ? 1 : 0); }

private:
    bool wrong_ = false;
};

// The library stays usable, saying what happened, and can be taken down.
[[noreturn]] void fault_and_go_on()
{
    Verdict verdict;
    const auto call = call_kinds()[0].make(1);
    attn_handle handle = nullptr;
    attn_options options{};
    options.size = sizeof options, options.device = ATTN_DEVICE_CUDA;
    verdict.require(attn_create(&options, &handle) == ATTN_OK, attn_last_error());
    auto plan = call->plan(handle);
    const ContextScope scope;
    const Resident resident(plan.get(), call->args());
    verdict.require(resident.execute(plan.get(), nullptr) == ATTN_OK, attn_last_error());
    check(driver().stream_synchronize(nullptr), "cuStreamSynchronize");

    Module module = nullptr;
    Function function = nullptr;
    check(driver().module_load_data(&module, kFaultingKernel), "cuModuleLoadData");
    check(driver().module_get_function(&function, module, "fault"), "cuModuleGetFunction");
    check(driver().launch_kernel(function, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr), "cuLaunchKernel");
    const int result = driver().stream_synchronize(nullptr);
    verdict.require(result == kIllegalAddress, "the kernel ended with " + std::to_string(result));

    const attn_status status = resident.execute(plan.get(), nullptr);
    std::fprintf(stderr, "execute after the fault: %s: %s\n", attn_status_name(status), attn_last_error());
    verdict.require(status == ATTN_ERROR_RUNTIME, "status of execute");
    verdict.require(std::string(attn_last_error()).find("CUDA_ERROR_ILLEGAL_ADDRESS") != std::string::npos, "message");
    attn_handle another = nullptr;
    const attn_status created = attn_create(&options, &another);
    verdict.require(created == ATTN_OK || created == ATTN_ERROR_RUNTIME, "status of attn_create");
    attn_destroy(another);
    plan.reset();
    attn_destroy(handle);
    verdict.end();
}

TEST(FaultsDeathTest, AFaultOfTheDeviceIsTheStatusOfTheNextCall)
{
    EXPECT_EXIT(fault_and_go_on(), testing::ExitedWithCode(0), "ATTN_ERROR_RUNTIME: .*CUDA_ERROR_ILLEGAL_ADDRESS");
}

// Every function that would touch the device, in a child of the process that has initialised it.
[[noreturn]] void fork_and_use()
{
    Verdict verdict;
    const auto call = call_kinds()[0].make(1);
    const attn_handle handle = shared_handle();
    const auto plan = call->plan(handle);
    const auto descriptor = call_kinds()[3].make(1);
    const ContextScope scope;
    const Resident resident(plan.get(), call->args());
    const pid_t child = fork();
    if (child == 0) {
        alarm(60);
        Verdict own;
        attn_status status = resident.execute(plan.get(), nullptr);
        std::fprintf(stderr, "execute in the child: %s: %s\n", attn_status_name(status), attn_last_error());
        own.require(status == ATTN_ERROR_FORKED, "status of attn_execute");
        attn_problem problem{};
        problem.size = sizeof problem, problem.q_dtype = ATTN_FLOAT16, problem.heads_q = problem.max_q = 1;
        problem.dim_qk = 64;
        attn_dense dense{};
        dense.size = sizeof dense, dense.problem = &problem;
        attn_plan made = nullptr;
        own.require(attn_plan_dense(handle, &dense, &made) == ATTN_ERROR_FORKED, "status of attn_plan_dense");
        attn_options options{};
        options.size = sizeof options, options.device = ATTN_DEVICE_CUDA;
        attn_handle fresh = nullptr;
        own.require(attn_create(&options, &fresh) == ATTN_ERROR_FORKED, "status of attn_create");
        attn_handle cpu = nullptr;
        own.require(attn_create(nullptr, &cpu) == ATTN_OK, "a handle of the CPU");
        attn_destroy(cpu);
        attn_destroy(handle);
        own.end();
    }
    int status = 0;
    verdict.require(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child");
    verdict.require(resident.execute(plan.get(), nullptr) == ATTN_OK, "the parent goes on");
    check(driver().stream_synchronize(nullptr), "cuStreamSynchronize");
    verdict.end();
}

TEST(FaultsDeathTest, AForkedChildIsRefused)
{
    EXPECT_EXIT(fork_and_use(), testing::ExitedWithCode(0), "ATTN_ERROR_FORKED: ");
}

} // namespace
} // namespace gpu_test
