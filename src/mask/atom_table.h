// The atoms of mask programs in one table: everything that validation, description and every kernel know of them.
#ifndef ATTN_SRC_MASK_ATOM_TABLE_H
#define ATTN_SRC_MASK_ATOM_TABLE_H

#include "mask/atoms.h"

#include <attn/attn.h>

#include <cstdint>

namespace attn {

/// One operator or atom. An atom that is not served has no more than its names; validation then checks no parameters.
struct MaskAtom {
    uint16_t op;
    const char *constant; ///< "ATTN_MASK_BAND"
    const char *name;     ///< "band", in descriptions
    bool served;
    int32_t operands;   ///< Sets it pops; 0: an atom.
    int32_t parameters; ///< Of p[]: each may come from a table; the first may grow with the key length.
    bool has_diagonal;  ///< x and y of the term are then those of the diagonal.
    int64_t least[3];   ///< Of the parameters, whatever the length.
    bool is_membership; ///< A table holds 0 and 1, and replaces all parameters.
    mask::Kind kind;
    mask::Value x, y;
    mask::Limit low, high;
};

/// NULL for what is no operator of masks.
const MaskAtom *find_mask_atom(uint16_t op) noexcept;

/// "band"; of a value that the table has.
const char *mask_term_name(uint16_t op) noexcept;

} // namespace attn

#endif
