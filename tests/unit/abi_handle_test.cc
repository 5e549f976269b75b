// Options of a handle, the instruction set that the environment asks for, and what is said of devices.

#include "abi_fixture.h"

#include <cstdlib>
#include <optional>

namespace {

using caller::fails;
using caller::Parts;
using caller::succeeds;
using caller::zeroed;

constexpr attn_status kInvalid = ATTN_ERROR_INVALID, kNoDevice = ATTN_ERROR_NO_DEVICE;

void ATTN_CALL serial(void *, int64_t count, attn_task task, void *arg)
{
    for (int64_t i = 0; i < count; ++i) task(arg, i, 0);
}
void *ATTN_CALL no_memory(void *, size_t)
{
    return nullptr;
}
void ATTN_CALL free_nothing(void *, void *, size_t) {}
void ATTN_CALL no_log(void *, int32_t, const char *) {}

struct Refusal {
    const char *name;
    void (*change)(attn_options &o);
    attn_status status;
    Parts parts;
};

TEST(Options, Refused)
{
    caller::hide_cuda_driver();
    static int context = 0;
    const Refusal table[] = {
        {"unknown flags",
         [](attn_options &o) { o.flags = 1 << 4; },
         kInvalid,
         {"attn_options.flags = 0x10", "unknown bits 0x10"}},
        {"flags of compilers",
         [](attn_options &o) { o.flags = ATTN_HANDLE_NO_COMPILE; },
         kInvalid,
         {"attn_options.flags = 0x1", "must be 0 for the CPU"}},
        {"context",
         [](attn_options &o) { o.flags = ATTN_HANDLE_CURRENT_CONTEXT; },
         kInvalid,
         {"attn_options.flags = 0x8", "must be 0 for the CPU"}},
        {"cuda",
         [](attn_options &o) { o.device = ATTN_DEVICE_CUDA; },
         kNoDevice,
         {"no CUDA driver", "/nonexistent/libcuda.so.1"}},
        {"hip", [](attn_options &o) { o.device = ATTN_DEVICE_HIP; }, kNoDevice, {"device = hip", "no hip backend"}},
        {"memory kind",
         [](attn_options &o) { o.device = ATTN_DEVICE_CUDA_HOST; },
         kInvalid,
         {"attn_options.device = 3", "ATTN_DEVICE_CPU"}},
        {"unknown device", [](attn_options &o) { o.device = -1; }, kInvalid, {"attn_options.device = -1"}},
        {"device_id", [](attn_options &o) { o.device_id = 1; }, kNoDevice, {"attn_options.device_id = 1", "one CPU"}},
        {"device_id < 0", [](attn_options &o) { o.device_id = -1; }, kNoDevice, {"attn_options.device_id = -1"}},
        {"workers < 0",
         [](attn_options &o) { o.max_workers = -1; },
         kInvalid,
         {"attn_options.max_workers = -1", "0 .. 4096"}},
        {"workers",
         [](attn_options &o) { o.max_workers = INT32_MAX; },
         kInvalid,
         {"attn_options.max_workers = 2147483647", "0 .. 4096"}},
        {"log_level",
         [](attn_options &o) { o.log = no_log, o.log_level = 5; },
         kInvalid,
         {"attn_options.log_level = 5", "0 .. 4"}},
        {"log_level < 0", [](attn_options &o) { o.log_level = -1; }, kInvalid, {"attn_options.log_level = -1"}},
        {"level without log",
         [](attn_options &o) { o.log_level = 3; },
         kInvalid,
         {"attn_options.log = NULL", "log_level must be 0"}},
        {"log_ctx without log", [](attn_options &o) { o.log_ctx = &context; }, kInvalid, {"attn_options.log = NULL"}},
        {"ctx without loop",
         [](attn_options &o) { o.parallel_ctx = &context; },
         kInvalid,
         {"attn_options.parallel_ctx = ", "must be NULL without parallel_for"}},
        {"alloc",
         [](attn_options &o) { o.device_alloc = no_memory; },
         kInvalid,
         {"attn_options.device_alloc", "NULL for the CPU"}},
        {"alloc and free",
         [](attn_options &o) { o.device_alloc = no_memory, o.device_free = free_nothing; },
         kInvalid,
         {"attn_options.device_alloc", "NULL for the CPU"}},
        {"alloc_ctx", [](attn_options &o) { o.alloc_ctx = &context; }, kInvalid, {"alloc_ctx", "NULL for the CPU"}},
        {"cache_dir",
         [](attn_options &o) { o.cache_dir = "/tmp"; },
         kInvalid,
         {"attn_options.cache_dir", "NULL for the CPU"}},
        {"kernel_path", [](attn_options &o) { o.kernel_path = ""; }, kInvalid, {"kernel_path", "NULL for the CPU"}},
        {"compiler_path", [](attn_options &o) { o.compiler_path = "x"; }, kInvalid, {"compiler_path"}},
    };
    for (const Refusal &refusal : table) {
        SCOPED_TRACE(refusal.name);
        attn_options options = zeroed<attn_options>();
        refusal.change(options);
        const attn_handle poison = reinterpret_cast<attn_handle>(&options);
        attn_handle handle = poison;
        EXPECT_TRUE(fails(attn_create(&options, &handle), refusal.status, refusal.parts));
        EXPECT_EQ(handle, poison) << "a failing call wrote its output";
    }
}

TEST(Options, MessagesGiveTheValue)
{
    attn_options options = zeroed<attn_options>();
    options.cache_dir = "/var/cache/of/somebody";
    attn_handle handle = nullptr;
    EXPECT_TRUE(fails(attn_create(&options, &handle), kInvalid, {"/var/cache/of/somebody"}));
}

TEST(Options, Accepted)
{
    attn_options options = zeroed<attn_options>();
    options.device = ATTN_DEVICE_CPU, options.max_workers = 3;
    options.parallel_for = serial, options.parallel_ctx = &options;
    options.log = no_log, options.log_ctx = &options, options.log_level = 4;
    const caller::Handle full(&options);
    const caller::Handle defaults(nullptr);
}

/// The log of a caller: its lines, with their levels.
using Lines = std::vector<std::pair<int32_t, std::string>>;

void ATTN_CALL keep_line(void *lines, int32_t level, const char *text)
{
    static_cast<Lines *>(lines)->emplace_back(level, text);
}

TEST(Options, LogGetsLinesUpToItsLevel)
{
    for (const int32_t level : {0, 3, 4}) {
        Lines lines;
        attn_options options = zeroed<attn_options>();
        options.max_workers = 1, options.log = keep_line, options.log_ctx = &lines, options.log_level = level;
        const caller::Handle handle(&options);
        caller::Dense desc;
        const caller::Plan plan(handle, desc);
        ASSERT_EQ(lines.size(), level == 4 ? 2u : level == 3 ? 1u : 0u);
        const char *wanted[] = {"cpu backend, 1 workers", "attn_plan_dense: cpu.dense"};
        for (size_t i = 0; i < lines.size(); ++i)
            EXPECT_NE(lines[i].second.find(wanted[i]), std::string::npos) << lines[i].second;
        for (const auto &line : lines) EXPECT_LE(line.first, level);
    }
}

/// Sets ATTN_CPU_ISA for as long as it lives.
class IsaVariable {
public:
    explicit IsaVariable(const char *value)
    {
        if (const char *old = getenv(kName)) old_ = old;
        if (value)
            setenv(kName, value, 1);
        else
            unsetenv(kName);
    }
    ~IsaVariable()
    {
        if (old_)
            setenv(kName, old_->c_str(), 1);
        else
            unsetenv(kName);
    }
    IsaVariable(const IsaVariable &) = delete;
    IsaVariable &operator=(const IsaVariable &) = delete;

private:
    static constexpr const char *kName = "ATTN_CPU_ISA";
    std::optional<std::string> old_;
};

std::string arch()
{
    attn_device_properties properties = zeroed<attn_device_properties>();
    EXPECT_TRUE(succeeds(attn_device_info(ATTN_DEVICE_CPU, 0, &properties)));
    return properties.arch;
}

/// Those of this kind of processor, worst first, then those of others.
#if defined(__aarch64__)
constexpr const char *kInstructionSets[] = {"baseline", "neon", "avx2", "avx512", "avx512_bf16", "amx"};
#else
constexpr const char *kInstructionSets[] = {"baseline", "avx2", "avx512", "avx512_bf16", "amx", "neon"};
#endif

TEST(InstructionSet, Unknown)
{
    for (const char *name : {"sse9", "AVX2", "avx2 ", "baseline,avx2"}) {
        const IsaVariable variable(name);
        attn_handle handle = nullptr;
        const std::string value = std::string("ATTN_CPU_ISA = ") + name;
        EXPECT_TRUE(fails(attn_create(nullptr, &handle), kInvalid,
                          {value.c_str(), "baseline, neon, avx2, avx512, avx512_bf16 or amx"}));
        EXPECT_EQ(handle, nullptr);
        attn_device_properties properties = zeroed<attn_device_properties>();
        attn_device_properties before = properties;
        EXPECT_TRUE(fails(attn_device_info(ATTN_DEVICE_CPU, 0, &properties), kInvalid, {value.c_str()}));
        EXPECT_EQ(memcmp(&properties, &before, sizeof before), 0);
    }
}

TEST(InstructionSet, EachIsUsedOrRefused)
{
    std::string best;
    {
        const IsaVariable none(nullptr);
        best = arch();
        const IsaVariable empty("");
        EXPECT_EQ(arch(), best) << "an empty variable is none";
    }
    bool above = false;
    for (const char *name : kInstructionSets) {
        SCOPED_TRACE(name);
        const IsaVariable variable(name);
        attn_handle handle = nullptr;
        const attn_status status = attn_create(nullptr, &handle);
        EXPECT_EQ(status != ATTN_OK, above) << "sets are available from the least on";
        if (status == ATTN_OK) {
            EXPECT_NE(arch().find(name), std::string::npos);
            caller::Dense desc;
            const caller::Plan plan(handle, desc);
            caller::Execution e(plan.workspace());
            ASSERT_TRUE(e.served(plan));
            EXPECT_TRUE(caller::is_near(e.out_memory.floats(), caller::reference(e)));
        } else {
            const std::string value = std::string("ATTN_CPU_ISA = ") + name;
            EXPECT_TRUE(fails(status, kNoDevice, {value.c_str(), "this processor has only up to"}));
            EXPECT_EQ(handle, nullptr);
        }
        attn_destroy(handle);
        above = above || best.substr(best.rfind(' ') + 1) == name;
    }
    EXPECT_TRUE(above) << best;
}

TEST(Devices, Count)
{
    caller::hide_cuda_driver();
    int32_t count = -77;
    EXPECT_EQ(attn_device_count(ATTN_DEVICE_CPU, &count), ATTN_OK);
    EXPECT_EQ(count, 1);
    count = -77;
    EXPECT_TRUE(fails(attn_device_count(ATTN_DEVICE_CUDA, &count), kNoDevice, {"no CUDA driver", "/nonexistent"}));
    EXPECT_TRUE(fails(attn_device_count(ATTN_DEVICE_HIP, &count), kNoDevice, {"device = hip", "no hip backend"}));
    for (const attn_device device : {0, 3, 11, 13, -1, 4, INT32_MAX}) {
        const std::string value = "device = " + std::to_string(device);
        EXPECT_TRUE(fails(attn_device_count(device, &count), kInvalid, {value.c_str(), "ATTN_DEVICE_CPU"}));
    }
    EXPECT_EQ(count, -77);
    EXPECT_TRUE(fails(attn_device_count(ATTN_DEVICE_CPU, nullptr), kInvalid, {"attn_device_count", "count = NULL"}));
}

TEST(Devices, Info)
{
    attn_device_properties p = zeroed<attn_device_properties>();
    ASSERT_TRUE(succeeds(attn_device_info(ATTN_DEVICE_CPU, 0, &p)));
    EXPECT_EQ(p.size, sizeof p);
    EXPECT_EQ(p.next, nullptr);
    EXPECT_EQ(p.device, ATTN_DEVICE_CPU);
    EXPECT_EQ(p.device_id, 0);
    EXPECT_GE(p.compute_units, 1);
    EXPECT_EQ(p.driver_version, 0);
    EXPECT_GT(p.memory_bytes, 0u);
    EXPECT_LT(strnlen(p.name, sizeof p.name), sizeof p.name);
    EXPECT_GT(strnlen(p.name, sizeof p.name), 0u);
    EXPECT_LT(strnlen(p.arch, sizeof p.arch), sizeof p.arch);
    EXPECT_GT(strnlen(p.arch, sizeof p.arch), 0u);
}

TEST(Devices, InfoRefused)
{
    caller::hide_cuda_driver();
    attn_device_properties p;
    memset(&p, 0x5a, sizeof p);
    p.size = sizeof p, p.next = nullptr;
    const attn_device_properties before = p;
    EXPECT_TRUE(fails(attn_device_info(ATTN_DEVICE_CPU, 1, &p), kNoDevice, {"device_id = 1", "1 cpu"}));
    EXPECT_TRUE(fails(attn_device_info(ATTN_DEVICE_CPU, -1, &p), kNoDevice, {"device_id = -1"}));
    EXPECT_TRUE(fails(attn_device_info(ATTN_DEVICE_CUDA, 0, &p), kNoDevice, {"no CUDA driver"}));
    EXPECT_TRUE(fails(attn_device_info(0, 0, &p), kInvalid, {"device = 0"}));
    EXPECT_TRUE(fails(attn_device_info(99, 0, &p), kInvalid, {"device = 99"}));
    EXPECT_EQ(memcmp(&p, &before, sizeof p), 0);
}

TEST(Devices, NothingBeyondSizeIsWritten)
{
    struct {
        attn_device_properties p;
        unsigned char behind[64];
    } given;
    // The struct of this release is the first: a shorter one is refused, and stays as it was.
    for (const size_t size : {size_t{0}, offsetof(attn_device_properties, name), sizeof given.p - 1}) {
        memset(&given, 0x5a, sizeof given);
        given.p.size = size, given.p.next = nullptr;
        const auto before = given;
        EXPECT_TRUE(fails(attn_device_info(ATTN_DEVICE_CPU, 0, &given.p), kInvalid, {"attn_device_properties.size"}));
        EXPECT_EQ(memcmp(&given, &before, sizeof given), 0);
    }
    memset(&given, 0x5a, sizeof given);
    given.p = zeroed<attn_device_properties>();
    ASSERT_TRUE(succeeds(attn_device_info(ATTN_DEVICE_CPU, 0, &given.p)));
    for (const unsigned char byte : given.behind) EXPECT_EQ(byte, 0x5a);
    memset(&given, 0, sizeof given);
    given.p.size = sizeof given;
    ASSERT_TRUE(succeeds(attn_device_info(ATTN_DEVICE_CPU, 0, &given.p)));
    EXPECT_EQ(given.p.size, sizeof given) << "the caller's size stays";
    for (const unsigned char byte : given.behind) EXPECT_EQ(byte, 0);
}

} // namespace
