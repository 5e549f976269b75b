// The tensors of a plan, as attn_plan_slot() lists them: contiguous, filled, in memory of exactly their size.
#ifndef ATTN_TESTS_FUZZ_TENSORS_H
#define ATTN_TESTS_FUZZ_TENSORS_H

#include "input.h"
#include "memory.h"

#include <vector>

namespace attn::fuzz {

size_t element_bytes(attn_dtype dtype);

/// Whether an execute writes the slot.
bool is_output(attn_slot slot);

/// Fills memory by a rule that `input` chooses: reals with odd ones among them, or integers that length tensors may
/// hold, rising where `boundaries`.
void fill(Input *input, attn_dtype dtype, bool boundaries, int64_t count, unsigned char *memory);

struct Tensors {
    std::vector<attn_tensor> views; ///< In the order of the plan.
    std::vector<attn_arg> args;     ///< One for each view.
    std::vector<unsigned char *> data;
    std::vector<size_t> bytes;

    /// Takes every tensor at its bound, free extents being `free`. False if they are too large to run.
    bool make(Input *input, Memory *memory, attn_plan plan, int64_t free);

    /// A copy of everything that an execute may write.
    std::vector<std::vector<unsigned char>> outputs() const;
};

} // namespace attn::fuzz

#endif
