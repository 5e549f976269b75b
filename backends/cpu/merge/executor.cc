#include "backends/cpu/merge/executor.h"

#include "backends/cpu/merge/kernel.h"
#include "backends/cpu/merge/tokens.h"
#include "backends/cpu/views.h"
#include "handle.h"
#include "json.h"
#include "merge.h"
#include "names.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace attn::cpu {
namespace {

constexpr float kEmpty = -std::numeric_limits<float>::infinity(); ///< LSE of a part without keys.

/// What a task should read: enough that taking the next one costs nothing, little enough to share out.
constexpr int64_t kTaskBytes = 64 << 10;

const MergeKernel &kernel_of(Isa isa)
{
#if defined(__x86_64__)
    if (isa >= Isa::avx512) return kMergeAvx512;
    if (isa == Isa::avx2) return kMergeAvx2;
#elif defined(__aarch64__)
    if (isa == Isa::neon) return kMergeNeon;
#endif
    static_cast<void>(isa);
    return kMergeBaseline;
}

MergeShape make_shape(const MergeProblem &p)
{
    MergeShape shape = {};
    element_of(p.tensors[p.partial_out(0)].dtype, &shape.part_type);
    element_of(p.out_dtype, &shape.out_type);
    if (p.gate_values >= 0) {
        shape.gate = gate_of(p.gate);
        element_of(p.tensors[p.gate_values].dtype, &shape.gate_type);
    }
    return shape;
}

/// One row of results.
struct Place {
    int64_t sequence, row, head;
};

/// `[B, Tq, Ho, ..]`, packed `[rows, Ho, ..]`.
char *token_address(const attn_tensor &view, int64_t element_size, bool packed, const Place &place)
{
    // An axis of extent 1 is at its start, or it is broadcast.
    const auto step = [&](int axis) { return view.shape[axis] == 1 ? 0 : view.strides[axis]; };
    const int64_t offset = packed ? place.row * step(0) + place.head * step(1)
                                  : place.sequence * step(0) + place.row * step(1) + place.head * step(2);
    return static_cast<char *>(view.data) + view.byte_offset + offset * element_size;
}

/// Elements from channel to channel.
int64_t channel_step(const attn_tensor &view)
{
    return view.shape[view.ndim - 1] == 1 ? 0 : view.strides[view.ndim - 1];
}

/// `[B, Ho, Tq]`, packed `[Ho, rows]`.
float *score_address(const attn_tensor &view, bool packed, const Place &place)
{
    const int64_t *step = view.strides + (packed ? 0 : 1);
    const int64_t offset = (packed ? 0 : place.sequence * view.strides[0]) + place.head * step[0] + place.row * step[1];
    return reinterpret_cast<float *>(static_cast<char *>(view.data) + view.byte_offset) + offset;
}

/// Everything a task needs; lives on the stack of attn_execute().
struct Run {
    const MergeProblem &problem;
    const MergeKernel &kernel;
    const MergeShape &shape;
    const Arguments &arguments;
    const Tokens &tokens;
    int64_t rows, rows_per_task; ///< Token by token, and head by head within: as OUT mostly lies in memory.

