// The parts of the test itself that a mistake could hide in: number formats, cases as text, covering arrays.
#include "case.h"
#include "covering.h"
#include "number.h"
#include "table.h"
#include "tensor.h"

#include <gtest/gtest.h>

#include <set>

namespace conformance {
namespace {

TEST(Storage, SixteenBitFormatsRoundToNearestEven)
{
    EXPECT_EQ(round_to(ATTN_FLOAT16, 1 + 0x1p-11), 1.0);            // tie, to even
    EXPECT_EQ(round_to(ATTN_FLOAT16, 1 + 3 * 0x1p-11), 1 + 0x1p-9); // tie, to even
    EXPECT_EQ(round_to(ATTN_FLOAT16, 1 + 0x1p-11 + 0x1p-40), 1 + 0x1p-10);
    EXPECT_EQ(round_to(ATTN_FLOAT16, 65504), 65504);
    EXPECT_EQ(round_to(ATTN_FLOAT16, 65519.99), 65504);
    EXPECT_EQ(round_to(ATTN_FLOAT16, 65520), INFINITY);
    EXPECT_EQ(round_to(ATTN_FLOAT16, -0x1p-24), -0x1p-24);         // smallest subnormal
    EXPECT_EQ(round_to(ATTN_FLOAT16, 0x1p-25), 0);                 // tie, to zero
    EXPECT_EQ(round_to(ATTN_FLOAT16, 0x1p-14 - 0x1p-26), 0x1p-14); // up to the smallest normal
    EXPECT_EQ(round_to(ATTN_BFLOAT16, 1 + 0x1p-8), 1.0);
    EXPECT_EQ(round_to(ATTN_BFLOAT16, -(1 + 3 * 0x1p-8)), -(1 + 0x1p-6));
    EXPECT_EQ(round_to(ATTN_BFLOAT16, 1.9999), 2.0); // carry into the exponent
    EXPECT_EQ(round_to(ATTN_BFLOAT16, -INFINITY), -INFINITY);
    EXPECT_TRUE(std::isnan(round_to(ATTN_BFLOAT16, NAN)));
}

TEST(Storage, EverySixteenBitNumberSurvives)
{
    for (attn_dtype dtype : {attn_dtype{ATTN_FLOAT16}, attn_dtype{ATTN_BFLOAT16}}) {
        for (unsigned bits = 0; bits < 0x10000; ++bits) {
            const std::uint16_t from = static_cast<std::uint16_t>(bits);
            std::uint16_t to = 0;
            const double x = decode(dtype, &from);
            encode(dtype, x, &to);
            ASSERT_TRUE(std::isnan(x) || from == to) << dtype_name(dtype) << " bits " << bits;
        }
    }
}

TEST(Storage, TensorsKeepElementsApartInEveryLayout)
{
    for (const char *layout : {"bshd", "bhsd", "gaps", "reversed", "strided"}) {
        Tensor t(ATTN_FLOAT32, {2, 3, 4, 5}, layout);
        double n = 0;
        for (std::int64_t a = 0; a < 2; ++a)
            for (std::int64_t b = 0; b < 3; ++b)
                for (std::int64_t c = 0; c < 4; ++c)
                    for (std::int64_t d = 0; d < 5; ++d) t.set({a, b, c, d}, n++), t.expect_write({a, b, c, d});
        n = 0;
        const attn_tensor view = t.view();
        const float *data = reinterpret_cast<float *>(static_cast<char *>(view.data) + view.byte_offset);
        for (std::int64_t a = 0; a < 2; ++a)
            for (std::int64_t b = 0; b < 3; ++b)
                for (std::int64_t c = 0; c < 4; ++c)
                    for (std::int64_t d = 0; d < 5; ++d) {
                        const auto *s = view.strides;
                        EXPECT_EQ(data[a * s[0] + b * s[1] + c * s[2] + d * s[3]], n) << layout;
                        EXPECT_EQ(t.get({a, b, c, d}), n++) << layout;
                    }
        EXPECT_FALSE(t.wrote_elsewhere()) << layout;
        const_cast<unsigned char &>(t.bytes().back()) ^= 1;
        EXPECT_TRUE(t.wrote_elsewhere()) << layout;
    }
}

TEST(Storage, CasesReadBackFromTheirJson)
{
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        const Case c = random_case(seed);
        EXPECT_EQ(to_json(from_json(to_json(c))), to_json(c));
    }
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        const Case c = random_option_case(seed);
        EXPECT_EQ(to_json(from_json(to_json(c))), to_json(c));
    }
}

