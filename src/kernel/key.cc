#include "key.h"

#include "nvrtc.h"

namespace attn::kernel {
namespace {

/// Adds a text with its length before it, so that no two lists of texts have the same bytes.
void add(Sha256 *hash, std::string_view text)
{
    uint8_t length[8];
    for (size_t i = 0; i < sizeof length; ++i) length[i] = static_cast<uint8_t>(uint64_t{text.size()} >> (8 * i));
    hash->add(length, sizeof length);
    hash->add(text.data(), text.size());
}

} // namespace

bool digest_request(const Sources &sources, const Request &request, Digest *out, std::string *why)
{
    std::vector<const Source *> files;
    if (!sources.reach(request.source, request.generated, &files, why)) return false;
    Sha256 hash;
    add(&hash, "libattn kernel");
    add(&hash, std::to_string(ATTN_VERSION));
    for (const char *option : kFixedOptions) add(&hash, option);
    add(&hash, std::to_string(files.size()));
    for (const Source *file : files) {
        add(&hash, file->path);
        add(&hash, file->sha256);
    }
    add(&hash, std::to_string(request.defines.size()));
    for (const std::string &define : request.defines) add(&hash, define);
    add(&hash, request.generated);
    add(&hash, request.entry);
    *out = hash.finish();
    return true;
}

Digest key_of(const Digest &request, std::string_view target) noexcept
{
    Sha256 hash;
    hash.add(request.data(), request.size());
    hash.add(target.data(), target.size());
    return hash.finish();
}

std::string label_of(const Request &request)
{
    std::string label = request.entry + " of " + request.source;
    for (size_t i = 0; i < request.defines.size(); ++i) label += (i ? " " : ", ") + request.defines[i];
    if (!request.generated.empty())
        label += ", generated " + hexadecimal(sha256(request.generated.data(), request.generated.size())).substr(0, 12);
    return label;
}

} // namespace attn::kernel
