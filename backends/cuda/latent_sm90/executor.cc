#include "backends/cuda/latent_sm90/executor.h"

#include "backends/cuda/combine_launch.h"
#include "backends/cuda/latent_sm90/splits.h"
#include "backends/cuda/latent_sm90/variants.h"
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
#include <tuple>
#include <utility>
#include <vector>

namespace attn::sm90 {
namespace {

constexpr int64_t kMostBlocks = (int64_t{1} << 31) - 1; ///< Of threads, in a launch.
constexpr int64_t kRows = LatentShape::kRows, kKeys = LatentShape::kKeys;

int64_t key_blocks(int64_t keys)
{
    return (keys + kKeys - 1) / kKeys;
}

class Latent final : public Executor {
public:
    Latent(const DenseProblem &problem, gpu::Device &device) : p_(problem), device_(device) {}

    attn_status prepare()
    {
        constant_ = gpu::forward_constants(p_);
        constant_.section = 1;
        shape_ = latent_shape_of(gpu::product_type(p_));
        if (const attn_status status = override_latent_shape(&shape_)) return status;
        // A cluster has rows of one token, which see the same keys.
        if (p_.group % (shape_.cluster * kRows) != 0) shape_.cluster = 1;
        if (const attn_status status =
                device_.load(latent_request(shape_), true, static_cast<uint32_t>(shape_.threads()),
                             static_cast<uint32_t>(shape_.shared().bytes), &kernel_))
            return status;
        if (const attn_status status =
                device_.load(gpu::combine_request(true), true, gpu::kCombineThreads, 0, &combine_))
            return status;
        rules_.units = std::max(1, device_.facts().compute_units);
        rules_.invariant = (p_.flags & ATTN_BATCH_INVARIANT) != 0;
        rules_.fixed = gpu::invariant_splits(kKeys, p_.max_kv);
        return gpu::make_spare_forward(p_, device_, &portable_);
    }

    const char *kernel() const noexcept override { return "cuda.dense.latent_sm90"; }
    // A call may be one for the portable kernel.
    size_t workspace_alignment() const noexcept override { return portable_->workspace_alignment(); }
    size_t workspace_bytes(const Sizes &sizes) const noexcept override
    {
        // As the portable kernel: how long sequences are, the host does not see.
        Sizes longest = sizes;
        longest.at(Axis::query) = longest.at(Axis::key) = kFree;
        const gpu::LaunchSizes launch = gpu::launch_sizes(p_, longest);
        const int64_t partials = most_latent_partials(rules_, tiles_in(launch), key_blocks(launch.max_kv));
        return std::max(portable_->workspace_bytes(sizes), static_cast<size_t>(partials * floats()) * sizeof(float));
    }

    attn_status execute(const attn_handle_s &handle, const Arguments &arguments, void *workspace, size_t bytes,
                        void *stream) const noexcept override
    {
        gpu::ForwardParams params = constant_;
        const gpu::LaunchSizes sizes = gpu::launch_sizes(p_, arguments.sizes);
        gpu::bind_forward(p_, arguments, sizes, &params);
        const int64_t tiles = tiles_in(sizes), splits = latent_splits(rules_, tiles, key_blocks(sizes.max_kv));
        gpu::TensorTiles k;
        if (tiles < 1 || std::max(tiles * splits, combine_blocks(tiles)) > kMostBlocks ||
            !tile_keys(params, arguments.sizes, sizes, &k))
            return portable_->execute(handle, arguments, workspace, bytes, stream);
        if (const attn_status status =
                check_workspace(workspace, bytes, workspace_bytes(arguments.sizes), workspace_alignment()))
            return status;
        params.row_tiles = static_cast<i32>(row_tiles_in(sizes));
        params.splits = static_cast<i32>(splits);
        if (splits > 1) params.partials = static_cast<float *>(workspace);
        return launch(k, tiles, params, stream);
    }

    void describe(JsonWriter &json) const override
    {
        json.add("tile_rows", kRows);
        json.add("key_block", kKeys);
        json.add("heads_per_tile", std::min(p_.group, kRows));
        json.add("threads", int64_t{shape_.threads()});
        json.add("shared_bytes", int64_t{shape_.shared().bytes});
        json.add("registers", int64_t{kernel_.registers});
        json.add("cluster", int64_t{shape_.cluster});
        json.add("products", shape_.type == gpu::kFloat16 ? "float16" : "bfloat16");
        json.add("kernel_origin", kernel::origin_name(kernel_.origin));
        json.add("for_other_strides", portable_->kernel());
        const gpu::LaunchSizes longest = {p_.batch, p_.max_q, p_.max_kv};
        // Of calls as large as the bounds.
        json.add("splits", latent_splits(rules_, tiles_in(longest), key_blocks(p_.max_kv)));
    }

private:
    int64_t row_tiles_in(const gpu::LaunchSizes &sizes) const noexcept
    {
        return (sizes.max_q * p_.group + kRows - 1) / kRows;
    }
    int64_t tiles_in(const gpu::LaunchSizes &sizes) const noexcept
    {
        return sizes.batch * (p_.heads_out / p_.group) * row_tiles_in(sizes);
    }
    int64_t floats() const noexcept { return gpu::partial_floats(kRows, p_.dim_v); }
    int64_t combine_blocks(int64_t tiles) const noexcept { return gpu::combine_blocks(tiles * kRows, p_.dim_v); }
    int64_t box_keys() const noexcept
    {
        return p_.storage == Storage::paged ? std::min<int64_t>(p_.page_size, kKeys) : kKeys;
    }

