#include "backends/cuda/decode_sm90/executor.h"

#include "backends/cuda/combine_launch.h"
#include "backends/cuda/decode_sm90/splits.h"
#include "backends/cuda/decode_sm90/variants.h"
#include "backends/cuda/sm90_refusal.h"
#include "backends/cuda/tensor_tiles.h"
#include "backends/gpu/dense/binding.h"
#include "backends/gpu/dense/executor.h"
#include "backends/gpu/dense/splits.h"
#include "backends/gpu/dense/variants.h"
#include "dense.h"
#include "json.h"
#include "names.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace attn::sm90 {
namespace {

static_assert(gpu::kMostClusterBlocks <= DecodeShape::kMostClusterSplits, "shared memory holds what they send");

constexpr int64_t kMostBlocks = (int64_t{1} << 31) - 1; ///< Of threads, in a launch.

/// Queries of a head up to which no other kernel for Hopper serves a plan. With more of them, up to the rows of a tile,
/// memory still bounds the work, so what counts is that every SM asks for keys, and that each key is asked for once.
/// Only here are keys split where tiles are few, pages copied, and heads that share keys packed; where none of this
/// matters the kernel of many rows does as well, with larger products.
constexpr int64_t kFewQueries = 16;

int64_t key_blocks(int64_t keys)
{
    return (keys + DecodeShape::kKeys - 1) / DecodeShape::kKeys;
}

/// Of a tile: the tokens of a sequence with all heads that share a key head.
int64_t rows_of(const DenseProblem &p)
{
    return p.max_q * p.group;
}

DecodeShape common_shape(const DenseProblem &p)
{
    return decode_shape_of(gpu::product_type(p), rows_of(p), p.dim_qk, p.dim_v);
}

/// With few tiles clusters of blocks that have an SM each need no second kernel, and read as fast.
DecodeShape choose_shape(const DenseProblem &p, gpu::Device &device)
{
    const int64_t tiles = p.batch * (p.heads_out / p.group);
    if (2 * tiles * gpu::kMostClusterBlocks > device.facts().compute_units) return common_shape(p);
    const DecodeShape alone = decode_shape_of(gpu::product_type(p), rows_of(p), p.dim_qk, p.dim_v, true);
    return device.waits_for_compiler() || device.has(decode_request(alone)) ? alone : common_shape(p);
}

class Decode final : public Executor {
public:
    Decode(const DenseProblem &problem, gpu::Device &device) : p_(problem), device_(device) {}

    attn_status prepare()
    {
        constant_ = gpu::forward_constants(p_);
        constant_.row_tiles = 1;
        constant_.section = 1;
        shape_ = choose_shape(p_, device_);
        if (const attn_status status = override_decode_shape(&shape_)) return status;
        if (const attn_status status =
                device_.load(decode_request(shape_), true, static_cast<uint32_t>(shape_.threads()),
                             static_cast<uint32_t>(shape_.shared().bytes), &kernel_))
            return status;
        if (const attn_status status =
                device_.load(gpu::combine_request(true), true, gpu::kCombineThreads, 0, &combine_))
            return status;
        rules_.units = std::max(1, device_.facts().compute_units);
        rules_.blocks_per_unit = std::max(1, kernel_.blocks_per_unit);
        rules_.busy = shape_.rows > DecodeShape::kWarpRows;
        rules_.invariant = (p_.flags & ATTN_BATCH_INVARIANT) != 0;
        rules_.fixed = gpu::invariant_splits(DecodeShape::kKeys, p_.max_kv);
        for (uint32_t blocks = 2; blocks <= gpu::kMostClusterBlocks; ++blocks) {
            int32_t clusters = 0;
            if (const attn_status status = device_.count_clusters(kernel_, grid_of(blocks, blocks), &clusters))
                return status;
            rules_.clusters[blocks] = clusters;
        }
        return gpu::make_spare_forward(p_, device_, &portable_);
    }

    const char *kernel() const noexcept override { return "cuda.dense.decode_sm90"; }
    // A call may be one for the portable kernel.
    size_t workspace_alignment() const noexcept override { return portable_->workspace_alignment(); }
    size_t workspace_bytes(const Sizes &sizes) const noexcept override
    {
        // As the portable kernel: how long sequences are, the host does not see.
        Sizes longest = sizes;
        longest.at(Axis::query) = longest.at(Axis::key) = kFree;
        const gpu::LaunchSizes launch = gpu::launch_sizes(p_, longest);
        const int64_t partials = most_decode_partials(rules_, tiles_in(launch), key_blocks(launch.max_kv));
        return std::max(portable_->workspace_bytes(sizes), static_cast<size_t>(partials * floats()) * sizeof(float));
    }

