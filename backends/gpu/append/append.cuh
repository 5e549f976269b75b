// Append of new rows to caches: K and V into their places, K rotated, Q rotated into OUT.
//
// A block serves a few new rows. What moves is cut into groups of heads, and in each into units of channels; a thread
// takes a unit through the heads of a group, so that angles are computed once for all of them:
//
//     new row 0   group 0   rotated units | other channels of K and Q | channels of V     run<0>: places, positions
//                 group 1   ...                                                           run<1>: rows replaced by
//                 later ones
//     new row 1   group 0   ...                                                           run<2>: moves
//
// Several rows may be given one place, where pages are shared or a mapping says so, and the last of them stays. Few
// rows are compared with all later ones, by the threads of each block together. Many are looked up in a hash table that
// attn_append_index has built before: of all rows with the same place the last claims it.
//
// Defines: ATTN_VECTOR 1: units of 8 channels, adjacent and aligned to 16 bytes, in every tensor; 0: of 1, anything;
// none: attn_append_index.
#include "backends/gpu/append/rows.cuh"
#include "backends/gpu/functions.cuh"

namespace attn::gpu {

constexpr u64 kUnclaimed = ~u64{0};

/// Where the search for a place begins in the claims.
ATTN_DEVICE i64 first_claim(const AppendParameters &p, i64 key)
{
    u64 hash = static_cast<u64>(key) * 0x9e3779b97f4a7c15u;
    hash = (hash ^ (hash >> 32)) * 0xd6e8feb86659fd93u;
    return static_cast<i64>(hash ^ (hash >> 32)) & p.claim_mask;
}

/// Moves rows; see above.
template <bool Vector>
class Append {
public:
    using Parameters = AppendParameters;
    static constexpr i32 kPhases = 3;
    static constexpr i32 kChannels = Vector ? kAppendChannels : 1; ///< Of a unit.

    struct Row {
        i64 source_batch, source_row; ///< Of the new rows, and of OUT.
        i64 outer, row;               ///< Of the caches.
        i64 key, position;
        i32 used;
        i32 replaced; ///< By a later row.
    };
    struct Shared {
        Row rows[kAppendRows];
    };

    ATTN_DEVICE Append(const Parameters &p, Shared &shared, const Place &place)
        : p_(p),
          shared_(shared),
          rows_(p),
          thread_(static_cast<i32>(place.thread)),
          first_row_(static_cast<i64>(place.block) * p.rows_per_block)
    {
    }

    template <i32 Phase>
    ATTN_DEVICE void run()
    {
        if constexpr (Phase == 0) find_row();
        if constexpr (Phase == 1)
            if (p_.writes_cache && !p_.distinct) p_.claims ? look_up_claim() : scan_later_rows();
        if constexpr (Phase == 2) move_all();
    }

private:
    ATTN_DEVICE void find_row()
    {
        if (thread_ >= p_.rows_per_block) return;
        Row &to = shared_.rows[thread_];
        to.used = to.replaced = 0;
        to.key = kNoPlace;
        if (first_row_ + thread_ >= p_.rows) return;
        const NewRow row = rows_[first_row_ + thread_];
        if (!row.used) return;
        to.source_batch = row.batch, to.source_row = row.row;
        if (p_.rope_dim) {
            to.position = rows_.position(row);
            if (!rows_.has_angles(to.position)) return;
        }
        to.used = 1;
        if (!p_.writes_cache) return;
        const CacheRow place = rows_.place(row);
        to.outer = place.outer, to.row = place.row, to.key = place.key;
    }

    ATTN_DEVICE void scan_later_rows()
    {
        for (i64 i = first_row_ + 1 + thread_; i < p_.rows; i += kAppendThreads) {
            const i64 key = rows_.key(i);
            if (key == kNoPlace) continue;
            for (i32 r = 0; r < p_.rows_per_block && first_row_ + r < i; ++r)
                if (shared_.rows[r].key == key) shared_.rows[r].replaced = 1;
        }
    }

    ATTN_DEVICE void look_up_claim()
    {
        if (thread_ >= p_.rows_per_block) return;
        Row &row = shared_.rows[thread_];
        if (row.key == kNoPlace) return;
        i64 at = first_claim(p_, row.key);
        u64 claimed = p_.claims[at];
        while (claimed != kUnclaimed && p_.places[claimed] != row.key) {
            at = (at + 1) & p_.claim_mask;
            claimed = p_.claims[at];
        }
        row.replaced = claimed != static_cast<u64>(first_row_ + thread_);
    }

    ATTN_DEVICE void move_all() const
    {
        const u32 units = static_cast<u32>(p_.rotated_units + p_.plain_units + p_.v_units);
        const u32 groups = static_cast<u32>(p_.groups);
        const u32 work = static_cast<u32>(p_.rows_per_block) * groups * units;
        for (u32 w = static_cast<u32>(thread_); w < work; w += kAppendThreads) {
            const u32 unit = w % units, group = w / units % groups, r = w / units / groups;
            if (shared_.rows[r].used) move_unit(shared_.rows[r], static_cast<i32>(group), static_cast<i32>(unit));
        }
    }

