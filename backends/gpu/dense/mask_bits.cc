#include "backends/gpu/dense/mask_bits.h"

#include "mask/emit.h"

#include <algorithm>

namespace attn::gpu {
namespace {

size_t term_bytes(const MaskProgram &program)
{
    return (program.terms.size() * sizeof(mask::Term) + 15) / 16 * 16;
}

} // namespace

std::string refuse_program(const MaskProgram &program)
{
    if (program.pairs.size() <= static_cast<size_t>(kMostMaskPairs)) return "";
    return "attn_dense.mask with " + std::to_string(program.pairs.size()) + " pairs of ids (at most " +
           std::to_string(kMostMaskPairs) + ")";
}

kernel::Request mask_bits_request()
{
    kernel::Request request;
    request.source = "backends/gpu/dense/mask_bits.cuh";
    request.entry = "attn_mask_bits";
    return request;
}

kernel::Request mask_bits_request(const MaskProgram &program)
{
    kernel::Request request = mask_bits_request();
    request.define({{"ATTN_MASK_GENERATED", 1}});
    request.generated = emit_source(program);
    return request;
}

std::string mask_constants(const MaskProgram &program)
{
    std::string bytes(reinterpret_cast<const char *>(program.terms.data()), program.terms.size() * sizeof(mask::Term));
    bytes.resize(term_bytes(program));
    return bytes.append(reinterpret_cast<const char *>(program.parameters.data()),
                        program.parameters.size() * sizeof(mask::Parameter));
}

MaskArgs mask_args(const MaskProgram &program, const void *constants)
{
    MaskArgs args = {};
    args.terms = static_cast<const mask::Term *>(constants);
    args.parameters =
        reinterpret_cast<const mask::Parameter *>(static_cast<const char *>(constants) + term_bytes(program));
    args.count = static_cast<i32>(program.terms.size());
    args.heads = static_cast<i32>(program.heads);
    args.by_head = program.by_head, args.by_position = program.by_position;
    args.pairs = static_cast<i32>(program.pairs.size());
    return args;
}

Grid mask_bits_grid(const MaskBitsParams &params)
{
    Grid grid;
    grid.x = static_cast<uint32_t>(params.classes.row_tiles) * static_cast<uint32_t>(params.classes.key_tiles);
    grid.y = static_cast<uint32_t>(
        std::min<i64>(static_cast<i64>(params.sequences.batch) * params.mask_heads(), kMostMaskBlocks));
    grid.threads = kMaskThreads;
    return grid;
}

} // namespace attn::gpu
