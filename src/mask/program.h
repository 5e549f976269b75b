// A mask program as plans keep it: validated, its parameters and diagonals resolved. The terms are those of atoms.h,
// which also says what they mean.
#ifndef ATTN_SRC_MASK_PROGRAM_H
#define ATTN_SRC_MASK_PROGRAM_H

#include "mask/atoms.h"
#include "status.h"

#include <cstdint>
#include <string>
#include <vector>

namespace attn {

class JsonWriter;

/// A term as the caller gave it, beside the one of atoms.h: what a description needs to say it again.
struct GivenTerm {
    uint16_t op = 0;
    attn_align align = ATTN_ALIGN_NONE; ///< None where it has no diagonal, or that of the descriptor.
    uint32_t axis = 0;
    int64_t columns = 0; ///< Of its table; 0: none.
};

/// A pair of slots IDS_Q and IDS_KV, and which of them the program reads.
struct MaskPair {
    uint32_t index = 0;
    bool q = false, kv = false;
};

struct MaskProgram {
    std::vector<mask::Term> terms;           ///< Postfix; empty: the plan has no program.
    std::vector<mask::Parameter> parameters; ///< Of all terms, see mask::Term::parameter.
    std::vector<GivenTerm> given;            ///< [terms]
    std::vector<MaskPair> pairs;             ///< By index; mask::Term::pair counts in them.
    int64_t heads = 1;                       ///< Of OUT.
    int32_t depth = 0;                       ///< Most sets on the stack at once.
    bool by_position = false;                ///< Takes POSITIONS_Q and POSITIONS_KV.
    bool by_head = false;                    ///< Differs between heads.
    bool by_diagonal = false;                ///< An atom goes by the diagonal of the descriptor.

    bool present() const noexcept { return !terms.empty(); }
};

/// What a mask program is validated against.
struct MaskScope {
    int64_t heads_k = 1, heads_out = 1;
    attn_align diagonal = ATTN_ALIGN_NONE; ///< Of the descriptor.
};

/// Validates and resolves a caller's program. Atoms that no kernel of this release computes are added to `unserved`,
/// and `out` then has no terms, only what tells which tensors the others read.
[[nodiscard]] attn_status read_mask_program(const attn_program *given, const MaskScope &scope, MaskProgram *out,
                                            std::vector<std::string> *unserved);

/// A sequence, for the readings below.
struct MaskSequence {
    int64_t tq = 0, tk = 0;
    const int64_t *positions_q = nullptr, *positions_kv = nullptr; ///< [tq], [tk]; only where by position.
    const int64_t *const *ids_q = nullptr;                         ///< [pairs of the program][tq]
    const int64_t *const *ids_kv = nullptr;                        ///< [pairs of the program][tk]
};

/// Whether query i of head h of OUT sees key j.
bool visible(const MaskProgram &program, const MaskSequence &sequence, int64_t h, int64_t i, int64_t j);

/// A tile of one sequence. Ranges include their ends and are not empty.
struct MaskTile {
    int64_t tq = 0, tk = 0;
    mask::Range heads = {}, rows = {}, keys = {};
    mask::Range positions_q = {}, positions_kv = {};
    const mask::Range *ids_q = nullptr, *ids_kv = nullptr; ///< [pairs of the program]
};

/// What the program is on a tile: skip and full are certain, partial may be either.
mask::Coverage classify(const MaskProgram &program, const MaskTile &tile);

/// Adds the terms to an open JSON array, in the order of the program.
void describe_terms(JsonWriter &json, const MaskProgram &program);

} // namespace attn

#endif
