// A scan on the CPU. Strips of channels and sequences are independent: where there are enough of them each is a task.
// Where there are not the segments of a sequence (scan_strip.h) are shared out too, in waves of kWaveSegments: first
// their sums, then the states at their starts, then the outputs. The bits are the same.
#include "scan.h"

#include "backends/cpu/linear/token_values.h"
#include "backends/cpu/sequence/executor.h"
#include "handle.h"
#include "json.h"

#include <algorithm>

namespace attn::cpu {
namespace {

/// Fixed: bits depend on it.
constexpr int64_t kSegmentTokens = 512;
constexpr int64_t kWaveSegments = 64;
/// Tasks for each worker, so that an uneven split evens out.
constexpr int64_t kTasksPerWorker = 8;

/// Everything a task needs; lives on the stack of attn_execute().
struct Run {
    const SequenceKernel &kernel;
    const ScanShape &shape;
    const SequenceCall &call;
    int64_t items, items_per_task; ///< Strips of all sequences, and those that a task takes after each other.
    int64_t wave;                  ///< First segment of the wave.
    float *rows;                   ///< [worker][4][kStripChannels]: h, start, local, product
    float *sums;                   ///< [item][kWaveSegments][2][kStripChannels]: local, product
    float *starts;                 ///< [item][kWaveSegments + 1][kStripChannels]: states before the segments

    SequenceStrip strip(int64_t item) const { return call.strip(item / call.strips(), item % call.strips()); }
    float *row(int32_t worker, int64_t number) const { return rows + (worker * 4 + number) * kStripChannels; }
    float *local(int64_t item, int64_t segment) const
    {
        return sums + (item * kWaveSegments + segment) * 2 * kStripChannels;
    }
    float *product(int64_t item, int64_t segment) const { return local(item, segment) + kStripChannels; }
    float *start(int64_t item, int64_t segment) const
    {
        return starts + (item * (kWaveSegments + 1) + segment) * kStripChannels;
    }
};

/// At least one: a sequence without tokens has a state.
int64_t segments_of(int64_t tokens)
{
    return std::max<int64_t>(1, (tokens + kSegmentTokens - 1) / kSegmentTokens);
}

int64_t end_of(int64_t segment, int64_t tokens)
{
    return std::min((segment + 1) * kSegmentTokens, tokens);
}

void copy_row(const float *from, float *to)
{
    std::copy(from, from + kStripChannels, to);
}

/// A strip from its first token to its last, segment by segment.
void run_item(const Run &run, int64_t item, int32_t worker)
{
    const SequenceStrip strip = run.strip(item);
    const int64_t segments = segments_of(strip.tokens);
    float *h = run.row(worker, 0), *start = run.row(worker, 1);
    float *local = run.row(worker, 2), *product = run.row(worker, 3);
    run.kernel.read_state(strip, h);
    for (int64_t segment = 0; segment < segments; ++segment) {
        const bool last = segment + 1 == segments;
        copy_row(h, start);
        run.kernel.scan(run.shape, strip, segment * kSegmentTokens, end_of(segment, strip.tokens), h,
                        last ? nullptr : local, product);
        if (last) break;
        run.kernel.carry(local, product, strip.channels, start);
        copy_row(start, h);
    }
    if (strip.state_out.base) run.kernel.write_state(strip, h);
}

void ATTN_CALL run_items(void *arg, int64_t number, int32_t worker)
{
    const Run &run = *static_cast<const Run *>(arg);
    const int64_t end = std::min((number + 1) * run.items_per_task, run.items);
    for (int64_t item = number * run.items_per_task; item < end; ++item) run_item(run, item, worker);
}

/// Sums of a segment that others follow.
void ATTN_CALL sum_segment(void *arg, int64_t number, int32_t)
{
    const Run &run = *static_cast<const Run *>(arg);
    const int64_t item = number / kWaveSegments, place = number % kWaveSegments, segment = run.wave + place;
    const SequenceStrip strip = run.strip(item);
    if (segment + 1 >= segments_of(strip.tokens)) return;
    run.kernel.scan_local(run.shape, strip, segment * kSegmentTokens, end_of(segment, strip.tokens),
                          run.local(item, place), run.product(item, place));
}

/// The states at the starts of the segments of a wave; the first is there already.
void carry_sums(const Run &run)
{
    for (int64_t item = 0; item < run.items; ++item) {
        const SequenceStrip strip = run.strip(item);
        for (int64_t place = 0; place < kWaveSegments && run.wave + place + 1 < segments_of(strip.tokens); ++place) {
            copy_row(run.start(item, place), run.start(item, place + 1));
            run.kernel.carry(run.local(item, place), run.product(item, place), strip.channels,
                             run.start(item, place + 1));
        }
    }
}

void ATTN_CALL write_segment(void *arg, int64_t number, int32_t worker)
{
    const Run &run = *static_cast<const Run *>(arg);
    const int64_t item = number / kWaveSegments, place = number % kWaveSegments, segment = run.wave + place;
    const SequenceStrip strip = run.strip(item);
    const int64_t segments = segments_of(strip.tokens);
    if (segment >= segments) return;
    float *h = run.row(worker, 0);
    copy_row(run.start(item, place), h);
    run.kernel.scan(run.shape, strip, segment * kSegmentTokens, end_of(segment, strip.tokens), h, nullptr, nullptr);
    if (segment + 1 == segments && strip.state_out.base) run.kernel.write_state(strip, h);
}

/// The value of a gate must be a decay. In double, so that a log that rounds to 0 is told from one above.
attn_status check_gates(const ScanProblem &problem, const SequenceCall &call)
{
    const bool log = problem.form == ATTN_SCAN_LOG;
    for (int64_t b = 0; b < call.batch(); ++b)
        for (int64_t number = 0; number < call.strips(); ++number) {
            const SequenceStrip strip = call.strip(b, number);
            for (int64_t token = 0; token < strip.tokens; ++token)
                for (int64_t c = 0; c < strip.channels; ++c) {
                    const double gate = value_at(strip.decay, token, c);
                    if (log ? gate <= 0 : gate >= 0 && gate <= 1) continue; // so a NaN is refused
                    const int64_t per_head = call.strips() / problem.heads_q;
                    return fail(ATTN_ERROR_DATA,
                                "DECAY of sequence %lld, token %lld, head %lld, channel %lld: %g, must be %s",
                                static_cast<long long>(b), static_cast<long long>(token),
                                static_cast<long long>(number / per_head),
                                static_cast<long long>(number % per_head * kStripChannels + c), gate,
                                log ? "<= 0, a natural log" : "0 .. 1");
                }
        }
    return ATTN_OK;
}

class Scan final : public Executor {
public:
    Scan(const attn_handle_s &handle, const ScanProblem &problem, const SequenceKernel &kernel)
        : problem_(problem),
          kernel_(kernel),
          workers_(handle.workers),
          shape_{problem.form == ATTN_SCAN_LOG, problem.lerp}
    {
    }

