// The mask program of a plan on a GPU: what is launched before the forward kernel, and what that is told.
#ifndef ATTN_BACKENDS_GPU_DENSE_MASK_PLAN_H
#define ATTN_BACKENDS_GPU_DENSE_MASK_PLAN_H

#include "arguments.h"
#include "backends/gpu/dense/mask_params.h"
#include "backends/gpu/dense/shape.h"
#include "backends/gpu/device.h"
#include "dense.h"

namespace attn::gpu {

/// Classes of tiles come from a kernel of their own. Kernels that have the text of the program ask it for each score;
/// the others read a bit, which that kernel writes too.
class MaskPlan {
public:
    explicit MaskPlan(const DenseProblem &problem) : p_(problem) {}

    bool present() const noexcept { return p_.program.present(); }
    bool has_text() const noexcept { return text_; }
    /// Whether the other kernels may have the text: each term takes registers for every row of a thread.
    bool is_short() const noexcept { return p_.program.terms.size() <= 16; }
    /// Adds the text of the program to the request of a kernel.
    void add_text(kernel::Request *request) const;

    /// Loads and uploads what executes need; `text`: whether the other kernels have the text.
    [[nodiscard]] attn_status prepare(Device &device, bool text);

    /// Sizes of one execute.
    struct Sizes {
        int64_t batch, max_q, max_kv, row_tiles;
        Shape shape; ///< Of the forward kernel.
    };
    /// Bytes of the workspace, which begins at a multiple of 256.
    size_t workspace_bytes(const Sizes &sizes) const noexcept;
    /// Blocks of threads along the longest axis of the launch.
    int64_t blocks(const Sizes &sizes) const noexcept { return sizes.row_tiles * key_tiles(sizes); }
    /// Fills in the program's part of the parameters, whose sequences are filled in.
    void bind(const Arguments &arguments, const Sizes &sizes, void *workspace, ForwardParams *params) const noexcept;
    /// Launches the kernel before the others.
    [[nodiscard]] attn_status launch(const Device &device, const ForwardParams &params, void *stream) const noexcept;

private:
    int64_t heads() const noexcept { return p_.program.by_head ? p_.heads_out : 1; }
    static int64_t key_tiles(const Sizes &sizes) noexcept;
    static int64_t words(const Sizes &sizes) noexcept { return (sizes.max_kv + 31) / 32; }
    size_t bits_bytes(const Sizes &sizes) const noexcept;

    const DenseProblem &p_; ///< Of the plan.
    bool text_ = false;
    Kernel kernel_;
    std::unique_ptr<Buffer> constants_;
    MaskArgs args_ = {};
};

} // namespace attn::gpu

#endif
