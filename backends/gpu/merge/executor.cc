#include "backends/gpu/merge/executor.h"

#include "backends/gpu/faults.h"
#include "backends/gpu/merge/params.h"
#include "backends/gpu/plans.h"
#include "backends/gpu/views.h"
#include "json.h"
#include "merge.h"

#include <algorithm>

namespace attn::gpu {
namespace {

static_assert(kStatusOfFaults == ATTN_ERROR_DATA && kSlotCuSeqlensQ == ATTN_SLOT_CU_SEQLENS_Q &&
              kSlotSeqlensQ == ATTN_SLOT_SEQLENS_Q);

/// Parts of a slice, at least, where there are several slices.
constexpr int32_t kPartsPerSlice = 8;

enum class Variant { vector, general, prepare };

kernel::Request request_of(Variant variant)
{
    kernel::Request request;
    request.source = "backends/gpu/merge/merge.cuh";
    request.entry = variant == Variant::prepare ? "attn_merge_prepare" : "attn_merge";
    if (variant != Variant::prepare) request.define({{"ATTN_VECTOR", variant == Variant::vector}});
    return request;
}

/// How the threads of a block share rows, channels and parts. Follows from the plan alone, and with it every bit of the
/// results.
struct Schedule {
    int32_t lanes = 1, slices = 1, rows = 1;
    uint32_t chunks = 1, threads = 1; ///< Blocks side by side along the channels; threads of a block.

    explicit Schedule(const MergeProblem &p)
    {
        const int64_t wanted = (p.dim_v + kMergeChannels - 1) / kMergeChannels;
        lanes = static_cast<int32_t>(std::min<int64_t>(wanted, kMergeThreads));
        chunks = static_cast<uint32_t>((wanted + lanes - 1) / lanes);
        const auto parts = static_cast<int32_t>(p.parts);
        while (2 * slices * lanes <= kMergeThreads && parts >= 2 * slices * kPartsPerSlice) slices *= 2;
        rows = kMergeThreads / (lanes * slices);
        threads = static_cast<uint32_t>((lanes * slices * rows + 31) / 32 * 32);
    }
};

class Merge final : public Executor {
public:
    Merge(const MergeProblem &problem, Device &device)
        : problem_(problem), device_(device), schedule_(problem), status_(problem.find(ATTN_SLOT_STATUS))
    {
    }

    attn_status prepare()
    {
        const bool some_vector = problem_.dim_v % kMergeChannels == 0;
        const auto load = [&](Variant variant, uint32_t threads, Kernel *kernel) {
            return device_.load(request_of(variant), true, threads, 0, kernel);
        };
        if (some_vector)
            if (const attn_status status = load(Variant::vector, schedule_.threads, &vector_)) return status;
        if (const attn_status status = load(Variant::general, schedule_.threads, &general_)) return status;
        if (uses_table() || status_ >= 0) return load(Variant::prepare, kFaultThreads, &prepare_);
        return ATTN_OK;
    }

    const char *kernel() const noexcept override { return "gpu.merge"; }
    size_t workspace_alignment() const noexcept override { return 16; }
    size_t workspace_bytes(const Sizes &) const noexcept override
    {
        return uses_table() ? problem_.parts * sizeof(MergePart) : 0;
    }

    attn_status execute(const attn_handle_s &, const Arguments &arguments, void *workspace, size_t bytes,
                        void *stream) const noexcept override
    {
        const size_t needed = workspace_bytes(arguments.sizes);
        if (const attn_status status = check_workspace(workspace, bytes, needed, workspace_alignment())) return status;
        MergeParameters parameters = {};
        set_tensors(arguments, &parameters);
        const bool vector = fits_vector(arguments, parameters);
        const Call call(device_, stream);
        if (call.status()) return call.status();
        if (status_ >= 0)
            if (const attn_status status = find_faults(arguments, parameters, stream)) return status;
        const int64_t tokens = problem_.packed_q ? arguments.sizes.at(Axis::total_q) : parameters.batch * parameters.tq;
        if (tokens == 0) return ATTN_OK;
        if (uses_table()) {
            parameters.table = static_cast<const MergePart *>(workspace);
            if (const attn_status status = write_table(arguments, static_cast<MergePart *>(workspace), stream))
                return status;
        }
        parameters.rows = tokens * problem_.heads_out;
        const uint64_t blocks = static_cast<uint64_t>((parameters.rows - 1) / schedule_.rows + 1);
        void *list[] = {&parameters};
        return device_.launch(vector ? vector_ : general_, grid_of(blocks, schedule_.chunks, schedule_.threads), stream,
                              list);
    }

    void describe(JsonWriter &json) const override
    {
        json.add("threads", static_cast<int64_t>(schedule_.threads));
        json.add("rows_per_block", static_cast<int64_t>(schedule_.rows));
        json.add("slices_of_parts", static_cast<int64_t>(schedule_.slices));
        json.add("vector", vector_.function != nullptr);
    }

private:
    bool uses_table() const noexcept { return problem_.parts > static_cast<size_t>(kDirectParts); }

    TokenView tokens(const attn_tensor &view, bool channels) const
    {
        return token_view(view, !problem_.packed_q, true, channels);
    }

