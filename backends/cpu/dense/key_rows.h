// Where the rows of key tensors lie, and the ids that mask programs read, for one tile.
#ifndef ATTN_BACKENDS_CPU_DENSE_KEY_ROWS_H
#define ATTN_BACKENDS_CPU_DENSE_KEY_ROWS_H

#include "backends/cpu/dense/kernel.h"
#include "backends/cpu/dense/sequences.h"
#include "backends/cpu/views.h"

namespace attn::cpu {

/// Rows of a key tensor of sequence b; `head` is absent (0, with step 0) for positions and ids.
KeyRows key_rows(const DenseProblem &problem, const Sequences &sequences, const Bytes &bytes, const Sequence &sequence,
                 int64_t b, int64_t head, bool has_heads) noexcept;

/// Fills `ids` [pairs of the program] for the tiles of sequence b.
void set_tile_ids(const DenseProblem &problem, const Arguments &arguments, const Sequences &sequences,
                  const Sequence &sequence, int64_t b, TileIds *ids) noexcept;

/// The part of a shape that is the mask program's, once the block of keys is chosen. The problem keeps the program
/// alive.
void set_program(const MaskProgram &program, ForwardShape *shape) noexcept;

} // namespace attn::cpu

#endif
