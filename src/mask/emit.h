// Mask programs as source text for compilers of kernels.
#ifndef ATTN_SRC_MASK_EMIT_H
#define ATTN_SRC_MASK_EMIT_H

#include "mask/program.h"

#include <string>

namespace attn {

/// C++ text that defines, at the scope where it is included and over src/mask/atoms.h alone,
///
///   struct AttnMaskRow;                                                what a row of one head decides, in registers
///   AttnMaskRow attn_mask_row(terms, parameters, heads, head, tq, tk, row);
///   bool attn_mask_sees(const AttnMaskRow &, key);
///   constexpr int kAttnMaskPairs;  constexpr bool kAttnMaskByPosition;
///
/// `terms` and `parameters` are the arrays of the MaskProgram, in whatever memory; `row` and `key` give values by
/// `of(Value, pair)`, asked with constants. The text depends on the structure of the program alone: programs that
/// differ in parameters, or in whether a parameter differs by head, have the same.
std::string emit_source(const MaskProgram &program);

} // namespace attn

#endif
