#include "option_checks.h"

#include "abi.h"
#include "descriptor_parts.h"

#include <cmath>
#include <cstring>

namespace attn {
namespace {

constexpr int64_t kLargestTable = int64_t{1} << 24;

attn_status check_grid(const char *field, const int64_t (&grid)[4])
{
    bool ended = false;
    for (const int64_t extent : grid) {
        if (extent < 0 || extent > kLargestExtent || (ended && extent != 0))
            return fail(ATTN_ERROR_INVALID, "%s = %lld: extents must be >= 1 up to the first 0, then 0", field,
                        static_cast<long long>(extent));
        ended |= extent == 0;
    }
    return ATTN_OK;
}

} // namespace

attn_status check_rope(const attn_rope *given, int64_t dim)
{
    attn_rope rope;
    if (const attn_status status = read_struct(given, "attn_rope", &rope)) return status;
    if (const attn_status status = no_extensions(rope.next, "attn_rope")) return status;
    if (const attn_status status = check_flags("attn_rope.flags", rope.flags, 0)) return status;
    if (const attn_status status = check_enum("attn_rope.layout", rope.layout, ATTN_ROPE_INTERLEAVED)) return status;
    if (const attn_status status = check_enum("attn_rope.source", rope.source, ATTN_ROPE_TABLE)) return status;
    if (const attn_status status = check_extent("attn_rope.dim", rope.dim, 0, dim)) return status;
    const int64_t rotated = rope.dim ? rope.dim : dim;
    if (rotated % 2 != 0)
        return fail(ATTN_ERROR_INVALID, "attn_rope.dim = %lld: must be even, channels are rotated in pairs",
                    static_cast<long long>(rotated));
    if (const attn_status status = check_extent("attn_rope.first", rope.first, 0, dim - rotated)) return status;
    if (!std::isfinite(rope.base) || rope.base < 0)
        return fail(ATTN_ERROR_INVALID, "attn_rope.base = %g: must be finite and >= 0", rope.base);
    if (rope.base != 0 && rope.source == ATTN_ROPE_TABLE)
        return fail(ATTN_ERROR_INVALID, "attn_rope.base = %g: must be 0 where the source is ATTN_ROPE_TABLE",
                    rope.base);
    return ATTN_OK;
}

attn_status check_bias_table(const attn_bias_table *given)
{
    attn_bias_table table;
    if (const attn_status status = read_struct(given, "attn_bias_table", &table)) return status;
    if (const attn_status status = no_extensions(table.next, "attn_bias_table")) return status;
    if (const attn_status status = check_enum("attn_bias_table.kind", table.kind, ATTN_TABLE_GRID)) return status;
    const bool bucket = table.kind == ATTN_TABLE_BUCKET, grid = table.kind == ATTN_TABLE_GRID;
    if (table.bidirectional != 0 && (table.bidirectional != 1 || !bucket))
        return fail(ATTN_ERROR_INVALID, "attn_bias_table.bidirectional = %d: must be 0, or 1 for ATTN_TABLE_BUCKET",
                    table.bidirectional);
    if (table.buckets < 0 || table.buckets > kLargestTable || (table.buckets != 0 && !bucket))
        return fail(ATTN_ERROR_INVALID, "attn_bias_table.buckets = %lld: must be 0, or 2 .. %lld for ATTN_TABLE_BUCKET",
                    static_cast<long long>(table.buckets), static_cast<long long>(kLargestTable));
    if (table.max_distance < 0 || table.max_distance > kLargestTable || (table.max_distance != 0 && grid))
        return fail(ATTN_ERROR_INVALID,
                    "attn_bias_table.max_distance = %lld: must be 0 .. %lld, and 0 for ATTN_TABLE_GRID",
                    static_cast<long long>(table.max_distance), static_cast<long long>(kLargestTable));
    if (const attn_status status = check_grid("attn_bias_table.grid", table.grid)) return status;
    if ((table.grid[0] != 0) != grid)
        return fail(ATTN_ERROR_INVALID, "attn_bias_table.grid[0] = %lld: must be set for ATTN_TABLE_GRID, else 0",
                    static_cast<long long>(table.grid[0]));
    return ATTN_OK;
}

attn_status check_dropout(const attn_ext *given)
{
    if (given->size < sizeof(attn_dropout))
        return fail(ATTN_ERROR_INVALID,
                    "attn_dense.next[0].size = %zu: must be at least %zu, set it to sizeof(attn_dropout)", given->size,
                    sizeof(attn_dropout));
    attn_dropout dropout;
    memcpy(&dropout, given, sizeof dropout);
    if (dropout.probability > 0 && dropout.probability < 1) return ATTN_OK;
    return fail(ATTN_ERROR_INVALID, "attn_dropout.probability = %g: must be in (0, 1)", dropout.probability);
}

} // namespace attn
