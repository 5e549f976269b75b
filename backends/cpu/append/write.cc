#include "backends/cpu/append/write.h"

#include "append.h"
#include "backends/cpu/append/channels.h"
#include "backends/cpu/append/rows.h"
#include "backends/cpu/views.h"
#include "handle.h"
#include "json.h"
#include "names.h"

#include <algorithm>
#include <cmath>

namespace attn::cpu {
namespace {

/// Rows that one task takes at a time.
constexpr int64_t kPieceRows = 16;
/// What a task should move at least, in bytes, and what a rotated pair costs in the same unit.
constexpr double kTaskBytes = 64 << 10;
constexpr double kPairBytes = 128;
/// Tasks per worker, so that an uneven split evens out.
constexpr int64_t kTasksPerWorker = 4;

/// A tensor of rows: `[outer, row, head, channel]`, or packed `[row, head, channel]` with an outer step of 0. A table
/// of angles is one row per position, without heads.
struct Rows {
    char *data = nullptr;
    int64_t outer_step = 0, row_step = 0, head_step = 0, channel_step = 0; ///< Bytes.
    attn_dtype dtype = 0;

    Rows() = default;
    Rows(const attn_tensor &view, bool heads) : data(first_element(view)), dtype(view.dtype)
    {
        const int64_t bytes = dtype_bytes(view.dtype);
        int axis = view.ndim - 1;
        channel_step = step_of(view, axis--) * bytes;
        if (heads) head_step = step_of(view, axis--) * bytes;
        row_step = step_of(view, axis--) * bytes;
        if (axis >= 0) outer_step = step_of(view, axis) * bytes;
    }

    Channels at(int64_t outer, int64_t row, int64_t head) const
    {
        return {data + outer * outer_step + row * row_step + head * head_step, channel_step, dtype};
    }
};

/// Everything a task needs; lives on the stack of attn_execute().
struct Run {
    const AppendProblem &problem;
    const double *frequencies; ///< Of each rotated pair, where angles come from a base.
    const AppendRows &rows;
    int64_t tasks = 1;
    Rows k, v, k_cache, v_cache, q, out, cosines, sines;

    Run(const AppendProblem &p, const Arguments &arguments, const double *pair_frequencies, const AppendRows &all)
        : problem(p), frequencies(pair_frequencies), rows(all)
    {
        const struct {
            attn_slot slot;
            Rows *to;
            bool heads;
        } views[] = {{ATTN_SLOT_K, &k, true},
                     {ATTN_SLOT_V, &v, true},
                     {ATTN_SLOT_K_CACHE, &k_cache, true},
                     {ATTN_SLOT_V_CACHE, &v_cache, true},
                     {ATTN_SLOT_Q, &q, true},
                     {ATTN_SLOT_OUT, &out, true},
                     {ATTN_SLOT_ROPE_COS, &cosines, false},
                     {ATTN_SLOT_ROPE_SIN, &sines, false}};
        for (const auto &view : views)
            if (const int position = p.find(view.slot); position >= 0)
                *view.to = Rows(*arguments.view[position], view.heads);
    }
};

/// Heads of one row in the source and in the destination.
struct RowPair {
    Channels from, to; ///< Of head 0.
    int64_t from_head_step, to_head_step;
    int64_t heads;

    RowPair(const Rows &source, int64_t from_outer, int64_t from_row, const Rows &destination, int64_t to_outer,
            int64_t to_row, int64_t head_count)
        : from(source.at(from_outer, from_row, 0)),
          to(destination.at(to_outer, to_row, 0)),
          from_head_step(source.head_step),
          to_head_step(destination.head_step),
          heads(head_count)
    {
    }

