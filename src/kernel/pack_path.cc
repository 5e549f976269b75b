#include "pack_path.h"

#include "trust.h"

#include <algorithm>
#include <cstdlib>

namespace attn::kernel {
namespace {

bool read_pack(const Descriptor &file, Pack *out, std::string *why)
{
    const auto bytes = std::make_shared<std::string>();
    return read_whole(file, kMostPackBytes, bytes.get(), why) && out->open(bytes, bytes->data(), bytes->size(), why);
}

/// Opens what one element of a path names.
bool open_element(const std::string &path, std::vector<NamedPack> *out, std::string *why)
{
    Descriptor opened;
    const Opened kind = open_trusted(path, Owner::user_or_root, &opened, why);
    if (kind == Opened::file) {
        out->push_back({path, {}});
        return read_pack(opened, &out->back().pack, why);
    }
    std::vector<std::string> names;
    if (kind != Opened::directory || !list_directory(opened, kPackSuffix, &names, why)) return false;
    for (const std::string &name : names) {
        Descriptor file;
        out->push_back({std::string(path).append(1, '/').append(name), {}});
        if (open_trusted_at(opened, name, Owner::user_or_root, &file, why) == Opened::file &&
            read_pack(file, &out->back().pack, why))
            continue;
        *why = name + ' ' + *why;
        return false;
    }
    return true;
}

} // namespace

bool open_pack_path(const std::string &named, std::vector<NamedPack> *out, std::string *why)
{
    const char *variable = secure_getenv("ATTN_KERNEL_PATH");
    const char *field = "attn_options.kernel_path";
    std::string rest = named;
    if (named.empty()) {
        if (!variable) return true;
        field = "ATTN_KERNEL_PATH";
        rest = variable;
    }
    while (!rest.empty()) {
        const std::string path = rest.substr(0, rest.find(':'));
        rest.erase(0, std::min(path.size() + 1, rest.size()));
        if (path.empty() || open_element(path, out, why)) continue;
        *why = std::string(field) + ": " + path + ": " + *why;
        return false;
    }
    return true;
}

} // namespace attn::kernel
