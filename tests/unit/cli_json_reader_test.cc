// The JSON reader of the command-line tool: what it takes, what it refuses and where it says the fault is.
#include "cli/json_reader.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

namespace {

using attn::cli::JsonValue;
using attn::cli::kMaxJsonDepth;
using attn::cli::parse_json;

std::string error_of(const std::string &text)
{
    try {
        parse_json(text);
    } catch (const std::invalid_argument &error) {
        return error.what();
    }
    return "no error";
}

template <class Function>
std::string error_from(Function function)
{
    try {
        function();
    } catch (const std::invalid_argument &error) {
        return error.what();
    }
    return "no error";
}

TEST(JsonReader, ReadsEveryKind)
{
    const JsonValue value =
        parse_json(" {\"a\": [1, -2.5e-1, \"x\", true, false, null, {}], \"b\": {\"c\": []}}\r\n\t ");
    ASSERT_EQ(value.as_object().size(), 2u);
    EXPECT_EQ(value.as_object()[0].first, "a");
    const std::vector<JsonValue> &a = value.at("a").as_array();
    ASSERT_EQ(a.size(), 7u);
    EXPECT_EQ(a[0].as_int64(), 1);
    EXPECT_EQ(a[1].as_double(), -0.25);
    EXPECT_EQ(a[2].as_string(), "x");
    EXPECT_TRUE(a[3].as_bool());
    EXPECT_FALSE(a[4].as_bool());
    EXPECT_TRUE(a[5].is_null());
    EXPECT_TRUE(a[6].as_object().empty());
    EXPECT_TRUE(value.at("b").at("c").as_array().empty());
    EXPECT_EQ(value.find("c"), nullptr);
}

TEST(JsonReader, IntegersAreExact)
{
    EXPECT_EQ(parse_json("18446744073709551615").as_uint64(), std::numeric_limits<std::uint64_t>::max());
    EXPECT_EQ(parse_json("-9223372036854775808").as_int64(), std::numeric_limits<std::int64_t>::min());
    EXPECT_EQ(parse_json("9007199254740993").as_int64(), 9007199254740993);
    EXPECT_EQ(error_from([] { (void)parse_json(" 9223372036854775808").as_int64(); }),
              "1:2: 9223372036854775808 is no integer of 64 bits");
    EXPECT_EQ(error_from([] { (void)parse_json("-1").as_uint64(); }), "1:1: -1 is no unsigned integer of 64 bits");
    EXPECT_EQ(error_from([] { (void)parse_json("1.0").as_int64(); }), "1:1: 1.0 is no integer of 64 bits");
    EXPECT_EQ(error_from([] { (void)parse_json("1e999").as_double(); }), "1:1: 1e999 is beyond the range of a double");
}

TEST(JsonReader, DoublesAreTheNearest)
{
    EXPECT_EQ(parse_json("0.1").as_double(), 0.1);
    EXPECT_EQ(parse_json("1.7976931348623157e308").as_double(), std::numeric_limits<double>::max());
    EXPECT_EQ(parse_json("4.9406564584124654E-324").as_double(), std::numeric_limits<double>::denorm_min());
    EXPECT_TRUE(std::signbit(parse_json("-0").as_double()));
}

TEST(JsonReader, DecodesEscapes)
{
    EXPECT_EQ(parse_json(R"("\"\\\/\b\f\n\r\t")").as_string(), "\"\\/\b\f\n\r\t");
    EXPECT_EQ(parse_json(R"("\u0041\u00e9\u20AC\ud83d\ude00")").as_string(), "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    EXPECT_EQ(parse_json(R"("\u0000")").as_string(), std::string(1, '\0'));
    EXPECT_EQ(parse_json("\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\x7f\"").as_string(),
              "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\x7f");
}

TEST(JsonReader, RefusesBadStrings)
{
    EXPECT_EQ(error_of(R"("ab\x")"), "1:4: no such escape");
    EXPECT_EQ(error_of("\"\\"), "1:2: no such escape");
    EXPECT_EQ(error_of(R"("\u12g4")"), "1:2: \\u is followed by four hexadecimal digits");
    EXPECT_EQ(error_of(R"("\u-123")"), "1:2: \\u is followed by four hexadecimal digits");
    EXPECT_EQ(error_of(R"("\u12)"), "1:2: \\u is followed by four hexadecimal digits");
    for (const char *half : {R"("\ud800")", R"("\udc00")", R"("\ud800\ud800")", R"("\ud800\n")", R"("\ud800x")"})
        EXPECT_EQ(error_of(half), "1:2: half a pair of UTF-16 surrogates") << half;
    EXPECT_EQ(error_of("\"a\nb\""), "1:3: a control character in a string must be escaped");
    EXPECT_EQ(error_of(std::string("\"a\0b\"", 5)), "1:3: a control character in a string must be escaped");
    EXPECT_EQ(error_of("\"abc"), "1:5: the text ends within a string");
    // A lone continuation, an overlong form, a surrogate, beyond the last code point, a sequence cut short.
    for (const char *bytes : {"\x80", "\xc0\xaf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82"})
        EXPECT_EQ(error_of('"' + std::string(bytes) + '"'), "1:2: not UTF-8");
}

TEST(JsonReader, RefusesBadNumbers)
{
    EXPECT_EQ(error_of("01"), "1:2: a number has no leading zeros");
    EXPECT_EQ(error_of("-"), "1:2: expected a digit");
    EXPECT_EQ(error_of("1."), "1:3: expected a digit after the point");
    EXPECT_EQ(error_of("1e+"), "1:4: expected a digit in the exponent");
    EXPECT_EQ(error_of("1e+-1"), "1:4: expected a digit in the exponent");
    for (const char *text : {"+1", ".5", "NaN", "Infinity", "nul", "tru", "'a'"})
        EXPECT_EQ(error_of(text), "1:1: no JSON value begins like this") << text;
    EXPECT_EQ(error_of("0x10"), "1:2: text after the value");
}

TEST(JsonReader, NamesThePlace)
{
    EXPECT_EQ(error_of(""), "1:1: the text ends where a value should be");
    EXPECT_EQ(error_of("{\n  \"a\": 1,\n  \"b\": }"), "3:8: no JSON value begins like this");
    EXPECT_EQ(error_of("{\"a\": 1, \"a\": 2}"), "1:10: member \"a\" is given twice");
    EXPECT_EQ(error_of("{\"a\": 1, \"\\u0061\": 2}"), "1:10: member \"a\" is given twice");
    EXPECT_EQ(error_of("{\"a\": 1,}"), "1:9: a member begins with its name in quotes");
    EXPECT_EQ(error_of("{\"a\" 1}"), "1:6: expected ':' after the name of a member");
    EXPECT_EQ(error_of("{\"a\": 1 \"b\": 2}"), "1:9: expected ',' or '}'");
    EXPECT_EQ(error_of("[1,]"), "1:4: no JSON value begins like this");
    EXPECT_EQ(error_of("[1"), "1:3: expected ',' or ']'");
    EXPECT_EQ(error_of("1 2"), "1:3: text after the value");
    EXPECT_EQ(error_of("{} // no comments"), "1:4: text after the value");
}

TEST(JsonReader, PlacesMayBeginWithinALargerText)
{
    EXPECT_EQ(error_from([] { (void)parse_json("[1 2]", {7, 13}); }), "7:16: expected ',' or ']'");
    EXPECT_EQ(error_from([] { (void)parse_json("[1\n 2]", {7, 13}); }), "8:2: expected ',' or ']'");
    EXPECT_EQ(error_from([] {
                  (void)parse_json("[\"a\"]", {7, 13}).as_array()[0].as_int64();
              }),
              "7:14: must be a number, is a string");
}

TEST(JsonReader, BoundsTheDepth)
{
    const auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
    EXPECT_EQ(error_of(nested(kMaxJsonDepth)), "no error");
    EXPECT_EQ(error_of(nested(kMaxJsonDepth + 1)), "1:65: more than 64 levels deep");
    EXPECT_EQ(error_of(std::string(1000000, '[')), "1:65: more than 64 levels deep");
}

TEST(JsonReader, TypesAreChecked)
{
    const JsonValue value = parse_json("{\"a\": \"1\",\n \"b\": 2}");
    EXPECT_EQ(error_from([&] { (void)value.at("a").as_int64(); }), "1:7: must be a number, is a string");
    EXPECT_EQ(error_from([&] { (void)value.at("b").as_string(); }), "2:7: must be a string, is a number");
    EXPECT_EQ(error_from([&] { (void)value.at("c"); }), "1:1: has no member \"c\"");
    EXPECT_EQ(error_from([&] { (void)value.as_array(); }), "1:1: must be an array, is an object");
    EXPECT_EQ(error_from([&] { (void)value.at("a").as_bool(); }), "1:7: must be true or false, is a string");
}

} // namespace
