#include "backends/cuda/dense_sm90/executor.h"

#include "backends/cuda/dense_sm90/variants.h"
#include "backends/cuda/sm90_model.h"
#include "backends/cuda/sm90_refusal.h"
#include "backends/cuda/tensor_tiles.h"
#include "backends/gpu/dense/binding.h"
#include "backends/gpu/dense/executor.h"
#include "backends/gpu/dense/variants.h"
#include "dense.h"
#include "json.h"
#include "names.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

namespace attn::sm90 {
namespace {

/// The number of a tile is a 32-bit number.
constexpr int64_t kMostPlaces = (int64_t{1} << 31) - 1;
/// Rows of a consumer, which are copied together.
constexpr i32 kConsumerRows = 64;
/// Queries of a head up to which others are faster: they put heads that share keys into a tile, or split keys.
constexpr int64_t kFewRows = 16;
/// Channels of V up to which registers suffice: for a bias tensor, sigmoid and ReLU, and for other features than the
/// gate.
constexpr i32 kWideFeatures = kAnyBias | kSigmoidWeights | kReluWeights;
constexpr int64_t kWideDimV = 128, kFeaturedDimV = 192;

/// The shape that serves sequences of any length, which the default pack may have.
Shape common_shape(const DenseProblem &p)
{
    Wish wish = wish_of(p);
    wish.is_short = wish.is_long = false, wish.hopes = true;
    return shape_of(wish);
}

/// The shape for a problem: the one that serves it best if its kernel is at hand or may be compiled.
Shape choose_shape(const DenseProblem &p, gpu::Device &device)
{
    const Shape best = shape_of(wish_of(p));
    return device.waits_for_compiler() || device.has(forward_request(best)) ? best : common_shape(p);
}

/// Of Q, K, V and OUT; of the factors of a low-rank bias.
constexpr size_t kMaps = 4, kMostMaps = 6;
/// Of the counter of tiles, at the beginning of the workspace.
constexpr size_t kCounterBytes = 16;

class Forward final : public Executor {
public:
    Forward(const DenseProblem &problem, gpu::Device &device) : p_(problem), device_(device) {}

    attn_status prepare()
    {
        constant_ = gpu::forward_constants(p_);
        constant_.group = 1; // a tile has rows of one head
        constant_.splits = 1;
        shape_ = choose_shape(p_, device_);
        counts_ = !is_uniform(p_);
        if (const attn_status status = override_shape(&shape_)) return status;
        if (counts_ && shape_.cluster > 1)
            return fail(ATTN_ERROR_INVALID, "ATTN_GPU_SM90_SHAPE: cluster = %d, where tiles see different keys",
                        shape_.cluster);
        if (const attn_status status = load()) return status;
        // Clusters that some SMs are left out of cost more than they gain.
        if (shape_.cluster > 1 && 16 * blocks_ < 15 * int64_t{device_.facts().compute_units}) {
            shape_ = common_shape(p_);
            if (const attn_status status = load()) return status;
        }
        return gpu::make_spare_forward(p_, device_, &portable_);
    }

    const char *kernel() const noexcept override { return "cuda.dense.forward_sm90"; }
    // The kernel needs a counter at most, but a call may be one for the portable kernel.
    size_t workspace_alignment() const noexcept override { return portable_->workspace_alignment(); }
    size_t workspace_bytes(const Sizes &sizes) const noexcept override
    {
        return std::max(portable_->workspace_bytes(sizes), counts_ ? kCounterBytes : 0);
    }

    attn_status execute(const attn_handle_s &handle, const Arguments &arguments, void *workspace, size_t bytes,
                        void *stream) const noexcept override
    {
        gpu::ForwardParams params = constant_;
        const gpu::LaunchSizes sizes = gpu::launch_sizes(p_, arguments.sizes);
        gpu::bind_forward(p_, arguments, sizes, &params);
        const int64_t pairs = sizes.batch * p_.heads_out;
        const int64_t together = int64_t{shape_.rows()} * shape_.cluster; // rows of a cluster
        const int64_t row_tiles = (sizes.max_q + together - 1) / together * shape_.cluster;
        std::array<gpu::TensorTiles, kMostMaps> tensors;
        if (pairs * row_tiles < 1 || pairs * row_tiles > kMostPlaces ||
            !tile_tensors(params, arguments.sizes, sizes, &tensors))
            return portable_->execute(handle, arguments, workspace, bytes, stream);
        if (const attn_status status =
                check_workspace(workspace, bytes, workspace_bytes(arguments.sizes), workspace_alignment()))
            return status;
        params.row_tiles = static_cast<i32>(row_tiles);
        // Where tiles take equally long, those of a head follow each other and read its keys together. Else the last
        // rows of as many heads as the L2 cache holds the keys of come first; heads of a group share them.
        params.section =
            counts_ ? static_cast<i32>(std::min(pairs, p_.group * gpu::section_of(p_, device_.facts(), sizes, pairs)))
                    : 1;
        const bool counts = counts_ && pairs * row_tiles > device_.facts().compute_units;
        if (counts) params.tile_counter = static_cast<uint32_t *>(workspace);
        return launch(tensors, pairs * row_tiles, params, stream);
    }

