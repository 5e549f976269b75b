#include "backends/cpu/linear/executor.h"

#include "backends/cpu/linear/call.h"
#include "backends/cpu/linear/reference.h"
#include "backends/cpu/linear/segments.h"
#include "backends/cpu/linear/token_values.h"
#include "handle.h"
#include "json.h"

#include <algorithm>

namespace attn::cpu {
namespace {

constexpr size_t kAlignment = 64;
/// Columns of V that a task takes at least, where heads alone do not keep all workers busy: every task reads all keys.
constexpr int64_t kLeastColumns = 32;
/// Tasks for each worker, so that an uneven split evens out.
constexpr int64_t kTasksPerWorker = 8;
constexpr int64_t kMostTogether = 32;

const LinearKernel &kernel_of(Isa isa)
{
#if defined(__x86_64__)
    if (isa >= Isa::avx512) return kLinearAvx512;
    if (isa == Isa::avx2) return kLinearAvx2;
#elif defined(__aarch64__)
    if (isa == Isa::neon) return kLinearNeon;
#endif
    static_cast<void>(isa);
    return kLinearBaseline;
}

size_t round_up(size_t bytes)
{
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

/// Everything a task needs; lives on the stack of attn_execute().
struct Run {
    const LinearProblem &problem;
    const LinearShape &shape;
    const LinearKernel &kernel;
    const LinearCall &call;
    int64_t columns, panels;       ///< Of V: of one part, and parts of each state.
    int64_t parts, parts_per_task; ///< In all, and those that one task takes after each other.
    char *scratch;
    size_t scratch_step;
    float *key_sums; ///< [state][dim_k], where parts of a state share those of STATE_IN; else NULL.
};

/// Every part of a state begins with the sums of its keys, and the last part writes them: in place others might then
/// read what is written.
void copy_key_sums(const Run &run, int64_t states)
{
    for (int64_t state = 0; state < states; ++state) {
        const LinearTask task = run.call.task(state / run.problem.heads_v, state % run.problem.heads_v);
        const StateView &sums = task.key_sums;
        for (int64_t d = 0; d < run.problem.dim_k; ++d)
            run.key_sums[state * run.problem.dim_k + d] =
                static_cast<float>(read_real(sums.base + d * sums.row_step, sums.type));
    }
}

void run_part(const Run &run, int64_t part, char *scratch)
{
    const int64_t panel = part % run.panels, state = part / run.panels;
    LinearTask task = run.call.task(state / run.problem.heads_v, state % run.problem.heads_v);
    task.first_column = panel * run.columns;
    task.columns = std::min(run.columns, run.problem.dim_v - task.first_column);
    if (run.key_sums) {
        float *sums = run.key_sums + state * run.problem.dim_k;
        task.key_sums = {reinterpret_cast<char *>(sums), sizeof(float), 0, Element::float32};
    }
    run.kernel.run(run.shape, task, scratch);
}

void ATTN_CALL run_task(void *arg, int64_t number, int32_t worker)
{
    const Run &run = *static_cast<const Run *>(arg);
    char *scratch = run.scratch + static_cast<size_t>(worker) * run.scratch_step;
    const int64_t end = std::min((number + 1) * run.parts_per_task, run.parts);
    for (int64_t part = number * run.parts_per_task; part < end; ++part) run_part(run, part, scratch);
}

/// Each state is a task of its own, or several by columns of V, which do not know of each other; or segments of a long
/// sequence are, see segments.h.
class Linear final : public Executor {
public:
    Linear(const attn_handle_s &handle, const LinearProblem &problem, const LinearKernel &kernel)
        : problem_(problem),
          kernel_(kernel),
          workers_(handle.workers),
          shape_(linear_shape(problem)),
          segments_(problem, shape_, kernel)
    {
        scratch_step_ = round_up(kernel.scratch_bytes(shape_, problem.dim_v));
    }

    const char *kernel() const noexcept override { return kernel_.name; }
    size_t workspace_alignment() const noexcept override { return 16; }
    size_t workspace_bytes(const Sizes &) const noexcept override
    {
        return static_cast<size_t>(workers_) * scratch_step_ + kAlignment +
               std::max(key_sums_bytes(), segments_.bytes());
    }

    attn_status execute(const attn_handle_s &handle, const Arguments &arguments, void *workspace, size_t bytes,
                        void *stream) const noexcept override
    {
        if (stream) return fail(ATTN_ERROR_INVALID, "stream = %p: must be NULL on the CPU", stream);
        if (const attn_status status =
                check_workspace(workspace, bytes, workspace_bytes(arguments.sizes), workspace_alignment()))
            return status;
        const LinearCall call(problem_, shape_, arguments);
        if (const attn_status status = call.check()) return status;
        if (call.writes_nothing()) return ATTN_OK;
        char *scratch = static_cast<char *>(workspace);
        scratch += round_up(reinterpret_cast<uintptr_t>(scratch)) - reinterpret_cast<uintptr_t>(scratch);
        float *shared = reinterpret_cast<float *>(scratch + static_cast<size_t>(workers_) * scratch_step_);
        if (segments_.serves(call)) return segments_.run(handle, call, scratch, scratch_step_, shared);
        const int64_t states = call.batch() * problem_.heads_v;
        const int64_t columns = columns_of_task(states);
        const int64_t panels = (problem_.dim_v + columns - 1) / columns;
        const int64_t parts = states * panels, together = parts_together(parts);
        const bool share_sums = panels > 1 && key_sums_bytes() != 0;
        Run run = {problem_,
                   shape_,
                   kernel_,
                   call,
                   columns,
                   panels,
                   parts,
                   together,
                   scratch,
                   scratch_step_,
                   share_sums ? shared : nullptr};
        if (share_sums) copy_key_sums(run, states);
        return run_parallel(handle, (parts + together - 1) / together, run_task, &run);
    }

    void describe(JsonWriter &json) const override { json.add("chunk", shape_.chunk); }

private:
    /// Only fewer states than workers are taken in parts.
    size_t key_sums_bytes() const
    {
        const bool wanted = problem_.normaliser && problem_.has(ATTN_SLOT_STATE_IN);
        return wanted ? static_cast<size_t>((workers_ - 1) * problem_.dim_k) * sizeof(float) : 0;
    }

    /// States that follow each other in memory go to one task, as far as that leaves enough tasks to share out.
    int64_t parts_together(int64_t parts) const
    {
        return std::clamp<int64_t>(parts / (workers_ * kTasksPerWorker), 1, kMostTogether);
    }

    int64_t columns_of_task(int64_t states) const
    {
        if (states >= workers_ || states == 0) return problem_.dim_v;
        const int64_t panels = (workers_ + states - 1) / states;
        const int64_t columns = (problem_.dim_v + panels - 1) / panels;
        return std::max(kLeastColumns, (columns + kLeastColumns - 1) / kLeastColumns * kLeastColumns);
    }

    const LinearProblem &problem_; ///< Of the plan, which outlives its executor.
    const LinearKernel &kernel_;
    const int64_t workers_;
    const LinearShape shape_;
    const LinearSegments segments_;
    size_t scratch_step_;
};

} // namespace

std::string refuse_linear_recurrent(const Problem &problem, Isa)
{
    const auto &p = static_cast<const LinearProblem &>(problem);
    if (!p.unserved.empty()) {
        std::string reason = "does not compute ";
        for (size_t i = 0; i < p.unserved.size(); ++i) reason += (i ? ", " : "") + p.unserved[i];
        return reason;
    }
    return refuse_linear_dtypes(p);
}

std::string refuse_linear_chunk(const Problem &problem, Isa isa)
{
    const bool recurrent = static_cast<const LinearProblem &>(problem).recurrent;
    return recurrent ? "computes in chunks: ATTN_LINEAR_RECURRENT is set" : refuse_linear_recurrent(problem, isa);
}

std::unique_ptr<Executor> make_linear_recurrent(const attn_handle_s &handle, const Problem &problem, Isa)
{
    return std::make_unique<Linear>(handle, static_cast<const LinearProblem &>(problem), kLinearReference);
}

std::unique_ptr<Executor> make_linear_chunk(const attn_handle_s &handle, const Problem &problem, Isa isa)
{
    return std::make_unique<Linear>(handle, static_cast<const LinearProblem &>(problem), kernel_of(isa));
}

} // namespace attn::cpu
