#include "pack_builder.h"

#include "key.h"

#include <thread>

namespace attn::kernel {

bool PackBuilder::make(const PackItem &item, PackImage *out, std::string *why)
{
    Digest digest;
    if (!digest_request(sources_, item.request, &digest, why)) return false;
    const Digest key = key_of(digest, item.target);
    if (options_.disk_cache && cache_.load(key, out)) {
        cached_.fetch_add(1);
        return true;
    }
    if (!options_.compile) {
        *why = "not in the " + cache() + ", and not to be compiled";
        return false;
    }
    const Nvrtc *compiler = open_compiler(why);
    std::string target;
    if (!compiler || !compiler->choose_target(item.target, &target, why)) return false;
    if (target != item.target) { // PTX would do for a device, but is not what was asked for
        *why = compiler->name() + " does not know " + item.target;
        return false;
    }
    std::string remarks;
    if (!compiler->compile(sources_, item.request, target, &out->image, why, &remarks)) return false;
    if (strict_ && remarks.find_first_not_of(" \t\r\n") != std::string::npos) {
        *why = compiler->name() + ": " + remarks;
        return false;
    }
    out->entry.key = key;
    out->entry.target = target;
    out->entry.compiler = compiler->version();
    out->entry.is_ptx = target.rfind("compute_", 0) == 0;
    out->entry.label = label_of(item.request);
    compiled_.fetch_add(1);
    if (options_.disk_cache) cache_.save(*out);
    return true;
}

bool PackBuilder::make_all(const std::vector<PackItem> &items, int32_t threads, std::vector<PackImage> *out,
                           std::string *why)
{
    out->assign(items.size(), {});
    std::atomic<size_t> next{0};
    std::atomic<bool> failed{false};
    std::mutex mutex; // of the reason
    const auto work = [&] {
        for (size_t i; (i = next.fetch_add(1)) < items.size() && !failed.load();) {
            std::string reason;
            bool done = false;
            try {
                done = make(items[i], &(*out)[i], &reason);
            } catch (const std::exception &error) {
                reason = error.what();
            }
            if (done) continue;
            const std::lock_guard<std::mutex> lock(mutex);
            if (!failed.exchange(true)) *why = label_of(items[i].request) + ", for " + items[i].target + ": " + reason;
        }
    };
    std::vector<std::thread> others;
    for (int32_t i = 1; i < threads; ++i) others.emplace_back(work);
    work();
    for (std::thread &thread : others) thread.join();
    return !failed.load();
}

const Nvrtc *PackBuilder::open_compiler(std::string *why)
{
    const std::lock_guard<std::mutex> lock(compiler_mutex_);
    if (!compiler_) compiler_ = Nvrtc::open(options_.compiler_path, options_.driver, why);
    return compiler_.get();
}

} // namespace attn::kernel
