// Validates the programs of masks and resolves them.
#include "abi.h"
#include "descriptor_parts.h"
#include "mask/atom_table.h"
#include "mask/program.h"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace attn {
namespace {

using mask::Limit;
using mask::Value;

constexpr int64_t kMostTableRows = 65536;
constexpr int kParameters = 5; ///< Of an attn_term.

long long wide(int64_t value)
{
    return value;
}

bool is_id(Value value)
{
    return value == Value::row_id || value == Value::key_id;
}

attn_status check_grid(const char *field, const int64_t (&grid)[4])
{
    bool ended = false;
    for (const int64_t extent : grid) {
        if (extent < 0 || extent > kLargestExtent || (ended && extent != 0))
            return fail(ATTN_ERROR_INVALID, "%s = %lld: extents must be >= 1 up to the first 0, then 0", field,
                        wide(extent));
        ended |= extent == 0;
    }
    return ATTN_OK;
}

/// One read of one program.
class ProgramReader {
public:
    ProgramReader(const attn_program &program, const MaskScope &scope, MaskProgram *out)
        : given_(program), scope_(scope), out_(*out)
    {
        out_.heads = scope.heads_out;
        used_.assign(given_.table_count, false);
    }

    attn_status read(std::vector<std::string> *unserved)
    {
        for (size_t n = 0; n < given_.term_count; ++n)
            if (const attn_status status = term(n)) return status;
        if (const attn_status status = check_stack()) return status;
        number_pairs();
        if (!refused_.empty()) {
            out_.terms.clear(), out_.given.clear(), out_.parameters.clear();
            unserved->insert(unserved->end(), refused_.begin(), refused_.end());
            return ATTN_OK;
        }
        if (given_.grid_q[0] != 0 || given_.grid_kv[0] != 0)
            return fail(ATTN_ERROR_INVALID, "attn_program.grid_q: must be 0, no term uses a grid");
        const auto unused = std::find(used_.begin(), used_.end(), false);
        if (unused != used_.end())
            return fail(ATTN_ERROR_INVALID, "attn_program.tables[%zu]: no term uses it",
                        static_cast<size_t>(unused - used_.begin()));
        return ATTN_OK;
    }

private:
    attn_status term(size_t n)
    {
        const attn_term &term = given_.terms[n];
        const MaskAtom *atom = find_mask_atom(term.op);
        if (!atom)
            return fail(ATTN_ERROR_INVALID, "attn_program.terms[%zu].op = 0x%x: not an operator or atom of masks", n,
                        term.op);
        constexpr unsigned kKnown = 3 | ATTN_TERM_AXIS_CAUSAL | ATTN_TERM_TRUNCATE | ATTN_TERM_DEVICE_TABLE;
        if (term.flags & ~kKnown)
            return fail(ATTN_ERROR_INVALID, "attn_program.terms[%zu].flags = 0x%x: unknown bits 0x%x", n, term.flags,
                        term.flags & ~kKnown);
        if (term.reserved != 0)
            return fail(ATTN_ERROR_INVALID, "attn_program.terms[%zu].reserved = %u: must be 0", n, term.reserved);
        const bool on_device = (term.flags & ATTN_TERM_DEVICE_TABLE) != 0;
        if (!on_device && term.table > given_.table_count)
            return fail(ATTN_ERROR_INVALID, "attn_program.terms[%zu].table = %u: must be at most table_count = %zu", n,
                        term.table, given_.table_count);
        if (!std::isfinite(term.f))
            return fail(ATTN_ERROR_INVALID, "attn_program.terms[%zu].f = %g: must be finite", n, term.f);
        if (!atom->served) {
            refuse(std::string("attn_dense.mask: ") + atom->constant);
            if (!on_device && term.table != 0) used_[term.table - 1] = true;
            return ATTN_OK;
        }
        if (on_device && atom->parameters > 0) {
            refuse("attn_dense.mask: ATTN_TERM_DEVICE_TABLE");
            return ATTN_OK;
        }
        if (term.flags & ~3u)
            return fail(ATTN_ERROR_INVALID, "attn_program.terms[%zu].flags = 0x%x: bits 0x%x are not for %s", n,
                        term.flags, term.flags & ~3u, atom->constant);
        if (const attn_status status = read_diagonal(n, term, *atom)) return status;
        if (const attn_status status = read_pair(n, term, *atom)) return status;
        return read_parameters(n, term, *atom);
    }

    void refuse(const std::string &name)
    {
        if (std::find(refused_.begin(), refused_.end(), name) == refused_.end()) refused_.push_back(name);
    }

