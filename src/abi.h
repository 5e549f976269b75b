// Reading of growable structs: the `size` rule and the extension chain of the ABI, in one place.
#ifndef ATTN_SRC_ABI_H
#define ATTN_SRC_ABI_H

#include "status.h"

#include <cstddef>
#include <cstring>

namespace attn {

/// Size of a struct in the first release that had it. Callers compiled against that release pass this size for ever.
template <class T>
inline constexpr size_t kFirstSize = 0;
template <>
inline constexpr size_t kFirstSize<attn_options> = offsetof(attn_options, compiler_path) + sizeof(const char *);
template <>
inline constexpr size_t kFirstSize<attn_device_properties> = offsetof(attn_device_properties, arch) + 64;
template <>
inline constexpr size_t kFirstSize<attn_problem> = offsetof(attn_problem, scale) + sizeof(double);
template <>
inline constexpr size_t kFirstSize<attn_program> = offsetof(attn_program, grid_kv) + 4 * sizeof(int64_t);
template <>
inline constexpr size_t kFirstSize<attn_rope> = offsetof(attn_rope, base) + sizeof(double);
template <>
inline constexpr size_t kFirstSize<attn_bias_table> = offsetof(attn_bias_table, grid) + 4 * sizeof(int64_t);
template <>
inline constexpr size_t kFirstSize<attn_dense> = offsetof(attn_dense, bias_rank) + sizeof(int64_t);
template <>
inline constexpr size_t kFirstSize<attn_merge> = offsetof(attn_merge, gate) + sizeof(attn_gate);
template <>
inline constexpr size_t kFirstSize<attn_append> = offsetof(attn_append, sink_tokens) + sizeof(int64_t);
template <>
inline constexpr size_t kFirstSize<attn_linear> = offsetof(attn_linear, normaliser_eps) + sizeof(double);
template <>
inline constexpr size_t kFirstSize<attn_conv> = offsetof(attn_conv, state_dtype) + sizeof(attn_dtype);
template <>
inline constexpr size_t kFirstSize<attn_scan> = offsetof(attn_scan, state_dtype) + sizeof(attn_dtype);
template <>
inline constexpr size_t kFirstSize<attn_state_info> = offsetof(attn_state_info, tokens) + sizeof(int64_t);
template <>
inline constexpr size_t kFirstSize<attn_sizes> = offsetof(attn_sizes, total_kv) + sizeof(int64_t);

/// Checks a caller's struct of `size` bytes against the `known` of this library; `name` is that of the type.
[[nodiscard]] attn_status check_struct(const void *given, size_t size, size_t first, size_t known,
                                       const char *name) noexcept;

/// Copies a caller's struct: what it does not have yet is zero, what this library does not know must be zero.
template <class T>
[[nodiscard]] attn_status read_struct(const T *given, const char *name, T *out) noexcept
{
    static_assert(kFirstSize<T> > 0, "give the struct a kFirstSize");
    if (!given) return fail(ATTN_ERROR_INVALID, "%s = NULL: must point to a struct", name);
    size_t size = 0;
    memcpy(&size, given, sizeof size);
    if (const attn_status status = check_struct(given, size, kFirstSize<T>, sizeof(T), name)) return status;
    memset(out, 0, sizeof *out);
    memcpy(out, given, size < sizeof *out ? size : sizeof *out);
    out->size = sizeof *out;
    return ATTN_OK;
}

/// Walks a chain of extensions of the struct `owner`. `known` (length `count`) lists the types it may carry;
/// found[i] becomes the extension of type known[i] or NULL.
[[nodiscard]] attn_status read_extensions(const attn_ext *chain, const char *owner, const attn_ext_type *known,
                                          size_t count, const attn_ext **found) noexcept;

/// For a struct that has no extensions yet.
[[nodiscard]] inline attn_status no_extensions(const attn_ext *chain, const char *owner) noexcept
{
    return read_extensions(chain, owner, nullptr, 0, nullptr);
}

} // namespace attn

#endif
