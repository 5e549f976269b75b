// Dense attention, forward, for Hopper (sm_90a): O = softmax(scores of Q K^T) V, fp16 and bf16. With sigmoid or ReLU in
// place of softmax weights do not depend on other keys: there is no maximum then, and O is not multiplied.
//
// One block of threads stays on an SM and takes tiles of query rows of one head, kRows = 64 kConsumers each, one after
// the other (scheduler.cuh). Of its first warpgroup (producers.cuh) a warp finds tiles and a thread asks the tensor
// memory accelerator for Q, K and V. The other warpgroups compute, 64 rows each: wgmma multiplies operands in shared
// memory, P goes from registers.
//
//   copies       Q  K(n-1)  K(n-2) V(n-1)  K(n-3) V(n-2)  ...  K(0) V(1)  V(0) | Q K(m-1) ...          the next tile
//                    |        |       |
//   consumer 0   S = Q K(n-1) | S = Q K(n-2) and O += P V(n-1), together | ...
//                             |   softmax of S while O is summed         | P = S; rarely O *= alpha
//   consumer 1                  the same, one turn later: multiplies while the other does softmax
//
// Blocks of keys are visited from the last to the first. Those that all rows see, all but a few, take the loop without
// masks. Where a tile ends its last product runs together with the first of the next tile.
//
// Shared memory: kQueryBuffers tiles of Q, kStages of K and of V, a pair of barriers (full, empty) for each, and a ring
// of descriptions of tiles. Registers: the first warpgroup gives its own to the consumers
// (Shape::consumer_registers()). Rows of V that no row of a tile sees are set to 0 in shared memory: a weight of 0
// would still make NaN of what is not finite there.
//
// The factors of a low-rank bias are copied behind Q and K, as one more block of channels, and multiplied after
// products are scaled.
//
// Where masks go by position (positions.cuh) a warp finds the blocks that some row of a tile sees, and whether all rows
// see all of a block. The thread that copies writes the block's number beside its keys: consumers take it from there.
//
// Where all tiles see the same keys two blocks of threads may be a cluster: each copies half of K and V, to both.
//
// Consumers may hold their rows of Q in registers (kHoldsQ): products then read K alone from shared memory. Steps
// without masks may hope that no score exceeds the reference of its row by much (kHopes): they keep K until the weights
// are seen to be right, and else a warp multiplies again, by itself.
//
// Measurements are in docs/performance.md.
#include "backends/cuda/dense_sm90/epilogue.cuh"
#include "backends/cuda/dense_sm90/producers.cuh"
#include "backends/cuda/ptx/cluster.cuh"
#include "backends/cuda/ptx/kernel_order.cuh"
#include "backends/cuda/ptx/mbarrier.cuh"
#include "backends/cuda/ptx/named_barrier.cuh"
#include "backends/cuda/ptx/registers.cuh"
#include "backends/cuda/ptx/tma.cuh"
#include "backends/cuda/ptx/wgmma.cuh"

namespace attn::sm90 {

using namespace ptx;

// The consumers: a warpgroup each.

/// Under a diagonal a consumer lets blocks of keys pass that only others see. (Where tiles have no more rows than
/// blocks have keys there are few, and looking for them costs 3 % of short rows.)
constexpr bool kLetsPass = kMask == kMaskDiagonal && kRows > kKeys;

/// Blocks of keys of a tile from which its steps hope: they keep K longer, for which short tiles wait.
constexpr int kHopefulBlocks = 8;
/// Steps of a warp without hope after the first that failed, and at most: what fails often costs more than it saves.
constexpr int kCaution = 512, kMostCaution = 1 << 20;

class Consumer {
public:
    ATTN_DEVICE Consumer(const ForwardParams &p, const TensorMap &out, u32 base, int warpgroup)
        : p_(p),
          out_(out),
          at_(warpgroup),
          base_(base),
          q_descriptor_(descriptor_along_k(base + kAt.q + warpgroup * 64 * 128)),
          k_descriptor_(descriptor_along_k(base + kAt.k)),
          v_descriptor_(descriptor_along_n(base + kAt.v, kKeys * 128))
    {
    }

