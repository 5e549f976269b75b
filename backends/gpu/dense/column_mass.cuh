// Attention that each key received, in a second pass: one block of threads owns a block of keys of one head and walks
// over the rows of its sequence, whose references and factors the first pass left. Every sum has one owner and a fixed
// order.
#include "backends/gpu/dense/results.cuh"
#include "backends/gpu/dense/softmax.cuh"

extern "C" __global__ void __launch_bounds__(attn::gpu::kThreads, ATTN_BLOCKS)
    attn_dense_column_mass(const __grid_constant__ attn::gpu::ForwardParams p)
{
    using namespace attn::gpu;
    static_assert(kWarpsN == 1 && kWarpsK == 1, "each warp has all keys of the block");
    extern __shared__ __align__(128) char shared[];
    // p.group = 1: a tile has rows of one head. p.row_tiles: here, blocks of keys of the longest sequence.
    const int block_index = static_cast<int>(blockIdx.x) % p.row_tiles;
    const int pair = static_cast<int>(blockIdx.x) / p.row_tiles;
    const int batch = pair / p.heads_out, head = pair - batch * p.heads_out;
    const Sequence s = sequence_of(p.sequences, batch);
    const int block = block_index * kKeys;
    if (block >= s.k_length) return;
    const Place at;
    const int v_head = head_of(p, head, p.heads_v);
    const int first = block + at.column;
    KeyFacts *facts = reinterpret_cast<KeyFacts *>(shared + kAt.facts);
    const KeyFacts *known = facts + at.column;

    // The keys once, whoever sees them.
    MaskParams all = {};
    const Schedule every(all, s, 0, 0, kKeys);
    stage_facts(p, s, every, v_head, block, facts);
    __syncthreads();
    const BlockCopy<kDimQk, kQkStep, kSwizzlesQk> k_copy(p, p.k, s, head_of(p, head, p.heads_k), p.dim_qk);
    k_copy.stage(every, block, facts, shared, kAt.k);

    float sums[kWarpKeys / 8][2] = {};
    for (int row = 0; row < s.q_length; row += kRows) {
        const Tile tile = {row, s.q_length, head};
        const int last = smaller(row + kRows, tile.total) - 1;
        const Schedule schedule(p.mask, s, row, last, kKeys);
        // Whole tiles that see nothing of this block are passed over by all threads together.
        const bool reached = schedule.sinks > block || (schedule.begin < block + kKeys && schedule.end > block);
        if (!reached) continue;
        __syncthreads();
        stage_queries(p, s, tile, shared);
        copy_async_commit();
        copy_async_wait<0>();
        __syncthreads();
        const Rows rows(p, tile, at);
        Pieces<kWarpKeys> x;
        multiply_qk(x, shared, at, kAt.k, 0);
        finish_scores(p, s, every, rows, first, known, x);
        mask_scores(p, s, rows, first, known, has_program(p), x);
        float max[kRowsOfThread] = {}, factor[kRowsOfThread] = {};
        if (p.activation == kSoftmax) {
#pragma unroll
            for (int i = 0; i < kRowsOfThread; ++i) {
                if (rows.token(p, i) < 0) continue;
                const float *scale =
                    p.row_scales +
                    2 * ((static_cast<i64>(s.index) * p.heads_out + head) * p.sequences.max_q + rows.token(p, i));
                max[i] = scale[0], factor[i] = scale[1];
            }
            each_score([&](int r, int t, int j, int e, int) {
                x[t][j][e] = x[t][j][e] == -infinity() ? 0.0f : exp2_fast(x[t][j][e] - max[r]) * factor[r];
            });
        } else {
            RowState state;
            weigh_each(p, s, x, state);
        }
#pragma unroll
        for (int j = 0; j < kWarpKeys / 8; ++j)
#pragma unroll
            for (int side = 0; side < 2; ++side) {
                float sum = 0.0f; // of one tile first: long sums round less then
#pragma unroll
                for (int t = 0; t < kRowTiles; ++t) sum += x[t][j][side] + x[t][j][2 + side];
                sums[j][side] += sum;
            }
    }
    // Over the lanes that hold other rows of the same keys, then over warps.
    float *all_sums = reinterpret_cast<float *>(shared);
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kWarpKeys / 8; ++j)
#pragma unroll
        for (int side = 0; side < 2; ++side) {
            float sum = sums[j][side];
#pragma unroll
            for (int lanes = 4; lanes < 32; lanes *= 2) sum += __shfl_xor_sync(kAllLanes, sum, lanes);
            if (at.lane < 4) all_sums[at.warp_m * kKeys + 8 * j + at.column + side] = sum;
        }
    __syncthreads();
    for (int r = threadIdx.x; r < kKeys; r += kThreads) {
        if (block + r >= smaller(s.k_length, p.column_mass.keys)) continue;
        float sum = 0.0f;
        for (int warp = 0; warp < kWarpsM; ++warp) sum += all_sums[warp * kKeys + r];
        const ScoreView &v = p.column_mass;
        const i64 key = p.sequences.cu_kv.base ? (s.k_first + block + r) * v.key_step
                                               : s.index * v.batch_step + (block + r) * v.key_step;
        *reinterpret_cast<float *>(v.base + key + head * v.head_step) = sum;
    }
}
