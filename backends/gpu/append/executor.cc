#include "backends/gpu/append/executor.h"

#include "append.h"
#include "backends/gpu/append/params.h"
#include "backends/gpu/faults.h"
#include "backends/gpu/plans.h"
#include "backends/gpu/views.h"
#include "json.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace attn::gpu {
namespace {

static_assert(kSlotK == ATTN_SLOT_K && kSlotV == ATTN_SLOT_V && kSlotSeqlensKv == ATTN_SLOT_SEQLENS_KV &&
              kSlotBlockTable == ATTN_SLOT_BLOCK_TABLE && kSlotBlockTablePtr == ATTN_SLOT_BLOCK_TABLE_PTR &&
              kSlotSlotMapping == ATTN_SLOT_SLOT_MAPPING && kSlotPositionsQ == ATTN_SLOT_POSITIONS_Q &&
              kSlotRopeCos == ATTN_SLOT_ROPE_COS);
static_assert(kLargestExtent == int64_t{1} << 47, "the longest sequence of a ring, as the kernels have it");

/// Threads that keep a compute unit busy.
constexpr int64_t kThreadsPerUnit = 1024;
/// Blocks of a launch whose threads loop.
constexpr int64_t kIndexBlocksPerUnit = 4;

enum class Variant { vector, general, index };

kernel::Request request_of(Variant variant)
{
    kernel::Request request;
    request.source = "backends/gpu/append/append.cuh";
    request.entry = variant == Variant::index ? "attn_append_index" : "attn_append";
    if (variant != Variant::index) request.define({{"ATTN_VECTOR", variant == Variant::vector}});
    return request;
}

/// Whether every unit of the vector kernel holds channels of one kind.
bool has_whole_units(const AppendProblem &p)
{
    constexpr int64_t kUnit = kAppendChannels;
    const bool qk = p.writes_k || p.writes_q;
    return (!qk || p.dim_qk % kUnit == 0) && (!p.writes_v || p.dim_v % kUnit == 0) && p.rope.first % kUnit == 0 &&
           p.rope.dim % (2 * kUnit) == 0;
}

class Append final : public Executor {
public:
    Append(const AppendProblem &problem, Device &device)
        : problem_(problem),
          device_(device),
          distinct_(!problem.mapped && problem.storage != Storage::paged),
          status_(problem.find(ATTN_SLOT_STATUS))
    {
    }

    attn_status prepare()
    {
        const auto load = [&](Variant variant, uint32_t threads, Kernel *kernel) {
            return device_.load(request_of(variant), true, threads, 0, kernel);
        };
        if (has_whole_units(problem_))
            if (const attn_status status = load(Variant::vector, kAppendThreads, &vector_)) return status;
        if (const attn_status status = load(Variant::general, kAppendThreads, &general_)) return status;
        if (status_ >= 0 || claims_bytes(rows_of_call(problem_.batch, problem_.max_q, problem_.total_q)) > 0)
            if (const attn_status status = load(Variant::index, kFaultThreads, &index_)) return status;
        const Rotation &rope = problem_.rope;
        if (rope.dim == 0 || rope.source != ATTN_ROPE_BASE) return ATTN_OK;
        std::vector<double> frequencies;
        for (int64_t pair = 0; pair < rope.dim / 2; ++pair)
            frequencies.push_back(
                std::pow(rope.base, -2.0 * static_cast<double>(pair) / static_cast<double>(rope.dim)));
        return device_.upload(frequencies.data(), frequencies.size() * sizeof(double), &frequencies_);
    }

    const char *kernel() const noexcept override { return "gpu.append"; }
    size_t workspace_alignment() const noexcept override { return 16; }
    /// Calls go by the shapes of views, whatever lengths there are: the longest that the plan allows stands for max_q.
    size_t workspace_bytes(const Sizes &sizes) const noexcept override
    {
        return claims_bytes(rows_of_call(sizes.at(Axis::batch), problem_.max_q, sizes.at(Axis::total_q)));
    }