    ATTN_DEVICE void run()
    {
#pragma unroll
        for (u32 slot = 0; slot < kTileSlots; ++slot) leave_tile(slot);
        // The first consumer has the first turn.
        if (kTurns && at_.consumer == kConsumers - 1) named_barrier_arrive(kTurnBarrier, 2 * kWarpgroup);
        const Tile *tile = take_tile();
        if (!tile) return;
        wait_for_queries();
        Visits sees = visits_of(*tile);
        skip_keys(sees.hidden);
        wait_for_keys();
        if constexpr (kHasLowRank) rows_.set(p_, *tile, at_);
        start_qk();
        if constexpr (kHasLowRank) {
            wgmma_wait<0>();
            add_low_rank();
        }
        wgmma_wait<0>();
        pin(x_);
        leave_keys();
        begin(*tile, sees, v_.after(sees.hidden));
        skip_values(sees.hidden);
        pack_weights();
        clear_output();
        for (;;) {
            visit_keys(*tile, sees);
            if constexpr (!kHoldsQ) release_queries();
            const Tile *next = take_tile();
            if (!next) break;
            // The last product of this tile, beside the first of the next.
            wait_for_queries();
            sees = visits_of(*next);
            skip_keys(sees.hidden);
            wait_for_keys();
            wait_for_turn();
            start_qk();
            start_pv();
            const RowState state = state_;
            if constexpr (kHasLowRank) rows_.set(p_, *next, at_);
            await_qk();
            leave_keys();
            begin(*next, sees, v_.after(1 + sees.hidden));
            wgmma_wait<0>();
            end_pv();
            pack_weights();
            write(*tile, state);
            clear_output();
            end_tile();
            skip_values(sees.hidden);
            tile = next;
        }
        start_pv();
        wgmma_wait<0>();
        end_pv();
        write(*tile, state_);
        if (kStagesOut && threadIdx.x % kWarpgroup == 0) tma_store_wait_read();
    }

private:
    // Tiles. The next is begun before the one whose O is summed is done, so two counters: taken and done. (With one,
    // and what follows from it, the compiler of NVRTC 13.0 moves descriptors to uniform registers one by one.)

    ATTN_DEVICE const Tile *take_tile()
    {
        mbarrier_wait(full_barrier(base_ + kAt.tile_barriers, taken_.slot()), taken_.parity());
        const Tile *tile = tile_slot(taken_.slot());
        ++taken_.count;
        return tile->is_last ? nullptr : tile;
    }
    ATTN_DEVICE void end_tile()
    {
        leave_tile(done_.slot());
        ++done_.count;
    }
    /// By each thread for itself: tools that look for races do not follow what __syncwarp() orders.
    ATTN_DEVICE void leave_tile(u32 slot)
    {
        mbarrier_arrive(empty_barrier(base_ + kAt.tile_barriers, slot));
    }
    ATTN_DEVICE void release(u32 barrier)
    {
        if (at_.lane == 0) mbarrier_arrive(barrier);
    }

    /// K or V, to those who copy into this buffer: each block of the cluster some of its rows.
    ATTN_DEVICE void release_keys(u32 barrier)
    {
        if constexpr (kCluster == 1)
            release(barrier);
        else if (at_.lane < kCluster)
            mbarrier_arrive_in_block(place_in_block(barrier, at_.lane));
    }

    ATTN_DEVICE void write(const Tile &tile, const RowState &state)
    {
        if (kStagesOut && tile.first + 64 * (at_.consumer + 1) <= tile.sequence.q_length)
            store_tile(p_, out_, tile, at_, state, o_, base_ + kAt.out);
        else
            write_tile(p_, tile, at_, state, o_);
    }

    // Products. Their operands are in the buffers that q_, k_ and v_ name.