    ATTN_DEVICE void move_unit(const Row &row, i32 group, i32 unit) const
    {
        const bool rotated = unit < p_.rotated_units;
        const bool v = unit >= p_.rotated_units + p_.plain_units;
        i32 first, second = 0; // channels
        float cosines[kChannels], sines[kChannels];
        if (rotated) {
            find_angles(row.position, unit * kChannels, cosines, sines);
            first = p_.rope_first + unit * kChannels * (p_.interleaved ? 2 : 1);
            second = first + (p_.interleaved ? kChannels : p_.rope_dim / 2);
        } else if (v) {
            first = (unit - p_.rotated_units - p_.plain_units) * kChannels;
        } else {
            first = (unit - p_.rotated_units) * kChannels;
            if (first >= p_.rope_first) first += p_.rope_dim;
        }
        const bool written = row.key != kNoPlace && !row.replaced;
        for (i32 i = v ? kPairV : kPairK; i <= (v ? kPairV : kPairQ); ++i) {
            const AppendPair &pair = p_.pairs[i];
            const bool q = i == kPairQ;
            if (!pair.present || (!q && !written)) continue;
            const TokenView &from = pair.from, &to = pair.to;
            const char *source = from.base + row.source_batch * from.batch_step + row.source_row * from.token_step;
            char *place = to.base + (q ? row.source_batch : row.outer) * to.batch_step +
                          (q ? row.source_row : row.row) * to.token_step;
            const i64 end = (group + 1) * pair.heads / p_.groups;
            for (i64 head = group * pair.heads / p_.groups; head < end; ++head) {
                const char *x = source + head * from.head_step;
                char *y = place + head * to.head_step;
                if (rotated)
                    rotate(from, to, x, y, first, second, cosines, sines);
                else
                    copy(from, to, x + first * from.channel_step, y + first * to.channel_step);
            }
        }
    }

    /// Cosines and sines of the pairs of a unit, from `pair` on.
    ATTN_DEVICE void find_angles(i64 position, i32 pair, float *cosines, float *sines) const
    {
        if (!p_.frequencies) {
            load_floats(p_.cosines.base + position * p_.cosines.token_step + pair * p_.cosines.channel_step, cosines);
            load_floats(p_.sines.base + position * p_.sines.token_step + pair * p_.sines.channel_step, sines);
            return;
        }
        ATTN_UNROLL
        for (i32 k = 0; k < kChannels; ++k) {
            double sine, cosine;
            sine_and_cosine(static_cast<double>(position) * p_.frequencies[pair + k], &sine, &cosine);
            cosines[k] = static_cast<float>(cosine);
            sines[k] = static_cast<float>(sine);
        }
    }
    ATTN_DEVICE void load_floats(const char *p, float *to) const
    {
        if constexpr (Vector)
            load_eight(kFloat32, p, to);
        else
            *to = load<float>(p);
    }

    ATTN_DEVICE void load_unit(i32 type, const char *p, float *to) const
    {
        if constexpr (Vector)
            load_eight(type, p, to);
        else
            *to = load_element(type, p);
    }
    ATTN_DEVICE void store_unit(i32 type, char *p, const float *from) const
    {
        if constexpr (Vector)
            store_eight(type, p, from);
        else
            store_element(type, p, *from);
    }

    /// Pairs (x, y) become x cos - y sin, y cos + x sin.
    ATTN_DEVICE void rotate(const TokenView &from, const TokenView &to, const char *source, char *place, i32 first,
                            i32 second, const float *cosines, const float *sines) const
    {
        float v[2 * kChannels], turned[2 * kChannels];
        load_unit(from.type, source + first * from.channel_step, v);
        load_unit(from.type, source + second * from.channel_step, v + kChannels);
        if (p_.interleaved) {
            ATTN_UNROLL
            for (i32 k = 0; k < kChannels; ++k)
                turn(v[2 * k], v[2 * k + 1], cosines[k], sines[k], &turned[2 * k], &turned[2 * k + 1]);
        } else {
            ATTN_UNROLL
            for (i32 k = 0; k < kChannels; ++k)
                turn(v[k], v[kChannels + k], cosines[k], sines[k], &turned[k], &turned[kChannels + k]);
        }
        store_unit(to.type, place + first * to.channel_step, turned);
        store_unit(to.type, place + second * to.channel_step, turned + kChannels);
    }
    ATTN_DEVICE static void turn(float x, float y, float cosine, float sine, float *new_x, float *new_y)
    {
        *new_x = x * cosine - y * sine;
        *new_y = y * cosine + x * sine;
    }