    attn_status execute(const attn_handle_s &, const Arguments &arguments, void *workspace, size_t bytes,
                        void *stream) const noexcept override
    {
        const Sizes &sizes = arguments.sizes;
        if (problem_.ring_rows && !problem_.page_size && sizes.at(Axis::key) < problem_.ring_rows)
            return fail(ATTN_ERROR_INVALID, "%s.shape[1] = %lld: must be at least attn_append.ring_rows = %lld",
                        problem_.writes_k ? "K_CACHE" : "V_CACHE", static_cast<long long>(sizes.at(Axis::key)),
                        static_cast<long long>(problem_.ring_rows));
        const size_t needed =
            claims_bytes(rows_of_call(sizes.at(Axis::batch), sizes.at(Axis::query), sizes.at(Axis::total_q)));
        if (const attn_status status = check_workspace(workspace, bytes, needed, workspace_alignment())) return status;
        AppendParameters parameters = {};
        set_tensors(arguments, &parameters);
        set_sizes(sizes, &parameters);
        const bool vector = fits_vector(parameters);
        set_schedule(vector ? kAppendChannels : 1, &parameters);
        if (needed) {
            parameters.places = static_cast<i64 *>(workspace);
            parameters.claims = static_cast<u64 *>(workspace) + parameters.rows;
            parameters.claim_mask = claim_entries(parameters.rows) - 1;
        }

        const Call call(device_, stream);
        if (call.status()) return call.status();
        if (status_ >= 0)
            if (const attn_status status = run_index(kStepFaults, 1, parameters, stream)) return status;
        if (parameters.rows == 0) return ATTN_OK;
        if (needed) {
            const int64_t blocks = std::min<int64_t>((parameters.rows + kFaultThreads - 1) / kFaultThreads,
                                                     kIndexBlocksPerUnit * std::max(device_.facts().compute_units, 1));
            for (const i32 step : {kStepPlaces, kStepClaims})
                if (const attn_status status = run_index(step, static_cast<uint64_t>(blocks), parameters, stream))
                    return status;
        }
        const auto blocks = static_cast<uint64_t>((parameters.rows - 1) / parameters.rows_per_block + 1);
        void *list[] = {&parameters};
        return device_.launch(vector ? vector_ : general_, grid_of(blocks, 1, kAppendThreads), stream, list);
    }

