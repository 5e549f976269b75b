// Finding the driver. Each case is a process of its own: a driver that was found stays.
#include "tests/fake_cuda/fake_cuda.h"

#include "attn/attn.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <gtest/gtest.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace {

constexpr attn_status kNoDevice = ATTN_ERROR_NO_DEVICE;

/// Runs `body` in a forked child; "" if that returned "", else what it returned.
std::string in_child(const std::function<std::string()> &body)
{
    int ends[2];
    if (pipe(ends) != 0) return "pipe() failed";
    const pid_t child = fork();
    if (child == 0) {
        alarm(60);
        const std::string text = body();
        const bool written = write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
        _exit(written && text.empty() ? 0 : 1);
    }
    close(ends[1]);
    std::string text;
    char buffer[512];
    for (ssize_t got; (got = read(ends[0], buffer, sizeof buffer)) > 0;) text.append(buffer, static_cast<size_t>(got));
    close(ends[0]);
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) return "no child";
    if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
    return text.empty() && WEXITSTATUS(status) ? "exit " + std::to_string(WEXITSTATUS(status)) : text;
}

/// "" if a call failed as it should, and the driver saw nothing wrong.
std::string expect(attn_status got, attn_status wanted, const std::vector<std::string> &parts = {})
{
    char text[1024];
    if (fake_cuda_violations(text, sizeof text)) return text;
    if (got != wanted)
        return "status " + std::to_string(got) + " instead of " + std::to_string(wanted) + ": " + attn_last_error();
    for (const std::string &part : parts)
        if (!strstr(attn_last_error(), part.c_str())) return "no \"" + part + "\" in: " + attn_last_error();
    return "";
}

attn_status count_devices(int32_t *count)
{
    return attn_device_count(ATTN_DEVICE_CUDA, count);
}

attn_status create(attn_handle *handle)
{
    attn_options options = {};
    options.size = sizeof options;
    options.device = ATTN_DEVICE_CUDA;
    return attn_create(&options, handle);
}

/// Counting devices fails where ATTN_CUDA_DRIVER is `path`.
std::string refuse(const char *path, const std::vector<std::string> &parts)
{
    return in_child([&]() -> std::string {
        setenv("ATTN_CUDA_DRIVER", path, 1);
        int32_t count = -7;
        if (std::string wrong = expect(count_devices(&count), kNoDevice, parts); !wrong.empty()) return wrong;
        attn_handle handle = nullptr;
        if (std::string wrong = expect(create(&handle), kNoDevice, parts); !wrong.empty()) return wrong;
        return count == -7 && !handle ? "" : "a failing call wrote its output";
    });
}

TEST(Driver, Library)
{
    EXPECT_EQ(refuse("/nonexistent/libcuda.so.1",
                     {"no CUDA driver", "ATTN_CUDA_DRIVER = /nonexistent/libcuda.so.1", "No such file"}),
              "");
    EXPECT_EQ(refuse("libcuda.so.1", {"ATTN_CUDA_DRIVER = libcuda.so.1", "must be an absolute path"}), "");
    EXPECT_EQ(refuse("./libattn_fake_cuda.so", {"must be an absolute path"}), "");
}

TEST(Driver, NotADriver)
{
    FILE *maps = fopen("/proc/self/maps", "r"); // the C library is some library
    ASSERT_NE(maps, nullptr);
    std::string path;
    for (char line[1024]; path.empty() && fgets(line, sizeof line, maps);)
        if (strstr(line, "/libc.so.6")) path = std::string(strchr(line, '/'), strcspn(strchr(line, '/'), "\n"));
    fclose(maps);
    ASSERT_NE(path, "");
    EXPECT_EQ(refuse(path.c_str(), {"cuGetProcAddress_v2", "12.0 or newer"}), "");
}

/// Without the variable it is the name that every driver has. A machine may have one.
TEST(Driver, UsualName)
{
    EXPECT_EQ(in_child([]() -> std::string {
                  unsetenv("ATTN_CUDA_DRIVER");
                  int32_t count = 0;
                  const attn_status status = count_devices(&count);
                  if (status == ATTN_OK) return fake_cuda_all_calls() ? "the fake was used" : "";
                  return expect(status, kNoDevice, {"libcuda.so.1"});
              }),
              "");
}