    const char *kernel() const noexcept override { return kernel_.scan_name; }
    size_t workspace_alignment() const noexcept override { return 16; }
    size_t workspace_bytes(const Sizes &sizes) const noexcept override
    {
        const size_t rows = static_cast<size_t>(workers_) * 4;
        const int64_t longest = problem_.packed_q ? problem_.max_q : sizes.at(Axis::query);
        const size_t shared = longest <= kSegmentTokens ? 0 : shared_items();
        return (rows + shared * (3 * kWaveSegments + 1)) * kStripChannels * sizeof(float);
    }

    attn_status execute(const attn_handle_s &handle, const Arguments &arguments, void *workspace, size_t bytes,
                        void *stream) const noexcept override
    {
        if (stream) return fail(ATTN_ERROR_INVALID, "stream = %p: must be NULL on the CPU", stream);
        if (const attn_status status =
                check_workspace(workspace, bytes, workspace_bytes(arguments.sizes), workspace_alignment()))
            return status;
        const SequenceCall call(problem_, arguments);
        if (const attn_status status = call.check()) return status;
        if (call.writes_nothing()) return ATTN_OK;
        if (problem_.checked())
            if (const attn_status status = check_gates(problem_, call)) return status;
        int64_t segments = 1;
        for (int64_t b = 0; b < call.batch(); ++b) segments = std::max(segments, segments_of(call.tokens(b)));
        const int64_t items = call.batch() * call.strips();
        float *rows = static_cast<float *>(workspace), *sums = rows + workers_ * 4 * kStripChannels;
        Run run = {kernel_, shape_, call, items, 1, 0, rows, sums, sums + items * kWaveSegments * 2 * kStripChannels};
        if (items < workers_ && segments > 1) return run_waves(handle, segments, &run);
        run.items_per_task = std::max<int64_t>(1, items / (workers_ * kTasksPerWorker));
        return run_parallel(handle, (items + run.items_per_task - 1) / run.items_per_task, run_items, &run);
    }

    void describe(JsonWriter &json) const override { json.add("segment_tokens", kSegmentTokens); }

private:
    /// Items of executes that share out segments: fewer than workers.
    size_t shared_items() const { return static_cast<size_t>(workers_ - 1); }

    attn_status run_waves(const attn_handle_s &handle, int64_t segments, Run *run) const
    {
        for (int64_t item = 0; item < run->items; ++item) kernel_.read_state(run->strip(item), run->start(item, 0));
        for (run->wave = 0; run->wave < segments; run->wave += kWaveSegments) {
            const int64_t tasks = run->items * kWaveSegments;
            if (const attn_status status = run_parallel(handle, tasks, sum_segment, run)) return status;
            carry_sums(*run);
            if (const attn_status status = run_parallel(handle, tasks, write_segment, run)) return status;
            for (int64_t item = 0; item < run->items; ++item)
                copy_row(run->start(item, kWaveSegments), run->start(item, 0));
        }
        return ATTN_OK;
    }

    const ScanProblem &problem_; ///< Of the plan, which outlives its executor.
    const SequenceKernel &kernel_;
    const int64_t workers_;
    const ScanShape shape_;
};

} // namespace

std::unique_ptr<Executor> make_scan(const attn_handle_s &handle, const Problem &problem, Isa isa)
{
    return std::make_unique<Scan>(handle, static_cast<const ScanProblem &>(problem), sequence_kernel(isa));
}

} // namespace attn::cpu
