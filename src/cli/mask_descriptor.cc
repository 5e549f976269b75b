#include "mask_descriptor.h"

#include <iterator>
#include <limits>
#include <string>

namespace attn::cli {
namespace {

constexpr struct {
    const char *name;
    uint16_t op;
} kOperators[] = {{"and", ATTN_OP_AND},
                  {"or", ATTN_OP_OR},
                  {"not", ATTN_OP_NOT},
                  {"causal", ATTN_MASK_CAUSAL},
                  {"band", ATTN_MASK_BAND},
                  {"prefix", ATTN_MASK_PREFIX},
                  {"first_rows", ATTN_MASK_FIRST_ROWS},
                  {"last_rows", ATTN_MASK_LAST_ROWS},
                  {"vertical", ATTN_MASK_VERTICAL},
                  {"pow2", ATTN_MASK_POW2},
                  {"id_eq", ATTN_MASK_ID_EQ},
                  {"id_ge", ATTN_MASK_ID_GE},
                  {"id_gt", ATTN_MASK_ID_GT},
                  {"id_q", ATTN_MASK_ID_Q},
                  {"id_kv", ATTN_MASK_ID_KV},
                  {"heads", ATTN_MASK_HEADS}};

uint16_t operator_of(const JsonValue &name)
{
    for (const auto &known : kOperators)
        if (name.as_string() == known.name) return known.op;
    throw name.error("no term of a mask is called " + name.as_string());
}

/// Numbers of a table; null is no limit.
std::vector<double> read_numbers(const JsonValue &numbers)
{
    std::vector<double> out;
    for (const JsonValue &number : numbers.as_array())
        out.push_back(number.is_null() ? std::numeric_limits<double>::infinity() : number.as_double());
    return out;
}

} // namespace

attn_align align_of(const JsonValue &name)
{
    static constexpr struct {
        const char *name;
        attn_align align;
    } kAligns[] = {{"none", ATTN_ALIGN_NONE},
                   {"top_left", ATTN_TOP_LEFT},
                   {"bottom_right", ATTN_BOTTOM_RIGHT},
                   {"by_position", ATTN_BY_POSITION}};
    for (const auto &known : kAligns)
        if (name.as_string() == known.name) return known.align;
    throw name.error("no alignment is called " + name.as_string());
}

void MaskDescriptor::read(const JsonValue &terms)
{
    for (const JsonValue &term : terms.as_array()) read_term(term);
    program_.size = sizeof program_;
    program_.terms = terms_.data();
    program_.term_count = terms_.size();
    program_.tables = tables_.empty() ? nullptr : tables_.data();
    program_.table_count = tables_.size();
}

void MaskDescriptor::read_term(const JsonValue &described)
{
    attn_term term = {};
    term.op = operator_of(described.at("op"));
    if (const JsonValue *align = described.find("align")) term.flags = static_cast<uint16_t>(align_of(*align));
    if (const JsonValue *axis = described.find("axis")) term.axis = static_cast<uint32_t>(axis->as_int64());
    size_t columns = 0;
    if (const JsonValue *count = described.find("columns")) {
        columns = static_cast<size_t>(count->as_uint64());
        attn_table table = {};
        table.columns = static_cast<int64_t>(columns);
        const std::vector<double> &values = numbers_.emplace_back(read_numbers(described.at("values")));
        if (columns < 1 || values.size() % columns != 0) throw count->error("columns must divide the values");
        table.rows = static_cast<int64_t>(values.size() / columns);
        table.values = values.data();
        if (const JsonValue *given = described.find("slopes")) {
            const std::vector<double> &slopes = numbers_.emplace_back(read_numbers(*given));
            if (slopes.size() != values.size()) throw given->error("slopes must be as many as values");
            table.slopes = slopes.data();
        }
        tables_.push_back(table);
        term.table = static_cast<uint32_t>(tables_.size());
    }
    if (const JsonValue *p = described.find("p")) {
        const std::vector<JsonValue> &parameters = p->as_array();
        if (parameters.size() > std::size(term.p)) throw p->error("a term has at most 5 parameters");
        // The first ones are the table's.
        for (size_t c = columns; c < parameters.size(); ++c) term.p[c] = parameters[c].as_int64();
    }
    if (const JsonValue *f = described.find("f")) term.f = f->as_double();
    terms_.push_back(term);
}

} // namespace attn::cli
