#include "abi.h"

namespace attn {

attn_status check_struct(const void *given, size_t size, size_t first, size_t known, const char *name) noexcept
{
    if (size < first)
        return fail(ATTN_ERROR_INVALID, "%s.size = %zu: must be at least %zu, set it to sizeof(%s)", name, size, first,
                    name);
    if (size > 65536)
        return fail(ATTN_ERROR_INVALID, "%s.size = %zu: no struct is that large, set it to sizeof(%s)", name, size,
                    name);
    const unsigned char *bytes = static_cast<const unsigned char *>(given);
    for (size_t i = known; i < size; ++i)
        if (bytes[i] != 0)
            return fail(ATTN_ERROR_ABI,
                        "%s.size = %zu: byte %zu is not 0, but this library (version 0x%06x) knows only %zu bytes; a "
                        "newer field is in use",
                        name, size, i, static_cast<unsigned>(ATTN_VERSION), known);
    return ATTN_OK;
}

attn_status read_extensions(const attn_ext *chain, const char *owner, const attn_ext_type *known, size_t count,
                            const attn_ext **found) noexcept
{
    for (size_t i = 0; i < count; ++i) found[i] = nullptr;
    constexpr int kLongest = 64;
    int link = 0;
    for (const attn_ext *ext = chain; ext; ext = ext->next, ++link) {
        if (link == kLongest)
            return fail(ATTN_ERROR_INVALID, "%s.next: more than %d extensions; is the chain a cycle?", owner, kLongest);
        if (ext->size < sizeof(attn_ext))
            return fail(ATTN_ERROR_INVALID, "%s.next[%d].size = %zu: must be the size of the extension struct", owner,
                        link, ext->size);
        size_t i = 0;
        while (i < count && known[i] != ext->type) ++i;
        if (i == count)
            return fail(ATTN_ERROR_ABI, "%s.next[%d].type = %d: not an extension of this struct in version 0x%06x",
                        owner, link, static_cast<int>(ext->type), static_cast<unsigned>(ATTN_VERSION));
        if (ext->reserved != 0)
            return fail(ATTN_ERROR_INVALID, "%s.next[%d].reserved = %u: must be 0", owner, link, ext->reserved);
        if (found[i])
            return fail(ATTN_ERROR_INVALID, "%s.next[%d].type = %d: given twice", owner, link,
                        static_cast<int>(ext->type));
        found[i] = ext;
    }
    return ATTN_OK;
}

} // namespace attn