    Channels from_head(int64_t head) const { return {from.data + head * from_head_step, from.step, from.dtype}; }
    Channels to_head(int64_t head) const { return {to.data + head * to_head_step, to.step, to.dtype}; }
};

void copy_row(const RowPair &row, int64_t first, int64_t count)
{
    if (count == 0) return;
    for (int64_t head = 0; head < row.heads; ++head)
        copy_channels(row.from_head(head).from(first), row.to_head(head).from(first), count);
}

/// All channels; heads that follow each other without a gap are one stretch.
void copy_row(const RowPair &row, int64_t channels)
{
    const bool dense = row.from_head_step == channels * row.from.step && row.to_head_step == channels * row.to.step;
    if (dense)
        copy_channels(row.from, row.to, row.heads * channels);
    else
        copy_row(row, 0, channels);
}

/// Cosines and sines of pairs [first, first + count) at a position.
void find_angles(const Run &run, int64_t position, int64_t first, int64_t count, float *cosines, float *sines)
{
    if (run.problem.rope.source == ATTN_ROPE_TABLE) {
        read_channels(run.cosines.at(0, position, 0).from(first), count, cosines);
        read_channels(run.sines.at(0, position, 0).from(first), count, sines);
        return;
    }
    for (int64_t i = 0; i < count; ++i) {
        const double angle = static_cast<double>(position) * run.frequencies[first + i];
        cosines[i] = static_cast<float>(std::cos(angle));
        sines[i] = static_cast<float>(std::sin(angle));
    }
}

void rotate_row(const Run &run, const RowPair &row, int64_t position)
{
    const Rotation &rope = run.problem.rope;
    const int64_t end = rope.first + rope.dim, pairs = rope.dim / 2;
    copy_row(row, 0, rope.first);
    copy_row(row, end, run.problem.dim_qk - end);
    const bool interleaved = rope.layout == ATTN_ROPE_INTERLEAVED;
    // The first channels of the pairs from pair p on; their second ones are `partner` channels further.
    const int64_t partner = interleaved ? 1 : pairs;
    const auto pair_channels = [&](const Channels &channels, int64_t p) {
        if (interleaved) return channels.from(rope.first + 2 * p).every_second();
        return channels.from(rope.first + p);
    };
    float cosines[kMostChannels], sines[kMostChannels];
    for (int64_t p = 0; p < pairs; p += kMostChannels) {
        const int64_t count = std::min(kMostChannels, pairs - p);
        find_angles(run, position, p, count, cosines, sines);
        for (int64_t head = 0; head < row.heads; ++head) {
            const Channels from = row.from_head(head), to = row.to_head(head);
            rotate_channels(pair_channels(from, p), pair_channels(from.from(partner), p), pair_channels(to, p),
                            pair_channels(to.from(partner), p), cosines, sines, count);
        }
    }
}

void copy_or_rotate(const Run &run, const RowPair &row, int64_t b, const NewRows &rows, int64_t token)
{
    if (run.problem.rope.dim)
        rotate_row(run, row, run.rows.position(b, rows, token));
    else
        copy_row(row, run.problem.dim_qk);
}

void append_row(const Run &run, int64_t b, const NewRows &rows, int64_t token, int64_t outer, int64_t place)
{
    const AppendProblem &p = run.problem;
    const int64_t row = rows.first + token;
    if (p.writes_k) copy_or_rotate(run, RowPair(run.k, b, row, run.k_cache, outer, place, p.heads_k), b, rows, token);
    if (p.writes_v) copy_row(RowPair(run.v, b, row, run.v_cache, outer, place, p.heads_v), p.dim_v);
}

/// Which task writes a piece of a cache: a function of the place alone, so that of several rows for one place the last
/// is kept whatever the number of workers.
int64_t owner_of(int64_t outer, int64_t piece, int64_t tasks)
{
    uint64_t hash = static_cast<uint64_t>(outer) * 0x9e3779b97f4a7c15u + static_cast<uint64_t>(piece);
    hash = (hash ^ (hash >> 32)) * 0xd6e8feb86659fd93u;
    return static_cast<int64_t>((hash ^ (hash >> 32)) % static_cast<uint64_t>(tasks));
}

/// Every task walks through all rows and takes those that are its own.
void ATTN_CALL run_task(void *arg, int64_t task, int32_t)
{
    const Run &run = *static_cast<const Run *>(arg);
    const bool distinct = run.rows.are_distinct();
    int64_t turn = 0;
    const auto is_next = [&] {
        const bool mine = turn == task;
        turn = turn + 1 < run.tasks ? turn + 1 : 0;
        return mine;
    };
    for (int64_t b = 0; b < run.rows.batch(); ++b) {
        const NewRows rows = run.rows[b];
        if (run.problem.writes_cache())
            run.rows.for_each_run(b, rows, [&](const RowRun &r) {
                for (int64_t i = 0; i < r.count;) {
                    const int64_t place = r.row + i;
                    const int64_t end = std::min(r.count, i + kPieceRows - place % kPieceRows);
                    const bool mine = distinct ? is_next() : owner_of(r.outer, place / kPieceRows, run.tasks) == task;
                    if (!mine) {
                        i = end;
                        continue;
                    }
                    for (; i < end; ++i) append_row(run, b, rows, r.token + i, r.outer, r.row + i);
                }
            });
        if (!run.problem.writes_q) continue;
        for (int64_t t = 0; t < rows.length; t += kPieceRows) {
            if (!is_next()) continue;
            for (int64_t i = t; i < std::min(rows.length, t + kPieceRows); ++i) {
                const int64_t row = rows.first + i;
                copy_or_rotate(run, RowPair(run.q, b, row, run.out, b, row, run.problem.heads_q), b, rows, i);
            }
        }
    }
}

class Append final : public Executor {
public:
    Append(const attn_handle_s &handle, const AppendProblem &problem) : problem_(problem), workers_(handle.workers)
    {
        const Rotation &rope = problem.rope;
        if (rope.dim && rope.source == ATTN_ROPE_BASE)
            for (int64_t pair = 0; pair < rope.dim / 2; ++pair)
                frequencies_.push_back(
                    std::pow(rope.base, -2.0 * static_cast<double>(pair) / static_cast<double>(rope.dim)));
        const auto bytes = [](int64_t heads, int64_t channels, attn_dtype dtype) {
            return static_cast<double>(heads) * static_cast<double>(channels * dtype_bytes(dtype));
        };
        const double angles = static_cast<double>(rope.dim) / 2 * kPairBytes;
        if (problem.writes_k) row_bytes_ += bytes(problem.heads_k, problem.dim_qk, problem.k_dtype) + angles;
        if (problem.writes_v) row_bytes_ += bytes(problem.heads_v, problem.dim_v, problem.v_dtype);
        if (problem.writes_q) row_bytes_ += bytes(problem.heads_q, problem.dim_qk, problem.out_dtype) + angles;
    }

