#include "trust.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <sys/stat.h>
#include <unistd.h>

namespace attn::kernel {
namespace {

/// Applies the rules to what was opened.
Opened judge(Owner owner, Descriptor *opened, std::string *why)
{
    struct stat facts;
    if (fstat(opened->number(), &facts) != 0) {
        *why = error_text(errno);
        return Opened::refused;
    }
    const bool is_directory = S_ISDIR(facts.st_mode);
    const uid_t user = geteuid();
    if (!is_directory && !S_ISREG(facts.st_mode)) {
        *why = "must be a directory or a regular file";
    } else if (facts.st_uid != user && !(owner == Owner::user_or_root && facts.st_uid == 0)) {
        *why = "belongs to user " + std::to_string(facts.st_uid) + ": must belong to user " + std::to_string(user) +
               (owner == Owner::user_or_root && user != 0 ? " or to root" : "") + ", as it holds code";
    } else if (facts.st_mode & (S_IWGRP | S_IWOTH)) {
        *why = std::string("may be written by ") + (facts.st_mode & S_IWOTH ? "everyone" : "its group") +
               ": must be writable by its owner only, as it holds code";
    } else {
        return is_directory ? Opened::directory : Opened::file;
    }
    return Opened::refused;
}

Opened open_and_judge(int directory, const char *name, Owner owner, Descriptor *out, std::string *why)
{
    // Without O_NONBLOCK the opening of a pipe would wait for a writer.
    Descriptor opened(openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!opened.is_open()) {
        const int error = errno;
        *why = error == ELOOP ? "must not be a symbolic link" : error_text(error);
        return error == ENOENT || error == ENOTDIR ? Opened::missing : Opened::refused;
    }
    const Opened result = judge(owner, &opened, why);
    if (result != Opened::refused) *out = std::move(opened);
    return result;
}

bool write_all(int file, const std::string &bytes) noexcept
{
    for (size_t written = 0; written < bytes.size();) {
        const ssize_t count = write(file, bytes.data() + written, bytes.size() - written);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return false;
        written += static_cast<size_t>(count);
    }
    return true;
}

} // namespace

std::string error_text(int error)
{
    char buffer[128] = {};
    return strerror_r(error, buffer, sizeof buffer); // GNU's: returns the text
}

int Descriptor::release() noexcept
{
    const int number = number_;
    number_ = -1;
    return number;
}

void Descriptor::reset() noexcept
{
    if (number_ >= 0) close(number_);
    number_ = -1;
}

Opened open_trusted(const std::string &path, Owner owner, Descriptor *out, std::string *why)
{
    if (path.empty() || path[0] != '/') {
        *why = "must be an absolute path: code is never loaded from the current directory";
        return Opened::refused;
    }
    return open_and_judge(AT_FDCWD, path.c_str(), owner, out, why);
}

Opened open_trusted_at(const Descriptor &directory, const std::string &name, Owner owner, Descriptor *out,
                       std::string *why)
{
    const Opened result = open_and_judge(directory.number(), name.c_str(), owner, out, why);
    if (result != Opened::directory) return result;
    *out = Descriptor();
    *why = "must be a regular file";
    return Opened::refused;
}

void create_directory(const std::string &path)
{
    // What cannot be created shows when it is opened.
    for (size_t end = path.find('/', 1); end != std::string::npos; end = path.find('/', end + 1))
        mkdir(path.substr(0, end).c_str(), 0700);
    mkdir(path.c_str(), 0700);
}

bool list_directory(const Descriptor &directory, const std::string &suffix, std::vector<std::string> *out,
                    std::string *why)
{
    Descriptor again(openat(directory.number(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)); // with a position of its own
    DIR *stream = again.is_open() ? fdopendir(again.number()) : nullptr;
    if (!stream) {
        *why = error_text(errno);
        return false;
    }
    static_cast<void>(again.release());
    const std::unique_ptr<DIR, int (*)(DIR *)> owner(stream, closedir);
    while (const dirent *entry = readdir(stream)) {
        const std::string name = entry->d_name;
        if (name.size() > suffix.size() && name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0)
            out->push_back(name);
    }
    std::sort(out->begin(), out->end());
    return true;
}

bool read_whole(const Descriptor &file, size_t most, std::string *out, std::string *why)
{
    struct stat facts;
    if (fstat(file.number(), &facts) != 0) {
        *why = error_text(errno);
        return false;
    }
    if (facts.st_size < 0 || static_cast<uint64_t>(facts.st_size) > most) {
        *why = "has " + std::to_string(facts.st_size) + " bytes: must have at most " + std::to_string(most);
        return false;
    }
    out->resize(static_cast<size_t>(facts.st_size));
    size_t filled = 0;
    while (filled < out->size()) {
        const ssize_t count = read(file.number(), out->data() + filled, out->size() - filled);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) {
            *why = error_text(errno);
            return false;
        }
        if (count == 0) break; // it was cut meanwhile; what is left fails its checksum
        filled += static_cast<size_t>(count);
    }
    out->resize(filled);
    return true;
}

bool replace_file(const Descriptor &directory, const std::string &name, const std::string &bytes, std::string *why)
{
    static std::atomic<uint32_t> counter{0};
    const std::string temporary =
        '.' + name + '.' + std::to_string(getpid()) + '.' + std::to_string(counter.fetch_add(1));
    Descriptor file(
        openat(directory.number(), temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file.is_open()) {
        *why = error_text(errno);
        return false;
    }
    if (write_all(file.number(), bytes) && fsync(file.number()) == 0 &&
        renameat(directory.number(), temporary.c_str(), directory.number(), name.c_str()) == 0)
        return true;
    *why = error_text(errno);
    unlinkat(directory.number(), temporary.c_str(), 0);
    return false;
}

} // namespace attn::kernel