    attn_status execute(const attn_handle_s &handle, const Arguments &arguments, void *workspace, size_t bytes,
                        void *stream) const noexcept override
    {
        gpu::ForwardParams params = constant_;
        const gpu::LaunchSizes sizes = gpu::launch_sizes(p_, arguments.sizes);
        gpu::bind_forward(p_, arguments, sizes, &params);
        const int64_t tiles = tiles_in(sizes);
        const DecodeSplits splits = decode_splits(rules_, tiles, key_blocks(sizes.max_kv));
        gpu::TensorTiles k, v;
        if (sizes.max_q < 1 || tiles < 1 || tiles * splits.count > kMostBlocks ||
            !tile_tensors(params, arguments.sizes, sizes, &k, &v))
            return portable_->execute(handle, arguments, workspace, bytes, stream);
        if (const attn_status status =
                check_workspace(workspace, bytes, workspace_bytes(arguments.sizes), workspace_alignment()))
            return status;
        params.splits = static_cast<i32>(splits.count);
        if (splits.count > 1 && !splits.clustered) params.partials = static_cast<float *>(workspace);
        return launch(k, v, tiles, sizes.max_kv, splits.clustered, params, stream);
    }

    void describe(JsonWriter &json) const override
    {
        json.add("tile_rows", int64_t{shape_.rows});
        json.add("key_block", int64_t{DecodeShape::kKeys});
        json.add("stages", int64_t{shape_.stages});
        json.add("heads_per_tile", p_.group);
        json.add("threads", int64_t{shape_.threads()});
        json.add("shared_bytes", int64_t{shape_.shared().bytes});
        json.add("registers", int64_t{kernel_.registers});
        json.add("blocks_per_unit", int64_t{kernel_.blocks_per_unit});
        json.add("products", shape_.type == gpu::kFloat16 ? "float16" : "bfloat16");
        json.add("kernel_origin", kernel::origin_name(kernel_.origin));
        json.add("for_other_strides", portable_->kernel());
        const gpu::LaunchSizes longest = {p_.batch, p_.max_q, p_.max_kv};
        const DecodeSplits splits = decode_splits(rules_, tiles_in(longest), key_blocks(p_.max_kv));
        json.add("splits", splits.count); // of calls as large as the bounds
        json.add("splits_meet_in", splits.count == 1 ? "nothing" : splits.clustered ? "cluster" : "workspace");
    }

private:
    int64_t tiles_in(const gpu::LaunchSizes &sizes) const noexcept { return sizes.batch * (p_.heads_out / p_.group); }
    int64_t floats() const noexcept { return gpu::partial_floats(shape_.rows, p_.dim_v); }
    int64_t box_keys() const noexcept
    {
        return p_.storage == Storage::paged ? std::min<int64_t>(p_.page_size, DecodeShape::kKeys) : DecodeShape::kKeys;
    }

    /// False if the call's tensors cannot be copied as tiles.
    bool tile_tensors(const gpu::ForwardParams &f, const Sizes &extents, const gpu::LaunchSizes &sizes,
                      gpu::TensorTiles *k, gpu::TensorTiles *v) const noexcept
    {
        int64_t rows = sizes.max_kv, outer = sizes.batch;
        if (p_.storage == Storage::packed) rows = extents.at(Axis::total_kv), outer = 1;
        if (p_.storage == Storage::paged) rows = p_.page_size, outer = f.sequences.pages;
        return f.q.vector && f.out.vector && tiles_of(f.k, p_.dim_qk, rows, p_.heads_k, outer, box_keys(), k) &&
               tiles_of(f.v, p_.dim_v, rows, p_.heads_v, outer, box_keys(), v);
    }

    gpu::Grid grid_of(uint32_t blocks, uint32_t cluster) const noexcept
    {
        gpu::Grid grid;
        grid.x = blocks;
        grid.threads = static_cast<uint32_t>(shape_.threads());
        grid.shared_bytes = static_cast<uint32_t>(shape_.shared().bytes);
        grid.cluster = cluster;
        grid.balanced = true;
        return grid;
    }

