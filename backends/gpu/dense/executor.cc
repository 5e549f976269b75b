#include "backends/gpu/dense/executor.h"

#include "backends/gpu/dense/binding.h"
#include "backends/gpu/dense/mask_bits.h"
#include "backends/gpu/dense/mask_plan.h"
#include "backends/gpu/dense/params.h"
#include "backends/gpu/dense/splits.h"
#include "backends/gpu/dense/variants.h"
#include "backends/gpu/faults.h"
#include "backends/gpu/views.h"
#include "dense.h"
#include "describe.h"
#include "json.h"
#include "names.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace attn::gpu {
namespace {

constexpr int64_t kMostBlocks = (int64_t{1} << 31) - 1; ///< Of threads, in a launch.

i64 round_up(i64 value, i64 multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

class Forward final : public Executor {
public:
    Forward(const DenseProblem &problem, Device &device, bool spare)
        : p_(problem), device_(device), spare_(spare), program_(problem), status_(problem.find(ATTN_SLOT_STATUS))
    {
    }

    attn_status prepare()
    {
        constant_ = forward_constants(p_);
        if (const attn_status status = choose()) return status;
        if (const attn_status status = upload()) return status;
        rules_.capacity = std::max(1, device_.facts().compute_units * std::max(1, best().kernel.blocks_per_unit));
        rules_.keys = best().shape.keys;
        rules_.invariant = (p_.flags & ATTN_BATCH_INVARIANT) != 0;
        rules_.fixed = invariant_splits(rules_.keys, p_.max_kv);
        return ATTN_OK;
    }

    const char *kernel() const noexcept override
    {
        return plain_.kernel.function ? "gpu.dense.forward" : "gpu.dense.forward_general";
    }
    size_t workspace_alignment() const noexcept override { return 256; }
    /// Launches follow the shapes of views; how long sequences are, the host does not see. So the longest that the plan
    /// allows stand for max_q and max_kv.
    size_t workspace_bytes(const Sizes &sizes) const noexcept override
    {
        Sizes longest = sizes;
        longest.at(Axis::query) = longest.at(Axis::key) = kFree;
        return lay_out(launch_sizes(p_, longest)).bytes;
    }

    attn_status execute(const attn_handle_s &, const Arguments &arguments, void *workspace, size_t bytes,
                        void *stream) const noexcept override;

    void describe(JsonWriter &json) const override
    {
        const Shape &s = best().shape;
        json.add("tile_rows", int64_t{s.rows()});
        json.add("key_block", int64_t{s.keys});
        json.add("heads_per_tile", p_.group);
        json.add("threads", int64_t{s.threads()});
        json.add("shared_bytes", int64_t{s.shared().bytes});
        json.add("registers", int64_t{best().kernel.registers});
        json.add("blocks_per_unit", int64_t{best().kernel.blocks_per_unit});
        json.add("products", s.floats() ? "float32" : s.type == 1 ? "float16" : "bfloat16");
        json.add("kernel_origin", kernel::origin_name(best().kernel.origin));
        if (program_.present()) json.add("mask_program", program_.has_text() ? "compiled" : "bits");
    }

private:
    struct Loaded {
        Shape shape = {};
        Kernel kernel;
    };
    struct Layout {
        size_t partials = 0, row_scales = 0, program = 0, bytes = 0;
    };

    const Loaded &best() const noexcept { return plain_.kernel.function ? plain_ : general_; }

    Wish wish(bool general, bool exact) const
    {
        Wish w;
        w.type = product_type(p_);
        w.general = general;
        w.few = p_.max_q <= 16 && p_.max_q * p_.group <= 16;
        w.dim_qk = p_.dim_qk, w.dim_v = p_.dim_v;
        w.exact = exact;
        w.wide_memory = has_wide_memory(device_.facts());
        return w;
    }

    attn_status load(const kernel::Request &request, const Shape &shape, bool compile, Kernel *out)
    {
        return device_.load(request, compile, static_cast<uint32_t>(shape.threads()),
                            static_cast<uint32_t>(shape.shared().bytes), out);
    }

    /// Loads a kernel with the channels of the problem if it is at hand or may be compiled, else one of the pack's,
    /// which may have none for few rows.
    template <class Shapes, class Requests>
    attn_status load_best(bool general, Shapes shape_for, Requests request_for, Loaded *out)
    {
        constexpr struct {
            bool exact, any_rows;
        } kTries[] = {{true, false}, {false, false}, {false, true}};
        for (const auto &[exact, any_rows] : kTries) {
            Wish wished = wish(general, exact);
            if (any_rows) wished.few = false;
            Shape shape = shape_for(wished);
            if (const attn_status status = override_shape(&shape)) return status;
            const kernel::Request request = request_for(shape);
            const bool last = any_rows;
            if (!device_.has(request) && !(last || (device_.waits_for_compiler() && !spare_))) continue;
            out->shape = shape;
            const attn_status status = load(request, shape, true, &out->kernel);
            if (status == ATTN_OK || last || status != ATTN_ERROR_COMPILE) return status;
        }
        return ATTN_OK;
    }

    /// Whether binds promise what the plain kernel needs of Q, K, V and OUT.
    bool is_promised() const
    {
        for (const attn_slot slot : {ATTN_SLOT_Q, ATTN_SLOT_K, ATTN_SLOT_V, ATTN_SLOT_OUT}) {
            const int position = p_.find(slot);
            constexpr uint32_t kBoth = ATTN_BIND_ALIGNED | ATTN_BIND_INNER_CONTIGUOUS;
            if (position >= 0 && (p_.tensors[static_cast<size_t>(position)].flags & kBoth) != kBoth) return false;
        }
        return true;
    }

    /// The general kernel, with the text of the mask program where there is one and a compiler is at hand.
    attn_status load_general(bool text)
    {
        const auto requests = [&](auto request_for) {
            return [this, text, request_for](const Shape &shape) {
                kernel::Request request = request_for(shape);
                if (text) program_.add_text(&request);
                return request;
            };
        };
        if (const attn_status status = load_best(true, shape_of, requests(forward_request), &general_)) return status;
        if (p_.has(ATTN_SLOT_COLUMN_MASS))
            if (const attn_status status = load_best(true, mass_shape_of, requests(mass_request), &mass_))
                return status;
        return program_.present() ? program_.prepare(device_, text) : ATTN_OK;
    }

    attn_status choose_masked()
    {
        kernel::Request request = forward_request(shape_of(wish(true, true)));
        program_.add_text(&request);
        if (program_.is_short() && (device_.waits_for_compiler() || device_.has(request))) {
            const attn_status status = load_general(true);
            if (status != ATTN_ERROR_COMPILE) return status;
        }
        return load_general(false);
    }

    attn_status choose()
    {
        if (status_ >= 0)
            if (const attn_status status = device_.load(check_request(), true, kFaultThreads, 0, &check_))
                return status;
        if (const attn_status status =
                device_.load(combine_request(device_.facts().arch == "sm_90a"), true, kCombineThreads, 0, &combine_))
            return status;
        if (program_.present()) return choose_masked();
        bool plain = is_plain(p_) && !spare_;
        if (plain) {
            const attn_status status = load_best(false, shape_of, forward_request, &plain_);
            if (status != ATTN_OK && status != ATTN_ERROR_COMPILE) return status;
            // Without a compiler: the default pack leaves some plain kernels to the general one.
            plain = status == ATTN_OK;
            if (!plain) plain_ = {};
        }
        return plain && is_promised() ? ATTN_OK : load_general(false);
    }

    attn_status upload()
    {
        const BiasTable &table = p_.bias_table;
        if (!table.present) return ATTN_OK;
        const std::vector<int32_t> &map = table.kind == ATTN_TABLE_GRID ? table.grid_offset : table.entry_of_distance;
        return device_.upload(map.data(), map.size() * sizeof(int32_t), &map_);
    }

    Layout lay_out(const LaunchSizes &sizes) const noexcept;
    int64_t tiles_of(const LaunchSizes &sizes, const Shape &shape) const noexcept
    {
        const int64_t rows = (sizes.max_q * p_.group + shape.rows() - 1) / shape.rows();
        return sizes.batch * (p_.heads_out / p_.group) * rows;
    }
    MaskPlan::Sizes program_sizes(const LaunchSizes &sizes) const noexcept
    {
        const Shape &shape = best().shape;
        return {sizes.batch, sizes.max_q, sizes.max_kv, (sizes.max_q * p_.group + shape.rows() - 1) / shape.rows(),
                shape};
    }
    attn_status launch_check(const Arguments &arguments, const ForwardParams &params, void *stream) const noexcept;
    attn_status launch_mass(ForwardParams params, const LaunchSizes &sizes, void *stream) const noexcept;

    const DenseProblem &p_; ///< Of the plan, which outlives its executor.
    Device &device_;
    const bool spare_;       ///< See make_spare_forward().
    ForwardParams constant_; ///< What does not change from call to call.
    Loaded plain_, general_, mass_;
    Kernel combine_, check_;
    MaskPlan program_;
    const int status_; ///< Position of STATUS among the tensors, -1 without.
    std::unique_ptr<Buffer> map_;
    SplitRules rules_;
};

Forward::Layout Forward::lay_out(const LaunchSizes &sizes) const noexcept
{
    Layout layout;
    size_t at = 0;
    int64_t floats = 0;
    for (const Loaded *loaded : {&plain_, &general_}) { // whichever a call takes
        if (!loaded->kernel.function) continue;
        const Shape &shape = loaded->shape;
        floats = std::max<int64_t>(floats, most_partials(rules_, tiles_of(sizes, shape), sizes.max_kv) *
                                               partial_floats(shape.rows(), p_.dim_v));
    }
    layout.partials = at;
    at += static_cast<size_t>(round_up(floats * 4, 256));
    layout.row_scales = at;
    if (mass_.kernel.function) at += static_cast<size_t>(round_up(sizes.batch * p_.heads_out * sizes.max_q * 8, 256));
    layout.program = at;
    layout.bytes = at + program_.workspace_bytes(program_sizes(sizes));
    return layout;
}

attn_status Forward::launch_check(const Arguments &arguments, const ForwardParams &params, void *stream) const noexcept
{
    CheckParams check = {};
    check.sequences = params.sequences;
    check.status = token_view(*arguments.view[status_], false, false, false);
    check.longest_q = p_.max_q, check.longest_kv = p_.max_kv;
    if (p_.page_size) check.most_pages = (p_.has(ATTN_SLOT_SEQLENS_KV) ? kLargestExtent : p_.max_kv) / p_.page_size;
    Grid grid;
    grid.threads = kFaultThreads;
    void *parameters[] = {&check};
    return device_.launch(check_, grid, stream, parameters);
}

attn_status Forward::launch_mass(ForwardParams params, const LaunchSizes &sizes, void *stream) const noexcept
{
    const Shape &shape = mass_.shape;
    params.group = 1;
    params.row_tiles = static_cast<i32>((sizes.max_kv + shape.keys - 1) / shape.keys);
    Grid grid;
    grid.x = static_cast<uint32_t>(sizes.batch * p_.heads_out * params.row_tiles);
    grid.threads = static_cast<uint32_t>(shape.threads());
    grid.shared_bytes = static_cast<uint32_t>(shape.shared().bytes);
    void *parameters[] = {&params};
    return grid.x ? device_.launch(mass_.kernel, grid, stream, parameters) : ATTN_OK;
}

attn_status Forward::execute(const attn_handle_s &, const Arguments &arguments, void *workspace, size_t bytes,
                             void *stream) const noexcept
{
    const LaunchSizes sizes = launch_sizes(p_, arguments.sizes);
    const Layout layout = lay_out(sizes);
    if (const attn_status status = check_workspace(workspace, bytes, layout.bytes, workspace_alignment()))
        return status;
    ForwardParams params = constant_;
    bind_forward(p_, arguments, sizes, &params);
    if (map_) params.entry_of_distance = params.grid_offset = static_cast<const i32 *>(map_->data());

    const bool vector = params.q.vector && params.k.vector && params.v.vector && params.out.vector;
    const Loaded &chosen = plain_.kernel.function && (vector || !general_.kernel.function) ? plain_ : general_;
    const Shape &shape = chosen.shape;
    const int64_t pairs = sizes.batch * (p_.heads_out / p_.group);
    const int64_t row_tiles = (sizes.max_q * p_.group + shape.rows() - 1) / shape.rows();
    const int64_t tiles = pairs * row_tiles;
    const int64_t splits = splits_for(rules_, tiles, sizes.max_kv);
    const int64_t mass_blocks =
        mass_.kernel.function ? sizes.batch * p_.heads_out * ((sizes.max_kv + mass_.shape.keys - 1) / mass_.shape.keys)
                              : 0;
    const int64_t combine_blocks = splits > 1 ? gpu::combine_blocks(tiles * shape.rows(), p_.dim_v) : 0;
    const MaskPlan::Sizes program_sizes = this->program_sizes(sizes);
    const int64_t program_blocks = program_.present() ? program_.blocks(program_sizes) : 0;
    if (std::max({tiles * splits, mass_blocks, combine_blocks, program_blocks}) > kMostBlocks)
        return fail(ATTN_ERROR_INVALID,
                    "batch * heads * Tq of this call = %lld * %lld * %lld: needs %lld blocks of threads, a launch has "
                    "at most %lld",
                    static_cast<long long>(sizes.batch), static_cast<long long>(p_.heads_out),
                    static_cast<long long>(sizes.max_q), static_cast<long long>(tiles * splits),
                    static_cast<long long>(kMostBlocks));
    if (!tiles && !mass_blocks && status_ < 0) return ATTN_OK;

    char *base = static_cast<char *>(workspace);
    params.row_tiles = static_cast<i32>(row_tiles);
    params.splits = static_cast<i32>(splits);
    params.section = section_of(p_, device_.facts(), sizes, pairs);
    params.partials = splits > 1 ? reinterpret_cast<float *>(base + layout.partials) : nullptr;
    params.row_scales = mass_.kernel.function && p_.activation == ATTN_SOFTMAX
                            ? reinterpret_cast<float *>(base + layout.row_scales)
                            : nullptr;

    if (program_.present()) program_.bind(arguments, program_sizes, base + layout.program, &params);

    const Call call(device_, stream);
    if (call.status() != ATTN_OK) return call.status();
    if (status_ >= 0)
        if (const attn_status status = launch_check(arguments, params, stream)) return status;
    if (program_.present())
        if (const attn_status status = program_.launch(device_, params, stream)) return status;
    if (tiles) {
        Grid grid;
        grid.x = static_cast<uint32_t>(tiles * splits);
        grid.threads = static_cast<uint32_t>(shape.threads());
        grid.shared_bytes = static_cast<uint32_t>(shape.shared().bytes);
        void *parameters[] = {&params};
        if (const attn_status status = device_.launch(chosen.kernel, grid, stream, parameters)) return status;
        if (splits > 1) {
            int rows = shape.rows();
            void *combine_parameters[] = {&params, &rows};
            grid.x = static_cast<uint32_t>(combine_blocks);
            grid.threads = kCombineThreads;
            grid.shared_bytes = 0;
            if (const attn_status status = device_.launch(combine_, grid, stream, combine_parameters)) return status;
        }
    }
    return mass_blocks ? launch_mass(params, sizes, stream) : ATTN_OK;
}

} // namespace

std::string refuse_forward(const Problem &problem, Device &device)
{
    if (device.facts().major < 8)
        return "needs compute capability 8.0, this is " + std::to_string(device.facts().major) + "." +
               std::to_string(device.facts().minor);
    std::vector<std::string> faults = problem.unserved;
    const struct {
        const char *field;
        attn_dtype dtype;
    } dtypes[] = {{"q_dtype", problem.q_dtype},
                  {"k_dtype", problem.k_dtype},
                  {"v_dtype", problem.v_dtype},
                  {"out_dtype", problem.out_dtype}};
    i32 element;
    for (const auto &field : dtypes)
        if (!element_of(field.dtype, &element))
            faults.push_back(std::string("attn_problem.") + field.field + " = " + dtype_text(field.dtype) +
                             " (float32, float16 or bfloat16)");
    const auto &dense = static_cast<const DenseProblem &>(problem);
    if (const std::string program = refuse_program(dense.program); !program.empty()) faults.push_back(program);
    const struct {
        const char *field;
        int64_t value, most;
    } bounds[] = {
        {"dim_qk", problem.dim_qk, kLargestDimQk},    {"dim_v", problem.dim_v, kLargestDimV},
        {"batch", problem.batch, kLongestSequence},   {"max_q", problem.max_q, kLongestSequence / dense.group},
        {"max_kv", problem.max_kv, kLongestSequence}, {"page_size", problem.page_size, kLongestSequence}};
    for (const auto &bound : bounds)
        if (bound.value > bound.most)
            faults.push_back(std::string("attn_problem.") + bound.field + " = " + std::to_string(bound.value) +
                             " (at most " + std::to_string(bound.most) + ")");
    std::string reason;
    for (const std::string &fault : faults) reason += (reason.empty() ? "does not compute " : ", ") + fault;
    return reason;
}

namespace {

attn_status make(const Problem &problem, Device &device, bool spare, std::unique_ptr<Executor> *out)
{
    auto made = std::make_unique<Forward>(static_cast<const DenseProblem &>(problem), device, spare);
    if (const attn_status status = made->prepare()) return status;
    *out = std::move(made);
    return ATTN_OK;
}

} // namespace

attn_status make_forward(const Problem &problem, Device &device, std::unique_ptr<Executor> *out)
{
    return make(problem, device, false, out);
}

attn_status make_spare_forward(const Problem &problem, Device &device, std::unique_ptr<Executor> *out)
{
    return make(problem, device, true, out);
}

} // namespace attn::gpu
