// Where the new rows of an append go. Everything read from the tensors may be wrong, so everything is checked where it
// is used: a sequence whose lengths break a rule has no rows, a row with a wrong page or slot has no place.
#ifndef ATTN_BACKENDS_GPU_APPEND_ROWS_CUH
#define ATTN_BACKENDS_GPU_APPEND_ROWS_CUH

#include "backends/gpu/append/params.h"
#include "backends/gpu/faults.cuh"

namespace attn::gpu {

constexpr i64 kNoPlace = -1;
constexpr i64 kLongestRing = i64{1} << 47; ///< Rows of a sequence that a ring may have seen.

/// The new rows of one sequence.
struct NewRows {
    i64 first;  ///< Row of the packed tensors where its own begin, else 0.
    i64 length; ///< Rows in use; 0 where lengths break a rule.
    i64 start;  ///< Row of the sequence that the first has, before a ring wraps it.
};

/// One new row.
struct NewRow {
    i64 batch, row; ///< In the tensors of new rows.
    i64 b, t;       ///< Sequence, and row of it.
    NewRows all;    ///< Of the sequence.
    bool used;
};

/// A place in the caches.
struct CacheRow {
    i64 outer, row; ///< Sequence or page, and row within it.
    i64 key;        ///< Tells places apart; kNoPlace: there is none.
};

// The order in which faults are reported.
constexpr i32 kRankBoundaries = 1, kRankTableBoundaries = 2, kRankUsed = 3, kRankLengths = 4, kRankRoom = 5,
              kRankPages = 6, kRankMapping = 7, kRankPositions = 8;

/// Reads the rows of one call.
class AppendRows {
public:
    ATTN_DEVICE explicit AppendRows(const AppendParameters &p) : p_(p) {}

    /// New row i of all. Not used: beyond the rows of its sequence.
    ATTN_DEVICE NewRow operator[](i64 i) const
    {
        NewRow row = {};
        if (p_.packed) {
            if (p_.batch == 0) return row;
            row.b = sequence_of(p_.cu_seqlens, p_.batch, i);
            row.row = i;
        } else {
            row.b = row.batch = divide(i, p_.tq, &row.row);
        }
        Fault fault;
        row.all = sequence(row.b, &fault);
        row.t = row.row - row.all.first;
        row.used = row.t >= 0 && row.t < row.all.length;
        return row;
    }

    /// The rows of sequence b, and what is wrong with its lengths.
    ATTN_DEVICE NewRows sequence(i64 b, Fault *fault) const
    {
        NewRows rows = {0, p_.tq, 0};
        *fault = {};
        if (p_.packed) {
            rows.first = load_integer(p_.cu_seqlens, b);
            const i64 end = load_integer(p_.cu_seqlens, b + 1);
            const bool within = rows.first >= 0 && end >= rows.first && end <= p_.total_rows;
            rows.length = within ? end - rows.first : 0;
            if (!within || rows.length > p_.longest) *fault = {kRankBoundaries, kSlotCuSeqlensQ, b + 1, end};
        }
        if (p_.seqlens.base && fault->rank == 0) {
            const i64 used = load_integer(p_.seqlens, b);
            if (used < 0 || used > rows.length) *fault = {kRankUsed, kSlotSeqlensQ, b, used};
            rows.length = used;
        }
        if (fault->rank == 0 && !p_.mapped) check_room(b, &rows, fault);
        if (fault->rank != 0) rows.length = 0;
        return rows;
    }

    /// Where a row goes. `fault`: a wrong page or slot.
    ATTN_DEVICE CacheRow place(const NewRow &row, Fault *fault) const
    {
        *fault = {};
        return p_.mapped ? mapped_place(row, fault) : place_in_sequence(row, fault);
    }
    ATTN_DEVICE CacheRow place(const NewRow &row) const
    {
        Fault fault;
        return place(row, &fault);
    }

    /// The key of the place of new row i of all, kNoPlace if it writes no cache.
    ATTN_DEVICE i64 key(i64 i) const
    {
        const NewRow row = (*this)[i];
        if (!row.used || (p_.rope_dim && !has_angles(position(row)))) return kNoPlace;
        return place(row).key;
    }