    void describe(JsonWriter &json) const override
    {
        json.add("tile_rows", int64_t{shape_.rows()});
        json.add("key_block", int64_t{shape_.keys});
        json.add("stages", int64_t{shape_.stages});
        json.add("query_buffers", int64_t{shape_.query_buffers});
        json.add("turns", shape_.turns != 0);
        json.add("cluster", int64_t{shape_.cluster});
        json.add("holds_q", shape_.holds_q != 0);
        json.add("hopes", shape_.hopes != 0);
        json.add("features", int64_t{shape_.features});
        json.add("mask_kind", int64_t{shape_.mask});
        json.add("threads", int64_t{shape_.threads()});
        json.add("shared_bytes", int64_t{shape_.shared().bytes});
        json.add("registers", int64_t{kernel_.registers});
        json.add("estimated_us", forward_us(p_, shape_.consumers, std::max(1, device_.facts().compute_units)));
        json.add("products", shape_.type == gpu::kFloat16 ? "float16" : "bfloat16");
        json.add("kernel_origin", kernel::origin_name(kernel_.origin));
        json.add("for_other_strides", portable_->kernel());
    }

private:
    attn_status load()
    {
        gpu::Grid grid;
        grid.threads = static_cast<uint32_t>(shape_.threads());
        grid.shared_bytes = static_cast<uint32_t>(shape_.shared().bytes);
        if (const attn_status status =
                device_.load(forward_request(shape_), true, grid.threads, grid.shared_bytes, &kernel_))
            return status;
        blocks_ = std::max(1, device_.facts().compute_units);
        if (shape_.cluster == 1) return ATTN_OK;
        grid.x = grid.cluster = static_cast<uint32_t>(shape_.cluster);
        int32_t clusters = 0;
        if (const attn_status status = device_.count_clusters(kernel_, grid, &clusters)) return status;
        blocks_ = int64_t{clusters} * shape_.cluster;
        return ATTN_OK;
    }

    /// False if the call's tensors cannot be copied as tiles: strides that no tensor map has, or nothing to copy.
    bool tile_tensors(const gpu::ForwardParams &f, const Sizes &extents, const gpu::LaunchSizes &sizes,
                      std::array<gpu::TensorTiles, kMostMaps> *tensors) const noexcept
    {
        const bool packed = p_.storage == Storage::packed;
        const int64_t queries = p_.packed_q ? extents.at(Axis::total_q) : sizes.max_q;
        const int64_t keys = packed ? extents.at(Axis::total_kv) : sizes.max_kv;
        const int64_t q_batch = p_.packed_q ? 1 : sizes.batch, k_batch = packed ? 1 : sizes.batch;
        const i32 box = shape_.keys / shape_.cluster;
        auto &[q, k, v, out, rank_q, rank_k] = *tensors;
        if (!f.out.vector || !tiles_of(f.q, p_.dim_qk, queries, p_.heads_q, q_batch, shape_.rows(), &q) ||
            !tiles_of(f.k, p_.dim_qk, keys, p_.heads_k, k_batch, box, &k) ||
            !tiles_of(f.v, p_.dim_v, keys, p_.heads_v, k_batch, box, &v) ||
            !tiles_of(f.out, p_.dim_v, queries, p_.heads_out, q_batch, kConsumerRows, &out))
            return false;
        if (shape_.rank == 0) return true;
        const int64_t rank_heads = f.rank_k.head_step == 0 ? 1 : p_.heads_out;
        return tiles_of(f.rank_q, p_.bias_rank, queries, p_.heads_out, q_batch, shape_.rows(), &rank_q) &&
               tiles_of(f.rank_k, p_.bias_rank, keys, rank_heads, k_batch, box, &rank_k);
    }

    attn_status launch(const std::array<gpu::TensorTiles, kMostMaps> &tensors, int64_t tiles, gpu::ForwardParams params,
                       void *stream) const noexcept
    {
        gpu::TensorMap maps[kMostMaps] = {};
        const size_t count = shape_.rank > 0 ? kMostMaps : kMaps;
        const gpu::Call call(device_, stream);
        if (call.status() != ATTN_OK) return call.status();
        for (size_t i = 0; i < count; ++i)
            if (const attn_status status = device_.encode(tensors[i], &maps[i])) return status;
        if (params.tile_counter)
            if (const attn_status status = device_.clear(params.tile_counter, 1, stream)) return status;
        gpu::Grid grid;
        grid.cluster = static_cast<uint32_t>(shape_.cluster);
        grid.x = static_cast<uint32_t>(std::min(tiles, blocks_)); // both are of whole clusters
        grid.threads = static_cast<uint32_t>(shape_.threads());
        grid.shared_bytes = static_cast<uint32_t>(shape_.shared().bytes);
        grid.programmatic = true;
        void *parameters[] = {&maps[0], &maps[1], &maps[2], &maps[3], &params, &maps[4], &maps[5]};
        return device_.launch(kernel_, grid, stream, parameters);
    }

