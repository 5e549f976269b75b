// src/abi.h: what a caller compiled against an older or newer header may pass.
#include "abi.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace attn::test {
namespace {

/// A struct of `size` bytes as a caller would pass it, aligned; bytes beyond `size` must not be read.
template <class T>
struct Given {
    explicit Given(size_t size) : memory((size + 2 * sizeof(T)) / sizeof(size_t) + 1)
    {
        memset(memory.data(), 0xee, memory.size() * sizeof(size_t));
        memset(memory.data(), 0, size);
        memory[0] = size;
    }
    unsigned char *bytes() { return reinterpret_cast<unsigned char *>(memory.data()); }
    const T *get() const { return reinterpret_cast<const T *>(memory.data()); }

    std::vector<size_t> memory;
};

template <class T>
class ReadStruct : public testing::Test {
};

using Structs = testing::Types<attn_options, attn_device_properties, attn_problem, attn_program, attn_rope,
                               attn_bias_table, attn_dense, attn_merge, attn_append, attn_sizes>;
TYPED_TEST_SUITE(ReadStruct, Structs);

TYPED_TEST(ReadStruct, KnowsItsFirstSize)
{
    EXPECT_GE(kFirstSize<TypeParam>, 2 * sizeof(void *));
    EXPECT_LE(kFirstSize<TypeParam>, sizeof(TypeParam));
    // A first size beyond the last byte of padding would refuse a caller of that release.
    EXPECT_GT(kFirstSize<TypeParam> + alignof(TypeParam), sizeof(TypeParam));
}

TYPED_TEST(ReadStruct, TakesEverySizeFromTheFirstOn)
{
    for (size_t size = kFirstSize<TypeParam>; size <= sizeof(TypeParam) + 64; ++size) {
        Given<TypeParam> given(size);
        const size_t known = std::min(size, sizeof(TypeParam));
        for (size_t i = sizeof(size_t); i < known; ++i) given.bytes()[i] = static_cast<unsigned char>(i * 7 + 1);
        TypeParam out;
        memset(static_cast<void *>(&out), 0x55, sizeof out);
        ASSERT_EQ(read_struct(given.get(), "T", &out), ATTN_OK) << size << ": " << last_error();
        const unsigned char *bytes = reinterpret_cast<const unsigned char *>(&out);
        for (size_t i = sizeof(size_t); i < sizeof(TypeParam); ++i)
            ASSERT_EQ(bytes[i], i < known ? given.bytes()[i] : 0) << "byte " << i << " of " << size;
        EXPECT_EQ(out.size, sizeof(TypeParam));
    }
}

TYPED_TEST(ReadStruct, RefusesASmallerOne)
{
    for (const size_t size : {size_t{0}, size_t{1}, sizeof(size_t), kFirstSize<TypeParam> - 1}) {
        Given<TypeParam> given(kFirstSize<TypeParam>);
        given.memory[0] = size;
        TypeParam out;
        EXPECT_EQ(read_struct(given.get(), "attn_T", &out), ATTN_ERROR_INVALID) << size;
        EXPECT_NE(std::string(last_error())
                      .find("attn_T.size = " + std::to_string(size) + ": must be at least " +
                            std::to_string(kFirstSize<TypeParam>)),
                  std::string::npos)
            << last_error();
    }
}

TYPED_TEST(ReadStruct, RefusesANewerFieldInUse)
{
    for (const size_t more : {size_t{1}, size_t{8}, size_t{100}}) {
        const size_t size = sizeof(TypeParam) + more;
        for (const size_t at : {sizeof(TypeParam), size - 1}) {
            Given<TypeParam> given(size);
            given.bytes()[at] = 1;
            TypeParam out;
            EXPECT_EQ(read_struct(given.get(), "attn_T", &out), ATTN_ERROR_ABI);
            EXPECT_NE(std::string(last_error()).find("byte " + std::to_string(at) + " is not 0"), std::string::npos)
                << last_error();
        }
    }
}

TYPED_TEST(ReadStruct, RefusesWhatIsNoSize)
{
    for (const size_t size : {size_t{65537}, SIZE_MAX, SIZE_MAX / 2}) {
        Given<TypeParam> given(sizeof(TypeParam));
        given.memory[0] = size; // nothing that far away is read
        TypeParam out;
        EXPECT_EQ(read_struct(given.get(), "attn_T", &out), ATTN_ERROR_INVALID);
    }
    TypeParam out;
    EXPECT_EQ(read_struct(static_cast<const TypeParam *>(nullptr), "attn_T", &out), ATTN_ERROR_INVALID);
    EXPECT_STREQ(last_error(), "attn_T = NULL: must point to a struct");
}

attn_ext make_ext(attn_ext_type type, const attn_ext *next)
{
    attn_ext ext = {};
    ext.size = sizeof ext;
    ext.type = type, ext.next = next;
    return ext;
}

TEST(ReadExtensions, FindsEachByType)
{
    const attn_ext_type known[] = {3, 5, 9};
    const attn_ext last = make_ext(3, nullptr), first = make_ext(9, &last);
    const attn_ext *found[3] = {&first, &first, &first};
    ASSERT_EQ(read_extensions(&first, "T", known, 3, found), ATTN_OK) << last_error();
    EXPECT_EQ(found[0], &last);
    EXPECT_EQ(found[1], nullptr);
    EXPECT_EQ(found[2], &first);
    ASSERT_EQ(read_extensions(nullptr, "T", known, 3, found), ATTN_OK);
    for (const attn_ext *ext : found) EXPECT_EQ(ext, nullptr);
    EXPECT_EQ(no_extensions(nullptr, "T"), ATTN_OK);
}

TEST(ReadExtensions, RefusesUnknownTypes)
{
    const attn_ext_type known[] = {3};
    const attn_ext last = make_ext(4, nullptr), first = make_ext(3, &last);
    const attn_ext *found[1];
    EXPECT_EQ(read_extensions(&first, "T", known, 1, found), ATTN_ERROR_ABI);
    EXPECT_NE(std::string(last_error()).find("T.next[1].type = 4"), std::string::npos) << last_error();
    EXPECT_EQ(no_extensions(&first, "T"), ATTN_ERROR_ABI);
}

TEST(ReadExtensions, RefusesBrokenLinks)
{
    const attn_ext_type known[] = {3, 4};
    const attn_ext *found[2];
    attn_ext last = make_ext(3, nullptr), first = make_ext(3, &last);
    EXPECT_EQ(read_extensions(&first, "T", known, 2, found), ATTN_ERROR_INVALID);
    EXPECT_NE(std::string(last_error()).find("given twice"), std::string::npos) << last_error();
    last.type = 4, last.reserved = 1;
    EXPECT_EQ(read_extensions(&first, "T", known, 2, found), ATTN_ERROR_INVALID);
    EXPECT_NE(std::string(last_error()).find("T.next[1].reserved = 1"), std::string::npos) << last_error();
    last.reserved = 0, last.size = sizeof(attn_ext) - 1;
    EXPECT_EQ(read_extensions(&first, "T", known, 2, found), ATTN_ERROR_INVALID);
    EXPECT_NE(std::string(last_error()).find("T.next[1].size"), std::string::npos) << last_error();
    last.size = sizeof(attn_ext), last.next = &first; // a cycle ends too
    EXPECT_EQ(read_extensions(&first, "T", known, 2, found), ATTN_ERROR_INVALID);
}

} // namespace
} // namespace attn::test
