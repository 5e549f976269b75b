#include "backends/gpu/dense/mask_plan.h"

#include "backends/gpu/dense/mask_bits.h"
#include "backends/gpu/views.h"
#include "mask/emit.h"

#include <algorithm>

namespace attn::gpu {
namespace {

int64_t tile_keys(const Shape &shape)
{
    return std::max<int64_t>(shape.keys, 32); // of one word at least
}

IntegerView integer_view(const attn_tensor &view, bool has_batch)
{
    const TokenView v = token_view(view, has_batch, false, false);
    return {v.base, v.batch_step, v.token_step, v.type, 0};
}

size_t round_up(int64_t bytes)
{
    return static_cast<size_t>((bytes + 255) / 256 * 256);
}

} // namespace

void MaskPlan::add_text(kernel::Request *request) const
{
    request->define({{"ATTN_MASK_GENERATED", 1}});
    request->generated = emit_source(p_.program);
}

attn_status MaskPlan::prepare(Device &device, bool text)
{
    text_ = text;
    const kernel::Request request = text ? mask_bits_request(p_.program) : mask_bits_request();
    if (const attn_status status = device.load(request, true, kMaskThreads, 0, &kernel_)) return status;
    const std::string constants = mask_constants(p_.program);
    if (const attn_status status = device.upload(constants.data(), constants.size(), &constants_)) return status;
    args_ = mask_args(p_.program, constants_->data());
    return ATTN_OK;
}

int64_t MaskPlan::key_tiles(const Sizes &sizes) noexcept
{
    return (sizes.max_kv + tile_keys(sizes.shape) - 1) / tile_keys(sizes.shape);
}

size_t MaskPlan::bits_bytes(const Sizes &sizes) const noexcept
{
    return text_ ? 0 : round_up(sizes.batch * heads() * sizes.max_q * words(sizes) * 4);
}

size_t MaskPlan::workspace_bytes(const Sizes &sizes) const noexcept
{
    return present() ? bits_bytes(sizes) + round_up(sizes.batch * heads() * blocks(sizes)) : 0;
}

void MaskPlan::bind(const Arguments &arguments, const Sizes &sizes, void *workspace,
                    ForwardParams *params) const noexcept
{
    ForwardParams &f = *params;
    f.program = args_;
    const auto view = [&](attn_slot slot, uint32_t index, bool has_batch, IntegerView *out) {
        const int position = p_.find(slot, index);
        if (position >= 0) *out = integer_view(*arguments.view[position], has_batch);
    };
    const bool q_batch = !p_.packed_q, kv_batch = p_.storage != Storage::packed;
    if (p_.program.by_position) {
        view(ATTN_SLOT_POSITIONS_Q, 0, q_batch, &f.program.positions_q);
        view(ATTN_SLOT_POSITIONS_KV, 0, kv_batch, &f.program.positions_kv);
    }
    for (size_t n = 0; n < p_.program.pairs.size(); ++n) {
        const MaskPair &pair = p_.program.pairs[n];
        if (pair.q) view(ATTN_SLOT_IDS_Q, pair.index, q_batch, &f.program.ids_q[n]);
        if (pair.kv) view(ATTN_SLOT_IDS_KV, pair.index, kv_batch, &f.program.ids_kv[n]);
    }
    f.mask_heads = static_cast<i32>(heads());
    f.mask_words = words(sizes);
    char *base = static_cast<char *>(workspace);
    f.mask_bits = text_ ? nullptr : reinterpret_cast<const u32 *>(base);
    f.classes.base = reinterpret_cast<unsigned char *>(base + bits_bytes(sizes));
    f.classes.tile_rows = sizes.shape.rows(), f.classes.group = static_cast<i32>(p_.group);
    f.classes.tile_keys = static_cast<i32>(tile_keys(sizes.shape));
    f.classes.row_tiles = static_cast<i32>(sizes.row_tiles);
    f.classes.key_tiles = static_cast<i32>(key_tiles(sizes));
}

attn_status MaskPlan::launch(const Device &device, const ForwardParams &params, void *stream) const noexcept
{
    MaskBitsParams p = {};
    p.mask = params.program;
    p.sequences = params.sequences;
    p.bits = const_cast<u32 *>(params.mask_bits);
    p.words = params.mask_words;
    p.classes = params.classes;
    const Grid grid = mask_bits_grid(p);
    if (grid.x == 0 || grid.y == 0) return ATTN_OK;
    void *parameters[] = {&p};
    return device.launch(kernel_, grid, stream, parameters);
}

} // namespace attn::gpu
