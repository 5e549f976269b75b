#include "pack_builder.h"

#include "disk_cache.h"
#include "key.h"
#include "nvrtc.h"
#include "pack.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

namespace attn::kernel {
namespace {

/// The compiles of a pack, on several threads.
class Build {
public:
    Build(const Sources &sources, const PackOptions &options) : sources_(sources), options_(options) {}

    bool open(std::string *why) { return !options_.disk_cache || cache_.open(options_.cache_dir, why); }

    bool run(const std::vector<PackItem> &items, std::string *why)
    {
        images_.resize(items.size());
        std::atomic<size_t> next{0};
        const auto work = [&] {
            for (size_t i; (i = next.fetch_add(1)) < items.size() && !failed_.load();) {
                std::string reason;
                bool done = false;
                try {
                    done = make(items[i], &images_[i], &reason);
                } catch (const std::exception &error) {
                    reason = error.what();
                }
                if (done) continue;
                const std::lock_guard<std::mutex> lock(mutex_);
                if (!failed_.exchange(true))
                    *why = label_of(items[i].request) + ", for " + items[i].target + ": " + reason;
            }
        };
        std::vector<std::thread> threads;
        for (int32_t i = 1; i < options_.jobs; ++i) threads.emplace_back(work);
        work();
        for (std::thread &thread : threads) thread.join();
        return !failed_.load();
    }

    std::vector<PackImage> &images() { return images_; }
    PackReport report() const
    {
        return {compiled_.load(), images_.size() - compiled_.load(), compiler_ ? compiler_->name() : "",
                options_.disk_cache ? cache_.describe() : "no disk cache"};
    }

private:
    bool make(const PackItem &item, PackImage *out, std::string *why)
    {
        Digest digest;
        if (!digest_request(sources_, item.request, &digest, why)) return false;
        const Digest key = key_of(digest, item.target);
        if (options_.disk_cache && cache_.load(key, out)) return true;
        const Nvrtc *compiler = open_compiler(why);
        std::string target;
        if (!compiler || !compiler->choose_target(item.target, &target, why)) return false;
        if (target != item.target) {
            *why = compiler->name() + " does not know this architecture";
            return false;
        }
        if (!compiler->compile(sources_, item.request, target, &out->image, why)) return false;
        out->entry.key = key;
        out->entry.target = target;
        out->entry.compiler = compiler->version();
        out->entry.is_ptx = target.rfind("compute_", 0) == 0;
        out->entry.label = label_of(item.request);
        compiled_.fetch_add(1);
        if (options_.disk_cache) cache_.save(*out);
        return true;
    }

    const Nvrtc *open_compiler(std::string *why)
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (!compiler_) compiler_ = Nvrtc::open(options_.compiler_path, 0, why);
        return compiler_.get();
    }

    const Sources sources_;
    const PackOptions options_;
    DiskCache cache_;
    std::vector<PackImage> images_;
    std::atomic<size_t> compiled_{0};
    std::atomic<bool> failed_{false};
    std::mutex mutex_;
    std::unique_ptr<Nvrtc> compiler_;
};

} // namespace

bool build_pack(const Sources &sources, const std::vector<PackItem> &items, const PackOptions &options,
                std::string *pack, PackReport *report, std::string *why)
{
    std::vector<PackItem> distinct;
    for (const PackItem &item : items) {
        const auto same = [&](const PackItem &other) {
            return item.target == other.target && item.request.source == other.request.source &&
                   item.request.entry == other.request.entry && item.request.defines == other.request.defines &&
                   item.request.generated == other.request.generated;
        };
        if (std::none_of(distinct.begin(), distinct.end(), same)) distinct.push_back(item);
    }
    Build build(sources, options);
    if (!build.open(why) || !build.run(distinct, why)) return false;
    *report = build.report();
    *pack = write_pack(std::move(build.images()));
    return true;
}

} // namespace attn::kernel