TEST(Driver, Version)
{
    EXPECT_EQ(
        in_child([]() -> std::string {
            int32_t count = 0;
            fake_cuda_set_version(11080);
            if (std::string wrong = expect(count_devices(&count), kNoDevice, {"11.8", "12.0 or newer"}); !wrong.empty())
                return wrong;
            fake_cuda_set_version(12000); // now it is new enough, and lacks what came later
            attn_handle handle = nullptr;
            if (std::string wrong = expect(create(&handle), ATTN_OK); !wrong.empty()) return wrong;
            attn_destroy(handle);
            return fake_cuda_calls("cuCtxGetDevResource") ? "an entry point of version 12.4 was called" : "";
        }),
        "");
}

TEST(Driver, EntryPointMissing)
{
    int required = 0;
    for (int i = 0; i < fake_cuda_entry_count(); ++i) {
        const std::string name = fake_cuda_entry_name(i);
        const bool optional = name == "cuCtxGetDevResource" || name == "cuFuncLoad";
        required += !optional;
        EXPECT_EQ(in_child([&]() -> std::string {
                      fake_cuda_hide(name.c_str());
                      int32_t count = 0;
                      if (optional) return expect(count_devices(&count), ATTN_OK);
                      if (std::string wrong = expect(count_devices(&count), kNoDevice, {"lacks the function " + name});
                          !wrong.empty())
                          return wrong;
                      fake_cuda_reset();
                      return expect(count_devices(&count), ATTN_OK);
                  }),
                  "")
            << name;
    }
    EXPECT_EQ(required, 33);
}

TEST(Driver, InitialisationFails)
{
    const struct {
        int result;
        attn_status status;
        const char *text;
    } cases[] = {{2, ATTN_ERROR_MEMORY, "cuInit: CUDA_ERROR_OUT_OF_MEMORY (2): out of memory"},
                 {801, kNoDevice, "cuInit: CUDA_ERROR_NOT_SUPPORTED (801)"},
                 {803, kNoDevice, "cuInit: unknown error (803): the driver has no text for it"}};
    for (const auto &failure : cases)
        EXPECT_EQ(in_child([&]() -> std::string {
                      int32_t count = 0;
                      fake_cuda_fail("cuInit", 1, failure.result);
                      if (std::string wrong = expect(count_devices(&count), failure.status, {failure.text});
                          !wrong.empty())
                          return wrong;
                      if (std::string wrong = expect(count_devices(&count), ATTN_OK); !wrong.empty()) return wrong;
                      return count == 2 ? "" : "wrong count";
                  }),
                  "")
            << failure.text;
    EXPECT_EQ(in_child([]() -> std::string {
                  int32_t count = 0;
                  fake_cuda_fail("cuDriverGetVersion", 1, 801);
                  return expect(count_devices(&count), kNoDevice, {"cuDriverGetVersion: CUDA_ERROR_NOT_SUPPORTED"});
              }),
              "");
}

TEST(Driver, WithoutDevices)
{
    EXPECT_EQ(in_child([]() -> std::string {
                  fake_cuda_set_device_count(0);
                  int32_t count = -1;
                  if (std::string wrong = expect(count_devices(&count), ATTN_OK); !wrong.empty()) return wrong;
                  if (count != 0) return "wrong count";
                  attn_handle handle = nullptr;
                  return expect(create(&handle), kNoDevice, {"attn_options.device_id = 0", "there are 0 cuda devices"});
              }),
              "");
}