    ATTN_DEVICE void wait_for_queries()
    {
        mbarrier_wait(full_barrier(base_ + kAt.q_barriers, q_.slot()), q_.parity());
        if constexpr (kHoldsQ) {
#pragma unroll
            for (int c = 0; c < kDimQk / 16; ++c) load_queries(c, queries_[c]);
            __syncwarp(); // what all lanes have read one of them releases
            release_queries();
        }
    }
    /// Channels 16 c .. of the warp's rows, from the buffer: rows 0 .. 7 and 8 .. 15, then their next 8 channels.
    ATTN_DEVICE void load_queries(int c, u32 (&a)[4]) const
    {
        const u32 row = threadIdx.x % kWarpgroup / 32 * 16 + at_.lane % 16;
        const u32 at = base_ + kAt.q + q_.slot() * kQBytes + (at_.consumer * 64 + row) * 128;
        load_matrices(a, at + c / 4 * (kRows * 128) + ((c % 4 * 2 + at_.lane / 16) ^ row % 8) * 16);
    }
    ATTN_DEVICE void release_queries()
    {
        release(empty_barrier(base_ + kAt.q_barriers, q_.slot()));
        ++q_.count;
    }
    ATTN_DEVICE void wait_for_values()
    {
        mbarrier_wait(full_barrier(base_ + kAt.v_barriers, v_.slot()), v_.parity());
    }
    ATTN_DEVICE void wait_for_keys()
    {
        mbarrier_wait(full_barrier(base_ + kAt.k_barriers, k_.slot()), k_.parity());
        if constexpr (kMask == kMaskPosition) block_ = *block_of_keys(k_.slot());
    }
    ATTN_DEVICE void start_qk()
    {
        const u64 q = q_descriptor_ + q_.slot() * descriptor_step(kQBytes);
        const u64 k = k_descriptor_ + k_.slot() * descriptor_step(kKBytes);
        wgmma_fence();
#pragma unroll
        for (int c = 0; c < kDimQk / 16; ++c) {
            const u64 channels = k + c / 4 * descriptor_step(kKeys * 128) + c % 4 * descriptor_step(32);
            if constexpr (kHoldsQ)
                Wgmma<kType, kKeys>::registers_along_k(x_, queries_[c], channels, c > 0);
            else
                Wgmma<kType, kKeys>::shared(x_, q + c / 4 * descriptor_step(kRows * 128) + c % 4 * descriptor_step(32),
                                            channels, c > 0);
        }
        wgmma_commit();
    }
    /// Beside PV, which goes on; with a low-rank bias its product comes after it.
    ATTN_DEVICE void await_qk()
    {
        wgmma_wait<1>();
        if constexpr (kHasLowRank) add_low_rank();
        pass_turn();
        if constexpr (kHasLowRank) wgmma_wait<0>();
        pin(x_);
    }
    /// To products, which are scaled first. The factors lie behind Q and K.
    ATTN_DEVICE void add_low_rank()
    {
        pin(x_);
        each_score([&](int half, int j, int e, int) { x_[j][e] *= rows_.factor[half]; });
        const u64 q = q_descriptor_ + q_.slot() * descriptor_step(kQBytes) + descriptor_step(kQkBlocks * kRows * 128);
        const u64 k = k_descriptor_ + k_.slot() * descriptor_step(kKBytes) + descriptor_step(kQkBlocks * kKeys * 128);
        pin(x_);
        wgmma_fence();
#pragma unroll
        for (int c = 0; c < kRank / 16; ++c)
            Wgmma<kType, kKeys>::shared(x_, q + descriptor_step(32) * c, k + descriptor_step(32) * c, 1);
        wgmma_commit();
    }
    ATTN_DEVICE void leave_keys()
    {
        release_keys(empty_barrier(base_ + kAt.k_barriers, k_.slot()));
        ++k_.count;
    }
    ATTN_DEVICE void start_pv()
    {
        wait_for_values();
        const u64 v = v_descriptor_ + v_.slot() * descriptor_step(kVBytes);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < kKeys / 16; ++k)
            Wgmma<kType, kDimV>::registers(o_, weights_[k], v + k * descriptor_step(16 * 128));
        wgmma_commit();
    }
    ATTN_DEVICE void end_pv()
    {
        pin(o_);
        release_keys(empty_barrier(base_ + kAt.v_barriers, v_.slot()));
        ++v_.count;
    }
    ATTN_DEVICE void wait_for_turn()
    {
        if (kTurns) named_barrier_wait(kTurnBarrier + at_.consumer, 2 * kWarpgroup);
    }
    ATTN_DEVICE void pass_turn()
    {
        if (kTurns) named_barrier_arrive(turn_of_next(), 2 * kWarpgroup);
    }
    ATTN_DEVICE int turn_of_next() const
    {
        return kTurnBarrier + (at_.consumer + 1) % kConsumers;
    }
    /// Likewise, when `sum` is there and before what needs the result, which is 0. Between barriers and arithmetic the
    /// compiler keeps no order but that of data: so it gets some, by a word of shared memory of which it does not know
    /// that it is 0.
    ATTN_DEVICE float pass_turn_after(float sum)
    {
        if constexpr (!kTurns) return 0.0f;
        const volatile u32 *zero = reinterpret_cast<const volatile u32 *>(shared_memory + kAt.zero);
        named_barrier_arrive(turn_of_next() + static_cast<int>(__float_as_uint(sum) & *zero), 2 * kWarpgroup);
        return __uint_as_float(*zero);
    }