    /// Bit by bit where types are equal, else rounded to nearest even.
    ATTN_DEVICE void copy(const TokenView &from, const TokenView &to, const char *source, char *place) const
    {
        if (from.type != to.type) {
            float values[kChannels];
            load_unit(from.type, source, values);
            store_unit(to.type, place, values);
        } else if constexpr (Vector) {
            store(place, load<Words4>(source));
            if (from.type == kFloat32) store(place + 16, load<Words4>(source + 16));
        } else if (from.type == kFloat32) {
            store(place, load<u32>(source));
        } else {
            store(place, load<u16>(source));
        }
    }

    const Parameters &p_;
    Shared &shared_;
    const AppendRows rows_;
    const i32 thread_;
    const i64 first_row_;
};

/// Builds the claims in two launches; or looks for faults with one block.
class AppendIndex {
public:
    using Parameters = AppendParameters;
    static constexpr i32 kPhases = 2;
    using Shared = FaultTable;

    ATTN_DEVICE AppendIndex(const Parameters &p, Shared &shared, const Place &place)
        : p_(p),
          shared_(shared),
          rows_(p),
          thread_(static_cast<i32>(place.thread)),
          begin_(static_cast<i64>(place.block) * kFaultThreads + thread_),
          step_(static_cast<i64>(place.blocks) * kFaultThreads)
    {
    }

    template <i32 Phase>
    ATTN_DEVICE void run()
    {
        if constexpr (Phase == 0) {
            if (p_.step == kStepPlaces) note_places();
            if (p_.step == kStepClaims) claim_places();
            if (p_.step == kStepFaults) find_faults();
        }
        if constexpr (Phase == 1)
            if (p_.step == kStepFaults && thread_ == 0) report_first(shared_, p_.status);
    }

private:
    ATTN_DEVICE void note_places() const
    {
        for (i64 i = begin_; i < p_.rows; i += step_) p_.places[i] = rows_.key(i);
        for (i64 i = begin_; i <= p_.claim_mask; i += step_) p_.claims[i] = kUnclaimed;
    }

    /// There are more entries than rows, so a free one is always found.
    ATTN_DEVICE void claim_places() const
    {
        for (i64 i = begin_; i < p_.rows; i += step_) {
            const i64 key = p_.places[i];
            if (key == kNoPlace) continue;
            const u64 row = static_cast<u64>(i);
            for (i64 at = first_claim(p_, key);; at = (at + 1) & p_.claim_mask) {
                const u64 before = exchange_if(&p_.claims[at], kUnclaimed, row);
                if (before == kUnclaimed) break;
                if (p_.places[before] != key) continue;
                keep_largest(&p_.claims[at], row);
                break;
            }
        }
    }

    ATTN_DEVICE void find_faults() const
    {
        Fault first = {}, fault;
        if (p_.packed)
            for (i64 i = thread_; i <= p_.batch; i += kFaultThreads)
                keep_first(
                    boundary_fault(p_.cu_seqlens, i, p_.total_rows, p_.longest, kRankBoundaries, kSlotCuSeqlensQ),
                    &first);
        if (p_.table_ptr.base)
            for (i64 i = thread_; i <= p_.batch; i += kFaultThreads)
                keep_first(boundary_fault(p_.table_ptr, i, p_.entries, kLongestRing / p_.page_size,
                                          kRankTableBoundaries, kSlotBlockTablePtr),
                           &first);
        for (i64 b = thread_; b < p_.batch; b += kFaultThreads) {
            rows_.sequence(b, &fault);
            keep_first(fault, &first);
        }
        for (i64 i = thread_; i < p_.rows; i += kFaultThreads) {
            const NewRow row = rows_[i];
            if (!row.used) continue;
            if (p_.writes_cache) {
                rows_.place(row, &fault);
                keep_first(fault, &first);
            }
            if (!p_.rope_dim || rows_.has_angles(rows_.position(row))) continue;
            if (p_.positions.base)
                keep_first({kRankPositions, kSlotPositionsQ, rows_.entry(row), rows_.position(row)}, &first);
            else
                keep_first({kRankPositions, kSlotRopeCos, row.b, rows_.position(row)}, &first);
        }
        shared_.first[thread_] = first;
    }

    const Parameters &p_;
    Shared &shared_;
    const AppendRows rows_;
    const i32 thread_;
    const i64 begin_, step_; ///< Of the rows that this thread takes.
};

#if defined(__CUDACC__)
#if defined(ATTN_VECTOR)
extern "C" __global__ void __launch_bounds__(kAppendThreads, 2)
    attn_append(const __grid_constant__ AppendParameters parameters)
{
    using Program = Append<ATTN_VECTOR != 0>;
    __shared__ Program::Shared shared;
    run_program<Program>(parameters, shared);
}
#else
extern "C" __global__ void __launch_bounds__(kFaultThreads)
    attn_append_index(const __grid_constant__ AppendParameters parameters)
{
    __shared__ AppendIndex::Shared shared;
    run_program<AppendIndex>(parameters, shared);
}
#endif
#endif

} // namespace attn::gpu