    attn_status launch(const gpu::TensorTiles &k, const gpu::TensorTiles &v, int64_t tiles, int64_t max_kv,
                       bool clustered, gpu::ForwardParams params, void *stream) const noexcept
    {
        const gpu::Call call(device_, stream);
        if (call.status() != ATTN_OK) return call.status();
        gpu::TensorMap maps[2];
        if (const attn_status status = device_.encode(k, &maps[0])) return status;
        if (const attn_status status = device_.encode(v, &maps[1])) return status;
        gpu::Grid grid =
            grid_of(static_cast<uint32_t>(tiles * params.splits), clustered ? static_cast<uint32_t>(params.splits) : 1);
        grid.programmatic = begin_early(rules_, grid.x, (key_blocks(max_kv) + params.splits - 1) / params.splits);
        i32 box = static_cast<i32>(box_keys()), meets = clustered;
        void *parameters[] = {&maps[0], &maps[1], &params, &box, &meets};
        if (const attn_status status = device_.launch(kernel_, grid, stream, parameters)) return status;
        if (!params.partials) return ATTN_OK;
        return launch_combine(device_, combine_, &params, tiles, shape_.rows, stream);
    }

    const DenseProblem &p_; ///< Of the plan, which outlives its executor.
    gpu::Device &device_;
    gpu::ForwardParams constant_ = {}; ///< What does not change from call to call.
    DecodeShape shape_ = {};
    DecodeRules rules_;
    gpu::Kernel kernel_, combine_;
    std::unique_ptr<Executor> portable_; ///< For calls whose tensors this kernel cannot copy.
};

/// What of the problem the kernel does not compute, on a GPU of `units` SMs, or leaves to another.
std::vector<std::string> list_faults(const DenseProblem &p, int64_t units)
{
    std::vector<std::string> faults = p.unserved;
    const auto add = [&](bool is_fault, std::string what) {
        if (is_fault) faults.push_back(std::move(what));
    };
    const auto queries = [&](const std::string &rule) {
        return "attn_problem.max_q = " + std::to_string(p.max_q) + " with " + std::to_string(p.group) +
               " heads on a key head (" + rule + ")";
    };
    if (p.max_q > DecodeShape::kMostRows || rows_of(p) > DecodeShape::kMostRows)
        faults.push_back(queries("at most " + std::to_string(DecodeShape::kMostRows) + " rows"));
    else if (p.max_q > kFewQueries && p.group == 1 && p.storage != Storage::paged && p.batch * p.heads_out >= units)
        faults.push_back(queries("at most " + std::to_string(kFewQueries) + " queries where there are " +
                                 std::to_string(units) + " tiles or more: the kernel of many rows fills the SMs"));
    add(p.flags & ATTN_STRICT_NONFINITE, "attn_problem.flags: ATTN_STRICT_NONFINITE");
    add(p.flags & ATTN_CHECKED, "attn_problem.flags: ATTN_CHECKED");
    if (!gpu::is_plain(p))
        faults.emplace_back(
            "with these options and dtypes (the plain operator: softmax of scaled products, causal, windows, "
            "lengths, pages, LSE; float16 or bfloat16 throughout)");
    for (const auto &[name, dim] : {std::pair("dim_qk", p.dim_qk), std::pair("dim_v", p.dim_v)})
        add(dim % 8 != 0 || dim > kLargestDecodeDim, std::string("attn_problem.") + name + " = " + std::to_string(dim) +
                                                         " (a multiple of 8 up to " +
                                                         std::to_string(kLargestDecodeDim) + ")");
    if (std::string fault = page_fault(p, DecodeShape::kKeys); !fault.empty()) faults.push_back(std::move(fault));
    return faults;
}

} // namespace

std::string refuse_decode(const Problem &problem, gpu::Device &device)
{
    if (std::string reason = refuse_device(device.facts()); !reason.empty()) return reason;
    const auto &dense = static_cast<const DenseProblem &>(problem);
    if (std::string reason = refuse_faults(list_faults(dense, device.facts().compute_units)); !reason.empty())
        return reason;
    if (std::string reason = refuse_request(decode_request(choose_shape(dense, device)), device); !reason.empty())
        return reason;
    return gpu::refuse_forward(problem, device); // which serves strides that this kernel does not
}

attn_status make_decode(const Problem &problem, gpu::Device &device, std::unique_ptr<Executor> *out)
{
    auto made = std::make_unique<Decode>(static_cast<const DenseProblem &>(problem), device);
    if (const attn_status status = made->prepare()) return status;
    *out = std::move(made);
    return ATTN_OK;
}

} // namespace attn::sm90
