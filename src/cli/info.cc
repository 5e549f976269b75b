// attn info: everything that the public interface says about this library on this machine.
#include "commands.h"
#include "instruction_sets.h"
#include "json_reader.h"

#include "src/json.h"

#include <attn/attn.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

namespace attn::cli {
namespace {

struct Backend {
    const char *kind;
    attn_device device;
    attn_status status = ATTN_OK; ///< Of counting its devices and opening the first.
    std::string reason;           ///< The message, where that failed.
    std::vector<attn_device_properties> devices;
};

/// What serves an operator: one small plan of it tells.
struct Operator {
    const char *name;
    std::string kernel; ///< Empty where the plan was refused.
    std::string refusal;
};

struct Info {
    std::vector<Backend> backends;
    std::vector<std::string> features; ///< Of the processor, those that kernels of attention care for.
    std::vector<InstructionSet> sets;
    std::string chosen;
    int64_t workers = 0;
    std::vector<Operator> operators;
};

Backend probe(const char *kind, attn_device device)
{
    Backend backend = {kind, device, ATTN_OK, "", {}};
    try {
        const int32_t count = device_count(device);
        for (int32_t id = 0; id < count; ++id) backend.devices.push_back(device_info(device, id));
        auto options = sized<attn_options>();
        options.device = device;
        const Handle handle(options);
    } catch (const Error &error) {
        backend.status = error.status();
        backend.reason = error.what();
    }
    return backend;
}

/// From the operating system's list; empty where it has none.
std::vector<std::string> processor_features()
{
    constexpr std::array<const char *, 24> kKnown = {
        "sse2",     "avx",         "f16c",     "fma",         "avx2",        "avx512f",  "avx512bw", "avx512dq",
        "avx512vl", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8",
        "asimd",    "asimdhp",     "fphp",     "asimddp",     "bf16",        "i8mm",     "sve",      "sve2"};
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        const bool lists = line.rfind("flags", 0) == 0 || line.rfind("Features", 0) == 0;
        if (!lists || line.find(':') == std::string::npos) continue;
        const std::string all = line.substr(line.find(':') + 1) + ' ';
        std::vector<std::string> present;
        for (const char *name : kKnown)
            if (all.find(std::string(" ") + name + ' ') != std::string::npos) present.emplace_back(name);
        return present;
    }
    return {};
}

template <class Descriptor>
Operator probe_operator(const char *name, const Handle &handle, const Descriptor &descriptor, int64_t *workers)
{
    try {
        const JsonValue description = parse_json(Plan(handle, descriptor).describe());
        *workers = description.at("execution").at("workers").as_int64();
        return {name, description.at("kernel").as_string(), ""};
    } catch (const Error &error) {
        return {name, "", error.what()};
    }
}

Info gather()
{
    Info info;
    info.backends = {probe("cpu", ATTN_DEVICE_CPU), probe("cuda", ATTN_DEVICE_CUDA), probe("hip", ATTN_DEVICE_HIP)};
    info.features = processor_features();
    info.sets = instruction_sets();
    if (info.backends[0].status != ATTN_OK) return info; // ATTN_CPU_ISA asks for what is not there
    info.chosen = chosen_instruction_set();
    const Handle handle;
    const Problem problem = Problem(ATTN_FLOAT32).heads(1).dims(64).lengths(64);
    Merge merge(Problem(ATTN_FLOAT32).heads(1).dims(0, 64).lengths(64), 2);
    info.operators = {probe_operator("dense", handle, Dense(problem), &info.workers),
                      probe_operator("merge", handle, merge, &info.workers),
                      probe_operator("append", handle, Append(problem), &info.workers),
                      probe_operator("linear", handle, Linear(problem), &info.workers),
                      probe_operator("conv", handle, Conv(problem, 4), &info.workers),
                      probe_operator("scan", handle, Scan(problem), &info.workers)};
    return info;
}

std::string version_of(uint32_t v)
{
    return std::to_string(v >> 16) + '.' + std::to_string(v >> 8 & 255) + '.' + std::to_string(v & 255);
}

std::string as_json(const Info &info)
{
    JsonWriter json;
    json.open();
    json.add("schema", int64_t{1});
    json.add("library_version", version_text());
    json.add("header_version", version_of(ATTN_VERSION));
    json.open_array("backends");
    for (const Backend &backend : info.backends) {
        json.open();
        json.add("kind", backend.kind);
        json.add("status", attn_status_name(backend.status));
        json.add("reason", backend.reason);
        json.open_array("devices");
        for (const attn_device_properties &device : backend.devices) {
            json.open();
            json.add("device_id", static_cast<int64_t>(device.device_id));
            json.add("name", device.name);
            json.add("arch", device.arch);
            json.add("compute_units", static_cast<int64_t>(device.compute_units));
            json.add("driver_version", static_cast<int64_t>(device.driver_version));
            json.add("memory_bytes", static_cast<int64_t>(device.memory_bytes));
            json.add("bytes_per_second", static_cast<int64_t>(device.bytes_per_second));
            json.close();
        }
        json.close_array();
        json.close();
    }
    json.close_array();
    json.open("cpu");
    json.open_array("features");
    for (const std::string &feature : info.features) json.add(nullptr, feature);
    json.close_array();
    json.open_array("instruction_sets");
    for (const InstructionSet &set : info.sets) {
        json.open();
        json.add("name", set.name);
        json.add("usable", set.refusal.empty());
        json.add("reason", set.refusal);
        json.close();
    }
    json.close_array();
    json.add("chosen", info.chosen);
    json.add("workers", info.workers);
    json.close();
    json.open_array("operators");
    for (const Operator &op : info.operators) {
        json.open();
        json.add("name", op.name);
        json.add("kernel", op.kernel);
        json.add("reason", op.refusal);
        json.close();
    }
    json.close_array();
    json.close();
    return json.text();
}

std::string as_text(const Info &info)
{
    std::ostringstream text;
    text << "libattn " << version_text() << " (this tool was built with the header of " << version_of(ATTN_VERSION)
         << ")\n\nbackends\n";
    for (const Backend &backend : info.backends) {
        const std::string kind = std::string(backend.kind) + std::string(6 - std::string(backend.kind).size(), ' ');
        if (backend.status != ATTN_OK)
            text << "  " << kind << "absent: " << attn_status_name(backend.status) << ": " << backend.reason << '\n';
        for (const attn_device_properties &device : backend.devices) {
            char memory[32];
            snprintf(memory, sizeof memory, "%.1f GiB", static_cast<double>(device.memory_bytes) / 0x1p30);
            const char *unit = backend.device == ATTN_DEVICE_CPU    ? " core"
                               : backend.device == ATTN_DEVICE_CUDA ? " SM"
                                                                    : " CU";
            text << "  " << kind << device.device_id << ": " << device.name << ", " << device.arch << ", "
                 << device.compute_units << unit << (device.compute_units == 1 ? ", " : "s, ") << memory;
            if (backend.device == ATTN_DEVICE_CUDA)
                text << ", driver " << device.driver_version / 1000 << '.' << device.driver_version % 1000 / 10;
            text << '\n';
        }
    }
    text << "\ninstruction sets of the CPU backend (" << kIsaVariable << " chooses)\n";
    for (const InstructionSet &set : info.sets)
        text << "  " << set.name << std::string(13 - std::min<size_t>(set.name.size(), 12), ' ')
             << (set.name == info.chosen ? "in use"
                 : set.refusal.empty()   ? "usable"
                                         : "absent: " + set.refusal)
             << '\n';
    text << "  processor:";
    for (const std::string &feature : info.features) text << ' ' << feature;
    text << (info.features.empty() ? " unknown" : "") << '\n';
    if (info.operators.empty()) return text.str();
    text << "\noperators on the CPU (" << info.workers << " workers)\n";
    for (const Operator &op : info.operators)
        text << "  " << op.name << std::string(10 - std::string(op.name).size(), ' ')
             << (op.kernel.empty() ? "refused: " + op.refusal : op.kernel) << '\n';
    return text.str();
}

int run_info(const Arguments &arguments)
{
    const Info info = gather();
    std::printf("%s%s", (arguments.has("--json") ? as_json(info) : as_text(info)).c_str(),
                arguments.has("--json") ? "\n" : "");
    return info.backends[0].status == ATTN_OK ? kSuccess : kRefused;
}

} // namespace

Command info_command()
{
    return {"info",
            nullptr,
            "Version, backends and why they are absent, devices, instruction sets, kernels.",
            {{"--json", nullptr, "one JSON object instead of text"}},
            "ATTN_CPU_ISA=baseline|neon|avx2|avx512|avx512_bf16|amx makes the CPU backend use that instruction set.\n"
            "exit codes: 0; 3 if the CPU backend cannot be opened (the reason is printed)\n",
            run_info};
}

} // namespace attn::cli
