// src/names: every enumerator of the header has a name that says the same.
#include "names.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace attn::test {
namespace {

using Enumerators = std::vector<std::pair<std::string, int64_t>>;

/// The enumerators of `enum tag` as the public header, the source of truth, writes them.
Enumerators enumerators(const std::string &tag)
{
    const auto header = std::filesystem::path(__FILE__).parent_path() / "../../include/attn/attn.h";
    std::ifstream file(header);
    std::stringstream text;
    text << file.rdbuf();
    const std::string all = text.str();
    size_t at = all.find("enum " + tag + " {");
    Enumerators result;
    if (at == std::string::npos) return result;
    const size_t end = all.find("\n};", at);
    while ((at = all.find("\n    ATTN_", at + 1)) < end) {
        const size_t name = at + 5, equals = all.find(" = ", name);
        result.emplace_back(all.substr(name, equals - name), std::strtoll(all.c_str() + equals + 3, nullptr, 0));
    }
    return result;
}

std::string lower(std::string text)
{
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
    return text;
}

/// "ATTN_DEVICE_CUDA_HOST" without "ATTN_DEVICE_".
std::string without(const std::string &prefix, const std::string &name)
{
    return name.compare(0, prefix.size(), prefix) == 0 ? name.substr(prefix.size()) : name;
}

/// Names are those of the enumerators, each once.
void expect_names(const std::string &tag, const std::string &prefix, size_t least,
                  const std::function<const char *(int64_t)> &name)
{
    const Enumerators all = enumerators(tag);
    ASSERT_GE(all.size(), least) << tag << " as read from the header";
    std::set<std::string> seen;
    for (const auto &[enumerator, value] : all) {
        ASSERT_NE(name(value), nullptr) << enumerator;
        EXPECT_EQ(name(value), lower(without(prefix, enumerator)));
        EXPECT_TRUE(seen.insert(name(value)).second) << enumerator;
    }
}

bool is_derived_bit(int64_t value)
{
    return value >= 0x1000;
}

TEST(Names, OfSlots)
{
    const Enumerators all = enumerators("attn_slot_values");
    ASSERT_GE(all.size(), 39u);
    std::set<int64_t> numbers;
    for (const auto &[enumerator, value] : all) {
        if (is_derived_bit(value)) continue;
        const attn_slot slot = static_cast<attn_slot>(value);
        numbers.insert(value);
        EXPECT_TRUE(slot_exists(slot)) << enumerator;
        EXPECT_EQ(slot_name(slot), without("ATTN_SLOT_", enumerator));
    }
    for (attn_slot slot = 0; slot < 0x1000; ++slot) {
        EXPECT_EQ(slot_exists(slot), numbers.count(slot) == 1) << slot;
        EXPECT_EQ(std::string(slot_name(slot)) == "unknown slot", numbers.count(slot) == 0) << slot;
    }
}

TEST(Names, OfDerivedSlots)
{
    const std::pair<attn_slot, std::string> bits[] = {{ATTN_SLOT_GRAD, "GRAD|"},
                                                      {ATTN_SLOT_TANGENT, "TANGENT|"},
                                                      {ATTN_SLOT_SCALE, "SCALE|"},
                                                      {ATTN_SLOT_ZERO_POINT, "ZERO_POINT|"}};
    for (const auto &[enumerator, value] : enumerators("attn_slot_values")) {
        const attn_slot slot = static_cast<attn_slot>(value);
        if (is_derived_bit(value)) {
            EXPECT_TRUE(std::any_of(std::begin(bits), std::end(bits), [&](const auto &b) { return b.first == slot; }))
                << enumerator;
            EXPECT_FALSE(slot_exists(slot)) << enumerator << " alone is no slot";
            EXPECT_STREQ(slot_name(slot), "unknown slot");
            continue;
        }
        for (const auto &[bit, prefix] : bits) {
            EXPECT_TRUE(slot_exists(slot | bit)) << prefix << enumerator;
            EXPECT_EQ(slot_name(slot | bit), prefix + without("ATTN_SLOT_", enumerator));
            for (const auto &[other, unused] : bits) {
                if (other == bit) continue;
                EXPECT_FALSE(slot_exists(slot | bit | other)) << prefix << unused << enumerator;
                EXPECT_STREQ(slot_name(slot | bit | other), "unknown slot");
            }
        }
    }
    for (const attn_slot slot : {-1, INT32_MIN, ATTN_SLOT_GRAD | 0x6f, 0x10000 | ATTN_SLOT_K}) {
        EXPECT_FALSE(slot_exists(slot)) << slot;
        EXPECT_STREQ(slot_name(slot), "unknown slot");
    }
}

TEST(Names, OfDtypes)
{
    expect_names("attn_dtype_values", "ATTN_", 17,
                 [](int64_t value) { return dtype_name(static_cast<attn_dtype>(value)); });
    for (const auto &[enumerator, value] : enumerators("attn_dtype_values")) {
        const attn_dtype dtype = static_cast<attn_dtype>(value);
        EXPECT_STREQ(dtype_text(dtype), dtype_name(dtype));
        // code | bits << 8 | lanes << 16
        EXPECT_EQ(dtype >> 16, 1u) << enumerator;
        EXPECT_EQ(dtype_bytes(dtype), (dtype >> 8 & 0xff) / 8) << enumerator;
    }
    for (const attn_dtype dtype : {0u, 0x022002u, 0x012003u, 0xffffffffu}) {
        EXPECT_EQ(dtype_name(dtype), nullptr);
        EXPECT_EQ(dtype_bytes(dtype), 0);
    }
    EXPECT_STREQ(dtype_text(0x022002), "dtype 0x022002");
    EXPECT_STREQ(dtype_text(0xffffffff), "dtype 0xffffffff");
}

TEST(Names, OfStatuses)
{
    const Enumerators all = enumerators("attn_status_values");
    ASSERT_GE(all.size(), 13u);
    for (const auto &[enumerator, value] : all) {
        EXPECT_EQ(status_name(static_cast<attn_status>(value)), enumerator);
        EXPECT_EQ(attn_status_name(static_cast<attn_status>(value)), enumerator);
    }
    for (const attn_status status : {1, -13, INT32_MIN, INT32_MAX})
        EXPECT_STREQ(status_name(status), "unknown attn_status");
}

TEST(Names, OfTheOtherEnumerations)
{
    expect_names("attn_device_values", "ATTN_DEVICE_", 7,
                 [](int64_t v) { return device_name(static_cast<int32_t>(v)); });
    expect_names("attn_activation_values", "ATTN_", 3,
                 [](int64_t v) { return activation_name(static_cast<int32_t>(v)); });
    expect_names("attn_direction_values", "ATTN_", 3,
                 [](int64_t v) { return direction_name(static_cast<int32_t>(v)); });
    expect_names("attn_align_values", "ATTN_", 4,
                 [](int64_t v) { return v == ATTN_ALIGN_NONE ? "align_none" : align_name(static_cast<int32_t>(v)); });
    EXPECT_STREQ(align_name(ATTN_ALIGN_NONE), "none");
    for (const int32_t value : {-1, 99, INT32_MAX}) {
        EXPECT_EQ(device_name(value), nullptr);
        EXPECT_EQ(activation_name(value), nullptr);
        EXPECT_EQ(direction_name(value), nullptr);
        EXPECT_EQ(align_name(value), nullptr);
    }
}

} // namespace
} // namespace attn::test
