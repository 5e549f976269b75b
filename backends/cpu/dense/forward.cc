#include "backends/cpu/dense/forward.h"

#include "backends/cpu/dense/column_mass.h"
#include "backends/cpu/dense/kernel.h"
#include "backends/cpu/dense/key_rows.h"
#include "backends/cpu/dense/schedule.h"
#include "backends/cpu/dense/sequences.h"
#include "backends/cpu/views.h"
#include "dense.h"
#include "handle.h"
#include "json.h"
#include "names.h"

#include <algorithm>
#include <array>

namespace attn::cpu {
namespace {

constexpr int64_t kLargestHeadDim = 1024;
constexpr double kLog2e = 1.44269504088896340736;
/// Rows of a tile where kernels that want more would leave workers without one.
constexpr int64_t kTileRows = 192;
/// Tiles per worker from which on a kernel gets the rows it wants.
constexpr int64_t kEnoughTiles = 4;
/// What Q and O of a tile of kTileRows, and K and V of a block, may each take of the L2 cache.
constexpr int64_t kTileBytes = 256 << 10;
/// COLUMN_MASS: bytes of weights that a worker keeps, and rows of a tile: the most, as with more the weights would take
/// as much more memory for nothing, and what long rows of keys may leave. With fewer, packing K and V for each tile
/// would cost more than computing the scores again.
constexpr int64_t kKeptBytes = 8 << 20;
constexpr int64_t kMostKeptRows = 384;
constexpr int64_t kFewestKeptRows = 48;

const ForwardKernel &kernel_of(Isa isa)
{
#if defined(__x86_64__)
    if (isa >= Isa::avx512) return kForwardAvx512;
    if (isa == Isa::avx2) return kForwardAvx2;
#elif defined(__aarch64__)
    if (isa == Isa::neon) return kForwardNeon;
#endif
    static_cast<void>(isa);
    return kForwardBaseline;
}

int64_t round_up(int64_t value, int64_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

/// What products, biases and caps are multiplied by; see ForwardShape.
void set_score_factors(const DenseProblem &p, ForwardShape *shape)
{
    shape->has_bias = p.bias_table.present || p.has(ATTN_SLOT_BIAS) || p.has(ATTN_SLOT_ALIBI_SLOPES);
    const double unit = p.activation == ATTN_RELU ? 1.0 : kLog2e;
    const bool bias_first = p.softcap != 0 && shape->has_bias && p.bias_stage == ATTN_BIAS_PRE_SOFTCAP;
    const double inner = bias_first ? 1.0 : p.softcap != 0 ? 1.0 / p.softcap : unit;
    shape->unit = static_cast<float>(unit);
    shape->q_factor = static_cast<float>(p.scale * inner);
    shape->rank_factor = static_cast<float>(inner);
    shape->cap_factor = static_cast<float>(p.softcap * unit);
    shape->cap_inverse = bias_first ? static_cast<float>(1.0 / p.softcap) : 0.0f;
}

void set_weight(const DenseProblem &p, ForwardShape *shape)
{
    shape->weight = p.activation == ATTN_SIGMOID ? Weight::sigmoid
                    : p.activation == ATTN_RELU  ? Weight::relu
                                                 : Weight::softmax;
    shape->weight_bias = static_cast<float>(p.activation_bias * kLog2e);
    shape->weight_length = p.activation_length;
    shape->gate = gate_of(p.gate);
    shape->has_entropy = p.has(ATTN_SLOT_ROW_ENTROPY);
}

/// The problem keeps the maps alive.
void set_lookup(const BiasTable &table, ForwardShape *shape)
{
    if (!table.present) return;
    shape->lookup = table.kind == ATTN_TABLE_GRID ? Lookup::grid : Lookup::distance;
    shape->entry_of_distance = table.entry_of_distance.data();
    shape->max_distance = table.max_distance;
    shape->grid_offset = table.grid_offset.data();
    shape->grid_center = table.grid_center;
}

/// Whether every tile of the plan has few rows, as when decoding.
bool are_few(const DenseProblem &p, const ForwardKernel &kernel)
{
    return p.max_q <= kernel.few_rows && p.max_q * p.group <= kernel.few_rows;
}

/// COLUMN_MASS: how many weights are kept, for which tiles of long rows become lower.
void set_kept(const DenseProblem &p, const ForwardKernel &kernel, ForwardShape *shape)
{
    if (!p.has(ATTN_SLOT_COLUMN_MASS)) return;
    const int64_t longest = are_few(p, kernel) ? std::min(p.max_kv, kSharedRange) : p.max_kv;
    const int64_t blocks = round_up(longest, shape->key_block) / shape->key_block;
    const auto fitting = [](int64_t count) { return kKeptBytes / (int64_t{4} * kRowStep) / count; };
    const int64_t rows = fitting(blocks) / kernel.strip * kernel.strip;
    shape->tile_rows =
        std::min(shape->tile_rows, rows >= kFewestKeptRows ? std::min(rows, kMostKeptRows) : kMostKeptRows);
    shape->kept_blocks = std::min(blocks, fitting(shape->tile_rows));
}

ForwardShape make_shape(const DenseProblem &p, const ForwardKernel &kernel, int64_t workers)
{
    ForwardShape shape = {};
    shape.dim_k = p.dim_qk, shape.dim_qk = p.dim_qk + p.bias_rank, shape.dim_v = p.dim_v;
    shape.heads_q = p.heads_q, shape.heads_out = p.heads_out, shape.group = p.group;
    // Large heads make tiles and blocks smaller, so that both stay in the cache.
    const int64_t row_bytes = 4 * (shape.dim_qk + p.dim_v);
    // In floating point, which does not overflow where bounds are no more than bounds.
    const auto tiles = [&](int64_t rows) {
        return static_cast<double>(p.batch) * static_cast<double>(p.heads_out) * static_cast<double>(p.max_q) /
               static_cast<double>(rows);
    };
    int64_t wanted = std::max<int64_t>(kernel.tile_rows, kTileRows);
    while (wanted > kTileRows && tiles(wanted) < static_cast<double>(kEnoughTiles * workers))
        wanted = std::max(wanted / 2, kTileRows);
    const int64_t rows = std::clamp(kTileBytes / row_bytes * wanted / kTileRows, int64_t{4} * kernel.strip, wanted);
    const int64_t longest = p.max_q > wanted ? wanted : p.max_q * std::min(p.group, wanted);
    shape.tile_rows = round_up(std::min(rows / kernel.strip * kernel.strip, longest), kernel.strip);
    const int64_t keys = std::clamp<int64_t>(kTileBytes / row_bytes, kernel.panel, kMostKeysPerBlock);
    shape.key_block = std::min(keys / kernel.panel * kernel.panel, round_up(p.max_kv, kernel.panel));
    set_kept(p, kernel, &shape);
    shape.partial_rows = are_few(p, kernel) ? p.max_q * p.group : shape.tile_rows;
    set_score_factors(p, &shape);
    element_of(p.q_dtype, &shape.q_type);
    element_of(p.k_dtype, &shape.k_type);
    element_of(p.v_dtype, &shape.v_type);
    element_of(p.out_dtype, &shape.out_type);
    if (p.bias_rank) element_of(p.tensors[p.find(ATTN_SLOT_BIAS_LOWRANK_K)].dtype, &shape.rank_k_type);
    set_weight(p, &shape);
    set_lookup(p.bias_table, &shape);
    shape.causal = p.mask.causal;
    shape.by_position = p.mask.align == ATTN_BY_POSITION;
    shape.has_left = p.mask.has_left, shape.has_right = p.mask.has_right;
    shape.left = p.mask.left, shape.right = p.mask.right;
    shape.sink_tokens = p.mask.sink_tokens;
    set_program(p.program, &shape);
    return shape;
}

size_t ids_bytes(const DenseProblem &p)
{
    return (p.program.pairs.size() * sizeof(TileIds) + 63) / 64 * 64;
}

/// Everything a task needs; lives on the stack of attn_execute().
struct Run {
    const DenseProblem &problem;
    const ForwardKernel &kernel;
    const ForwardShape &shape;
    const ScheduleRules &rules;
    const Sequences &sequences;
    Schedule schedule;
    const int64_t *tile_starts;
    float *partials;
    const MassStart *mass_starts = nullptr;
    char *row_scales = nullptr;   ///< RowScale [query of the execute][OUT head]; NULL: not wanted.
    char *mass_sums = nullptr;    ///< double [worker][head of a group][key_block]
    double *chain_sums = nullptr; ///< Of tiles that add up what they keep; NULL: the second pass computes it.
    char *scratch;
    Bytes q, k, v, out, lse, q_positions, k_positions;
    Bytes q_temperature, rank_q, rank_k, v_temperature, bias, gate, head_weight, slopes, sinks, table, row_max, entropy;
    Bytes mass;
    const Arguments &arguments;

    Run(const DenseProblem &p, const Arguments &given, const ForwardKernel &chosen, const ForwardShape &s,
        const ScheduleRules &r, const Sequences &all)
        : problem(p), kernel(chosen), shape(s), rules(r), sequences(all), arguments(given)
    {
        const auto bind = [&](attn_slot slot, Bytes *bytes) {
            const int position = p.find(slot);
            if (position >= 0) *bytes = Bytes(*arguments.view[position]);
        };
        bind(ATTN_SLOT_Q, &q);
        bind(ATTN_SLOT_K, &k);
        bind(p.flags & ATTN_V_ALIASES_K ? ATTN_SLOT_K : ATTN_SLOT_V, &v);
        bind(ATTN_SLOT_OUT, &out);
        bind(ATTN_SLOT_LSE, &lse);
        bind(ATTN_SLOT_POSITIONS_Q, &q_positions);
        bind(ATTN_SLOT_POSITIONS_KV, &k_positions);
        bind(ATTN_SLOT_Q_TEMPERATURE, &q_temperature);
        bind(ATTN_SLOT_BIAS_LOWRANK_Q, &rank_q);
        bind(ATTN_SLOT_BIAS_LOWRANK_K, &rank_k);
        bind(ATTN_SLOT_V_TEMPERATURE, &v_temperature);
        bind(ATTN_SLOT_BIAS, &bias);
        bind(ATTN_SLOT_GATE, &gate);
        bind(ATTN_SLOT_HEAD_WEIGHT, &head_weight);
        bind(ATTN_SLOT_ALIBI_SLOPES, &slopes);
        bind(ATTN_SLOT_SINK_LOGITS, &sinks);
        bind(ATTN_SLOT_BIAS_TABLE, &table);
        bind(ATTN_SLOT_ROW_MAX, &row_max);
        bind(ATTN_SLOT_ROW_ENTROPY, &entropy);
        bind(ATTN_SLOT_COLUMN_MASS, &mass);
    }

    /// Rows of a key tensor of sequence b.
    KeyRows rows(const Bytes &bytes, const Sequence &sequence, int64_t b, int64_t head, bool has_heads = true) const
    {
        return key_rows(problem, sequences, bytes, sequence, b, head, has_heads);
    }
    char *worker_scratch(int32_t worker) const { return scratch + static_cast<size_t>(worker) * rules.worker_bytes; }
    /// Where a worker has the ids of its tile: behind its scratch.
    TileIds *ids(int32_t worker) const
    {
        return reinterpret_cast<TileIds *>(worker_scratch(worker) + rules.worker_bytes - ids_bytes(problem));
    }
    float *partial(int64_t tile) const { return partials + tile * schedule.ranges * partial_floats(shape); }
};

/// The optional tensors of a tile of sequence b.
void set_options(const Run &run, const Sequence &sequence, int64_t b, ForwardTile *tile)
{
    const DenseProblem &p = run.problem;
    const bool packed = p.packed_q;
    // [batch, token, head, channel] or [row, head, channel]; the channel axis may be missing
    const auto token_rows = [&](const Bytes &bytes, bool has_channels) -> TokenRows {
        const int heads = packed ? 1 : 2;
        return {bytes.at((packed ? sequence.q_first : b) * bytes.step[0]), bytes.step[heads - 1], bytes.step[heads],
                has_channels ? bytes.step[heads + 1] : 0, bytes.type};
    };
    tile->q_temperature = token_rows(run.q_temperature, false);
    tile->rank_q = token_rows(run.rank_q, true);
    tile->gate = token_rows(run.gate, true);
    tile->head_weight = token_rows(run.head_weight, false);
    if (run.bias.data) { // [head, row, key] or [batch, head, query, key]
        const int64_t *step = run.bias.step;
        if (packed)
            tile->bias = {run.bias.at(sequence.q_first * step[1]), step[1], step[0], step[2], run.bias.type};
        else
            tile->bias = {run.bias.at(b * step[0]), step[2], step[1], step[3], run.bias.type};
    }
    if (run.rank_k.data) tile->rank_k = run.rows(run.rank_k, sequence, b, tile->head0);
    if (run.v_temperature.data)
        tile->v_temperature = run.rows(run.v_temperature, sequence, b, tile->head0 * p.heads_v / p.heads_out);
    tile->slopes = run.slopes.data, tile->slope_step = run.slopes.step[0];
    tile->sinks = run.sinks.data, tile->sink_step = run.sinks.step[0];
    tile->table = run.table.data;
    tile->table_entry_step = run.table.step[0], tile->table_head_step = run.table.step[1];
}

/// Tile number `index` of the execute, its keys not yet limited to a range. Tiles of one group come together, the last
/// rows first: those see the most keys where causal. `ids` gets what a mask program reads; NULL where none is run.
ForwardTile make_tile(const Run &run, int64_t index, TileIds *ids)
{
    const DenseProblem &p = run.problem;
    const int64_t *end = run.tile_starts + run.sequences.batch() + 1;
    const int64_t b = std::upper_bound(run.tile_starts, end, index) - run.tile_starts - 1;
    const Sequence sequence = run.sequences[b];
    const int64_t tiles = (run.tile_starts[b + 1] - run.tile_starts[b]) / run.rules.groups;
    const int64_t local = index - run.tile_starts[b];
    const int64_t group = local / tiles;
    const int64_t row_tile = tiles - 1 - local % tiles;

    ForwardTile tile = {};
    tile.head0 = group * p.group;
    const int64_t rows = rows_per_tile(run.rules, sequence.q_length);
    tile.first_row = row_tile * rows;
    tile.rows = std::min(rows, sequence.q_length * p.group - tile.first_row);
    tile.q_length = sequence.q_length, tile.k_length = sequence.k_length;
    tile.key_end = sequence.k_length;
    if (p.mask.align == ATTN_BOTTOM_RIGHT) tile.diagonal = sequence.k_length - sequence.q_length;

    const bool packed = p.packed_q;
    const auto token0 = [&](const Bytes &bytes) { return bytes.at((packed ? sequence.q_first : b) * bytes.step[0]); };
    tile.q = token0(run.q);
    tile.q_token_step = run.q.step[packed ? 0 : 1], tile.q_head_step = run.q.step[packed ? 1 : 2];
    tile.q_channel_step = run.q.channel_step;
    tile.out = token0(run.out);
    tile.out_token_step = run.out.step[packed ? 0 : 1], tile.out_head_step = run.out.step[packed ? 1 : 2];
    tile.out_channel_step = run.out.channel_step;
    // Score tensors are [head, row] or [batch, head, query].
    const auto output = [&](const Bytes &bytes) -> TokenOutput {
        return {bytes.at(packed ? sequence.q_first * bytes.step[1] : b * bytes.step[0]), bytes.step[packed ? 1 : 2],
                bytes.step[packed ? 0 : 1]};
    };
    tile.lse = output(run.lse);
    tile.row_max = output(run.row_max);
    tile.row_entropy = output(run.entropy);
    if (run.row_scales)
        tile.row_scale = {run.row_scales + run.mass_starts[b].rows * run.rules.scale_bytes, run.rules.scale_bytes,
                          sizeof(RowScale)};
    tile.k = run.rows(run.k, sequence, b, tile.head0 * p.heads_k / p.heads_out);
    tile.v = run.rows(run.v, sequence, b, tile.head0 * p.heads_v / p.heads_out);
    set_options(run, sequence, b, &tile);
    if (run.shape.by_position || run.shape.program_by_position) {
        tile.q_positions = token0(run.q_positions);
        tile.q_position_step = run.q_positions.step[packed ? 0 : 1];
        tile.k_positions = run.rows(run.k_positions, sequence, b, 0, false);
        const auto is_wide = [&](attn_slot slot) { return p.tensors[p.find(slot)].dtype == ATTN_INT64; };
        tile.q_positions_wide = is_wide(ATTN_SLOT_POSITIONS_Q);
        tile.k_positions_wide = is_wide(ATTN_SLOT_POSITIONS_KV);
    }
    if (ids) set_tile_ids(p, run.arguments, run.sequences, sequence, b, ids);
    tile.ids = ids;
    return tile;
}

void ATTN_CALL run_task(void *arg, int64_t task, int32_t worker)
{
    const Run &run = *static_cast<const Run *>(arg);
    const int64_t index = task % run.schedule.tiles, range = task / run.schedule.tiles;
    ForwardTile tile = make_tile(run, index, run.ids(worker));
    if (run.schedule.ranges > 1) {
        if (range >= ranges_of(run.schedule, tile.k_length)) return;
        tile.key_begin = std::min(range * run.schedule.range_keys, tile.k_length);
        tile.key_end = std::min(tile.key_begin + run.schedule.range_keys, tile.k_length);
        tile.out = nullptr;
        tile.partial = run.partial(index) + range * partial_floats(run.shape);
    }
    run.kernel.run(run.shape, tile, run.worker_scratch(worker));
}

/// The tiles of a chain, one after the other.
void ATTN_CALL run_chain(void *arg, int64_t index, int32_t worker)
{
    const Run &run = *static_cast<const Run *>(arg);
    const ScheduleRules &rules = run.rules;
    const Chain chain = chain_of(rules, run.sequences, run.mass_starts, index);
    const int64_t *starts = run.tile_starts + chain.sequence;
    const int64_t tiles = (starts[1] - starts[0]) / rules.groups;
    const int64_t step = chain_step(run.sequences[chain.sequence].k_length);
    double *sums = chain.sums < 0 ? nullptr : run.chain_sums + chain.sums;
    if (sums) std::fill_n(sums, rules.group * step, 0.0);
    for (int64_t i = chain.first; i < tiles; i += chain.step) {
        ForwardTile tile = make_tile(run, starts[0] + chain.group * tiles + i, run.ids(worker));
        tile.sums = sums, tile.sums_step = step;
        run.kernel.run(run.shape, tile, run.worker_scratch(worker));
    }
}

void ATTN_CALL merge_task(void *arg, int64_t index, int32_t)
{
    const Run &run = *static_cast<const Run *>(arg);
    const ForwardTile tile = make_tile(run, index, nullptr);
    run.kernel.merge(run.shape, tile, run.partial(index), ranges_of(run.schedule, tile.k_length));
}

void ATTN_CALL run_mass_task(void *arg, int64_t index, int32_t worker)
{
    const Run &run = *static_cast<const Run *>(arg);
    const ScheduleRules &rules = run.rules;
    const MassTask task = mass_task(rules, run.sequences, run.mass_starts, index);
    double *sums = reinterpret_cast<double *>(run.mass_sums + static_cast<size_t>(worker) * rules.sum_bytes);
    std::fill_n(sums, rules.group * rules.key_block, 0.0);
    const int64_t *starts = run.tile_starts + task.sequence;
    const bool is_summed = run.chain_sums && is_kept(rules, run.sequences[task.sequence].k_length);
    if (is_summed) add_chains(rules, run.sequences, run.mass_starts, task, run.chain_sums, sums);
    const int64_t tiles = is_summed ? 0 : (starts[1] - starts[0]) / rules.groups;
    for (int64_t i = 0; i < tiles; ++i) {
        ForwardTile tile = make_tile(run, starts[0] + task.group * tiles + i, run.ids(worker));
        tile.key_begin = task.key_begin, tile.key_end = task.key_end;
        tile.head_weight = {}; // of OUT alone: a weight of 0 hides no row
        run.kernel.add_columns(run.shape, tile, sums, run.worker_scratch(worker));
    }
    write_mass(run.mass, run.problem.storage == Storage::packed, rules, run.sequences, task, sums);
}

class Forward final : public Executor {
public:
    Forward(const attn_handle_s &handle, const DenseProblem &problem, const ForwardKernel &kernel)
        : problem_(problem), kernel_(kernel), shape_(make_shape(problem, kernel, handle.workers))
    {
        rules_.groups = problem.heads_out / problem.group;
        rules_.group = problem.group;
        rules_.tile_rows = shape_.tile_rows;
        rules_.strip = kernel.strip;
        rules_.key_block = shape_.key_block;
        rules_.workers = handle.workers;
        rules_.partial_floats = partial_floats(shape_);
        if (are_few(problem, kernel)) rules_.most_range = kSharedRange / shape_.key_block * shape_.key_block;
        rules_.worker_bytes = kernel.scratch_bytes(shape_) + ids_bytes(problem);
        set_mass_rules(problem, &rules_);
        if (problem.flags & ATTN_BATCH_INVARIANT)
            rules_.fixed_range = fixed_range(rules_, problem.max_q, problem.max_kv);
        // Whether other sequences make an execute split keys must not matter then.
        if (!rules_.fixed_range || rules_.fixed_range >= problem.max_kv)
            rules_.kept_keys = shape_.kept_blocks * shape_.key_block;
    }

    const char *kernel() const noexcept override { return kernel_.name; }
    size_t workspace_alignment() const noexcept override { return 16; }

    size_t workspace_bytes(const Sizes &sizes) const noexcept override { return lay_out(rules_, bounds(sizes)).bytes; }

    attn_status execute(const attn_handle_s &handle, const Arguments &arguments, void *workspace, size_t bytes,
                        void *stream) const noexcept override
    {
        if (stream) return fail(ATTN_ERROR_INVALID, "stream = %p: must be NULL on the CPU", stream);
        const Sequences sequences(problem_, arguments);
        if (const attn_status status = sequences.check()) return status;
        ScheduleBounds actual = {sequences.batch(), 0, 0, 0, 0};
        for (int64_t b = 0; b < sequences.batch(); ++b) {
            const Sequence sequence = sequences[b];
            actual.max_q = std::max(actual.max_q, sequence.q_length);
            actual.max_kv = std::max(actual.max_kv, sequence.k_length);
            actual.total_q += sequence.q_length;
            actual.total_kv += sequence.k_length;
        }
        if (const attn_status status = check_columns(arguments, actual)) return status;
        const WorkspaceLayout layout = lay_out(rules_, actual);
        if (const attn_status status = check_workspace(workspace, bytes, layout.bytes, workspace_alignment()))
            return status;

        char *base = reinterpret_cast<char *>((reinterpret_cast<uintptr_t>(workspace) + 63) & ~uintptr_t{63});
        int64_t *tile_starts = reinterpret_cast<int64_t *>(base + layout.tile_starts);
        const int64_t longest = count_tiles(rules_, sequences, tile_starts);
        Run run(problem_, arguments, kernel_, shape_, rules_, sequences);
        run.schedule = make_schedule(rules_, tile_starts[sequences.batch()], longest);
        run.tile_starts = tile_starts;
        run.partials = reinterpret_cast<float *>(base + layout.partials);
        run.scratch = base + layout.scratch;
        int64_t mass_tasks = 0;
        if (rules_.sum_bytes) {
            MassStart *starts = reinterpret_cast<MassStart *>(base + layout.mass_starts);
            mass_tasks = count_mass_tasks(rules_, sequences, starts);
            run.mass_starts = starts;
            run.row_scales = rules_.scale_bytes ? base + layout.row_scales : nullptr;
            run.mass_sums = base + layout.mass_sums;
            if (rules_.kept_keys && run.schedule.ranges == 1)
                run.chain_sums = reinterpret_cast<double *>(base + layout.chain_sums);
        }
        const attn_status first = run.chain_sums
                                      ? run_parallel(handle, run.mass_starts[sequences.batch()].runs, run_chain, &run)
                                      : run_parallel(handle, run.schedule.tasks(), run_task, &run);
        if (first) return first;
        if (run.schedule.ranges > 1)
            if (const attn_status status = run_parallel(handle, run.schedule.tiles, merge_task, &run)) return status;
        return mass_tasks ? run_parallel(handle, mass_tasks, run_mass_task, &run) : ATTN_OK;
    }

    void describe(JsonWriter &json) const override
    {
        json.add("tile_rows", shape_.tile_rows);
        json.add("key_block", shape_.key_block);
        json.add("heads_per_tile", shape_.group);
        json.add("scratch_bytes_per_worker", static_cast<int64_t>(rules_.worker_bytes));
    }

private:
    /// The longest sequences that the views allow.
    ScheduleBounds bounds(const Sizes &sizes) const noexcept
    {
        const auto within = [](int64_t bound, int64_t extent) {
            return extent == kFree ? bound : std::min(bound, extent);
        };
        ScheduleBounds bounds;
        bounds.batch = within(problem_.batch, sizes.at(Axis::batch));
        bounds.max_q = within(within(problem_.max_q, sizes.at(Axis::query)), sizes.at(Axis::total_q));
        bounds.max_kv = within(within(problem_.max_kv, sizes.at(Axis::key)), sizes.at(Axis::total_kv));
        if (problem_.packed_q) bounds.total_q = within(problem_.total_q, sizes.at(Axis::total_q));
        if (problem_.storage == Storage::packed) bounds.total_kv = within(problem_.total_kv, sizes.at(Axis::total_kv));
        return bounds;
    }

    /// A tensor by key has a column for every key of packed or paged sequences, a grid a place for every token.
    attn_status check_columns(const Arguments &arguments, const ScheduleBounds &actual) const noexcept
    {
        const BiasTable &table = problem_.bias_table;
        const int64_t tokens = static_cast<int64_t>(table.grid_offset.size());
        if (table.present && table.kind == ATTN_TABLE_GRID && std::max(actual.max_q, actual.max_kv) > tokens)
            return fail(ATTN_ERROR_INVALID, "attn_bias_table.grid has %lld tokens: the longest sequence has %lld",
                        static_cast<long long>(tokens), static_cast<long long>(std::max(actual.max_q, actual.max_kv)));
        for (const attn_slot slot : {ATTN_SLOT_BIAS, ATTN_SLOT_COLUMN_MASS}) {
            const int position = problem_.find(slot);
            if (position < 0) continue;
            const attn_tensor &view = *arguments.view[position];
            const int axis = view.ndim - 1;
            if (problem_.tensors[position].axes[axis] != Axis::key || view.shape[axis] >= actual.max_kv) continue;
            return fail(ATTN_ERROR_INVALID, "%s.shape[%d] = %lld: must be at least the longest key sequence, %lld",
                        slot_name(slot), axis, static_cast<long long>(view.shape[axis]),
                        static_cast<long long>(actual.max_kv));
        }
        return ATTN_OK;
    }

    const DenseProblem &problem_; ///< Of the plan, which outlives its executor.
    const ForwardKernel &kernel_;
    const ForwardShape shape_;
    ScheduleRules rules_;
};

struct DtypeField {
    const char *name;
    attn_dtype dtype;
};

std::array<DtypeField, 4> dtype_fields(const Problem &problem)
{
    return {{{"q_dtype", problem.q_dtype},
             {"k_dtype", problem.k_dtype},
             {"v_dtype", problem.v_dtype},
             {"out_dtype", problem.out_dtype}}};
}

} // namespace

std::string refuse_forward(const Problem &problem, Isa)
{
    if (!problem.unserved.empty()) {
        std::string reason = "does not compute ";
        for (size_t i = 0; i < problem.unserved.size(); ++i) reason += (i ? ", " : "") + problem.unserved[i];
        return reason;
    }
    Element element;
    for (const DtypeField &field : dtype_fields(problem))
        if (!element_of(field.dtype, &element))
            return std::string("attn_problem.") + field.name + " = " + dtype_text(field.dtype) +
                   ": needs float32, float16 or bfloat16";
    const struct {
        const char *field;
        int64_t dim;
    } dims[] = {{"dim_qk", problem.dim_qk}, {"dim_v", problem.dim_v}};
    for (const auto &entry : dims)
        if (entry.dim > kLargestHeadDim)
            return std::string("attn_problem.") + entry.field + " = " + std::to_string(entry.dim) + ": needs 1 .. " +
                   std::to_string(kLargestHeadDim);
    return "";
}

std::unique_ptr<Executor> make_forward(const attn_handle_s &handle, const Problem &problem, Isa isa)
{
    return std::make_unique<Forward>(handle, static_cast<const DenseProblem &>(problem), kernel_of(isa));
}

std::string refuse_forward_bf16(const Problem &problem, Isa isa)
{
    if (isa < Isa::avx512_bf16) return std::string("needs avx512_bf16, this is ") + isa_name(isa);
    for (const DtypeField &field : dtype_fields(problem))
        if (field.dtype != ATTN_BFLOAT16)
            return std::string("attn_problem.") + field.name + " = " + dtype_text(field.dtype) + ": needs bfloat16";
    for (const attn_slot slot : {ATTN_SLOT_BIAS_LOWRANK_Q, ATTN_SLOT_V_TEMPERATURE})
        if (problem.has(slot)) return std::string("does not compute ") + slot_name(slot);
    return refuse_forward(problem, isa);
}

std::unique_ptr<Executor> make_forward_bf16(const attn_handle_s &handle, const Problem &problem, Isa isa)
{
#if defined(__x86_64__)
    const ForwardKernel &kernel = isa == Isa::amx ? kForwardAmx : kForwardAvx512Bf16;
    return std::make_unique<Forward>(handle, static_cast<const DenseProblem &>(problem), kernel);
#else
    return make_forward(handle, problem, isa);
#endif
}

} // namespace attn::cpu