    const DenseProblem &p_; ///< Of the plan, which outlives its executor.
    gpu::Device &device_;
    gpu::ForwardParams constant_ = {}; ///< What does not change from call to call.
    Shape shape_ = {};
    gpu::Kernel kernel_;
    int64_t blocks_ = 1;                 ///< Of threads that run at once.
    bool counts_ = false;                ///< Tiles may take unequally long: see the kernel's scheduler.
    std::unique_ptr<Executor> portable_; ///< For calls whose tensors this kernel cannot copy.
};

/// What of the problem the kernel does not compute.
std::vector<std::string> list_faults(const DenseProblem &p)
{
    std::vector<std::string> faults = p.unserved;
    const auto add = [&](bool is_fault, const char *what) {
        if (is_fault) faults.emplace_back(what);
    };
    add(p.flags & ATTN_STRICT_NONFINITE, "attn_problem.flags: ATTN_STRICT_NONFINITE");
    add(p.flags & ATTN_CHECKED, "attn_problem.flags: ATTN_CHECKED");
    if (gpu::product_type(p) == gpu::kFloat32 && !(p.flags & ATTN_STRICT_NONFINITE))
        add(true, "with these dtypes and options (float16 or bfloat16 throughout)");
    add(p.program.present(), "attn_dense.mask");
    add(p.storage == Storage::paged, "attn_problem.page_size");
    add(p.bias_table.present, "attn_dense.bias_table");
    for (const attn_slot slot : {ATTN_SLOT_ROW_ENTROPY, ATTN_SLOT_COLUMN_MASS})
        if (p.has(slot)) faults.push_back(std::string("slot ") + slot_name(slot));
    if (!(p.scale > 0)) faults.push_back("attn_problem.scale = " + std::to_string(p.scale) + " (above 0)");
    for (const auto &[name, dim] : {std::pair("dim_qk", p.dim_qk), std::pair("dim_v", p.dim_v)})
        if (dim % 8 != 0 || dim > kLargestDim)
            faults.push_back(std::string("attn_problem.") + name + " = " + std::to_string(dim) +
                             " (a multiple of 8 up to " + std::to_string(kLargestDim) + ")");
    if (p.bias_rank % 8 != 0 || p.bias_rank > Shape::kMostRank)
        faults.push_back("attn_dense.bias_rank = " + std::to_string(p.bias_rank) + " (a multiple of 8 up to " +
                         std::to_string(Shape::kMostRank) + ")");
    const i32 features = wish_of(p).features;
    if (p.dim_v > kWideDimV && (features & kWideFeatures))
        faults.push_back("attn_problem.dim_v = " + std::to_string(p.dim_v) +
                         " with slot BIAS, sigmoid or ReLU (at most " + std::to_string(kWideDimV) + ")");
    if (p.dim_v > kFeaturedDimV && (features & ~(kGate | kWideFeatures | kBiasFirst)))
        faults.push_back(
            "attn_problem.dim_v = " + std::to_string(p.dim_v) +
            " with softcap, ALiBi, low-rank bias, temperatures, sink logits, head weights or row maximum (at most " +
            std::to_string(kFeaturedDimV) + ")");
    if (p.max_q <= kFewRows)
        faults.push_back("attn_problem.max_q = " + std::to_string(p.max_q) + " with " + std::to_string(p.group) +
                         " heads on a key head (more than " + std::to_string(kFewRows) +
                         ": a tile has rows of one head, others pack heads or split keys)");
    return faults;
}

} // namespace

std::string refuse_forward(const Problem &problem, gpu::Device &device)
{
    if (std::string reason = refuse_device(device.facts()); !reason.empty()) return reason;
    const auto &dense = static_cast<const DenseProblem &>(problem);
    std::vector<std::string> faults = list_faults(dense);
    const Shape shape = choose_shape(dense, device);
    const int64_t rows = shape.rows();
    const int64_t tiles = dense.batch * dense.heads_out * ((dense.max_q + rows - 1) / rows);
    const int64_t units = device.facts().compute_units;
    if (faults.empty() && tiles < units) {
        const double whole = forward_us(dense, shape.consumers, units), split = split_us(dense, units);
        if (split < whole)
            faults.push_back(std::to_string(tiles) + " tiles of up to " + std::to_string(dense.max_kv) + " keys on " +
                             std::to_string(units) + " SMs (" + std::to_string(std::lround(whole)) + " us estimated, " +
                             std::to_string(std::lround(split)) + " us where keys are split)");
    }
    if (std::string reason = refuse_faults(faults); !reason.empty()) return reason;
    if (std::string reason = refuse_request(forward_request(shape), device); !reason.empty()) return reason;
    return gpu::refuse_forward(problem, device); // which serves strides that this kernel does not
}

attn_status make_forward(const Problem &problem, gpu::Device &device, std::unique_ptr<Executor> *out)
{
    auto made = std::make_unique<Forward>(static_cast<const DenseProblem &>(problem), device);
    if (const attn_status status = made->prepare()) return status;
    *out = std::move(made);
    return ATTN_OK;
}

} // namespace attn::sm90
