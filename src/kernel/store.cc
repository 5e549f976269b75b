#include "store.h"

#include "disk_cache.h"
#include "embedded_pack.h"
#include "key.h"
#include "nvrtc.h"
#include "pack_path.h"
#include "target.h"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <unordered_map>

namespace attn::kernel {
namespace {

/// Everything that tells requests apart, as one text.
std::string name_of(const Request &request, const std::string &arch)
{
    std::string name = arch + '\n' + request.source + '\n' + request.entry;
    for (const std::string &define : request.defines) name += '\n' + define;
    return name + '\n' + '\n' + request.generated;
}

class KernelStore final : public Store {
public:
    KernelStore(StoreOptions options, const Sources &sources) : options_(std::move(options)), sources_(sources) {}

    /// Opens what the store searches.
    attn_status open(std::string_view embedded)
    {
        std::string why;
        if (!embedded.empty()) {
            packs_.push_back({Origin::embedded, {}});
            if (!packs_.back().pack.open(nullptr, embedded.data(), embedded.size(), &why))
                return fail(ATTN_ERROR_INTERNAL, "the pack inside the library %s", why.c_str());
        }
        std::vector<NamedPack> named;
        if (!open_pack_path(options_.kernel_path, &named, &why)) return fail(ATTN_ERROR_INVALID, "%s", why.c_str());
        for (NamedPack &pack : named) packs_.push_back({Origin::pack, std::move(pack.pack)});
        if (options_.disk_cache && !disk_cache_.open(options_.cache_dir, &why))
            return fail(ATTN_ERROR_INVALID, "%s", why.c_str());
        return ATTN_OK;
    }

    attn_status find(const Request &request, const std::string &arch, bool compile, Image *out) override
    {
        std::string why;
        if (obtain(request, arch, compile, out, &why)) return ATTN_OK;
        return fail(ATTN_ERROR_COMPILE, "kernel %s, for %s: %s", label_of(request).c_str(), arch.c_str(), why.c_str());
    }

    bool has(const Request &request, const std::string &arch) override
    {
        Image image;
        std::string why;
        return obtain(request, arch, false, &image, &why);
    }

    std::string compiler() override
    {
        std::string why;
        const Nvrtc *found = open_compiler(&why);
        return found ? found->name() : why;
    }

private:
    enum class Stage { absent, looked_up, compiled, ready };

    /// One kernel of the table in memory. Whoever sets a stage other than absent and ready works on it.
    struct Entry {
        Stage stage = Stage::absent;
        Image image;
        bool has_digest = false;
        Digest digest = {};    ///< Of the request.
        uint64_t failures = 0; ///< Of compiles.
        std::string why;       ///< Of the last one.
    };

    /// Ends work on an entry, also where an exception ends it.
    class Work {
    public:
        Work(KernelStore *store, Entry *entry) : store_(store), entry_(entry) {}
        ~Work()
        {
            const std::lock_guard<std::mutex> lock(store_->mutex_);
            if (entry_->stage != Stage::ready) entry_->stage = Stage::absent;
            store_->changed_.notify_all();
        }
        Work(const Work &) = delete;
        Work &operator=(const Work &) = delete;

    private:
        KernelStore *store_;
        Entry *entry_;
    };

    bool obtain(const Request &request, const std::string &arch, bool compile, Image *out, std::string *why)
    {
        compile = compile && options_.compile;
        Entry *entry = nullptr;
        {
            std::unique_lock<std::mutex> lock(mutex_);
            std::unique_ptr<Entry> &place = entries_[name_of(request, arch)];
            if (!place) place = std::make_unique<Entry>();
            entry = place.get();
            const uint64_t failures = entry->failures;
            while (entry->stage != Stage::absent && entry->stage != Stage::ready) {
                if (entry->stage == Stage::compiled && !compile) {
                    *why = "another thread is compiling it, and this caller does not wait";
                    return false;
                }
                changed_.wait(lock);
            }
            if (entry->stage == Stage::ready) {
                *out = entry->image;
                return true;
            }
            if (compile && entry->failures != failures) { // it would fail again
                *why = entry->why;
                return false;
            }
            entry->stage = Stage::looked_up;
        }
        const Work work(this, entry);
        Image image;
        std::string searched;
        if (!entry->has_digest && !digest_request(sources_, request, &entry->digest, why)) return false;
        entry->has_digest = true;
        if (!look_up(entry->digest, arch, &image, &searched)) {
            if (!compile) {
                *why = searched + (options_.compile ? "; not compiled: the caller does not wait for a compiler"
                                                    : "; not compiled: the handle's flags forbid it");
                return false;
            }
            set_stage(entry, Stage::compiled);
            std::string reason;
            if (!compile_now(request, entry->digest, arch, &image, &reason)) {
                *why = searched + "; " + reason;
                const std::lock_guard<std::mutex> lock(mutex_);
                ++entry->failures;
                entry->why = *why;
                return false;
            }
        }
        const std::lock_guard<std::mutex> lock(mutex_);
        entry->image = image;
        entry->stage = Stage::ready;
        *out = std::move(image);
        return true;
    }

    void set_stage(Entry *entry, Stage stage)
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        entry->stage = stage;
        changed_.notify_all();
    }

    struct OpenPack {
        Origin origin;
        Pack pack;
    };

    /// A pack that has kernels for an architecture.
    struct Candidate {
        int32_t rank;
        const OpenPack *pack;
        const std::string *target;
    };