    // Blocks of keys.

    /// Of a tile: those that rows of this consumer see, those of them that all of its rows see, and those after them
    /// that only others see.
    struct Visits {
        int count, full_end, hidden;
    };
    ATTN_DEVICE Visits visits_of(const Tile &tile) const
    {
        const int count = tile.schedule.count;
        if constexpr (!kLetsPass) return {count, tile.full_end, 0};
        // V of the tile before keeps its buffer until the first product of this one. With as many hidden blocks as
        // there are buffers another consumer would wait for it, in the turn before that product.
        const int least = larger(count - (kStages - 1), 1);
        const Sequence &s = tile.sequence;
        const int first = tile.first + 64 * at_.consumer;
        if (first >= s.q_length) return {least, least, count - least}; // no rows
        const int end = keys_of(p_.mask, s, smaller(first + 64, s.q_length) - 1).end;
        const int own = smaller(larger((end + kKeys - 1) / kKeys, least), count);
        return {own, larger(smaller(keys_of(p_.mask, s, first).end / kKeys, own), 0), count - own};
    }
    /// Blocks that only others see come first. A turn goes with each.
    ATTN_DEVICE void skip_keys(int count)
    {
#pragma unroll 1
        for (; kLetsPass && count > 0; --count) {
            wait_for_keys();
            wait_for_turn();
            pass_turn();
            release_keys(empty_barrier(base_ + kAt.k_barriers, k_.slot()));
            ++k_.count;
        }
    }
    ATTN_DEVICE void skip_values(int count)
    {
#pragma unroll 1
        for (; kLetsPass && count > 0; --count) {
            wait_for_values();
            release_keys(empty_barrier(base_ + kAt.v_barriers, v_.slot()));
            ++v_.count;
        }
    }

    // Scores and weights.

    /// Whether all rows see all of block i. By position: of the block whose keys were waited for.
    ATTN_DEVICE bool is_full(const Tile &tile, const Visits &sees, int i) const
    {
        if constexpr (kMask == kMaskPosition) return block_.is_full();
        return i < sees.full_end && (kMask != kMaskWindow || i >= tile.full_begin);
    }
    ATTN_DEVICE void clear_output()
    {
#pragma unroll
        for (int j = 0; j < kDimV / 8; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) o_[j][e] = 0.0f;
    }
    ATTN_DEVICE static int key_of_block(const Tile &tile, int i)
    {
        return (kMask == kMaskWindow ? tile.schedule.block_of(i) : i) * kKeys;
    }

    /// From products to weights of block i: see RowState::soften(). V of the block is, or will be, in the buffer that
    /// `v` names.
    template <bool masked, bool is_first>
    ATTN_DEVICE bool weigh(const Tile &tile, int i, Ring<kStages> v, float (&alpha)[2])
    {
        const int block = key_of_block(tile, i), first = block + at_.column;
        if constexpr (kFinishesScores) finish_scores(p_, tile, at_, rows_, first, x_);
        if constexpr (masked && kMask == kMaskPosition) {
            const Seen seen(p_, tile, at_, first);
            seen.mask(x_);
            clear_unseen(seen, v);
        } else if constexpr (masked) {
            mask_scores(rows_, first, x_);
            if (!tile.schedule.contains(block, kKeys)) clear_hidden(tile.schedule, block, v);
        }
        bool moves = false;
        if constexpr (kHasSoftmax)
            moves = state_.template soften<is_first>(p_, x_, alpha);
        else
            state_.weigh_each(p_, x_);
        if constexpr (kHasValueTemperature) scale_weights(p_, tile, first, x_);
        return moves;
    }

    /// Whether the warp hopes in this step. Its results do not depend on it.
    ATTN_DEVICE bool may_hope(const Tile &tile)
    {
        if (careful_steps_ == 0) return tile.schedule.count >= kHopefulBlocks;
        --careful_steps_;
        return false;
    }

