// attn_packer: compiles the default kernels into the pack that the build embeds in the library.
// usage: attn_packer --output FILE [--kernels default|sm90] [--compiler PATH] [--cache DIRECTORY] [--jobs N]
//        sm90: those of Hopper that the default pack has no room for, for tests

#include "backends/cuda/decode_sm90/variants.h"
#include "backends/cuda/default_kernels.h"
#include "backends/cuda/dense_sm90/variants.h"
#include "backends/cuda/latent_sm90/variants.h"
#include "kernel/pack_builder.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

namespace {

using namespace attn;

struct CommandLine {
    std::string output;
    kernel::StoreOptions options;
    int32_t jobs = 1;
    bool sm90 = false;
};

bool read_command_line(int count, char **words, CommandLine *out)
{
    for (int i = 1; i < count; i += 2) {
        const std::string name = words[i];
        const char *value = i + 1 < count ? words[i + 1] : nullptr;
        if (!value) return false;
        if (name == "--output") {
            out->output = value;
        } else if (name == "--kernels") {
            out->sm90 = std::strcmp(value, "sm90") == 0;
            if (!out->sm90 && std::strcmp(value, "default") != 0) return false;
        } else if (name == "--compiler") {
            out->options.compiler_path = value;
        } else if (name == "--cache") {
            out->options.cache_dir = value;
        } else if (name == "--jobs") {
            out->jobs = std::atoi(value);
        } else {
            return false;
        }
    }
    return !out->output.empty() && out->jobs >= 1 && out->jobs <= 256;
}

/// The default kernels for each target; false if there are too many.
bool list_items(bool only_sm90, std::vector<kernel::PackItem> *out)
{
    if (only_sm90) {
        for (const auto &requests :
             {sm90::further_requests(), sm90::further_decode_requests(), sm90::further_latent_requests()})
            for (const kernel::Request &request : requests) out->push_back({request, "sm_90a"});
        return true;
    }
    for (const cuda::DefaultTarget &target : cuda::kDefaultTargets) {
        const std::vector<kernel::Request> requests = cuda::default_kernels(target);
        if (requests.size() > cuda::kMostDefaultKernels) {
            std::fprintf(stderr, "attn_packer: %zu kernels for %s: must be at most %zu\n", requests.size(), target.name,
                         cuda::kMostDefaultKernels);
            return false;
        }
        for (const kernel::Request &request : requests) out->push_back({request, target.name});
    }
    return true;
}

/// Writes the file only if it changes, so that the build links nothing again for a pack that stayed the same.
bool write_if_changed(const std::string &path, const std::string &bytes)
{
    std::ifstream old(path, std::ios::binary);
    if (old && std::string(std::istreambuf_iterator<char>(old), {}) == bytes) return true;
    old.close();
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file << bytes;
    file.close();
    return file.good();
}

int run(const CommandLine &line)
{
    const auto begin = std::chrono::steady_clock::now();
    std::vector<kernel::PackItem> items;
    if (!list_items(line.sm90, &items)) return 1;
    kernel::PackBuilder builder(kernel::embedded_sources(), line.options, true);
    std::vector<kernel::PackImage> images;
    std::string why;
    if (!builder.open(&why) || !builder.make_all(items, line.jobs, &images, &why)) {
        std::fprintf(stderr, "attn_packer: %s\n", why.c_str());
        return 1;
    }
    const std::string pack = kernel::write_pack(std::move(images));
    if (!write_if_changed(line.output, pack)) {
        std::fprintf(stderr, "attn_packer: cannot write %s\n", line.output.c_str());
        return 1;
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    std::printf("kernels: %zu compiled%s%s, %zu from the %s; pack of %.2f MB in %.1f s\n", builder.compiled(),
                builder.compiled() ? " by " : "", builder.compiler().c_str(), builder.cached(), builder.cache().c_str(),
                static_cast<double>(pack.size()) * 1e-6, seconds.count());
    return 0;
}

} // namespace

int main(int count, char **words)
{
    CommandLine line;
    if (!read_command_line(count, words, &line)) {
        std::fputs("usage: attn_packer --output FILE [--kernels default|sm90] [--compiler PATH] [--cache DIRECTORY] "
                   "[--jobs N]\n",
                   stderr);
        return 2;
    }
    try {
        return run(line);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "attn_packer: %s\n", error.what());
        return 1;
    }
}
