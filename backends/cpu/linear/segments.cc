#include "backends/cpu/linear/segments.h"

#include "backends/cpu/linear/token_values.h"

#include <algorithm>

namespace attn::cpu {
namespace {

// Fixed: bits depend on them.
constexpr int64_t kSegmentTokens = 1024;
constexpr int64_t kLeastSegments = 2;
constexpr int64_t kPartColumns = 32; ///< Of V. Parts of states are tasks that cost less than segments,
constexpr int64_t kEnoughParts = 2;  ///< so where there are so many they are the tasks.
/// Segments whose states are kept at a time.
constexpr int64_t kWaveSegments = 16;

int64_t parts_of_state(const LinearProblem &problem)
{
    return (problem.dim_v + kPartColumns - 1) / kPartColumns;
}

/// Everything a task needs; lives on the stack of attn_execute().
struct Run {
    const LinearProblem &problem;
    const LinearShape &shape, &sums_shape;
    const LinearKernel &kernel;
    const LinearCall &call;
    int64_t states, wave; ///< The first segment of the wave.
    char *scratch;
    size_t scratch_step;
    float *kept;   ///< [state][kWaveSegments + 1][dim_k][state_columns]: sums, then states at starts
    float *decays; ///< [state][kWaveSegments][dim_k]

    int64_t elements() const { return problem.dim_k * problem.state_columns; }
    float *start(int64_t state, int64_t place) const
    {
        return kept + (state * (kWaveSegments + 1) + place) * elements();
    }
    float *decay(int64_t state, int64_t place) const
    {
        return decays + (state * kWaveSegments + place) * problem.dim_k;
    }
    StateView view(float *state) const
    {
        constexpr int64_t kBytes = sizeof(float);
        return {reinterpret_cast<char *>(state), problem.state_columns * kBytes, kBytes, Element::float32};
    }
    LinearTask task(int64_t state) const { return call.task(state / problem.heads_v, state % problem.heads_v); }
    int64_t segments(int64_t state) const
    {
        const int64_t tokens = call.queries(state / problem.heads_v);
        return std::max<int64_t>(1, (tokens + kSegmentTokens - 1) / kSegmentTokens);
    }
};

/// The tokens of a segment of a task.
LinearTask segment_of(const LinearTask &whole, int64_t segment)
{
    const int64_t first = segment * kSegmentTokens;
    LinearTask task = whole;
    task.tokens = task.keys = std::min(kSegmentTokens, whole.tokens - first);
    // A decay by head has a step of 0.
    for (TokenView *view : {&task.q, &task.k, &task.v, &task.decay})
        if (view->base) view->base += first * view->token_step;
    if (task.out) task.out += first * task.out_token_step;
    return task;
}

/// The state that a segment makes of zero, and its decays; of a segment that others follow.
void ATTN_CALL sum_segment(void *arg, int64_t number, int32_t worker)
{
    const Run &run = *static_cast<const Run *>(arg);
    const int64_t state = number / kWaveSegments, place = number % kWaveSegments, segment = run.wave + place;
    if (segment + 1 >= run.segments(state)) return;
    LinearTask task = segment_of(run.task(state), segment);
    task.state_in = task.key_sums = {};
    task.state_out = run.view(run.start(state, place + 1));
    void *scratch = run.scratch + static_cast<size_t>(worker) * run.scratch_step;
    run.kernel.run(run.sums_shape, task, scratch);
    run.kernel.total_decay(run.sums_shape, task, scratch, run.decay(state, place));
}

/// STATE_IN, or zero, at the start of the first segment.
void begin(const Run &run)
{
    for (int64_t state = 0; state < run.states; ++state) {
        const StateView in = run.task(state).state_in;
        float *to = run.start(state, 0);
        for (int64_t d = 0; d < run.problem.dim_k; ++d)
            for (int64_t c = 0; c < run.problem.state_columns; ++c)
                *to++ = in.base ? static_cast<float>(read_real(in.base + d * in.row_step + c * in.column_step, in.type))
                                : 0;
    }
}

/// Sums become states at the starts of segments.
void carry_sums(const Run &run)
{
    for (int64_t state = 0; state < run.states; ++state)
        for (int64_t place = 0; place < kWaveSegments && run.wave + place + 1 < run.segments(state); ++place) {
            const float *before = run.start(state, place), *decay = run.decay(state, place);
            float *after = run.start(state, place + 1);
            for (int64_t d = 0; d < run.problem.dim_k; ++d)
                for (int64_t c = 0; c < run.problem.state_columns; ++c, ++before, ++after) *after += decay[d] * *before;
        }
}

void ATTN_CALL write_segment(void *arg, int64_t number, int32_t worker)
{
    const Run &run = *static_cast<const Run *>(arg);
    const int64_t state = number / kWaveSegments, place = number % kWaveSegments, segment = run.wave + place;
    const int64_t segments = run.segments(state);
    if (segment >= segments) return;
    LinearTask task = segment_of(run.task(state), segment);
    float *start = run.start(state, place);
    task.state_in = run.view(start), task.key_sums = run.view(start + run.problem.dim_v);
    if (segment + 1 < segments) task.state_out = {};
    run.kernel.run(run.shape, task, run.scratch + static_cast<size_t>(worker) * run.scratch_step);
}

} // namespace

LinearSegments::LinearSegments(const LinearProblem &problem, const LinearShape &shape,
                               const LinearKernel &kernel) noexcept
    : problem_(problem), shape_(shape), kernel_(kernel), sums_(shape), most_states_(0)
{
    sums_.group = 0;
    const bool diagonal = problem.update == ATTN_UPDATE_ADD && !problem.bidirectional;
    const bool last_only = problem.state_keep == ATTN_STATE_FINAL;
    if (diagonal && last_only && kernel.total_decay && problem.max_q >= kLeastSegments * kSegmentTokens)
        most_states_ = (kEnoughParts - 1) / parts_of_state(problem);
}

int64_t LinearSegments::floats_of_state() const noexcept
{
    return (kWaveSegments + 1) * problem_.dim_k * problem_.state_columns + kWaveSegments * problem_.dim_k;
}

size_t LinearSegments::bytes() const noexcept
{
    return static_cast<size_t>(most_states_ * floats_of_state()) * sizeof(float);
}

bool LinearSegments::serves(const LinearCall &call) const noexcept
{
    if (call.batch() * problem_.heads_v > most_states_) return false;
    int64_t longest = 0;
    for (int64_t b = 0; b < call.batch(); ++b) longest = std::max(longest, call.queries(b));
    return longest >= kLeastSegments * kSegmentTokens;
}

attn_status LinearSegments::run(const attn_handle_s &handle, const LinearCall &call, char *scratch, size_t scratch_step,
                                float *memory) const noexcept
{
    const int64_t states = call.batch() * problem_.heads_v;
    float *decays = memory + states * (kWaveSegments + 1) * problem_.dim_k * problem_.state_columns;
    Run run = {problem_, shape_, sums_, kernel_, call, states, 0, scratch, scratch_step, memory, decays};
    int64_t most = 0;
    for (int64_t state = 0; state < states; ++state) most = std::max(most, run.segments(state));
    begin(run);
    for (run.wave = 0; run.wave < most; run.wave += kWaveSegments) {
        const int64_t tasks = states * kWaveSegments;
        if (const attn_status status = run_parallel(handle, tasks, sum_segment, &run)) return status;
        carry_sums(run);
        if (const attn_status status = run_parallel(handle, tasks, write_segment, &run)) return status;
        for (int64_t state = 0; state < states; ++state)
            std::copy_n(run.start(state, kWaveSegments), run.elements(), run.start(state, 0));
    }
    return ATTN_OK;
}

} // namespace attn::cpu