    /// After a step that failed: what it would have come to without hope, in the same bits, from products that are
    /// computed again (mma.sync and wgmma give the same); twice, as there are no registers to keep them in. `added`:
    /// what weights came to.
    ATTN_DEVICE void correct(float (&added)[2], float (&alpha)[2])
    {
        const float factor = unit_of_scores(p_);
        float top[2] = {-infinity(), -infinity()}, reference[2], sums[2][2] = {};
        each_piece([&](int, const float(&x)[4]) {
#pragma unroll
            for (int e = 0; e < 4; ++e) top[e / 2] = fmaxf(top[e / 2], x[e]);
        });
        bool stays[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            stays[half] = state_.move_row(factor, row_max(top[half]), half, alpha[half]);
            const float max = state_.max[half];
            reference[half] = max == -infinity() ? 0.0f : max * factor;
        }
        each_piece([&](int piece, const float(&x)[4]) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const float weight = exp2_fast(fmaf(x[e], factor, -reference[e / 2]));
                sums[e / 2][e % 2] += weight;
#pragma unroll
                for (int j = 0; j < kKeys / 8; ++j) // registers have no number that is known only now
                    if (j == piece && !stays[e / 2]) x_[j][e] = weight;
            }
        });
#pragma unroll
        for (int half = 0; half < 2; ++half)
            if (!stays[half]) added[half] = sums[half][0] + sums[half][1];
        state_.add(alpha, added);
    }

    /// Calls visit(piece, products) for the products of the warp's rows with each 8 keys, as wgmma leaves them.
    /// (Several at a time would be faster, and take registers from all of the kernel.)
    template <class Visit>
    ATTN_DEVICE void each_piece(Visit visit) const
    {
#pragma unroll 1
        for (int piece = 0; piece < kKeys / 8; ++piece) {
            float x[4] = {};
            const u32 keys = base_ + kAt.k + k_.slot() * kKBytes + (8 * piece + at_.lane % 8) * 128;
#pragma unroll kHoldsQ ? (kDimQk + 16) / 32 : 1
            for (int c = 0; c < kDimQk / 16; c += 2) {
                const int next = smaller(c + 1, kDimQk / 16 - 1);
                u32 a[2][4], b[4];
                if constexpr (kHoldsQ) {
#pragma unroll
                    for (int i = 0; i < 4; ++i) a[0][i] = queries_[c][i], a[1][i] = queries_[next][i];
                } else {
                    load_queries(c, a[0]);
                    load_queries(next, a[1]);
                }
                load_matrices(b, keys + c / 4 * (kKeys * 128) + ((c % 4 * 2 + at_.lane / 8) ^ at_.lane % 8) * 16);
                multiply<kType>(x, a[0], b[0], b[1]);
                if (c < next) multiply<kType>(x, a[1], b[2], b[3]);
            }
            visit(piece, x);
        }
    }

    /// The first step of a tile, after QK of the last block of keys that rows see.
    ATTN_DEVICE void begin(const Tile &tile, const Visits &sees, Ring<kStages> v)
    {
        if constexpr (!kHasLowRank) rows_.set(p_, tile, at_); // else done: products needed it
        state_.clear();
        float alpha[2];
        const int i = kMask == kMaskPosition ? block_.number() : sees.count - 1;
        if (kDimV <= 128 && is_full(tile, sees, i)) // larger ones lack registers for a second text
            weigh<false, true>(tile, i, v, alpha);
        else
            weigh<true, true>(tile, i, v, alpha);
    }

    /// QK of a block, beside PV of the block above it.
    ATTN_DEVICE void start_step()
    {
        if constexpr (kMask != kMaskPosition) wait_for_keys();
        wait_for_turn();
        start_qk();
        start_pv();
    }
    ATTN_DEVICE void end_step(bool moves, const float (&alpha)[2])
    {
        pack_weights();
        if (!moves) return;
#pragma unroll
        for (int j = 0; j < kDimV / 8; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) o_[j][e] *= alpha[e / 2];
    }
    template <bool masked>
    ATTN_DEVICE void step(const Tile &tile, int i)
    {
        float alpha[2];
        start_step();
        await_qk();
        leave_keys();
        const bool moves = weigh<masked, false>(tile, i, v_.after(1), alpha);
        wgmma_wait<0>();
        end_pv();
        end_step(moves, alpha);
    }

    /// Likewise of a block that all rows see, in hope: K stays until the weights are seen to be right. False if they
    /// had to be corrected.
    ATTN_DEVICE bool step_in_hope()
    {
        float alpha[2], added[2];
        start_step();
        wgmma_wait<1>();
        pin(x_);
        if (state_.soften_in_hope(p_, x_, added, [this](float sum) { return pass_turn_after(sum); })) {
            leave_keys();
            wgmma_wait<0>();
            end_pv();
            pack_weights();
            return true;
        }
        wgmma_wait<0>();
        end_pv();
        correct(added, alpha);
        __syncwarp(); // all lanes have read K
        leave_keys();
        careful_steps_ = caution_ = smaller(4 * caution_ + kCaution, kMostCaution);
        end_step(true, alpha);
        return false;
    }

    /// Blocks i .. 0, which all rows see.
    ATTN_DEVICE void visit_full(const Tile &tile, int i)
    {
        if constexpr (kHopes) {
#pragma unroll 1
            while (i >= 0) {
                if (may_hope(tile)) {
                    bool succeeds = true;
#pragma unroll 1
                    for (; i >= 0 && succeeds; --i) succeeds = step_in_hope();
                } else {
                    step<false>(tile, i);
                    --i;
                }
            }
        } else {
#pragma unroll kUnroll
            for (; i >= 0; --i) step<false>(tile, i);
        }
    }

    /// All blocks of a tile but the first that is visited.
    ATTN_DEVICE void visit_keys(const Tile &tile, const Visits &sees)
    {
        int i = sees.count - 2;
        if constexpr (kMask == kMaskPosition) {
#pragma unroll 1
            while (!block_.is_last()) {
                wait_for_keys();
                if (block_.is_full())
                    step<false>(tile, block_.number());
                else
                    step<true>(tile, block_.number());
            }
        } else if constexpr (kMask == kMaskWindow) {
            const int full_begin = tile.full_begin, full_end = tile.full_end;
#pragma unroll 1
            while (i >= 0) {
                if (full_begin <= i && i < full_end) {
#pragma unroll 1
                    for (; i >= full_begin; --i) step<false>(tile, i);
                } else {
                    step<true>(tile, i);
                    --i;
                }
            }
        } else {
            if constexpr (kMask == kMaskDiagonal) {
#pragma unroll 1
                for (; i >= sees.full_end; --i) step<true>(tile, i);
            }
            visit_full(tile, i);
        }
    }

    ATTN_DEVICE void pack_weights()
    {
#pragma unroll
        for (int k = 0; k < kKeys / 16; ++k)
#pragma unroll
            for (int side = 0; side < 2; ++side)
#pragma unroll
                for (int half = 0; half < 2; ++half)
                    weights_[k][2 * side + half] =
                        pack_pair<kType>(x_[2 * k + side][2 * half], x_[2 * k + side][2 * half + 1]);
    }

    /// Sets rows of V that no row of the tile sees to 0. Other consumers do the same, to the same rows.
    ATTN_DEVICE void clear_hidden(const Schedule &schedule, int block, Ring<kStages> v)
    {
        mbarrier_wait(full_barrier(base_ + kAt.v_barriers, v.slot()), v.parity());
        clear_values(v, [&](int row) { return schedule.in_hull(block + row); });
    }

    /// Likewise by position: what no row of the tile sees is known when all consumers have said what theirs do. They
    /// mask the same blocks.
    ATTN_DEVICE void clear_unseen(const Seen &seen, Ring<kStages> v)
    {
        mbarrier_wait(full_barrier(base_ + kAt.v_barriers, v.slot()), v.parity());
        SeenByTile &by_tile = *seen_of_values(v.slot());
        const u32 of_warp = seen.of_warp();
        if (at_.lane < 4) atomicOr(&by_tile.words[at_.lane], of_warp);
        named_barrier_wait(kConsumersBarrier, kConsumers * kWarpgroup);
        if (!by_tile.sees_all()) clear_values(v, [&](int row) { return by_tile.sees(row); });
    }

    template <class Stays>
    ATTN_DEVICE void clear_values(Ring<kStages> v, Stays stays)
    {
        char *tile = shared_memory + kAt.v + v.slot() * kVBytes;
#pragma unroll 1
        for (int unit = static_cast<int>(threadIdx.x) % kWarpgroup; unit < kVBytes / 16; unit += kWarpgroup)
            if (!stays(unit / 8 % kKeys)) *reinterpret_cast<uint4 *>(tile + 16 * unit) = make_uint4(0, 0, 0, 0);
        fence_shared_for_engines();
        named_barrier_wait(kConsumerBarrier + at_.consumer, kWarpgroup);
    }

    const ForwardParams &p_;
    const TensorMap &out_;
    const Place at_;
    const u32 base_;                                       ///< Address of shared memory.
    const u64 q_descriptor_, k_descriptor_, v_descriptor_; ///< Of the first buffers.
    Ring<kQueryBuffers> q_;
    Ring<kStages> k_, v_;
    Ring<kTileSlots> taken_, done_;
    int careful_steps_ = 0, caution_ = 0; ///< Of the warp: steps without hope to come; after the last that failed.
    KeyBlock block_;                      ///< By position: the block whose keys were waited for last.
    Rows rows_;
    RowState state_;
    Scores x_;                   ///< Products, scores, weights.
    u32 weights_[kKeys / 16][4]; ///< In pairs, while PV reads them.
    u32 queries_[kHoldsQ ? kDimQk / 16 : 1][4];
    Output o_;
};

} // namespace attn::sm90

