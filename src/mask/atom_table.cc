#include "mask/atom_table.h"

namespace attn {
namespace {

using mask::Kind;
using mask::Limit;
using mask::Value;

constexpr MaskAtom operation(uint16_t op, const char *constant, const char *name, int32_t operands, Kind kind)
{
    MaskAtom atom = {};
    atom.op = op, atom.constant = constant, atom.name = name, atom.served = true;
    atom.operands = operands, atom.kind = kind;
    return atom;
}

/// x within limits that move with y.
constexpr MaskAtom interval(uint16_t op, const char *constant, const char *name, int32_t parameters, Value x, Value y,
                            Limit low, Limit high)
{
    MaskAtom atom = {};
    atom.op = op, atom.constant = constant, atom.name = name, atom.served = true;
    atom.parameters = parameters, atom.kind = Kind::interval;
    for (int64_t &least : atom.least) least = INT64_MIN;
    atom.x = x, atom.y = y, atom.low = low, atom.high = high;
    return atom;
}

/// Keys within limits around the diagonal.
constexpr MaskAtom diagonal(uint16_t op, const char *constant, const char *name, int32_t parameters, Limit low,
                            Limit high)
{
    MaskAtom atom = interval(op, constant, name, parameters, Value::zero, Value::zero, low, high);
    atom.has_diagonal = true;
    return atom;
}

constexpr MaskAtom powers(uint16_t op, const char *constant, const char *name)
{
    MaskAtom atom = diagonal(op, constant, name, 1, Limit::zero, Limit::zero);
    atom.kind = Kind::power;
    atom.least[0] = 0; // a unit
    return atom;
}

constexpr MaskAtom residues(uint16_t op, const char *constant, const char *name)
{
    MaskAtom atom = interval(op, constant, name, 3, Value::key_residue, Value::zero, Limit::phase, Limit::phase);
    atom.least[0] = 1, atom.least[2] = 0; // a period and a unit, 0 being 1
    return atom;
}

constexpr MaskAtom heads(uint16_t op, const char *constant, const char *name)
{
    MaskAtom atom = interval(op, constant, name, 2, Value::head, Value::zero, Limit::first, Limit::before_second);
    atom.is_membership = true;
    return atom;
}

constexpr MaskAtom unserved(uint16_t op, const char *constant, const char *name)
{
    MaskAtom atom = {};
    atom.op = op, atom.constant = constant, atom.name = name;
    return atom;
}

#define ATTN_NAMED(name) name, #name
constexpr MaskAtom kAtoms[] = {
    operation(ATTN_NAMED(ATTN_OP_AND), "and", 2, Kind::conjunction),
    operation(ATTN_NAMED(ATTN_OP_OR), "or", 2, Kind::disjunction),
    operation(ATTN_NAMED(ATTN_OP_NOT), "not", 1, Kind::complement),
    diagonal(ATTN_NAMED(ATTN_MASK_CAUSAL), "causal", 0, Limit::least, Limit::zero),
    diagonal(ATTN_NAMED(ATTN_MASK_BAND), "band", 2, Limit::minus_first, Limit::second),
    interval(ATTN_NAMED(ATTN_MASK_PREFIX), "prefix", 1, Value::key_index, Value::zero, Limit::least,
             Limit::before_first),
    interval(ATTN_NAMED(ATTN_MASK_FIRST_ROWS), "first_rows", 1, Value::row_index, Value::zero, Limit::least,
             Limit::before_first),
    interval(ATTN_NAMED(ATTN_MASK_LAST_ROWS), "last_rows", 1, Value::row_index, Value::zero, Limit::rows_minus_first,
             Limit::most),
    residues(ATTN_NAMED(ATTN_MASK_VERTICAL), "vertical"),
    powers(ATTN_NAMED(ATTN_MASK_POW2), "pow2"),
    interval(ATTN_NAMED(ATTN_MASK_ID_EQ), "id_eq", 0, Value::key_id, Value::row_id, Limit::zero, Limit::zero),
    interval(ATTN_NAMED(ATTN_MASK_ID_GE), "id_ge", 0, Value::key_id, Value::row_id, Limit::least, Limit::zero),
    interval(ATTN_NAMED(ATTN_MASK_ID_GT), "id_gt", 0, Value::key_id, Value::row_id, Limit::least, Limit::minus_one),
    interval(ATTN_NAMED(ATTN_MASK_ID_Q), "id_q", 1, Value::row_id, Value::zero, Limit::first, Limit::first),
    interval(ATTN_NAMED(ATTN_MASK_ID_KV), "id_kv", 1, Value::key_id, Value::zero, Limit::first, Limit::first),
    unserved(ATTN_NAMED(ATTN_MASK_GRID_WINDOW), "grid_window"),
    unserved(ATTN_NAMED(ATTN_MASK_SAME_AXIS), "same_axis"),
    heads(ATTN_NAMED(ATTN_MASK_HEADS), "heads"),
    unserved(ATTN_NAMED(ATTN_MASK_TENSOR), "tensor"),
};
#undef ATTN_NAMED

} // namespace

const MaskAtom *find_mask_atom(uint16_t op) noexcept
{
    for (const MaskAtom &atom : kAtoms)
        if (atom.op == op) return &atom;
    return nullptr;
}

const char *mask_term_name(uint16_t op) noexcept
{
    const MaskAtom *atom = find_mask_atom(op);
    return atom ? atom->name : "unknown";
}

} // namespace attn
