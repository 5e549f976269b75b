// A convolution on the CPU: every task takes a strip of channels and some blocks of tokens, of one or several
// sequences, for which it reads the taps once.
#include "conv.h"
#include "backends/cpu/sequence/executor.h"
#include "handle.h"
#include "json.h"

#include <algorithm>

namespace attn::cpu {
namespace {

constexpr int64_t kBlockTokens = 128;
/// Tasks for each worker, so that an uneven split evens out.
constexpr int64_t kTasksPerWorker = 4;

/// Everything a task needs; lives on the stack of attn_execute().
struct Run {
    const SequenceKernel &kernel;
    const ConvShape &shape;
    const SequenceCall &call;
    int64_t blocks, parts; ///< Of tokens, of all sequences; tasks that a strip is shared out to.
    float *scratch;
    size_t scratch_floats;
};

/// Blocks of a sequence; one without tokens has a block as well, for its state.
int64_t blocks_of(const SequenceCall &call, int64_t b)
{
    return std::max<int64_t>(1, (call.tokens(b) + kBlockTokens - 1) / kBlockTokens);
}

void run_block(const Run &run, const SequenceStrip &strip, int64_t block, const float *taps, float *rows)
{
    const int64_t first = block * kBlockTokens, end = std::min(first + kBlockTokens, strip.tokens);
    if (first < end) run.kernel.convolve(run.shape, strip, first, end, taps, rows);
    // The first block alone reads the state before, so it may now be replaced.
    if (block == 0 && strip.state_out.base) run.kernel.keep_tokens(run.shape, strip, rows);
}

void ATTN_CALL run_task(void *arg, int64_t number, int32_t worker)
{
    const Run &run = *static_cast<const Run *>(arg);
    const int64_t strip_number = number / run.parts, part = number % run.parts;
    const int64_t begin = part * run.blocks / run.parts, end = (part + 1) * run.blocks / run.parts;
    float *taps = run.scratch + static_cast<size_t>(worker) * run.scratch_floats;
    float *rows = taps + (run.shape.width + 1) * kStripChannels;
    run.kernel.load_taps(run.call.channels(ATTN_SLOT_CONV_WEIGHT, strip_number, false),
                         run.call.channels(ATTN_SLOT_CONV_BIAS, strip_number, true), run.shape.width,
                         run.call.strip(0, strip_number).channels, taps);
    int64_t before = 0; // blocks of the sequences before
    for (int64_t b = 0; b < run.call.batch() && before < end; ++b) {
        const int64_t count = blocks_of(run.call, b);
        if (before + count > begin) {
            const SequenceStrip strip = run.call.strip(b, strip_number);
            for (int64_t block = std::max<int64_t>(0, begin - before); block < std::min(count, end - before); ++block)
                run_block(run, strip, block, taps, rows);
        }
        before += count;
    }
}

class Conv final : public Executor {
public:
    Conv(const attn_handle_s &handle, const ConvProblem &problem, const SequenceKernel &kernel)
        : problem_(problem),
          kernel_(kernel),
          workers_(handle.workers),
          shape_{problem.width, problem.activation == ATTN_CONV_SILU}
    {
    }

    const char *kernel() const noexcept override { return kernel_.conv_name; }
    size_t workspace_alignment() const noexcept override { return 16; }
    size_t workspace_bytes(const Sizes &) const noexcept override
    {
        return static_cast<size_t>(workers_) * scratch_floats() * sizeof(float);
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
        int64_t blocks = 0;
        for (int64_t b = 0; b < call.batch(); ++b) blocks += blocks_of(call, b);
        const int64_t wanted = (workers_ * kTasksPerWorker + call.strips() - 1) / call.strips();
        const int64_t parts = workers_ == 1 ? 1 : std::clamp<int64_t>(wanted, 1, blocks);
        Run run = {kernel_, shape_, call, blocks, parts, static_cast<float *>(workspace), scratch_floats()};
        return run_parallel(handle, call.strips() * parts, run_task, &run);
    }

    void describe(JsonWriter &json) const override { json.add("block_tokens", kBlockTokens); }

private:
    /// Of a worker: taps with the bias, and rows.
    size_t scratch_floats() const { return static_cast<size_t>((2 * problem_.width + 1) * kStripChannels); }

    const ConvProblem &problem_; ///< Of the plan, which outlives its executor.
    const SequenceKernel &kernel_;
    const int64_t workers_;
    const ConvShape shape_;
};

} // namespace

std::unique_ptr<Executor> make_conv(const attn_handle_s &handle, const Problem &problem, Isa isa)
{
    return std::make_unique<Conv>(handle, static_cast<const ConvProblem &>(problem), sequence_kernel(isa));
}

} // namespace attn::cpu