    /// False if the call's tensors cannot be copied as tiles.
    bool tile_keys(const gpu::ForwardParams &f, const Sizes &extents, const gpu::LaunchSizes &sizes,
                   gpu::TensorTiles *k) const noexcept
    {
        int64_t rows = sizes.max_kv, outer = sizes.batch;
        if (p_.storage == Storage::packed) rows = extents.at(Axis::total_kv), outer = 1;
        if (p_.storage == Storage::paged) rows = p_.page_size, outer = f.sequences.pages;
        return f.q.vector && f.out.vector && tiles_of(f.k, p_.dim_qk, rows, p_.heads_k, outer, box_keys(), k);
    }

    attn_status launch(const gpu::TensorTiles &k, int64_t tiles, gpu::ForwardParams params, void *stream) const noexcept
    {
        const gpu::Call call(device_, stream);
        if (call.status() != ATTN_OK) return call.status();
        gpu::TensorMap map;
        if (const attn_status status = device_.encode(k, &map)) return status;
        gpu::Grid grid;
        grid.programmatic = true;
        grid.x = static_cast<uint32_t>(tiles * params.splits);
        grid.threads = static_cast<uint32_t>(shape_.threads());
        grid.shared_bytes = static_cast<uint32_t>(shape_.shared().bytes);
        if (shape_.cluster > 1) grid.cluster = static_cast<uint32_t>(shape_.cluster);
        i32 box = static_cast<i32>(box_keys());
        void *parameters[] = {&map, &params, &box};
        if (const attn_status status = device_.launch(kernel_, grid, stream, parameters)) return status;
        if (!params.partials) return ATTN_OK;
        return launch_combine(device_, combine_, &params, tiles, static_cast<i32>(kRows), stream);
    }

    const DenseProblem &p_; ///< Of the plan, which outlives its executor.
    gpu::Device &device_;
    gpu::ForwardParams constant_ = {}; ///< What does not change from call to call.
    LatentShape shape_ = {};
    LatentRules rules_;
    gpu::Kernel kernel_, combine_;
    std::unique_ptr<Executor> portable_; ///< For calls whose tensors this kernel cannot copy.
};

/// What of the problem the kernel does not compute.
std::vector<std::string> list_faults(const DenseProblem &p)
{
    std::vector<std::string> faults = p.unserved;
    const auto add = [&](bool is_fault, std::string what) {
        if (is_fault) faults.push_back(std::move(what));
    };
    add(!(p.flags & ATTN_V_ALIASES_K), "a V of its own (attn_problem.flags: without ATTN_V_ALIASES_K)");
    add(p.flags & ATTN_STRICT_NONFINITE, "attn_problem.flags: ATTN_STRICT_NONFINITE");
    add(p.flags & ATTN_CHECKED, "attn_problem.flags: ATTN_CHECKED");
    if (!gpu::is_plain(p))
        faults.emplace_back(
            "with these options and dtypes (the plain operator: softmax of scaled products, causal, windows, "
            "lengths, pages, LSE; float16 or bfloat16 throughout)");
    for (const auto &[name, dim, only] : {std::tuple("dim_qk", p.dim_qk, int64_t{LatentShape::kDimQk}),
                                          std::tuple("dim_v", p.dim_v, int64_t{LatentShape::kDimV})})
        add(dim != only,
            std::string("attn_problem.") + name + " = " + std::to_string(dim) + " (" + std::to_string(only) + ")");
    if (std::string fault = page_fault(p, kKeys); !fault.empty()) faults.push_back(std::move(fault));
    return faults;
}

} // namespace

std::string refuse_latent(const Problem &problem, gpu::Device &device)
{
    if (std::string reason = refuse_device(device.facts()); !reason.empty()) return reason;
    const auto &dense = static_cast<const DenseProblem &>(problem);
    if (std::string reason = refuse_faults(list_faults(dense)); !reason.empty()) return reason;
    if (std::string reason = refuse_request(latent_request(latent_shape_of(gpu::product_type(dense))), device);
        !reason.empty())
        return reason;
    return gpu::refuse_forward(problem, device); // which serves strides that this kernel does not
}

attn_status make_latent(const Problem &problem, gpu::Device &device, std::unique_ptr<Executor> *out)
{
    auto made = std::make_unique<Latent>(static_cast<const DenseProblem &>(problem), device);
    if (const attn_status status = made->prepare()) return status;
    *out = std::move(made);
    return ATTN_OK;
}

} // namespace attn::sm90
