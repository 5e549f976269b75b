#include "disk_cache.h"

#include <cstdlib>

namespace attn::kernel {
namespace {

std::string file_of(const Digest &key)
{
    return hexadecimal(key) + kPackSuffix;
}

/// The directory for caches of the user; "" if the environment names none. A relative one is no directory of the user's
/// (the XDG specification says so too).
std::string user_caches()
{
    const char *caches = secure_getenv("XDG_CACHE_HOME");
    if (caches && caches[0] == '/') return caches;
    const char *home = secure_getenv("HOME");
    return home && home[0] == '/' ? std::string(home) + "/.cache" : "";
}

} // namespace

bool DiskCache::open(const std::string &named, std::string *why)
{
    const char *variable = secure_getenv("ATTN_CACHE_DIR");
    const bool is_variable = named.empty() && variable && *variable;
    const bool is_named = !named.empty() || is_variable;
    path_ = is_variable ? variable : named;
    if (!is_named) {
        const std::string caches = user_caches();
        if (caches.empty()) {
            absent_ = "no disk cache: neither XDG_CACHE_HOME nor HOME names a directory";
            return true;
        }
        path_ = caches + "/libattn";
    }
    if (try_open(&absent_) || !is_named) return true;
    *why = std::string(is_variable ? "ATTN_CACHE_DIR" : "attn_options.cache_dir") + " = " + path_ + ": " + absent_;
    return false;
}

/// Opens the directory if it exists. False if what is there cannot be used.
bool DiskCache::try_open(std::string *why)
{
    Descriptor opened;
    switch (open_trusted(path_, Owner::user, &opened, why)) {
    case Opened::directory:
        directory_ = std::move(opened);
        return true;
    case Opened::missing:
        *why = "does not exist";
        return true;
    case Opened::file:
        *why = "must be a directory";
        return false;
    case Opened::refused:
        return false;
    }
    return false;
}

/// The directory, which once open stays so; NULL before.
const Descriptor *DiskCache::opened() const
{
    const std::lock_guard<std::mutex> lock(mutex_);
    return directory_.is_open() ? &directory_ : nullptr;
}

bool DiskCache::load(const Digest &key, PackImage *out) const
{
    std::string why;
    const auto bytes = std::make_shared<std::string>();
    const Descriptor *directory = opened();
    Descriptor file;
    if (!directory || open_trusted_at(*directory, file_of(key), Owner::user, &file, &why) != Opened::file ||
        !read_whole(file, kMostPackBytes, bytes.get(), &why))
        return false;
    Pack pack;
    if (!pack.open(bytes, bytes->data(), bytes->size(), &why)) return false;
    const PackEntry *entry = pack.find(key);
    if (!entry || !pack.load(*entry, &out->image, &why)) return false;
    out->entry = *entry;
    return true;
}

bool DiskCache::save(const PackImage &image)
{
    if (!opened() && !path_.empty()) {
        const std::lock_guard<std::mutex> lock(mutex_);
        create_directory(path_);
        if (!directory_.is_open()) static_cast<void>(try_open(&absent_));
    }
    std::string why;
    const Descriptor *directory = opened();
    return directory && replace_file(*directory, file_of(image.entry.key), write_pack({image}), &why);
}

std::string DiskCache::describe() const
{
    const std::lock_guard<std::mutex> lock(mutex_);
    if (path_.empty()) return absent_;
    return "disk cache " + path_ + (directory_.is_open() ? "" : ", which " + absent_);
}

} // namespace attn::kernel
