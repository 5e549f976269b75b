// attn pack: the kernels that given plans want, compiled into a file; and what such a file holds.
#include "commands.h"
#include "described_plan.h"
#include "plan_descriptor.h"

#include "src/kernel/pack.h"
#include "src/packing.h"

#include <attn/attn.hpp>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <mutex>
#include <sstream>
#include <thread>

namespace attn::cli {
namespace {

using kernel::PackEntry;
using kernel::PackImage;

/// A plan of the file, with where it stands.
struct Described {
    std::string place;
    std::unique_ptr<PlanDescriptor> descriptor;
};

std::vector<std::string> split(const std::string &text)
{
    std::vector<std::string> words;
    std::istringstream stream(text);
    for (std::string word; std::getline(stream, word, ',');) words.push_back(word);
    return words;
}

/// The targets of --arch, or of the GPU that is here.
std::vector<std::string> choose_targets(const Arguments &arguments)
{
    if (arguments.has("--arch")) {
        std::vector<std::string> targets = split(arguments.text("--arch", ""));
        if (targets.empty()) throw UsageError("option `--arch` needs a value: TARGET[,TARGET...]");
        return targets;
    }
    attn_device_properties properties = {};
    properties.size = sizeof properties;
    if (attn_device_info(ATTN_DEVICE_CUDA, 0, &properties) != ATTN_OK)
        throw UsageError(std::string("which GPU is it for? Name it, as in `--arch sm_90a`; there is none here: ") +
                         attn_last_error());
    return {properties.arch};
}

/// A plan of any kind.
class OwnedPlan {
public:
    OwnedPlan() = default;
    ~OwnedPlan() { attn_plan_destroy(plan_); }
    OwnedPlan(const OwnedPlan &) = delete;
    OwnedPlan &operator=(const OwnedPlan &) = delete;
    attn_plan *out() { return &plan_; }