/// Grid: as many blocks as there are SMs, or tiles if those are fewer. The maps are of [batch, head, row, channel], in
/// boxes of 64 channels and a tile's rows (of OUT: 64 rows), swizzled by 128 bytes.
extern "C" __global__ void __launch_bounds__(attn::sm90::kThreads, 1) attn_dense_forward_sm90(
    const __grid_constant__ attn::ptx::TensorMap q, const __grid_constant__ attn::ptx::TensorMap k,
    const __grid_constant__ attn::ptx::TensorMap v, const __grid_constant__ attn::ptx::TensorMap out,
    const __grid_constant__ attn::gpu::ForwardParams p, const __grid_constant__ attn::ptx::TensorMap rank_q,
    const __grid_constant__ attn::ptx::TensorMap rank_k)
{
    using namespace attn::sm90;
    u32 base = shared_address(shared_memory);
    asm volatile("" : "+r"(base)); // or the compiler works the address out again wherever it is used
    if (threadIdx.x == 0) {
        *reinterpret_cast<volatile u32 *>(shared_memory + kAt.zero) = 0;
        const auto set_up = [&](int at, int count, int readers) {
            for (int i = 0; i < count; ++i) {
                mbarrier_init(full_barrier(base + at, i), 1);
                mbarrier_init(empty_barrier(base + at, i), readers);
            }
        };
        constexpr int kReaders = 4 * kConsumers; // a lane of each warp
        set_up(kAt.q_barriers, kQueryBuffers, kReaders);
        set_up(kAt.k_barriers, kStages, kCluster * kReaders);
        set_up(kAt.v_barriers, kStages, kCluster * kReaders);
        // And the thread that copies, and the warp that finds blocks.
        set_up(kAt.tile_barriers, kTileSlots, kConsumers * kWarpgroup + (kMask == kMaskPosition ? 2 : 1));
        if (kMask == kMaskPosition) set_up(kAt.block_barriers, kBlockSlots, 1);
        mbarrier_init_fence();
        tma_prefetch(q), tma_prefetch(k), tma_prefetch(v);
    }
    // The next kernel may begin as soon as there is room; it waits for the end of this one, as this one does now for
    // the one before.
    launch_dependents();
    if constexpr (kCluster > 1)
        cluster_barrier();
    else
        __syncthreads();
    wait_for_kernel_before();
    const int warpgroup = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
    if (warpgroup == 0) {
        give_registers<kShape.producer_registers()>();
        if (threadIdx.x == 0) copy_tiles(p, {q, k, v, rank_q, rank_k}, base);
        if (threadIdx.x / 32 == 1) find_tiles(p, base);
        if (kMask == kMaskPosition && threadIdx.x / 32 == 2) find_blocks(p, base);
    } else {
        take_registers<kShape.consumer_registers()>();
        Consumer(p, out, base, warpgroup - 1).run();
        if constexpr (kCluster > 1) { // until then others arrive at barriers here
            __syncwarp();
            cluster_barrier();
        }
    }
}