    /// The position of a row, for its angles.
    ATTN_DEVICE i64 position(const NewRow &row) const
    {
        return p_.positions.base ? load_integer(p_.positions, row.batch, row.row) : row.all.start + row.t;
    }
    /// Whether there are angles for a position.
    ATTN_DEVICE bool has_angles(i64 position) const
    {
        return p_.frequencies || (position >= 0 && position < p_.angles);
    }

    /// Row-major index of a row's entry in tensors of an integer per row.
    ATTN_DEVICE i64 entry(const NewRow &row) const { return p_.packed ? row.row : row.b * p_.tq + row.row; }

private:
    ATTN_DEVICE i64 pages_of(i64 b) const
    {
        if (!p_.table_ptr.base) return p_.columns;
        const i64 first = load_integer(p_.table_ptr, b), end = load_integer(p_.table_ptr, b + 1);
        return first < 0 || end < first || end > p_.entries ? 0 : end - first;
    }

    /// The rows against those that the cache has.
    ATTN_DEVICE void check_room(i64 b, NewRows *rows, Fault *fault) const
    {
        i64 room = p_.max_kv; // of a cache without ring
        if (p_.writes_cache) {
            if (!p_.page_size)
                room = p_.cache_rows;
            else if (const i64 pages = pages_of(b); pages <= p_.max_kv / p_.page_size)
                room = pages * p_.page_size;
        }
        const i64 most = p_.ring_rows ? kLongestRing : room;
        if (p_.lengths.base) {
            const i64 length = load_integer(p_.lengths, b);
            if (length < rows->length || length > most) {
                *fault = {kRankLengths, kSlotSeqlensKv, b, length};
                return;
            }
            rows->start = length - rows->length;
        } else if (rows->length > most) {
            *fault = {kRankRoom, p_.pairs[kPairK].present ? kSlotK : kSlotV, b, rows->length};
            return;
        }
        if (!p_.ring_rows || rows->length == 0) return;
        const i64 end = rows->start + rows->length;
        if ((end < p_.ring_rows ? end : p_.ring_rows) > room) *fault = {kRankRoom, kSlotBlockTable, b, room};
    }

    ATTN_DEVICE CacheRow place_in_sequence(const NewRow &row, Fault *fault) const
    {
        i64 r = row.all.start + row.t;
        if (p_.ring_rows && r >= p_.sink_tokens) {
            const i64 ring = p_.ring_rows - p_.sink_tokens;
            if (row.t < row.all.length - ring) return {0, 0, kNoPlace}; // a later row of this call replaces it
            divide(r - p_.sink_tokens, ring, &r);
            r += p_.sink_tokens;
        }
        if (!p_.page_size) return {row.b, r, row.b * p_.cache_rows + r};
        CacheRow place;
        const i64 index = divide(r, p_.page_size, &place.row);
        const i64 first = p_.table_ptr.base ? load_integer(p_.table_ptr, row.b) : row.b * p_.columns;
        place.outer =
            p_.table_ptr.base ? load_integer(p_.table, 0, first + index) : load_integer(p_.table, row.b, index);
        place.key = place.outer * p_.page_size + place.row;
        if (place.outer >= 0 && place.outer < p_.pages) return place;
        *fault = {kRankPages, kSlotBlockTable, first + index, place.outer};
        return {0, 0, kNoPlace};
    }

    ATTN_DEVICE CacheRow mapped_place(const NewRow &row, Fault *fault) const
    {
        const i64 slot = load_integer(p_.mapping, row.batch, row.row);
        if (slot == -1) return {0, 0, kNoPlace};
        if (slot >= 0 && !p_.page_size && slot < p_.cache_rows) return {row.b, slot, row.b * p_.cache_rows + slot};
        if (slot >= 0 && p_.page_size) {
            CacheRow place;
            place.outer = divide(slot, p_.page_size, &place.row);
            place.key = slot;
            if (place.outer < p_.pages) return place;
        }
        *fault = {kRankMapping, kSlotSlotMapping, entry(row), slot};
        return {0, 0, kNoPlace};
    }

    const AppendParameters &p_;
};

} // namespace attn::gpu

#endif
