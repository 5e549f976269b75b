#include "features.h"

#include "backend.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sched.h>
#include <sys/sysinfo.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#endif

namespace attn {
namespace cpu {
namespace {

#if defined(ATTN_EMULATE_AMX)
bool has_tiles() noexcept
{
    return true;
}
#elif defined(__x86_64__)
/// Whether the processor has AMX for bfloat16 and the kernel lets this process use it. Linux wants to be asked: a
/// thread that uses tiles has 8 KiB more to save.
bool has_tiles() noexcept
{
    constexpr unsigned kTiles = 1u << 24, kBfloat16 = 1u << 22;
    constexpr long kRequestPermission = 0x1023, kTileData = 18; // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || !(edx & kTiles) || !(edx & kBfloat16)) return false;
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

bool is_available(Isa isa) noexcept
{
#if defined(__x86_64__)
    // These also ask the operating system whether it saves the wider registers.
    switch (isa) {
    case Isa::amx:
        return has_tiles() && is_available(Isa::avx512_bf16);
    case Isa::avx512_bf16:
        return __builtin_cpu_supports("avx512bf16") && is_available(Isa::avx512);
    case Isa::avx512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && is_available(Isa::avx2);
    case Isa::avx2: {
        // F16C is not a name that every compiler knows here: leaf 1, bit 29 of ecx.
        unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
        const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx >> 29 & 1);
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c;
    }
    case Isa::baseline:
        return true;
    case Isa::neon:
        break;
    }
    return false;
#elif defined(__aarch64__)
    return isa == Isa::baseline || isa == Isa::neon; // a part of every AArch64 processor that runs Linux
#else
    return isa == Isa::baseline;
#endif
}

void processor_name(char *text, size_t capacity)
{
    snprintf(text, capacity, "CPU");
#if defined(__x86_64__)
    unsigned words[12] = {};
    for (unsigned leaf = 0; leaf < 3; ++leaf) {
        unsigned *w = words + 4 * leaf;
        if (!__get_cpuid(0x80000002u + leaf, &w[0], &w[1], &w[2], &w[3])) return;
    }
    char brand[sizeof words + 1] = {};
    memcpy(brand, words, sizeof words);
    const char *begin = brand;
    while (*begin == ' ') ++begin;
    if (*begin) snprintf(text, capacity, "%s", begin);
#endif
}

} // namespace

const char *isa_name(Isa isa) noexcept
{
    switch (isa) {
    case Isa::amx:
        return "amx";
    case Isa::avx512_bf16:
        return "avx512_bf16";
    case Isa::avx512:
        return "avx512";
    case Isa::avx2:
        return "avx2";
    case Isa::neon:
        return "neon";
    case Isa::baseline:
        break;
    }
    return "baseline";
}

Isa best_isa() noexcept
{
    for (const Isa isa : {Isa::amx, Isa::avx512_bf16, Isa::avx512, Isa::avx2, Isa::neon})
        if (is_available(isa)) return isa;
    return Isa::baseline;
}

attn_status choose_isa(Isa *isa) noexcept
{
    *isa = best_isa();
    const char *asked = getenv("ATTN_CPU_ISA");
    if (!asked || !*asked) return ATTN_OK;
    for (const Isa candidate : {Isa::baseline, Isa::neon, Isa::avx2, Isa::avx512, Isa::avx512_bf16, Isa::amx}) {
        if (strcmp(asked, isa_name(candidate)) != 0) continue;
        if (!is_available(candidate))
            return fail(ATTN_ERROR_NO_DEVICE, "ATTN_CPU_ISA = %s: this processor has only up to %s", asked,
                        isa_name(best_isa()));
        *isa = candidate;
        return ATTN_OK;
    }
    return fail(ATTN_ERROR_INVALID, "ATTN_CPU_ISA = %s: must be baseline, neon, avx2, avx512, avx512_bf16 or amx",
                asked);
}

} // namespace cpu

int32_t usable_cores() noexcept
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        const int cores = CPU_COUNT(&set);
        if (cores > 0) return cores;
    }
    const long cores = sysconf(_SC_NPROCESSORS_ONLN); // more than 1024 processors, or a sandbox
    return cores > 0 && cores < 4096 ? static_cast<int32_t>(cores) : 1;
}

attn_status describe_cpu(attn_device_properties *properties)
{
    cpu::Isa isa;
    if (const attn_status status = cpu::choose_isa(&isa)) return status;
    *properties = {};
    properties->device = ATTN_DEVICE_CPU;
    properties->compute_units = usable_cores();
    struct sysinfo memory = {};
    if (sysinfo(&memory) == 0) properties->memory_bytes = static_cast<uint64_t>(memory.totalram) * memory.mem_unit;
    cpu::processor_name(properties->name, sizeof properties->name);
#if defined(__x86_64__)
    constexpr const char *kFamily = "x86-64";
#elif defined(__aarch64__)
    constexpr const char *kFamily = "aarch64";
#else
    constexpr const char *kFamily = "cpu";
#endif
    snprintf(properties->arch, sizeof properties->arch, "%s %s", kFamily, cpu::isa_name(isa));
    return ATTN_OK;
}

} // namespace attn