    std::string describe() const
    {
        size_t needed = 0;
        check(attn_plan_describe(plan_, nullptr, 0, &needed));
        std::string text(needed, '\0');
        check(attn_plan_describe(plan_, text.data(), text.size(), nullptr));
        text.resize(needed - 1);
        return text;
    }

private:
    attn_plan plan_ = nullptr;
};

/// Reads a description, and makes sure that its descriptor asks for that plan: the CPU plans everything.
Described read_plan(const std::string &text, size_t line, const std::string &file, attn_handle cpu)
{
    const JsonValue description = parse_json(text, {line, 1});
    auto descriptor = std::make_unique<PlanDescriptor>(description);
    OwnedPlan plan;
    if (descriptor->plan(cpu, plan.out()) != ATTN_OK) throw std::invalid_argument(attn_last_error());
    const std::string differs = difference(description, parse_json(plan.describe()));
    if (!differs.empty()) throw std::invalid_argument("this description cannot be asked for: " + differs);
    return {file + ':' + std::to_string(line), std::move(descriptor)};
}

std::vector<Described> read_plans(const std::string &name)
{
    std::ifstream file;
    if (name != "-") {
        file.open(name);
        if (!file) throw UsageError("cannot read `" + name + "`");
    }
    std::istream &input = name == "-" ? std::cin : file;
    const std::string shown = name == "-" ? "stdin" : name;
    Handle cpu;
    std::vector<Described> plans;
    size_t line = 0;
    for (std::string text; std::getline(input, text);) {
        ++line;
        if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
        try {
            plans.push_back(read_plan(text, line, shown, cpu.get()));
        } catch (const std::invalid_argument &error) {
            const std::string number = std::to_string(line) + ':', what = error.what();
            std::string message = shown + ':';
            if (what.rfind(number, 0) != 0) message.append(number).append(1, ' ');
            throw UsageError(message.append(what));
        }
    }
    if (plans.empty()) throw UsageError(shown + ": holds no plan");
    return plans;
}

/// Gathers the kernels of a handle that packs; any thread.
class Gathered {
public:
    static void ATTN_CALL keep(void *self, const PackedKernel *kernel)
    {
        PackImage image;
        std::copy(std::begin(kernel->key), std::end(kernel->key), image.entry.key.begin());
        image.entry.target = kernel->target;
        image.entry.label = kernel->label;
        image.entry.compiler = kernel->compiler;
        image.entry.is_ptx = kernel->is_ptx != 0;
        image.image.assign(static_cast<const char *>(kernel->image), kernel->bytes);
        Gathered &gathered = *static_cast<Gathered *>(self);
        const std::lock_guard<std::mutex> lock(gathered.mutex_);
        gathered.images_.push_back(std::move(image));
    }
    std::vector<PackImage> &images() { return images_; }

private:
    std::mutex mutex_;
    std::vector<PackImage> images_;
};

/// Plans everything for a target, with several threads, so that kernels compile at the same time.
void gather(const std::vector<Described> &plans, const std::string &target, const Arguments &arguments,
            Gathered *gathered)
{
    Packing packing = {};
    packing.ext.size = sizeof packing;
    packing.ext.type = kPackingType;
    packing.target = target.c_str();
    packing.ctx = gathered;
    packing.keep = &Gathered::keep;
    attn_options options = {};
    options.size = sizeof options;
    options.next = &packing.ext;
    options.device = ATTN_DEVICE_CUDA;
    if (arguments.has("--no-cache")) options.flags = ATTN_HANDLE_NO_DISK_CACHE;
    const std::string compiler = arguments.text("--compiler", "");
    if (!compiler.empty()) options.compiler_path = compiler.c_str();
    const Handle handle(options);

    const int64_t cores = std::max<int64_t>(1, std::thread::hardware_concurrency());
    const int64_t count =
        std::min<int64_t>(arguments.integer("--jobs", cores, 1, 256), static_cast<int64_t>(plans.size()));
    std::atomic<size_t> next{0};
    std::mutex mutex; // of the first failure
    std::string failure;
    attn_status status = ATTN_OK;
    const auto work = [&] {
        for (size_t i; (i = next.fetch_add(1)) < plans.size();) {
            OwnedPlan plan;
            const attn_status result = plans[i].descriptor->plan(handle.get(), plan.out());
            if (result == ATTN_OK) continue;
            const std::lock_guard<std::mutex> lock(mutex);
            if (status == ATTN_OK) {
                status = result;
                failure = plans[i].place + ": for " + target + ": " + attn_last_error();
            }
            next.store(plans.size()); // one failure is enough
        }
    };
    std::vector<std::thread> threads;
    for (int64_t i = 1; i < count; ++i) threads.emplace_back(work);
    work();
    for (std::thread &thread : threads) thread.join();
    if (status != ATTN_OK) throw Error(status, failure.c_str());
}

void print_entry(const PackEntry &entry)
{
    const std::string version =
        std::to_string(entry.compiler / 1000) + '.' + std::to_string(entry.compiler % 1000 / 10);
    std::printf("%-12s NVRTC %-5s %8llu bytes, %8llu stored  %s\n", entry.target.c_str(), version.c_str(),
                static_cast<unsigned long long>(entry.image_bytes), static_cast<unsigned long long>(entry.stored_bytes),
                entry.label.c_str());
}

int list_pack(const std::string &name)
{
    std::ifstream file(name, std::ios::binary);
    if (!file) throw UsageError("cannot read `" + name + "`");
    const std::string bytes(std::istreambuf_iterator<char>(file), {});
    kernel::Pack pack;
    std::string why;
    if (!pack.open(nullptr, bytes.data(), bytes.size(), &why)) throw UsageError(name + ' ' + why);
    std::vector<const PackEntry *> entries;
    for (const PackEntry &entry : pack.entries()) {
        std::string image;
        if (!pack.load(entry, &image, &why))
            throw UsageError(std::string(name).append(" is a damaged pack: ").append(why));
        entries.push_back(&entry);
    }
    std::sort(entries.begin(), entries.end(), [](const PackEntry *a, const PackEntry *b) {
        return std::tie(a->target, a->label) < std::tie(b->target, b->label);
    });
    for (const PackEntry *entry : entries) print_entry(*entry);
    std::printf("kernels %zu, targets %zu: %zu bytes\n", entries.size(), pack.targets().size(), bytes.size());
    return kSuccess;
}

int run_pack(const Arguments &arguments)
{
    if (arguments.has("--list")) {
        for (const char *option : {"--arch", "--output", "--compiler", "--no-cache", "--jobs"})
            if (arguments.has(option))
                throw UsageError(std::string("option `") + option + "` does not go with `--list`");
        return list_pack(arguments.operand());
    }
    const std::string output = arguments.text("--output", "");
    if (output.empty()) throw UsageError("option `--output` is needed: the pack to write");
    const std::vector<std::string> targets = choose_targets(arguments);
    const std::vector<Described> plans = read_plans(arguments.operand());
    Gathered gathered;
    for (const std::string &target : targets) gather(plans, target, arguments, &gathered);
    const std::string pack = kernel::write_pack(gathered.images());
    std::ofstream file(output, std::ios::binary | std::ios::trunc);
    file << pack;
    file.close();
    if (!file) throw UsageError("cannot write `" + output + "`");
    std::printf("plans %zu, targets %zu, kernels %zu: %zu bytes\n", plans.size(), targets.size(),
                gathered.images().size(), pack.size());
    return kSuccess;
}

} // namespace

Command pack_command()
{
    return {
        "pack",
        "FILE",
        "Compiles the GPU kernels that given plans want into a pack, for machines without a compiler.",
        {{"--arch", "TARGET", "sm_90a, compute_90 (PTX), or several with commas (default: the GPU here)"},
         {"--output", "PACK", "file to write"},
         {"--compiler", "PATH", "NVRTC to use (default: search)"},
         {"--no-cache", nullptr, "neither read nor write the disk cache"},
         {"--jobs", "N", "kernels to compile at a time (default: cores)"},
         {"--list", nullptr, "FILE is a pack: check it and list what it holds"}},
        "Each line of FILE (- for standard input) is the description of a plan of any kind and backend, as\n"
        "attn_plan_describe() prints it. No GPU is needed. A pack serves the version of the library that made it.\n"
        "To use it, name it in the variable ATTN_KERNEL_PATH or in attn_options.kernel_path: absolute paths of packs,\n"
        "or of directories with files *.attnpack, which belong to you or to root and which nobody else may write.\n\n"
        "A cubin (sm_80) serves its architecture and later ones of the same major version, with the suffix a its own\n"
        "only; PTX (compute_80) serves all later ones, and the driver compiles it when it is loaded. PTX up to\n"
        "compute_89 counts on 99 KiB of shared memory, as sm_120 has; compute_90 on 227 KiB, as sm_90 and sm_100 "
        "have.\n\n"
        "exit codes: 0 success; 2 the command line or a file cannot be used (file:line:column: reason); 3 the library\n"
        "refused a plan, or a kernel cannot be compiled\n",
        run_pack};
}

} // namespace attn::cli
