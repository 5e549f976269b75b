// Packs that the user names: attn_options.kernel_path, ATTN_KERNEL_PATH.
#ifndef ATTN_SRC_KERNEL_PACK_PATH_H
#define ATTN_SRC_KERNEL_PACK_PATH_H

#include "pack.h"

#include <string>
#include <vector>

namespace attn::kernel {

struct NamedPack {
    std::string path;
    Pack pack;
};

/// Opens `named` if it is not empty, else ATTN_KERNEL_PATH: absolute paths with ':' between, each a pack or a
/// directory, of which every *.attnpack is one. False, with the reason, if anything is missing, damaged, or not the
/// user's or root's alone.
bool open_pack_path(const std::string &named, std::vector<NamedPack> *out, std::string *why);

} // namespace attn::kernel

#endif
