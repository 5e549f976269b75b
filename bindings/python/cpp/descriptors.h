/**
 * @file descriptors.h
 * @brief The descriptors of the C ABI with their sizes set and what they point to owned.
 *
 * Pointers between them are set by Plan, for the duration of planning.
 */
#pragma once

#include <attn/attn.h>

#include <array>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

namespace attn_python {

/** attn_problem and its binds. */
struct Problem {
    attn_problem fields{};
    std::vector<attn_bind> binds;

    Problem() { fields.size = sizeof fields; }
    void bind(attn_slot slot, attn_dtype dtype, uint32_t flags, uint32_t index)
    {
        attn_bind bind{};
        bind.slot = slot;
        bind.index = index;
        bind.dtype = dtype;
        bind.flags = flags;
        binds.push_back(bind);
    }
};

/** The terms and tables of an attn_program. */
struct Program {
    std::vector<attn_term> terms;
    struct Table {
        std::vector<double> values, slopes; /**< slopes may be empty */
        int64_t rows, columns;
    };
    std::vector<Table> tables;
};

/** attn_dense, its bias table and its mask. */
struct Dense {
    /** op, flags, axis, table, parameters, real parameter */
    using Term = std::tuple<uint16_t, uint16_t, uint32_t, uint32_t, std::vector<int64_t>, double>;
    /** rows, columns, values, slopes */
    using Table = std::tuple<int64_t, int64_t, std::vector<double>, std::vector<double>>;

    attn_dense fields{};
    std::optional<attn_bias_table> table;
    std::optional<Program> mask;

    Dense() { fields.size = sizeof fields; }
    void set_bias_table(attn_table_kind kind, bool bidirectional, int64_t buckets, int64_t max_distance,
                        const std::array<int64_t, 4> &grid)
    {
        attn_bias_table t{};
        t.size = sizeof t;
        t.kind = kind;
        t.bidirectional = bidirectional;
        t.buckets = buckets;
        t.max_distance = max_distance;
        for (size_t axis = 0; axis < grid.size(); ++axis) t.grid[axis] = grid[axis];
        table = t;
    }
    void set_mask(const std::vector<Term> &terms, const std::vector<Table> &tables)
    {
        Program program;
        for (const auto &[op, flags, axis, number, p, f] : terms) {
            attn_term term{};
            term.op = op;
            term.flags = flags;
            term.axis = axis;
            term.table = number;
            for (size_t i = 0; i < p.size() && i < 5; ++i) term.p[i] = p[i];
            term.f = f;
            program.terms.push_back(term);
        }
        for (const auto &[rows, columns, values, slopes] : tables)
            program.tables.push_back({values, slopes, rows, columns});
        mask = std::move(program);
    }
};

struct Merge {
    attn_merge fields{};

    Merge() { fields.size = sizeof fields; }
};

/** attn_append and its rotation. */
struct Append {
    attn_append fields{};
    std::optional<attn_rope> rope;

    Append() { fields.size = sizeof fields; }
    void set_rope(attn_rope_layout layout, attn_rope_source source, int64_t dim, int64_t first, double base)
    {
        attn_rope r{};
        r.size = sizeof r;
        r.layout = layout;
        r.source = source;
        r.dim = dim;
        r.first = first;
        r.base = base;
        rope = r;
    }
};

struct Linear {
    attn_linear fields{};

    Linear() { fields.size = sizeof fields; }
};

struct Conv {
    attn_conv fields{};

    Conv() { fields.size = sizeof fields; }
};

struct Scan {
    attn_scan fields{};

    Scan() { fields.size = sizeof fields; }
};

} // namespace attn_python