/// Creates, plans, executes and asks on the CPU.
std::string use_the_cpu()
{
    attn_handle handle = nullptr;
    if (attn_create(nullptr, &handle) != ATTN_OK) return attn_last_error();
    attn_problem problem = {};
    problem.size = sizeof problem, problem.q_dtype = ATTN_FLOAT32, problem.heads_q = 2, problem.dim_qk = 8;
    problem.max_q = 3;
    attn_dense dense = {};
    dense.size = sizeof dense, dense.problem = &problem;
    attn_plan plan = nullptr;
    size_t bytes = 0, alignment = 0;
    if (attn_plan_supports(handle, ATTN_KIND_DENSE, &dense) != ATTN_OK ||
        attn_plan_dense(handle, &dense, &plan) != ATTN_OK || attn_plan_workspace(plan, &bytes, &alignment) != ATTN_OK)
        return attn_last_error();
    std::vector<float> values(48 * 4, 0.5f);
    std::vector<char> workspace(bytes + alignment);
    void *aligned = workspace.data();
    size_t space = workspace.size();
    std::align(alignment, bytes, aligned, space);
    attn_tensor views[4] = {};
    attn_arg args[4];
    const attn_slot slots[4] = {ATTN_SLOT_Q, ATTN_SLOT_K, ATTN_SLOT_V, ATTN_SLOT_OUT};
    for (int i = 0; i < 4; ++i) {
        views[i].data = values.data() + 48 * i;
        views[i].dtype = ATTN_FLOAT32, views[i].ndim = 4;
        const int64_t shape[4] = {1, 3, 2, 8}, strides[4] = {48, 16, 8, 1};
        memcpy(views[i].shape, shape, sizeof shape);
        memcpy(views[i].strides, strides, sizeof strides);
        args[i] = {slots[i], 0, &views[i]};
    }
    if (attn_execute(plan, args, 4, aligned, bytes, nullptr) != ATTN_OK) return attn_last_error();
    if (values[3 * 48] != 0.5f) return "wrong result";
    attn_device_properties properties = {};
    properties.size = sizeof properties;
    int32_t count = 0;
    if (attn_device_info(ATTN_DEVICE_CPU, 0, &properties) != ATTN_OK ||
        attn_device_count(ATTN_DEVICE_CPU, &count) != ATTN_OK || attn_version() != ATTN_VERSION)
        return attn_last_error();
    attn_plan_destroy(plan);
    attn_destroy(handle);
    return "";
}

TEST(Driver, CpuMakesNoCall)
{
    EXPECT_EQ(in_child([]() -> std::string {
                  std::string wrong = use_the_cpu();
                  if (wrong.empty() && fake_cuda_all_calls()) wrong = "the driver was called";
                  attn_handle gpu = nullptr; // one beside it makes no difference
                  if (wrong.empty()) wrong = expect(create(&gpu), ATTN_OK);
                  if (!wrong.empty()) return wrong;
                  fake_cuda_clear_calls();
                  wrong = use_the_cpu();
                  if (wrong.empty() && fake_cuda_all_calls()) wrong = "the driver was called beside a cuda handle";
                  attn_destroy(gpu);
                  return wrong;
              }),
              "");
}

TEST(Driver, Fork)
{
    EXPECT_EQ(in_child([]() -> std::string {
                  attn_handle handle = nullptr;
                  if (std::string wrong = expect(create(&handle), ATTN_OK); !wrong.empty()) return wrong;
                  std::string wrong = in_child([&]() -> std::string {
                      fake_cuda_clear_calls();
                      attn_handle other = nullptr;
                      int32_t count = 0;
                      attn_problem problem = {};
                      problem.size = sizeof problem, problem.q_dtype = ATTN_FLOAT16, problem.heads_q = 2;
                      problem.dim_qk = 64, problem.max_q = 3;
                      attn_dense dense = {};
                      dense.size = sizeof dense, dense.problem = &problem;
                      attn_plan plan = nullptr;
                      const std::string checks[] = {
                          expect(create(&other), ATTN_ERROR_FORKED, {"before fork()"}),
                          expect(count_devices(&count), ATTN_ERROR_FORKED, {"before fork()"}),
                          expect(attn_plan_dense(handle, &dense, &plan), ATTN_ERROR_FORKED, {"created before fork()"}),
                          expect(attn_plan_supports(handle, ATTN_KIND_DENSE, &dense), ATTN_ERROR_FORKED, {"fork()"}),
                          use_the_cpu()};
                      for (const std::string &check : checks)
                          if (!check.empty()) return check;
                      attn_destroy(handle);
                      return fake_cuda_all_calls() ? "the driver was called in the child" : "";
                  });
                  if (!wrong.empty()) return wrong;
                  attn_destroy(handle);
                  const fake_cuda_live live = fake_cuda_count_live();
                  return live.retained || live.pushed ? "left behind" : "";
              }),
              "");
}

} // namespace