    MergePart part_of(const Arguments &arguments, size_t part) const
    {
        const TokenView out = tokens(*arguments.view[problem_.partial_out(part)], true);
        ScoreView score = {};
        if (problem_.weighed())
            score = score_view(*arguments.view[problem_.partial_lse(part)], problem_.packed_q, false);
        return {out.base,         score.base,       out.batch_step,   out.token_step, out.head_step,
                out.channel_step, score.batch_step, score.query_step, score.head_step};
    }

    void set_tensors(const Arguments &arguments, MergeParameters *p) const
    {
        const auto view = [&](int64_t position) -> const attn_tensor & { return *arguments.view[position]; };
        const size_t direct = std::min<size_t>(problem_.parts, kDirectParts);
        for (size_t part = 0; part < direct; ++part) p->parts[part] = part_of(arguments, part);
        p->out = tokens(view(problem_.out), true);
        if (problem_.lse >= 0) p->score = score_view(view(problem_.lse), problem_.packed_q, false);
        if (problem_.gate_values >= 0) {
            p->gate = tokens(view(problem_.gate_values), true);
            if (p->gate.channel_step == 0) p->gate.vector = 0; // one for all channels
        }
        if (problem_.head_weights >= 0) p->head_weight = tokens(view(problem_.head_weights), false);
        if (problem_.cu_seqlens >= 0) p->cu_seqlens = integer_vector(view(problem_.cu_seqlens));
        if (problem_.seqlens >= 0) p->seqlens = integer_vector(view(problem_.seqlens));
        if (problem_.sinks >= 0)
            p->sinks = address_of(view(problem_.sinks)), p->sink_step = bytes_of_step(view(problem_.sinks), 0);
        p->batch = arguments.sizes.at(Axis::batch);
        p->tq = arguments.sizes.at(Axis::query);
        p->heads = problem_.heads_out;
        p->channels = static_cast<i32>(problem_.dim_v);
        p->part_count = static_cast<i32>(problem_.parts);
        element_of(problem_.tensors[problem_.partial_out(0)].dtype, &p->part_type);
        p->gate_kind = problem_.gate;
        p->weighed = problem_.weighed();
        p->lanes = schedule_.lanes, p->slices = schedule_.slices, p->rows_per_block = schedule_.rows;
    }

    /// Whether parts have the same steps, and they and OUT the alignment of the vector kernel.
    bool fits_vector(const Arguments &arguments, const MergeParameters &p) const
    {
        if (!vector_.function || !p.out.vector) return false;
        const MergePart &first = p.parts[0];
        for (size_t i = 0; i < problem_.parts; ++i) {
            const MergePart part = i < kDirectParts ? p.parts[i] : part_of(arguments, i);
            const bool same = part.out_batch == first.out_batch && part.out_token == first.out_token &&
                              part.out_head == first.out_head && part.score_batch == first.score_batch &&
                              part.score_token == first.score_token && part.score_head == first.score_head;
            if (!same || !tokens(*arguments.view[problem_.partial_out(i)], true).vector) return false;
        }
        return true;
    }

    /// Writes the views of all parts to the workspace, through the parameters of as many launches as they fill.
    attn_status write_table(const Arguments &arguments, MergePart *table, void *stream) const
    {
        for (size_t first = 0; first < problem_.parts; first += kPartsPerLaunch) {
            MergePrepareParameters some = {};
            some.count = static_cast<i32>(std::min<size_t>(problem_.parts - first, kPartsPerLaunch));
            for (i32 i = 0; i < some.count; ++i) some.parts[i] = part_of(arguments, first + static_cast<size_t>(i));
            some.to = table + first;
            void *list[] = {&some};
            if (const attn_status status = device_.launch(prepare_, grid_of(1, 1, kFaultThreads), stream, list))
                return status;
        }
        return ATTN_OK;
    }

    attn_status find_faults(const Arguments &arguments, const MergeParameters &p, void *stream) const
    {
        MergePrepareParameters lengths = {};
        lengths.cu_seqlens = p.cu_seqlens, lengths.seqlens = p.seqlens;
        lengths.status = token_view(*arguments.view[status_], false, false, false);
        lengths.batch = p.batch, lengths.tq = p.tq;
        lengths.total_rows = arguments.sizes.at(Axis::total_q), lengths.longest = problem_.max_q;
        void *list[] = {&lengths};
        return device_.launch(prepare_, grid_of(1, 1, kFaultThreads), stream, list);
    }

    const MergeProblem &problem_; ///< Of the plan, which outlives its executor.
    Device &device_;
    const Schedule schedule_;
    const int status_; ///< Position of STATUS among the tensors, -1 without.
    Kernel vector_, general_, prepare_;
};

} // namespace

std::string refuse_merge(const Problem &problem, Device &device)
{
    return refuse_common(problem, device, {ATTN_SLOT_PARTIAL_OUT, ATTN_SLOT_OUT, ATTN_SLOT_GATE});
}

attn_status make_merge(const Problem &problem, Device &device, std::unique_ptr<Executor> *out)
{
    auto merge = std::make_unique<Merge>(static_cast<const MergeProblem &>(problem), device);
    if (const attn_status status = merge->prepare()) return status;
    *out = std::move(merge);
    return ATTN_OK;
}

std::vector<kernel::Request> merge_requests()
{
    return {request_of(Variant::vector), request_of(Variant::general), request_of(Variant::prepare)};
}

} // namespace attn::gpu
