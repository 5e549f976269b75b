#include "table_masks.h"

#include <sstream>

namespace conformance {
namespace {

// A table of `rows` rows in braces, from value(row, column) and slope(row, column).
template <class Number, class Slope>
std::string table(std::int64_t rows, std::int64_t columns, Number &&value, Slope &&slope, bool grows)
{
    std::ostringstream text;
    text.precision(17);
    text << '{' << columns;
    for (std::int64_t n = 0; n < rows * columns; ++n) text << (n ? ',' : '|') << value(n / columns, n % columns);
    for (std::int64_t n = 0; n < rows * columns && grows; ++n)
        text << (n ? ',' : '|') << slope(n / columns, n % columns);
    text << '}';
    return text.str();
}

double no_slope(std::int64_t, std::int64_t)
{
    return 0;
}

// Windows from nothing to everything, by head.
std::string head_windows(const Case &c)
{
    const auto width = [](std::int64_t head, std::int64_t column) -> double {
        constexpr double widths[] = {17, 0, INFINITY, 60.5, 3};
        return widths[(head + column) % 5];
    };
    return "band:br" + table(c.heads_out(), 2, width, no_slope, false) + " prefix(2) or";
}

// A window that grows with the keys, by head of K; the other side is a parameter.
std::string growing_windows(const Case &c)
{
    const auto width = [](std::int64_t head, std::int64_t) { return 4.5 + 3.0 * double(head); };
    const auto slope = [](std::int64_t head, std::int64_t) { return 0.3 / (1.0 + double(head)); };
    return "band:br(0,7)" + table(c.heads_k, 1, width, slope, true);
}

// Every other head sees all, the others the diagonal.
std::string head_members(const Case &c)
{
    const auto member = [](std::int64_t head, std::int64_t) { return head % 2; };
    return "heads" + table(c.heads_out(), 1, member, no_slope, false) + " not causal or";
}

struct Program {
    const char *label;
    std::string (*build)(const Case &);
    bool by_diagonal;
};

const std::vector<Program> &programs()
{
    static const std::vector<Program> all{
        {"none", [](const Case &) -> std::string { return "none"; }, false},
        {"causal", [](const Case &) -> std::string { return "causal"; }, true},
        {"band", [](const Case &) -> std::string { return "band:tl(9,40) band:br(-2,inf) or"; }, false},
        {"documents", [](const Case &) -> std::string { return "id_eq causal:br and"; }, false},
        {"block_causal", [](const Case &) -> std::string { return "id_ge"; }, false},
        {"prefix_lm", [](const Case &) -> std::string { return "causal:tl prefix(11) or"; }, false},
        {"head_windows", head_windows, false},
        {"growing_windows", growing_windows, false},
        {"head_split",
         [](const Case &) -> std::string { return "heads(0,1) causal:br and heads(0,1) not band:br(20,20) and or"; },
         false},
        {"head_members", head_members, true},
        {"not_or",
         [](const Case &) -> std::string { return "id_eq/1 not id_kv(2) or first_rows(3) last_rows(2) or or"; }, false},
        {"ids", [](const Case &) -> std::string { return "id_gt/3 not id_q(1) id_kv/1(1) and not and"; }, false},
        {"growing_prefix", [](const Case &) -> std::string { return "prefix(3)+0.25 band:tl(5,5) or"; }, false},
        {"vertical", [](const Case &) -> std::string { return "vertical(3,1,4) causal:tl and"; }, false},
        {"pow2", [](const Case &) -> std::string { return "pow2:br(2) prefix(1) or"; }, false},
        {"positions", [](const Case &) -> std::string { return "band:pos(20,10) pow2:pos or id_gt or"; }, false},
    };
    return all;
}

std::string parameters(Random &random, std::int64_t count, std::int64_t most)
{
    std::string text = "(";
    for (std::int64_t n = 0; n < count; ++n) {
        if (n) text += ',';
        text += random.chance(0.1) ? "inf" : std::to_string(random.skewed(most) - (random.chance(0.1) ? 8 : 1));
    }
    return text + ")";
}

// Of parameters of `columns` columns: by head of OUT or of K, or for all.
std::string random_table(const Case &c, Random &random, std::int64_t columns)
{
    const std::int64_t rows = random.chance(0.2) ? 1 : random.chance(0.3) ? c.heads_k : c.heads_out();
    const auto value = [&](std::int64_t, std::int64_t) {
        return random.chance(0.1) ? INFINITY : 60 * random.uniform() - 4;
    };
    const auto slope = [&](std::int64_t, std::int64_t) { return random.uniform() - 0.3; };
    return table(rows, columns, value, slope, random.chance(0.4));
}

std::string random_atom(const Case &c, Random &random)
{
    const bool has_diagonal = c.causal != "none" || c.align != "none";
    const auto align = [&]() -> std::string {
        constexpr const char *aligns[] = {"", ":tl", ":br", ":pos"};
        return aligns[random.integer(has_diagonal ? 0 : 1, 3)];
    };
    const auto pair = [&]() -> std::string {
        constexpr const char *pairs[] = {"", "/1", "/2"};
        return pairs[random.integer(0, 2)];
    };
    const auto sized = [&](const std::string &name, std::int64_t columns) {
        if (random.chance(0.3)) return name + random_table(c, random, columns);
        const std::string text = name + parameters(random, columns, 200);
        return random.chance(0.2) ? text + "+" + std::to_string(random.uniform() - 0.3) : text;
    };
    switch (random.integer(0, 12)) {
    case 0:
    case 1:
        return "causal" + align();
    case 2:
        return sized("band" + align(), 2);
    case 3:
        return sized("prefix", 1);
    case 4:
        return sized("first_rows", 1);
    case 5:
        return sized("last_rows", 1);
    case 6:
        return "vertical(" + std::to_string(random.integer(1, 5)) + "," + std::to_string(random.integer(-4, 4)) + "," +
               std::to_string(random.integer(0, 70)) + ")";
    case 7:
        return "pow2" + align() + "(" + std::to_string(random.integer(0, 9)) + ")";
    case 8:
        return "id_eq" + pair();
    case 9:
        return (random.chance(0.5) ? "id_ge" : "id_gt") + pair();
    case 10:
        return (random.chance(0.5) ? "id_q" : "id_kv") + pair() + "(" + std::to_string(random.integer(-1, 6)) + ")";
    case 11: {
        const std::int64_t first = random.integer(0, c.heads_out());
        return "heads(" + std::to_string(first) + "," + std::to_string(random.integer(first, c.heads_out())) + ")";
    }
    default: {
        const auto member = [&](std::int64_t, std::int64_t) { return random.integer(0, 1); };
        return "heads" + table(c.heads_out(), 1, member, no_slope, false);
    }
    }
}

} // namespace

Axis mask_programs()
{
    Axis axis{"program", {}};
    for (const Program &program : programs()) {
        const auto build = program.build;
        axis.values.push_back({program.label, [build](Case &c) { c.mask = build(c); }});
    }
    return axis;
}

std::vector<std::string> programs_by_diagonal()
{
    std::vector<std::string> labels;
    for (const Program &program : programs())
        if (program.by_diagonal) labels.emplace_back(program.label);
    return labels;
}

std::string random_mask(const Case &c, Random &random)
{
    std::string text = random_atom(c, random);
    std::int64_t depth = 1;
    for (std::int64_t more = random.skewed(9) - 1; more > 0 || depth > 1;) {
        if (random.chance(0.15)) text += " not";
        if (more > 0 && (depth == 1 || random.chance(0.5)))
            text.append(1, ' ').append(random_atom(c, random)), ++depth, --more;
        else
            text += random.chance(0.5) ? " and" : " or", --depth;
    }
    return text;
}

} // namespace conformance
