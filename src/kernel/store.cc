#include "store.h"

#include "key.h"
#include "nvrtc.h"

#include <condition_variable>
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
        if (!look_up(request, arch, &image, &searched)) {
            if (!compile) {
                *why = searched + (options_.compile ? "; not compiled: the caller does not wait for a compiler"
                                                    : "; not compiled: the handle's flags forbid it");
                return false;
            }
            set_stage(entry, Stage::compiled);
            std::string reason;
            if (!compile_now(request, arch, &image, &reason)) {
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

    bool look_up(const Request &request, const std::string &arch, Image *out, std::string *searched)
    {
        static_cast<void>(request), static_cast<void>(arch), static_cast<void>(out);
        *searched = "not in memory";
        return false;
    }

    bool compile_now(const Request &request, const std::string &arch, Image *out, std::string *why)
    {
        const Nvrtc *compiler = open_compiler(why);
        Compiled compiled;
        if (!compiler || !compiler->compile(sources_, request, arch, &compiled, why)) return false;
        const auto owner = std::make_shared<std::string>(std::move(compiled.image));
        out->owner = owner;
        out->data = owner->c_str();
        out->bytes = owner->size();
        out->is_ptx = compiled.is_ptx;
        out->origin = Origin::compiled;
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

    std::mutex mutex_; ///< Guards the entries and their table; entries stay where they are.
    std::condition_variable changed_;
    std::unordered_map<std::string, std::unique_ptr<Entry>> entries_;

    std::mutex compiler_mutex_;
    std::unique_ptr<Nvrtc> compiler_;
    std::string compiler_missing_;
};

} // namespace

attn_status open_store(const StoreOptions &options, const Sources &sources, std::unique_ptr<Store> *out)
{
    *out = std::make_unique<KernelStore>(options, sources);
    return ATTN_OK;
}

attn_status open_store(const StoreOptions &options, std::unique_ptr<Store> *out)
{
    return open_store(options, embedded_sources(), out);
}

} // namespace attn::kernel