TEST(Storage, CasesOfTheTablesReadBackFromTheirJson)
{
    for (const TableCases &table : {pairwise_cases(1), option_cases(1)})
        for (const Case &c : table.cases) ASSERT_EQ(to_json(from_json(to_json(c))), to_json(c));
}

TEST(Storage, CasesThatMeanNothingAreNotRead)
{
    const auto error_of = [](const std::string &line) -> std::string {
        try {
            from_json(line);
        } catch (const std::invalid_argument &error) {
            return error.what();
        }
        return "no error";
    };
    EXPECT_EQ(error_of("{\"seed\": 1, \"no_such_field\": 1}"), "1:30: a case has no field \"no_such_field\"");
    EXPECT_EQ(error_of("{\"bias_stage\": \"after\"}"), "1:16: \"after\" is none of those bias_stage may be: post, pre");
    EXPECT_EQ(error_of("{\"batch\": -1}"), "1:11: batch cannot be -1");
    EXPECT_EQ(error_of("{\"kv_lengths\": \"paged\", \"page_size\": 0}"), "1:38: page_size cannot be 0");
    EXPECT_EQ(error_of("{\"heads_v\": 0}"), "1:13: heads_v cannot be 0");
    EXPECT_EQ(error_of("{\"magnitude\": 1e9}"), "1:15: magnitude is from 0 to 10000");
    EXPECT_EQ(error_of("{\"batch\": 1.5}"), "1:11: 1.5 is no integer of 64 bits");
    EXPECT_EQ(error_of("{\"batch\": \"1\"}"), "1:11: must be a number, is a string");
    EXPECT_EQ(error_of("[]"), "1:1: must be an object, is an array");
    EXPECT_EQ(error_of("{\"seed\": 1"), "1:11: expected ',' or '}'");
}

TEST(Storage, CoveringArraysHoldEveryAllowedPair)
{
    const std::vector<AxisShape> axes{{"a", {"0", "1", "2"}, {}},
                                      {"b", {"0", "1", "2", "3"}, {true, false, false, false}},
                                      {"c", {"0", "1"}, {}},
                                      {"d", {"0", "1", "2"}, {}}};
    const std::vector<Exclusion> exclusions{{"a", {"1"}, "d", {"0", "2"}}};
    const CoveringArray array = cover_pairs(axes, exclusions, 3);
    EXPECT_EQ(array.pairs_possible, 12u + 6 + 9 - 2 + 8 + 12 + 6);
    EXPECT_EQ(array.pairs_covered, array.pairs_possible);
    EXPECT_EQ(array.rows, cover_pairs(axes, exclusions, 3).rows);
    std::set<std::vector<std::size_t>> seen; // counted anew, hollow rows only with their hollow value
    for (const auto &row : array.rows) {
        EXPECT_FALSE(row[0] == 1 && row[3] != 1);
        for (std::size_t x = 0; x < 4; ++x)
            for (std::size_t y = x + 1; y < 4; ++y)
                if (row[1] != 0 || x == 1 || y == 1) seen.insert({x, y, std::size_t(row[x]), std::size_t(row[y])});
    }
    EXPECT_EQ(seen.size(), array.pairs_possible);
}

} // namespace
} // namespace conformance
