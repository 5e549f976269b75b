// Mask programs as the text that a case carries: postfix, one word for each term.
//
//   band:br(13,5) prefix(4)+0.25 or id_eq/1 and
//
// A name; `:tl`, `:br` or `:pos`, an alignment of its own; `/n`, a pair of ids; parameters p in parentheses, `inf` for
// no limit; `+f`, the real parameter; or, in braces, a table by head: columns | values | slopes, row by row, the slopes
// only where there are any. "none" is no program.
#pragma once

#include "oracle.h"

#include <set>
#include <string>

namespace conformance {

// Throws std::invalid_argument for what is no such text. Whether the program is valid is for the library to judge.
MaskProgram parse_mask(const std::string &text);

// Pairs of ids that the program reads, of queries and of keys.
std::set<std::uint32_t> query_ids(const MaskProgram &);
std::set<std::uint32_t> key_ids(const MaskProgram &);
// Whether a term goes by the diagonal of the descriptor.
bool needs_diagonal(const MaskProgram &);
// Whether a term goes by positions of its own accord.
bool needs_positions(const MaskProgram &);

// The name of a term, empty if there is none; its number, 0 if there is none.
std::string term_name(std::uint16_t op);
std::uint16_t term_op(const std::string &name);

} // namespace conformance
