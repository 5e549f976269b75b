// Files that hold code, and the directories they are in: opened only where nobody else could have written them.
//
// Every check is made of what was opened, not of its name, so that nothing can be exchanged in between: names are
// opened without following a symbolic link in the last place, and files of a directory are opened relative to it.
#ifndef ATTN_SRC_KERNEL_TRUST_H
#define ATTN_SRC_KERNEL_TRUST_H

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace attn::kernel {

/// A file descriptor that closes itself.
class Descriptor {
public:
    Descriptor() = default;
    explicit Descriptor(int number) noexcept : number_(number) {}
    ~Descriptor() { reset(); }
    Descriptor(Descriptor &&other) noexcept : number_(other.release()) {}
    Descriptor &operator=(Descriptor &&other) noexcept
    {
        if (this != &other) {
            reset();
            number_ = other.release();
        }
        return *this;
    }
    Descriptor(const Descriptor &) = delete;
    Descriptor &operator=(const Descriptor &) = delete;

    bool is_open() const noexcept { return number_ >= 0; }
    int number() const noexcept { return number_; }
    int release() noexcept;

private:
    void reset() noexcept;

    int number_ = -1;
};

/// Whom files may belong to. Nobody else may have the right to write them.
enum class Owner { user, user_or_root };

enum class Opened {
    directory,
    file,
    missing, ///< Nothing has that name.
    refused  ///< Not trusted, or the system refused; the reason says which rule or error.
};

/// Opens a path, which must be absolute: the current directory is never searched.
Opened open_trusted(const std::string &path, Owner owner, Descriptor *out, std::string *why);
/// Opens a regular file of an open directory.
Opened open_trusted_at(const Descriptor &directory, const std::string &name, Owner owner, Descriptor *out,
                       std::string *why);
/// Creates a directory for the user alone, with those above it that are missing.
void create_directory(const std::string &path);

/// What the system says of an errno.
std::string error_text(int error);

/// Names of a directory that end so, sorted.
bool list_directory(const Descriptor &directory, const std::string &suffix, std::vector<std::string> *out,
                    std::string *why);
/// Reads a whole file, which must have at most `most` bytes.
bool read_whole(const Descriptor &file, size_t most, std::string *out, std::string *why);
/// Writes a file of a directory for the user alone: at once for who reads it, and on the disk when this returns true.
bool replace_file(const Descriptor &directory, const std::string &name, const std::string &bytes, std::string *why);

} // namespace attn::kernel

#endif
