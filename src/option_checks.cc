#include "option_checks.h"

#include "abi.h"
#include "descriptor_parts.h"

#include <cmath>
#include <cstring>

namespace attn {
namespace {

constexpr int64_t kLargestTable = int64_t{1} << 24;

bool is_operator(uint16_t op)
{
    return op == ATTN_OP_AND || op == ATTN_OP_OR || op == ATTN_OP_NOT;
}

bool needs_diagonal(uint16_t op)
{
    return op == ATTN_MASK_CAUSAL || op == ATTN_MASK_BAND || op == ATTN_MASK_POW2;
}

attn_status check_term(const attn_term &term, size_t i, const attn_program &program, bool has_diagonal)
{
    if (!is_operator(term.op) && (term.op < ATTN_MASK_CAUSAL || term.op > ATTN_MASK_TENSOR))
        return fail(ATTN_ERROR_INVALID, "attn_program.terms[%zu].op = 0x%x: not an operator or atom of masks", i,
                    term.op);
    constexpr unsigned kKnown = 3 | ATTN_TERM_AXIS_CAUSAL | ATTN_TERM_TRUNCATE | ATTN_TERM_DEVICE_TABLE;
    if (term.flags & ~kKnown)
        return fail(ATTN_ERROR_INVALID, "attn_program.terms[%zu].flags = 0x%x: unknown bits 0x%x", i, term.flags,
                    term.flags & ~kKnown);
    if (term.reserved != 0)
        return fail(ATTN_ERROR_INVALID, "attn_program.terms[%zu].reserved = %u: must be 0", i, term.reserved);
    if (!(term.flags & ATTN_TERM_DEVICE_TABLE) && term.table > program.table_count)
        return fail(ATTN_ERROR_INVALID, "attn_program.terms[%zu].table = %u: must be at most table_count = %zu", i,
                    term.table, program.table_count);
    if (needs_diagonal(term.op) && !has_diagonal && (term.flags & 3) == ATTN_ALIGN_NONE)
        return fail(ATTN_ERROR_INVALID,
                    "attn_program.terms[%zu].op = 0x%x: needs a diagonal, set align or causal, or give it in flags", i,
                    term.op);
    if (!std::isfinite(term.f))
        return fail(ATTN_ERROR_INVALID, "attn_program.terms[%zu].f = %g: must be finite", i, term.f);
    return ATTN_OK;
}

/// Postfix: every operator finds its operands, and one set remains.
attn_status check_stack(const attn_program &program)
{
    size_t depth = 0;
    for (size_t i = 0; i < program.term_count; ++i) {
        const uint16_t op = program.terms[i].op;
        const size_t operands = op == ATTN_OP_NOT ? 1 : is_operator(op) ? 2 : 0;
        if (depth < operands)
            return fail(ATTN_ERROR_INVALID, "attn_program.terms[%zu].op = 0x%x: needs %zu sets, there are %zu", i, op,
                        operands, depth);
        depth = depth - operands + 1;
    }
    if (depth == 1) return ATTN_OK;
    return fail(ATTN_ERROR_INVALID, "attn_program.terms: %zu sets remain, must be one", depth);
}

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

attn_status check_program(const attn_program *given, bool has_diagonal)
{
    attn_program program;
    if (const attn_status status = read_struct(given, "attn_program", &program)) return status;
    if (const attn_status status = no_extensions(program.next, "attn_program")) return status;
    if (program.term_count < 1 || program.term_count > 256)
        return fail(ATTN_ERROR_INVALID, "attn_program.term_count = %zu: must be 1 .. 256", program.term_count);
    if (!program.terms) return fail(ATTN_ERROR_INVALID, "attn_program.terms = NULL: must point to term_count terms");
    if (program.table_count && !program.tables)
        return fail(ATTN_ERROR_INVALID, "attn_program.tables = NULL: must point to table_count = %zu tables",
                    program.table_count);
    if (const attn_status status = check_flags("attn_program.flags", program.flags, 0)) return status;
    if (const attn_status status = check_grid("attn_program.grid_q", program.grid_q)) return status;
    if (const attn_status status = check_grid("attn_program.grid_kv", program.grid_kv)) return status;
    for (size_t i = 0; i < program.term_count; ++i)
        if (const attn_status status = check_term(program.terms[i], i, program, has_diagonal)) return status;
    return check_stack(program);
}

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
