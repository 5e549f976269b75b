// Mask programs for tests of their readings: random ones of the conformance tables, as the library keeps them, and
// sequences to read them on.
#ifndef ATTN_TESTS_UNIT_CORE_MASK_PROGRAMS_H
#define ATTN_TESTS_UNIT_CORE_MASK_PROGRAMS_H

#include "mask/program.h"
#include "tests/conformance/case.h"
#include "tests/conformance/mask_text.h"
#include "tests/conformance/number.h"

#include <gtest/gtest.h>

#include <vector>

namespace mask_test {

constexpr int64_t kHeadsK = 2, kHeadsOut = 4;

/// A program of the conformance tests as the library keeps it.
inline attn::MaskProgram read(const conformance::MaskProgram &given, attn_align diagonal = ATTN_ALIGN_NONE)
{
    std::vector<attn_table> tables;
    for (const conformance::HeadTable &table : given.tables)
        tables.push_back(
            {table.values.data(), table.slopes.empty() ? nullptr : table.slopes.data(), table.rows, table.columns});
    attn_program program = {};
    program.size = sizeof program;
    program.terms = given.terms.data(), program.term_count = given.terms.size();
    program.tables = tables.data(), program.table_count = tables.size();
    attn::MaskProgram result;
    std::vector<std::string> unserved;
    EXPECT_EQ(attn::read_mask_program(&program, {kHeadsK, kHeadsOut, diagonal}, &result, &unserved), ATTN_OK)
        << attn_last_error();
    EXPECT_TRUE(unserved.empty());
    return result;
}

inline attn::MaskProgram read(const std::string &text, attn_align diagonal = ATTN_ALIGN_NONE)
{
    return read(conformance::parse_mask(text), diagonal);
}

/// A sequence of the oracle with positions and ids, and the same for the library.
struct Sequence {
    conformance::Sequence oracle;
    std::vector<const int64_t *> ids_q, ids_kv;
    attn::MaskSequence view;

    Sequence(conformance::Sequence s, const attn::MaskProgram &program) : oracle(std::move(s))
    {
        for (const attn::MaskPair &pair : program.pairs) {
            ids_q.push_back(oracle.ids_q.at(pair.index).data());
            ids_kv.push_back(oracle.ids_kv.at(pair.index).data());
        }
        view.tq = oracle.tq, view.tk = oracle.tk;
        view.positions_q = oracle.positions_q.data(), view.positions_kv = oracle.positions_kv.data();
        view.ids_q = ids_q.data(), view.ids_kv = ids_kv.data();
    }
    Sequence(const Sequence &) = delete;
    Sequence &operator=(const Sequence &) = delete;
};

/// Four pairs of ids, mostly in order, and positions with holes.
inline conformance::Sequence draw_sequence(conformance::Random &random, int64_t most)
{
    conformance::Sequence s;
    s.tq = random.skewed(most), s.tk = random.skewed(most);
    s.heads_q = kHeadsOut, s.heads_k = s.heads_v = kHeadsK;
    const auto rising = [&](int64_t count, int64_t first, double change) {
        std::vector<std::int64_t> x;
        for (int64_t i = 0; i < count; ++i) x.push_back(first += random.chance(change) ? random.integer(1, 2) : 0);
        if (random.chance(0.2) && count > 0) x[static_cast<size_t>(random.integer(0, count - 1))] = first + 3;
        return x;
    };
    for (int pair = 0; pair < 4; ++pair) {
        const double change = random.uniform() * random.uniform();
        s.ids_q.push_back(rising(s.tq, random.integer(-1, 2), change));
        s.ids_kv.push_back(rising(s.tk, random.integer(-1, 2), change));
    }
    s.positions_q = rising(s.tq, random.integer(-9, 30), 0.8);
    s.positions_kv = rising(s.tk, random.integer(-9, 9), 0.8);
    return s;
}

/// A case with such heads, for random_mask().
inline conformance::Case case_of(const char *align)
{
    conformance::Case c;
    c.heads_q = kHeadsOut, c.heads_k = c.heads_v = kHeadsK;
    c.align = align;
    return c;
}

} // namespace mask_test

#endif