    const char *kernel() const noexcept override { return "cpu.append"; }
    size_t workspace_alignment() const noexcept override { return 1; }
    size_t workspace_bytes(const Sizes &) const noexcept override { return 0; }

    attn_status execute(const attn_handle_s &handle, const Arguments &arguments, void *workspace, size_t bytes,
                        void *stream) const noexcept override
    {
        if (stream) return fail(ATTN_ERROR_INVALID, "stream = %p: must be NULL on the CPU", stream);
        if (const attn_status status = check_workspace(workspace, bytes, 0, workspace_alignment())) return status;
        const AppendRows rows(problem_, arguments);
        if (const attn_status status = rows.check()) return status;
        double total = 0;
        for (int64_t b = 0; b < rows.batch(); ++b) total += static_cast<double>(rows[b].length) * row_bytes_;
        Run run(problem_, arguments, frequencies_.data(), rows);
        const int64_t most = workers_ > 1 ? workers_ * kTasksPerWorker : 1;
        run.tasks = static_cast<int64_t>(std::clamp(total / kTaskBytes, 1.0, static_cast<double>(most)));
        return run_parallel(handle, run.tasks, run_task, &run);
    }

    void describe(JsonWriter &json) const override { json.add("rows_per_piece", kPieceRows); }

private:
    const AppendProblem &problem_; ///< Of the plan, which outlives its executor.
    const int64_t workers_;
    double row_bytes_ = 0; ///< What a new row costs, to choose the number of tasks.
    std::vector<double> frequencies_;
};

} // namespace

std::string refuse_append(const Problem &problem, Isa)
{
    if (!problem.unserved.empty()) {
        std::string reason = "does not compute ";
        for (size_t i = 0; i < problem.unserved.size(); ++i) reason += (i ? ", " : "") + problem.unserved[i];
        return reason;
    }
    for (const attn_slot slot :
         {ATTN_SLOT_K, ATTN_SLOT_V, ATTN_SLOT_K_CACHE, ATTN_SLOT_V_CACHE, ATTN_SLOT_Q, ATTN_SLOT_OUT}) {
        const int position = problem.find(slot);
        if (position < 0) continue;
        const attn_dtype dtype = problem.tensors[static_cast<size_t>(position)].dtype;
        if (!is_convertible(dtype))
            return std::string("slot ") + slot_name(slot) + " of dtype " + dtype_text(dtype) +
                   ": needs float32, float16 or bfloat16";
    }
    return "";
}

std::unique_ptr<Executor> make_append(const attn_handle_s &handle, const Problem &problem, Isa)
{
    return std::make_unique<Append>(handle, static_cast<const AppendProblem &>(problem));
}

} // namespace attn::cpu
