#include "mask/emit.h"

namespace attn {
namespace {

using mask::Kind;
using mask::Limit;
using mask::Term;
using mask::Value;

constexpr const char *kKinds[] = {"conjunction", "disjunction", "complement", "interval", "power"};
constexpr const char *kValues[] = {"zero", "row_index", "row_level",    "row_position", "row_id",
                                   "head", "key_index", "key_position", "key_id",       "key_residue"};
constexpr const char *kLimits[] = {"least",  "most",          "zero",        "minus_one",
                                   "first",  "before_first",  "minus_first", "rows_minus_first",
                                   "second", "before_second", "phase",       "membership"};

std::string name(const char *set, const char *value)
{
    return std::string("::attn::mask::") + set + "::" + value;
}
std::string name(Value value)
{
    return name("Value", kValues[static_cast<int>(value)]);
}
std::string name(Limit limit)
{
    return name("Limit", kLimits[static_cast<int>(limit)]);
}

/// The value that a visitor of rows or keys is asked for.
std::string value_of(const char *values, Value value, int32_t pair)
{
    if (value == Value::zero) return "0";
    return std::string(values) + ".of(" + name(value) + ", " + std::to_string(pair) + ")";
}

bool is_of_row(const Term &term)
{
    return term.x < Value::key_index;
}

/// What a row keeps of an atom.
std::string type_of(const Term &term)
{
    if (is_of_row(term)) return "bool";
    if (term.x == Value::key_residue) return "::attn::mask::Residue";
    if (term.kind == Kind::power) return "::attn::mask::Level";
    return term.x == Value::key_index ? "::attn::mask::IndexRange" : "::attn::mask::Range";
}

/// How it is made, from `bound` and `y`.
std::string member_of(const Term &term)
{
    if (is_of_row(term))
        return "::attn::mask::within(::attn::mask::limits_of(bound.low, bound.high, y), " +
               value_of("row", term.x, term.pair) + ")";
    if (term.x == Value::key_residue) return "::attn::mask::residue_of(bound)";
    if (term.kind == Kind::power) return "::attn::mask::level_of(bound, y)";
    if (term.x == Value::key_index) return "::attn::mask::index_range(bound, y)";
    return "::attn::mask::limits_of(bound.low, bound.high, y)";
}

/// Membership in the set of an atom, for a key.
std::string test_of(const Term &term, const std::string &member)
{
    if (is_of_row(term)) return "row." + member;
    const Value x = term.x == Value::key_residue ? Value::key_index : term.x;
    return "::attn::mask::within(row." + member + ", " + value_of("key", x, term.pair) + ")";
}

} // namespace

std::string emit_source(const MaskProgram &program)
{
    std::string members, rows, sets, last;
    std::vector<std::string> stack;
    for (size_t n = 0; n < program.terms.size(); ++n) {
        const Term &term = program.terms[n];
        const std::string number = std::to_string(n), set = "s" + number;
        std::string value;
        if (mask::is_atom(term)) {
            const std::string member = "a" + number;
            members += "    " + type_of(term) + " " + member + ";\n";
            // Whether heads have the one parameter 1 or a row each, the place of the row says; whether a table of
            // members is meant, the limits do.
            rows +=
                "    {\n        const auto bound = ::attn::mask::resolve(\n            ::attn::mask::term_at(terms[" +
                number + "], " + name("Kind", kKinds[static_cast<int>(term.kind)]) + ", " + name(term.x) + ", " +
                name(term.y) + ",\n                                  " + name(term.low) + ", " + name(term.high) +
                ", " + std::to_string(term.pair) + ", " + std::to_string(term.parameter_count) +
                "),\n            parameters, heads, head, tq, tk);\n        const ::attn::mask::i64 y = " +
                value_of("row", term.y, term.pair);
            rows.append(";\n        static_cast<void>(y);\n        result.").append(member).append(" = ");
            rows.append(member_of(term)).append(";\n    }\n");
            value = test_of(term, member);
        } else if (term.kind == Kind::complement) {
            value = "!" + stack.back();
            stack.pop_back();
        } else {
            const std::string b = stack.back();
            stack.pop_back();
            value = stack.back() + (term.kind == Kind::conjunction ? " & " : " | ") + b;
            stack.pop_back();
        }
        sets.append("    const bool ").append(set).append(" = ").append(value).append(";\n");
        stack.push_back(set);
        last = set;
    }
    return "#include \"src/mask/atoms.h\"\n\n"
           "constexpr int kAttnMaskPairs = " +
           std::to_string(program.pairs.size()) +
           ";\nconstexpr bool kAttnMaskByPosition = " + (program.by_position ? "true" : "false") +
           ";\n\nstruct AttnMaskRow {\n" + members +
           "};\n\ntemplate <class Values>\nATTN_MASK_INLINE AttnMaskRow attn_mask_row(const ::attn::mask::Term *terms, "
           "const ::attn::mask::Parameter *parameters,\n                                           "
           "::attn::mask::i64 heads, ::attn::mask::i64 head, ::attn::mask::i64 tq, ::attn::mask::i64 tk,\n"
           "                                           const Values &row)\n{\n    static_cast<void>(row);\n    "
           "AttnMaskRow result;\n" +
           rows +
           "    return result;\n}\n\ntemplate <class Values>\nATTN_MASK_INLINE bool attn_mask_sees(const AttnMaskRow "
           "&row, const Values &key)\n{\n    static_cast<void>(key);\n" +
           sets + "    return " + last + ";\n}\n";
}

} // namespace attn
