#include "mask_text.h"

#include <cmath>
#include <cstdlib>
#include <sstream>
#include <stdexcept>

namespace conformance {
namespace {

struct Name {
    std::uint16_t op;
    const char *name;
};
constexpr Name names[] = {
    {ATTN_OP_AND, "and"},
    {ATTN_OP_OR, "or"},
    {ATTN_OP_NOT, "not"},
    {ATTN_MASK_CAUSAL, "causal"},
    {ATTN_MASK_BAND, "band"},
    {ATTN_MASK_PREFIX, "prefix"},
    {ATTN_MASK_FIRST_ROWS, "first_rows"},
    {ATTN_MASK_LAST_ROWS, "last_rows"},
    {ATTN_MASK_VERTICAL, "vertical"},
    {ATTN_MASK_POW2, "pow2"},
    {ATTN_MASK_ID_EQ, "id_eq"},
    {ATTN_MASK_ID_GE, "id_ge"},
    {ATTN_MASK_ID_GT, "id_gt"},
    {ATTN_MASK_ID_Q, "id_q"},
    {ATTN_MASK_ID_KV, "id_kv"},
    {ATTN_MASK_HEADS, "heads"},
};

// Reads one term from a word.
class Reader {
public:
    explicit Reader(const std::string &word) : word_(word) {}

    attn_term read(MaskProgram &program)
    {
        attn_term term{};
        const std::size_t end = word_.find_first_of(":/(+{");
        term.op = term_op(word_.substr(0, end));
        at_ = end == std::string::npos ? word_.size() : end;
        if (term.op == 0) throw wrong();
        if (take(':')) term.flags = static_cast<std::uint16_t>(align());
        if (take('/')) term.axis = static_cast<std::uint32_t>(integer());
        if (take('(')) {
            int count = 0;
            do {
                if (count == 5) throw wrong();
                term.p[count++] = integer();
            } while (take(','));
            expect(')');
        }
        if (take('+')) term.f = real();
        if (take('{')) term.table = table(program);
        if (at_ != word_.size()) throw wrong();
        return term;
    }

private:
    std::invalid_argument wrong() const
    {
        return std::invalid_argument("\"" + word_ + "\" is no term of a mask, from character " + std::to_string(at_));
    }
    bool take(char c)
    {
        if (at_ >= word_.size() || word_[at_] != c) return false;
        ++at_;
        return true;
    }
    void expect(char c)
    {
        if (!take(c)) throw wrong();
    }
    bool take(const char *text)
    {
        const std::string expected = text;
        if (word_.compare(at_, expected.size(), expected) != 0) return false;
        at_ += expected.size();
        return true;
    }
    attn_align align()
    {
        if (take("tl")) return ATTN_TOP_LEFT;
        if (take("br")) return ATTN_BOTTOM_RIGHT;
        if (take("pos")) return ATTN_BY_POSITION;
        throw wrong();
    }
    std::int64_t integer()
    {
        if (take("inf")) return ATTN_UNBOUNDED;
        char *end = nullptr;
        const std::int64_t x = std::strtoll(word_.c_str() + at_, &end, 10);
        advance(end);
        return x;
    }
    double real()
    {
        char *end = nullptr;
        const double x = std::strtod(word_.c_str() + at_, &end);
        advance(end);
        return x;
    }
    void advance(const char *end)
    {
        const std::size_t now = static_cast<std::size_t>(end - word_.c_str());
        if (now == at_) throw wrong();
        at_ = now;
    }
    // Adds it to the program; its number, from 1.
    std::uint32_t table(MaskProgram &program)
    {
        HeadTable t;
        t.columns = integer();
        expect('|');
        do t.values.push_back(real());
        while (take(','));
        if (take('|')) do
                t.slopes.push_back(real());
            while (take(','));
        expect('}');
        if (t.columns < 1 || t.values.size() % static_cast<std::size_t>(t.columns) != 0) throw wrong();
        if (!t.slopes.empty() && t.slopes.size() != t.values.size()) throw wrong();
        t.rows = static_cast<std::int64_t>(t.values.size()) / t.columns;
        program.tables.push_back(t);
        return static_cast<std::uint32_t>(program.tables.size());
    }

    const std::string &word_;
    std::size_t at_ = 0;
};

bool has_diagonal(const attn_term &term)
{
    return term.op == ATTN_MASK_CAUSAL || term.op == ATTN_MASK_BAND || term.op == ATTN_MASK_POW2;
}

bool compares_ids(const attn_term &term)
{
    return term.op == ATTN_MASK_ID_EQ || term.op == ATTN_MASK_ID_GE || term.op == ATTN_MASK_ID_GT;
}

} // namespace

MaskProgram parse_mask(const std::string &text)
{
    MaskProgram program;
    if (text == "none") return program;
    std::istringstream words(text);
    for (std::string word; words >> word;) program.terms.push_back(Reader(word).read(program));
    if (program.terms.empty()) throw std::invalid_argument("a mask without terms; write \"none\" for no mask");
    return program;
}

std::set<std::uint32_t> query_ids(const MaskProgram &program)
{
    std::set<std::uint32_t> pairs;
    for (const attn_term &term : program.terms)
        if (compares_ids(term) || term.op == ATTN_MASK_ID_Q) pairs.insert(term.axis);
    return pairs;
}

std::set<std::uint32_t> key_ids(const MaskProgram &program)
{
    std::set<std::uint32_t> pairs;
    for (const attn_term &term : program.terms)
        if (compares_ids(term) || term.op == ATTN_MASK_ID_KV) pairs.insert(term.axis);
    return pairs;
}

bool needs_diagonal(const MaskProgram &program)
{
    for (const attn_term &term : program.terms)
        if (has_diagonal(term) && (term.flags & 3) == ATTN_ALIGN_NONE) return true;
    return false;
}

bool needs_positions(const MaskProgram &program)
{
    for (const attn_term &term : program.terms)
        if (has_diagonal(term) && (term.flags & 3) == ATTN_BY_POSITION) return true;
    return false;
}

std::string term_name(std::uint16_t op)
{
    for (const Name &entry : names)
        if (entry.op == op) return entry.name;
    return "";
}

std::uint16_t term_op(const std::string &name)
{
    for (const Name &entry : names)
        if (name == entry.name) return entry.op;
    return 0;
}

} // namespace conformance
