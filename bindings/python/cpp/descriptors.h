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
#include <vector>

namespace attn_python {

/** attn_problem and its binds. */
struct Problem {
    attn_problem fields{};
    std::vector<attn_bind> binds;

    Problem() { fields.size = sizeof fields; }
    void bind(attn_slot slot, attn_dtype dtype, uint32_t flags)
    {
        attn_bind bind{};
        bind.slot = slot;
        bind.dtype = dtype;
        bind.flags = flags;
        binds.push_back(bind);
    }
};

/** attn_dense and its bias table. */
struct Dense {
    attn_dense fields{};
    std::optional<attn_bias_table> table;

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

} // namespace attn_python