    /// Searches packs and the disk: cubins in packs, the cache, PTX in packs. `searched` gets what is to be said if it
    /// is nowhere.
    bool look_up(const Digest &digest, const std::string &arch, Image *out, std::string *searched)
    {
        std::vector<Candidate> candidates;
        for (const OpenPack &pack : packs_)
            for (const std::string &target : pack.pack.targets())
                if (const int32_t rank = serves(target, arch)) candidates.push_back({rank, &pack, &target});
        std::stable_sort(candidates.begin(), candidates.end(),
                         [](const Candidate &a, const Candidate &b) { return a.rank > b.rank; });
        std::string notes;
        if (look_in_packs(candidates, false, digest, out, &notes)) return true;
        PackImage cached;
        if (options_.disk_cache && disk_cache_.load(key_of(digest, arch), &cached) &&
            loads_on_driver(cached.entry.compiler, cached.entry.is_ptx, options_.driver)) {
            give(std::move(cached.image), cached.entry.is_ptx, Origin::disk, out);
            return true;
        }
        if (look_in_packs(candidates, true, digest, out, &notes)) return true;
        const bool has_embedded = !packs_.empty() && packs_.front().origin == Origin::embedded;
        const size_t named = packs_.size() - (has_embedded ? 1 : 0);
        *searched = std::string(has_embedded ? "not in the embedded pack" : "no embedded pack") +
                    (named ? ", not in " + std::to_string(named) + (named > 1 ? " packs" : " pack") : ", no packs") +
                    (options_.disk_cache ? ", not in the " + disk_cache_.describe() : ", disk cache off") + notes;
        return false;
    }

    bool look_in_packs(const std::vector<Candidate> &candidates, bool is_ptx, const Digest &digest, Image *out,
                       std::string *notes) const
    {
        for (const Candidate &candidate : candidates) {
            const PackEntry *entry = candidate.pack->pack.find(key_of(digest, *candidate.target));
            if (!entry || entry->is_ptx != is_ptx) continue;
            std::string image, why;
            if (!loads_on_driver(entry->compiler, is_ptx, options_.driver)) {
                *notes += "; " + entry->target + " code of NVRTC " + version_text(entry->compiler) +
                          " is there, which the driver (CUDA " + version_text(options_.driver) + ") cannot load";
            } else if (!candidate.pack->pack.load(*entry, &image, &why)) {
                *notes += "; a pack is damaged: " + why;
            } else {
                give(std::move(image), is_ptx, candidate.pack->origin, out);
                return true;
            }
        }
        return false;
    }

    static void give(std::string image, bool is_ptx, Origin origin, Image *out)
    {
        const auto owner = std::make_shared<std::string>(std::move(image));
        *out = {owner, owner->c_str(), owner->size(), is_ptx, origin};
    }

    bool compile_now(const Request &request, const Digest &digest, const std::string &arch, Image *out,
                     std::string *why)
    {
        const Nvrtc *compiler = open_compiler(why);
        PackImage made;
        made.entry.target = arch;
        if (!compiler || !compiler->choose_target(arch, &made.entry.target, why)) return false;
        made.entry.key = key_of(digest, made.entry.target);
        // Under another target than the device's own it may be on the disk all the same.
        if (made.entry.target != arch && options_.disk_cache && disk_cache_.load(made.entry.key, &made) &&
            loads_on_driver(made.entry.compiler, made.entry.is_ptx, options_.driver)) {
            give(std::move(made.image), made.entry.is_ptx, Origin::disk, out);
            return true;
        }
        if (!compiler->compile(sources_, request, made.entry.target, &made.image, why)) return false;
        made.entry.is_ptx = made.entry.target != arch;
        made.entry.compiler = compiler->version();
        made.entry.label = label_of(request);
        if (options_.disk_cache) disk_cache_.save(made);
        give(std::move(made.image), made.entry.is_ptx, Origin::compiled, out);
        return true;
    }

    /// The compiler, searched for once.
    const Nvrtc *open_compiler(std::string *why)
    {
        const std::lock_guard<std::mutex> lock(compiler_mutex_);
        if (!compiler_ && compiler_missing_.empty())
            compiler_ = Nvrtc::open(options_.compiler_path, options_.driver, &compiler_missing_);
        *why = compiler_missing_;
        return compiler_.get();
    }

    const StoreOptions options_;
    const Sources sources_;
    std::vector<OpenPack> packs_; ///< The embedded one, where there is one, first.
    DiskCache disk_cache_;

    std::mutex mutex_; ///< Guards the entries and their table; entries stay where they are.
    std::condition_variable changed_;
    std::unordered_map<std::string, std::unique_ptr<Entry>> entries_;

    std::mutex compiler_mutex_;
    std::unique_ptr<Nvrtc> compiler_;
    std::string compiler_missing_;
};

} // namespace

const char *origin_name(Origin origin) noexcept
{
    switch (origin) {
    case Origin::embedded:
        return "embedded pack";
    case Origin::pack:
        return "pack";
    case Origin::disk:
        return "disk cache";
    default:
        return "compiled";
    }
}

attn_status open_store(const StoreOptions &options, const Sources &sources, std::string_view pack,
                       std::unique_ptr<Store> *out)
{
    auto store = std::make_unique<KernelStore>(options, sources);
    if (const attn_status status = store->open(pack)) return status;
    *out = std::move(store);
    return ATTN_OK;
}

attn_status open_store(const StoreOptions &options, std::unique_ptr<Store> *out)
{
    const char *variable = secure_getenv("ATTN_KERNEL_SOURCES");
    if (variable && !*variable) variable = nullptr;
    if (variable && std::string_view(variable) != "nvrtc")
        return fail(ATTN_ERROR_INVALID, "ATTN_KERNEL_SOURCES = %s: must be nvrtc, or not set", variable);
    return open_store(options, embedded_sources(), variable ? std::string_view() : embedded_pack(), out);
}

} // namespace attn::kernel