    const attn_tensor &view(int64_t position) const { return *arguments.view[position]; }
    char *address(int64_t position, Element element, const Place &place) const
    {
        return token_address(view(position), element_bytes(element), problem.packed_q, place);
    }
    float head_value(int64_t position, int64_t head) const
    {
        const attn_tensor &values = view(position);
        const char *first = static_cast<const char *>(values.data) + values.byte_offset;
        float value;
        memcpy(&value, first + head * values.strides[0] * 4, sizeof value);
        return value;
    }
};

/// Instead of a weight: the part has no keys.
constexpr float kAbsent = -1;

/// Weights of the parts of a row: exp(LSE of the part - LSE of all). Returns the LSE of all with the sink, and in `any`
/// whether a part has keys.
double weigh(const Run &run, const Place &place, float *weights, bool *any)
{
    const MergeProblem &p = run.problem;
    const double sink = p.sinks >= 0 ? static_cast<double>(run.head_value(p.sinks, place.head)) : kEmpty;
    double top = sink;
    *any = false;
    for (size_t part = 0; part < p.parts; ++part) {
        const float lse = *score_address(run.view(static_cast<int64_t>(p.partial_lse(part))), p.packed_q, place);
        weights[part] = lse;
        *any |= lse != kEmpty; // so is a NaN
        if (lse > top) top = lse;
    }
    if (!*any) return sink;

    double sum = sink == kEmpty ? 0 : std::exp(sink - top);
    for (size_t part = 0; part < p.parts; ++part) {
        if (weights[part] == kEmpty) {
            weights[part] = kAbsent;
            continue;
        }
        const double weight = std::exp(static_cast<double>(weights[part]) - top);
        sum += weight;
        weights[part] = static_cast<float>(weight);
    }
    const double factor = 1 / sum;
    for (size_t part = 0; part < p.parts; ++part)
        if (weights[part] != kAbsent) weights[part] = static_cast<float>(weights[part] * factor);
    return top + std::log(sum);
}

/// Sums the weighted rows of all parts that have keys, some channels at a time, and writes them.
void sum_and_write(const Run &run, const Place &place, const float *weights, const MergeRow &row)
{
    const MergeProblem &p = run.problem;
    for (int64_t first = 0; first < p.dim_v; first += kChannelsPerSum) {
        const int64_t channels = std::min<int64_t>(kChannelsPerSum, p.dim_v - first);
        float sum[kChannelsPerSum];
        bool fresh = true;
        for (size_t part = 0; part < p.parts;) {
            MergePart parts[kPartsPerSum];
            int64_t count = 0;
            for (; part < p.parts && count < kPartsPerSum; ++part) {
                if (weights[part] == kAbsent) continue;
                const int64_t position = static_cast<int64_t>(p.partial_out(part));
                parts[count++] = {run.address(position, run.shape.part_type, place), channel_step(run.view(position)),
                                  weights[part]};
            }
            if (count == 0) continue;
            run.kernel.add(run.shape, parts, count, first, channels, fresh, sum);
            fresh = false;
        }
        run.kernel.write(run.shape, row, first, channels, sum);
    }
}

void write_zeros(const Run &run, const MergeRow &row)
{
    run.kernel.write(run.shape, row, 0, run.problem.dim_v, nullptr);
}

void merge_row(const Run &run, const Place &place)
{
    const MergeProblem &p = run.problem;
    MergeRow row = {};
    row.out = run.address(p.out, run.shape.out_type, place);
    row.out_step = channel_step(run.view(p.out));
    row.factor = 1;
    if (p.head_weights >= 0)
        memcpy(&row.factor, run.address(p.head_weights, Element::float32, place), sizeof row.factor);
    const bool skipped = row.factor == 0; // 0 is exact, whatever the rest holds
    if (p.gate_values >= 0) {
        row.gate = run.address(p.gate_values, run.shape.gate_type, place);
        row.gate_step = channel_step(run.view(p.gate_values));
    }

    float weights[kMostParts];
    if (!p.weighed()) {
        if (skipped) return write_zeros(run, row);
        std::fill_n(weights, p.parts, 1.0f);
        return sum_and_write(run, place, weights, row);
    }
    if (skipped && p.lse < 0) return write_zeros(run, row);
    bool any = false;
    const double lse = weigh(run, place, weights, &any);
    if (p.lse >= 0) *score_address(run.view(p.lse), p.packed_q, place) = static_cast<float>(lse);
    if (skipped || !any) return write_zeros(run, row);
    sum_and_write(run, place, weights, row);
}

void ATTN_CALL run_task(void *arg, int64_t task, int32_t)
{
    const Run &run = *static_cast<const Run *>(arg);
    const int64_t heads = run.problem.heads_out;
    const int64_t end = std::min((task + 1) * run.rows_per_task, run.rows);
    for (int64_t i = task * run.rows_per_task; i < end;) {
        const Token token = run.tokens[i / heads];
        if (!token.used) {
            i = token.next * heads;
            continue;
        }
        for (int64_t head = i % heads; head < heads && i < end; ++head, ++i)
            merge_row(run, {token.sequence, token.row, head});
    }
}

class Merge final : public Executor {
public:
    Merge(const MergeProblem &problem, const MergeKernel &kernel)
        : problem_(problem), kernel_(kernel), shape_(make_shape(problem))
    {
        const int64_t row_bytes = static_cast<int64_t>(problem.parts) * problem.dim_v * element_bytes(shape_.part_type);
        rows_per_task_ = std::max<int64_t>(kTaskBytes / row_bytes, 1);
    }

    const char *kernel() const noexcept override { return kernel_.name; }
    size_t workspace_alignment() const noexcept override { return 1; }
    size_t workspace_bytes(const Sizes &) const noexcept override { return 0; }

    attn_status execute(const attn_handle_s &handle, const Arguments &arguments, void *workspace, size_t bytes,
                        void *stream) const noexcept override
    {
        if (stream) return fail(ATTN_ERROR_INVALID, "stream = %p: must be NULL on the CPU", stream);
        if (const attn_status status = check_workspace(workspace, bytes, 0, workspace_alignment())) return status;
        const Tokens tokens(problem_, arguments);
        if (const attn_status status = tokens.check()) return status;
        Run run = {problem_, kernel_, shape_, arguments, tokens, tokens.count() * problem_.heads_out, rows_per_task_};
        const int64_t tasks = run.rows / rows_per_task_ + (run.rows % rows_per_task_ != 0);
        return run_parallel(handle, tasks, run_task, &run);
    }

    void describe(JsonWriter &json) const override { json.add("rows_per_task", rows_per_task_); }

private:
    const MergeProblem &problem_; ///< Of the plan, which outlives its executor.
    const MergeKernel &kernel_;
    const MergeShape shape_;
    int64_t rows_per_task_;
};

} // namespace

std::string refuse_merge(const Problem &problem, Isa)
{
    const auto &p = static_cast<const MergeProblem &>(problem);
    if (!p.unserved.empty()) {
        std::string reason = "does not compute ";
        for (size_t i = 0; i < p.unserved.size(); ++i) reason += (i ? ", " : "") + p.unserved[i];
        return reason;
    }
    Element element;
    for (const int64_t position : {static_cast<int64_t>(p.partial_out(0)), p.out, p.gate_values})
        if (position >= 0 && !element_of(p.tensors[position].dtype, &element))
            return std::string("slot ") + slot_name(p.tensors[position].slot) + " of " +
                   dtype_text(p.tensors[position].dtype) + ": needs float32, float16 or bfloat16";
    return "";
}

std::unique_ptr<Executor> make_merge(const attn_handle_s &, const Problem &problem, Isa isa)
{
    return std::make_unique<Merge>(static_cast<const MergeProblem &>(problem), kernel_of(isa));
}

} // namespace attn::cpu