    void describe(JsonWriter &json) const override
    {
        json.add("threads", static_cast<int64_t>(kAppendThreads));
        json.add("vector", vector_.function != nullptr);
        json.add("most_rows_scanned", distinct_ ? int64_t{0} : int64_t{kMostRowsScanned});
    }

private:
    /// New rows of a call, in use or not.
    int64_t rows_of_call(int64_t batch, int64_t tq, int64_t total_q) const noexcept
    {
        return problem_.packed_q ? total_q : batch * tq;
    }
    static int64_t claim_entries(int64_t rows) noexcept
    {
        return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(rows) * 2));
    }
    size_t claims_bytes(int64_t rows) const noexcept
    {
        if (!problem_.writes_cache() || distinct_ || rows <= kMostRowsScanned) return 0;
        return static_cast<size_t>(rows + claim_entries(rows)) * 8;
    }

    void set_tensors(const Arguments &arguments, AppendParameters *p) const
    {
        const auto find = [&](attn_slot slot) -> const attn_tensor * {
            const int position = problem_.find(slot);
            return position < 0 ? nullptr : arguments.view[position];
        };
        const bool has_batch = !problem_.packed_q;
        const auto rows = [&](attn_slot slot) { return token_view(*find(slot), has_batch, true, true); };
        const auto cache = [&](attn_slot slot) { return token_view(*find(slot), true, true, true); };
        if (problem_.writes_k) p->pairs[kPairK] = {rows(ATTN_SLOT_K), cache(ATTN_SLOT_K_CACHE), problem_.heads_k, 1, 0};
        if (problem_.writes_q) p->pairs[kPairQ] = {rows(ATTN_SLOT_Q), rows(ATTN_SLOT_OUT), problem_.heads_q, 1, 0};
        if (problem_.writes_v) p->pairs[kPairV] = {rows(ATTN_SLOT_V), cache(ATTN_SLOT_V_CACHE), problem_.heads_v, 1, 0};
        if (const attn_tensor *cosines = find(ATTN_SLOT_ROPE_COS)) {
            p->cosines = token_view(*cosines, false, false, true);
            p->sines = token_view(*find(ATTN_SLOT_ROPE_SIN), false, false, true);
        }
        const struct {
            attn_slot slot;
            IntegerVector *to;
        } vectors[] = {{ATTN_SLOT_CU_SEQLENS_Q, &p->cu_seqlens},
                       {ATTN_SLOT_SEQLENS_Q, &p->seqlens},
                       {ATTN_SLOT_SEQLENS_KV, &p->lengths},
                       {ATTN_SLOT_BLOCK_TABLE_PTR, &p->table_ptr}};
        for (const auto &entry : vectors)
            if (const attn_tensor *view = find(entry.slot)) *entry.to = integer_vector(*view);
        const struct {
            attn_slot slot;
            TokenView *to;
        } integers[] = {{ATTN_SLOT_BLOCK_TABLE, &p->table},
                        {ATTN_SLOT_SLOT_MAPPING, &p->mapping},
                        {ATTN_SLOT_POSITIONS_Q, &p->positions},
                        {ATTN_SLOT_STATUS, &p->status}};
        for (const auto &entry : integers)
            if (const attn_tensor *view = find(entry.slot))
                *entry.to = token_view(*view, view->ndim == 2, false, false);
    }

    void set_sizes(const Sizes &sizes, AppendParameters *p) const
    {
        p->batch = sizes.at(Axis::batch);
        p->tq = sizes.at(Axis::query);
        p->total_rows = sizes.at(Axis::total_q);
        p->rows = rows_of_call(p->batch, p->tq, p->total_rows);
        p->longest = problem_.max_q;
        p->cache_rows = sizes.at(Axis::key);
        const int64_t k_pages = sizes.at(Axis::k_pages), v_pages = sizes.at(Axis::v_pages);
        p->pages = k_pages == kFree ? v_pages : v_pages == kFree ? k_pages : std::min(k_pages, v_pages);
        p->columns = sizes.at(Axis::table_columns);
        p->entries = sizes.at(Axis::table_entries);
        p->angles = sizes.at(Axis::positions);
        p->max_kv = problem_.max_kv, p->page_size = problem_.page_size;
        p->ring_rows = problem_.ring_rows, p->sink_tokens = problem_.sink_tokens;
        p->packed = problem_.packed_q, p->mapped = problem_.mapped;
        p->writes_cache = problem_.writes_cache(), p->distinct = distinct_;
        const Rotation &rope = problem_.rope;
        p->rope_dim = static_cast<i32>(rope.dim), p->rope_first = static_cast<i32>(rope.first);
        p->interleaved = rope.layout == ATTN_ROPE_INTERLEAVED;
        if (frequencies_) p->frequencies = static_cast<const double *>(frequencies_->data());
    }

    /// How a row is cut, for units of `channels` channels. Groups are as few as keep the device busy.
    void set_schedule(i32 channels, AppendParameters *p) const
    {
        const bool qk = problem_.writes_k || problem_.writes_q;
        const auto rope_dim = static_cast<i32>(problem_.rope.dim);
        p->rotated_units = rope_dim / 2 / channels;
        p->plain_units = qk ? (static_cast<i32>(problem_.dim_qk) - rope_dim) / channels : 0;
        p->v_units = problem_.writes_v ? static_cast<i32>(problem_.dim_v) / channels : 0;
        const int64_t units = int64_t{p->rotated_units} + p->plain_units + p->v_units;
        const int64_t most =
            std::max({problem_.writes_k ? problem_.heads_k : 1, problem_.writes_v ? problem_.heads_v : 1,
                      problem_.writes_q ? problem_.heads_q : 1});
        const int64_t wanted = kThreadsPerUnit * std::max(device_.facts().compute_units, 1);
        const int64_t groups = std::clamp<int64_t>(wanted / units / std::max<int64_t>(p->rows, 1), 1,
                                                   std::min<int64_t>(most, kAppendThreads));
        p->groups = static_cast<i32>(groups);
        p->rows_per_block = static_cast<i32>(std::clamp<int64_t>(kAppendThreads / (groups * units), 1, kAppendRows));
    }

    /// Whether every view has the alignment of the vector kernel.
    bool fits_vector(const AppendParameters &p) const
    {
        if (!vector_.function) return false;
        for (const AppendPair &pair : p.pairs)
            if (pair.present && (!pair.from.vector || !pair.to.vector)) return false;
        return problem_.rope.dim == 0 || p.frequencies || (p.cosines.vector && p.sines.vector);
    }

    attn_status run_index(i32 step, uint64_t blocks, const AppendParameters &p, void *stream) const
    {
        AppendParameters parameters = p;
        parameters.step = step;
        void *list[] = {&parameters};
        return device_.launch(index_, grid_of(blocks, 1, kFaultThreads), stream, list);
    }

    const AppendProblem &problem_; ///< Of the plan, which outlives its executor.
    Device &device_;
    const bool distinct_; ///< Whether no two rows can have the same place.
    const int status_;    ///< Position of STATUS among the tensors, -1 without.
    Kernel vector_, general_, index_;
    std::unique_ptr<Buffer> frequencies_; ///< Of the rotated pairs, where angles come from a base.
};

} // namespace

std::string refuse_append(const Problem &problem, Device &device)
{
    return refuse_common(problem, device,
                         {ATTN_SLOT_K, ATTN_SLOT_V, ATTN_SLOT_K_CACHE, ATTN_SLOT_V_CACHE, ATTN_SLOT_Q, ATTN_SLOT_OUT});
}

attn_status make_append(const Problem &problem, Device &device, std::unique_ptr<Executor> *out)
{
    auto append = std::make_unique<Append>(static_cast<const AppendProblem &>(problem), device);
    if (const attn_status status = append->prepare()) return status;
    *out = std::move(append);
    return ATTN_OK;
}

std::vector<kernel::Request> append_requests()
{
    return {request_of(Variant::vector), request_of(Variant::general), request_of(Variant::index)};
}

} // namespace attn::gpu