    /// Appends the term, with its diagonal.
    attn_status read_diagonal(size_t n, const attn_term &term, const MaskAtom &atom)
    {
        mask::Term result = {};
        result.kind = atom.kind, result.x = atom.x, result.y = atom.y, result.low = atom.low, result.high = atom.high;
        result.parameter_rows = 1;
        GivenTerm given;
        given.op = term.op, given.axis = term.axis;
        const attn_align own = term.flags & 3;
        if (!atom.has_diagonal && own != ATTN_ALIGN_NONE)
            return fail(ATTN_ERROR_INVALID, "attn_program.terms[%zu].flags = 0x%x: %s has no diagonal to align", n,
                        term.flags, atom.constant);
        if (atom.has_diagonal) {
            given.align = own;
            out_.by_diagonal |= own == ATTN_ALIGN_NONE;
            switch (own ? own : scope_.diagonal) {
            case ATTN_TOP_LEFT:
                result.x = Value::key_index, result.y = Value::row_index;
                break;
            case ATTN_BOTTOM_RIGHT:
                result.x = Value::key_index, result.y = Value::row_level;
                break;
            case ATTN_BY_POSITION:
                result.x = Value::key_position, result.y = Value::row_position;
                out_.by_position = true;
                break;
            default:
                return fail(ATTN_ERROR_INVALID,
                            "attn_program.terms[%zu].op = 0x%x: needs a diagonal, set align or causal, or give it in "
                            "flags",
                            n, term.op);
            }
        }
        out_.by_head |= atom.x == Value::head;
        out_.terms.push_back(result);
        out_.given.push_back(given);
        return ATTN_OK;
    }

    attn_status read_pair(size_t n, const attn_term &term, const MaskAtom &atom)
    {
        if (!is_id(atom.x) && !is_id(atom.y)) {
            if (term.axis == 0) return ATTN_OK;
            return fail(ATTN_ERROR_INVALID, "attn_program.terms[%zu].axis = %u: must be 0, %s has no ids", n, term.axis,
                        atom.constant);
        }
        const auto known = std::find_if(out_.pairs.begin(), out_.pairs.end(),
                                        [&](const MaskPair &pair) { return pair.index == term.axis; });
        MaskPair &pair = known != out_.pairs.end() ? *known : out_.pairs.emplace_back();
        pair.index = term.axis;
        pair.q |= atom.x == Value::row_id || atom.y == Value::row_id;
        pair.kv |= atom.x == Value::key_id;
        return ATTN_OK;
    }

    attn_status read_parameters(size_t n, const attn_term &term, const MaskAtom &atom)
    {
        const attn_table *table = term.table != 0 ? &given_.tables[term.table - 1] : nullptr;
        if (table) {
            if (const attn_status status = check_table(n, term, atom, *table)) return status;
            used_[term.table - 1] = true;
        }
        const int64_t columns = table ? table->columns : 0;
        const int own = table && atom.is_membership ? 0 : atom.parameters; // parameters p that the term may have
        for (int c = 0; c < kParameters; ++c) {
            if ((c >= own || c < columns) && term.p[c] != 0)
                return fail(ATTN_ERROR_INVALID, "attn_program.terms[%zu].p[%d] = %lld: must be 0, %s", n, c,
                            wide(term.p[c]), c < own ? "a table has it" : "the term has no such parameter");
            if (c >= columns && c < own && term.p[c] < atom.least[c])
                return fail(ATTN_ERROR_INVALID, "attn_program.terms[%zu].p[%d] = %lld: must be >= %lld for %s", n, c,
                            wide(term.p[c]), wide(atom.least[c]), atom.constant);
        }
        if (term.f != 0 && (own == 0 || columns > 0))
            return fail(ATTN_ERROR_INVALID, "attn_program.terms[%zu].f = %g: must be 0, %s", n, term.f,
                        columns > 0 ? "a table has what grows" : "the term has no parameter that could grow");
        if (term.f < 0 && atom.least[0] != INT64_MIN)
            return fail(ATTN_ERROR_INVALID, "attn_program.terms[%zu].f = %g: must be >= 0 for %s", n, term.f,
                        atom.constant);
        mask::Term &result = out_.terms.back();
        result.parameter = static_cast<int32_t>(out_.parameters.size());
        result.parameter_count = own > columns ? own : static_cast<int32_t>(columns);
        if (table && atom.is_membership) result.low = Limit::membership, result.high = Limit::most;
        result.parameter_rows = table ? static_cast<int32_t>(table->rows) : 1;
        out_.by_head |= result.parameter_rows > 1;
        out_.given.back().columns = columns;
        for (int64_t row = 0; row < result.parameter_rows; ++row)
            for (int c = 0; c < result.parameter_count; ++c) {
                mask::Parameter p = {term.p[c], 0, c == 0 ? term.f : 0};
                if (c < columns) {
                    p.value = table->values[row * columns + c];
                    p.slope = table->slopes ? table->slopes[row * columns + c] : 0;
                }
                out_.parameters.push_back(p);
            }
        return ATTN_OK;
    }

