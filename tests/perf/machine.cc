#include "machine.h"

#include "attention.h"

#include <cblas.h>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <sched.h>
#include <set>
#include <sstream>

namespace attn::perf {
namespace {

attn_device_properties properties()
{
    attn_device_properties device = {};
    device.size = sizeof device;
    check(attn_device_info(ATTN_DEVICE_CPU, 0, &device), "attn_device_info");
    return device;
}

/// The processor's brand, and family and model where Linux tells: brands can be vague on virtual machines.
std::string processor()
{
    std::string text = properties().name;
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line) && !line.empty();) {
        const size_t colon = line.find(':');
        if (colon == std::string::npos) continue;
        const std::string key = line.substr(0, line.find_last_not_of("\t ", colon - 1) + 1);
        if (key == "cpu family" || key == "model") text += ", " + key + line.substr(colon + 1);
    }
    return text;
}

std::string environment(const char *name)
{
    const char *value = std::getenv(name);
    return value ? value : "unset";
}

} // namespace

std::string pin_to_cores(int count)
{
    cpu_set_t allowed, chosen;
    CPU_ZERO(&chosen);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return "any";
    std::set<std::string> cores;
    std::string text;
    for (int cpu = 0; cpu < CPU_SETSIZE && static_cast<int>(cores.size()) < count; ++cpu) {
        if (!CPU_ISSET(cpu, &allowed)) continue;
        std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
        std::string core;
        if (!std::getline(file, core)) core = std::to_string(cpu);
        if (!cores.insert(core).second) continue;
        CPU_SET(cpu, &chosen);
        if (!text.empty()) text += ',';
        text += std::to_string(cpu);
    }
    if (static_cast<int>(cores.size()) < count || sched_setaffinity(0, sizeof chosen, &chosen) != 0) return "any";
    return text;
}

std::string library_isa()
{
    const std::string arch = properties().arch;
    return arch.substr(arch.rfind(' ') + 1);
}

const RowKernels &row_kernels(const std::string &isa)
{
#if defined(__x86_64__)
    if (isa == "avx512" || isa == "avx512_bf16" || isa == "amx") return kRowsAvx512;
    if (isa == "avx2") return kRowsAvx2;
#endif
    static_cast<void>(isa);
    return kRowsBaseline;
}

std::string describe_machine(const char *prefix, int threads, int repetitions)
{
    const std::time_t now = std::time(nullptr);
    char date[64];
    std::strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", std::gmtime(&now));
    std::ostringstream text;
    text << prefix << "processor: " << processor() << '\n';
    text << prefix << "libattn: " << properties().arch << " (ATTN_CPU_ISA " << environment("ATTN_CPU_ISA") << ")\n";
    text << prefix << openblas_get_config() << ", kernels in use: " << openblas_get_corename() << " (OPENBLAS_CORETYPE "
         << environment("OPENBLAS_CORETYPE") << ")\n";
    text << prefix << "threads: " << threads << " on processors " << environment(kProcessors)
         << ", repetitions: " << repetitions << ", " << date << '\n';
    return text.str();
}

} // namespace attn::perf
