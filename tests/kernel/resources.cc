// Compares what the kernels of packs take of the machine with a committed table, so that a change that costs registers,
// or spills them, is seen without a GPU. Kernels of Hopper may spill none. usage: attn_kernel_resources TABLE PACK...
// exit code 0: as in the table; 1: not; 77: the compilers differ
//        attn_kernel_resources --update TABLE PACK...   writes the table

#include "cubin.h"

#include "kernel/pack.h"
#include "kernel/target.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <set>
#include <stdexcept>

namespace {

using namespace attn::kernel;

constexpr int kSkipped = 77;

std::string read_file(const std::string &path)
{
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot read " + path);
    return std::string(std::istreambuf_iterator<char>(file), {});
}

/// A line for each kernel, sorted, after the name of the compiler and the heading.
std::vector<std::string> list_resources(const std::vector<std::string> &paths)
{
    std::vector<std::string> lines;
    std::set<std::string> compilers;
    for (const std::string &path : paths) {
        const std::string bytes = read_file(path);
        Pack pack;
        std::string why;
        if (!pack.open(nullptr, bytes.data(), bytes.size(), &why)) throw std::runtime_error(path + ' ' + why);
        for (const PackEntry &entry : pack.entries()) {
            compilers.insert("# NVRTC " + version_text(entry.compiler));
            if (entry.is_ptx) continue; // the driver chooses registers
            std::string image;
            if (!pack.load(entry, &image, &why)) throw std::runtime_error(why);
            for (const KernelResources &kernel : read_cubin(image)) {
                if (kernel.local_bytes > 0 && kernel.name.find("sm90") != std::string::npos)
                    throw std::runtime_error(entry.label + " spills registers: warpgroups that share them out may not");
                lines.push_back(entry.target + ',' + std::to_string(kernel.registers) + ',' +
                                std::to_string(kernel.local_bytes) + ',' + std::to_string(kernel.shared_bytes) + ',' +
                                entry.label);
            }
        }
    }
    if (compilers.size() > 1) throw std::runtime_error("the packs are by several compilers; compile them anew");
    std::sort(lines.begin(), lines.end(), [](const std::string &a, const std::string &b) {
        const auto order = [](const std::string &line) { // target, then kernel
            size_t comma = line.find(',');
            const std::string target = line.substr(0, comma);
            for (int i = 0; i < 3; ++i) comma = line.find(',', comma + 1);
            return target + line.substr(comma);
        };
        return order(a) < order(b);
    });
    lines.insert(lines.begin(), "target,registers,local_bytes,static_shared_bytes,kernel");
    lines.insert(lines.begin(), compilers.empty() ? "# no kernels" : *compilers.begin());
    return lines;
}

int run(const std::vector<std::string> &packs, const std::string &table, bool update)
{
    const std::vector<std::string> found = list_resources(packs);
    std::string text;
    for (const std::string &line : found) text += line + '\n';
    if (update) {
        std::ofstream file(table, std::ios::binary);
        file << text;
        file.close();
        if (!file) throw std::runtime_error("cannot write " + table);
        return 0;
    }
    const std::string committed = read_file(table);
    const std::string compiler = committed.substr(0, committed.find('\n'));
    if (compiler != found.front()) {
        std::printf("skipped: the table is of %s, the pack of %s\n", compiler.c_str() + 2, found.front().c_str() + 2);
        return kSkipped;
    }
    if (committed == text) {
        std::printf("%zu kernels take what %s says\n", found.size() - 2, table.c_str());
        return 0;
    }
    std::set<std::string> expected;
    for (size_t at = 0; at < committed.size();) {
        const size_t end = std::min(committed.find('\n', at), committed.size());
        expected.insert(committed.substr(at, end - at));
        at = end + 1;
    }
    const std::set<std::string> now(found.begin(), found.end());
    for (const std::string &line : expected)
        if (now.count(line) == 0) std::printf("- %s\n", line.c_str());
    for (const std::string &line : now)
        if (expected.count(line) == 0) std::printf("+ %s\n", line.c_str());
    std::printf("not what %s says; if it is meant so: tests/kernel/update_resources.sh\n", table.c_str());
    return 1;
}

} // namespace

int main(int count, char **words)
{
    std::vector<std::string> arguments(words + 1, words + count);
    const bool update = !arguments.empty() && arguments[0] == "--update";
    if (update) arguments.erase(arguments.begin());
    if (arguments.size() < 2) {
        std::fputs("usage: attn_kernel_resources [--update] TABLE PACK...\n", stderr);
        return 2;
    }
    const std::string table = arguments[0];
    arguments.erase(arguments.begin());
    try {
        return run(arguments, table, update);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "attn_kernel_resources: %s\n", error.what());
        return 1;
    }
}