    attn_status check_table(size_t n, const attn_term &term, const MaskAtom &atom, const attn_table &table)
    {
        const unsigned at = term.table - 1;
        if (atom.parameters == 0)
            return fail(ATTN_ERROR_INVALID, "attn_program.terms[%zu].table = %u: must be 0, %s has no parameters", n,
                        term.table, atom.constant);
        if (table.rows < 1 || table.rows > kMostTableRows ||
            (table.rows != 1 && table.rows != scope_.heads_k && table.rows != scope_.heads_out))
            return fail(ATTN_ERROR_INVALID,
                        "attn_program.tables[%u].rows = %lld: must be 1, the %lld heads of K or the %lld of OUT, and "
                        "at most %lld",
                        at, wide(table.rows), wide(scope_.heads_k), wide(scope_.heads_out), wide(kMostTableRows));
        const int64_t most = atom.is_membership ? 1 : atom.parameters;
        if (table.columns < 1 || table.columns > most)
            return fail(ATTN_ERROR_INVALID, "attn_program.tables[%u].columns = %lld: must be 1 .. %lld for %s", at,
                        wide(table.columns), wide(most), atom.constant);
        if (!table.values)
            return fail(ATTN_ERROR_INVALID,
                        "attn_program.tables[%u].values = NULL: must point to rows * columns values", at);
        if (table.slopes && atom.is_membership)
            return fail(ATTN_ERROR_INVALID, "attn_program.tables[%u].slopes: must be NULL for %s", at, atom.constant);
        for (int64_t i = 0; i < table.rows * table.columns; ++i) {
            const double value = table.values[i], slope = table.slopes ? table.slopes[i] : 0;
            const int64_t least = atom.least[i % table.columns];
            const bool bounded = least != INT64_MIN;
            if (std::isnan(value) || value == -INFINITY || (bounded && value < static_cast<double>(least)))
                return fail(ATTN_ERROR_INVALID,
                            "attn_program.tables[%u].values[%lld] = %g: must be a number%s, INFINITY for no limit", at,
                            wide(i), value, bounded ? least == 1 ? " >= 1" : " >= 0" : "");
            if (atom.is_membership && value != 0 && value != 1)
                return fail(ATTN_ERROR_INVALID, "attn_program.tables[%u].values[%lld] = %g: must be 0 or 1 for %s", at,
                            wide(i), value, atom.constant);
            if (!std::isfinite(slope) || (bounded && slope < 0))
                return fail(ATTN_ERROR_INVALID, "attn_program.tables[%u].slopes[%lld] = %g: must be finite%s", at,
                            wide(i), slope, bounded ? " and >= 0" : "");
        }
        return ATTN_OK;
    }

    /// Postfix: every operator finds its operands, and one set remains.
    attn_status check_stack()
    {
        size_t depth = 0, most = 0;
        for (size_t n = 0; n < given_.term_count; ++n) {
            const uint16_t op = given_.terms[n].op;
            const size_t operands = static_cast<size_t>(find_mask_atom(op)->operands);
            if (depth < operands)
                return fail(ATTN_ERROR_INVALID, "attn_program.terms[%zu].op = 0x%x: needs %zu sets, there are %zu", n,
                            op, operands, depth);
            depth = depth - operands + 1;
            most = std::max(most, depth);
        }
        out_.depth = static_cast<int32_t>(most);
        if (depth == 1) return ATTN_OK;
        return fail(ATTN_ERROR_INVALID, "attn_program.terms: %zu sets remain, must be one", depth);
    }

    /// Sorts the pairs and lets the terms count in them.
    void number_pairs()
    {
        std::sort(out_.pairs.begin(), out_.pairs.end(),
                  [](const MaskPair &a, const MaskPair &b) { return a.index < b.index; });
        for (size_t n = 0; n < out_.terms.size(); ++n) {
            if (!is_id(out_.terms[n].x) && !is_id(out_.terms[n].y)) continue;
            const auto pair = std::find_if(out_.pairs.begin(), out_.pairs.end(), [&](const MaskPair &candidate) {
                return candidate.index == out_.given[n].axis;
            });
            out_.terms[n].pair = static_cast<int32_t>(pair - out_.pairs.begin());
        }
    }

    const attn_program &given_;
    const MaskScope &scope_;
    MaskProgram &out_;
    std::vector<bool> used_; ///< Tables.
    std::vector<std::string> refused_;
};

} // namespace

attn_status read_mask_program(const attn_program *given, const MaskScope &scope, MaskProgram *out,
                              std::vector<std::string> *unserved)
{
    attn_program program;
    if (const attn_status status = read_struct(given, "attn_program", &program)) return status;
    if (const attn_status status = no_extensions(program.next, "attn_program")) return status;
    if (program.term_count < 1 || program.term_count > mask::kMostTerms)
        return fail(ATTN_ERROR_INVALID, "attn_program.term_count = %zu: must be 1 .. 256", program.term_count);
    if (!program.terms) return fail(ATTN_ERROR_INVALID, "attn_program.terms = NULL: must point to term_count terms");
    if (program.table_count && !program.tables)
        return fail(ATTN_ERROR_INVALID, "attn_program.tables = NULL: must point to table_count = %zu tables",
                    program.table_count);
    if (program.table_count > program.term_count)
        return fail(ATTN_ERROR_INVALID, "attn_program.table_count = %zu: must be at most term_count = %zu",
                    program.table_count, program.term_count);
    if (const attn_status status = check_flags("attn_program.flags", program.flags, 0)) return status;
    if (const attn_status status = check_grid("attn_program.grid_q", program.grid_q)) return status;
    if (const attn_status status = check_grid("attn_program.grid_kv", program.grid_kv)) return status;
    return ProgramReader(program, scope, out).read(unserved);
}

} // namespace attn
