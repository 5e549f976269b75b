// The format of packs and its compression: what is written is read, and nothing else is.
#include "fixture.h"

#include "kernel/lz.h"
#include "kernel/sha256.h"

#include "unit/core_random.h"

#include <cstring>

namespace attn::kernel {
namespace {

using test::Random;

/// Bytes as images have them: repeated patterns with noise in between.
std::string draw_image(Random *random, size_t bytes)
{
    std::string image;
    while (image.size() < bytes) {
        if (image.empty() || random->one_in(3)) {
            for (int64_t i = random->integer(1, 40); i > 0; --i) image += static_cast<char>(random->bits());
        } else {
            const size_t from = static_cast<size_t>(random->integer(0, static_cast<int64_t>(image.size()) - 1));
            for (int64_t i = 0, n = random->integer(1, 300); i < n; ++i) image += image[from + static_cast<size_t>(i)];
        }
    }
    image.resize(bytes);
    return image;
}

/// Decodes into memory of exactly that size, so that a sanitizer sees every byte written past it.
bool decode(const std::string &text, size_t bytes, std::string *out)
{
    const std::unique_ptr<char[]> input(new char[text.size()]), memory(new char[bytes]);
    std::memcpy(input.get(), text.data(), text.size());
    const bool done = decompress({input.get(), text.size()}, memory.get(), bytes);
    if (done) out->assign(memory.get(), bytes);
    return done;
}

TEST(LzTest, RoundTrip)
{
    Random random(1);
    for (int i = 0; i < 300; ++i) {
        const size_t bytes = static_cast<size_t>(random.integer(0, random.one_in(10) ? 200000 : 2000));
        const std::string image = draw_image(&random, bytes);
        std::string again;
        ASSERT_TRUE(decode(compress(image), image.size(), &again));
        ASSERT_EQ(again, image);
    }
    for (const size_t bytes : {1, 3, 4, 14, 15, 16, 18, 19, 20, 269, 270, 271, 274, 275, 100000})
        for (const char *pattern : {"a", "ab", "abcdefghijklmnopqrstuvwxyz0123456789"}) {
            std::string image, again;
            while (image.size() < bytes) image += pattern;
            image.resize(bytes);
            ASSERT_TRUE(decode(compress(image), bytes, &again)) << bytes << pattern;
            ASSERT_EQ(again, image);
        }
    EXPECT_LT(compress(std::string(100000, 'a')).size(), 500u);
}

TEST(LzTest, WrongSizesAndDamage)
{
    Random random(2);
    std::string ignored;
    for (int i = 0; i < 200; ++i) {
        const std::string image = draw_image(&random, static_cast<size_t>(random.integer(1, 600)));
        const std::string text = compress(image);
        EXPECT_FALSE(decode(text, image.size() + 1, &ignored));
        EXPECT_FALSE(decode(text, image.size() - 1, &ignored));
        for (size_t cut = 1; cut < text.size(); ++cut)
            EXPECT_FALSE(decode(text.substr(0, cut), image.size(), &ignored));
        for (int j = 0; j < 50; ++j) {
            std::string damaged = text;
            damaged[static_cast<size_t>(random.integer(0, static_cast<int64_t>(text.size()) - 1))] =
                static_cast<char>(random.bits());
            static_cast<void>(decode(damaged, image.size(), &ignored)); // its checksum finds that; memory stays whole
        }
    }
    EXPECT_FALSE(decode(std::string(1, '\x0f') + std::string(100, '\xff'), 100, &ignored)) << "an endless length";
    EXPECT_FALSE(decode(std::string("\x10"
                                    "a"
                                    "\x02\x00",
                                    4),
                        5, &ignored))
        << "a copy from before the beginning";
    EXPECT_FALSE(decode(std::string("\x10"
                                    "a"
                                    "\x00\x00",
                                    4),
                        5, &ignored))
        << "a copy from itself";
}

std::vector<PackImage> draw_images(Random *random, int count)
{
    static constexpr const char *kTargets[] = {"sm_80", "sm_90a", "compute_80"};
    std::vector<PackImage> images;
    for (int i = 0; i < count; ++i) {
        PackImage image;
        for (uint8_t &byte : image.entry.key) byte = static_cast<uint8_t>(random->bits());
        image.entry.target = kTargets[i % 3];
        image.entry.is_ptx = i % 3 == 2;
        image.entry.compiler = 13000;
        image.entry.label = std::string(static_cast<size_t>(random->integer(0, 40)), 'x');
        image.image = draw_image(random, static_cast<size_t>(random->integer(1, 300)));
        images.push_back(image);
    }
    return images;
}

/// Whether this is a pack with all of these images and nothing else. Reads everything that can be read.
bool holds(const std::string &bytes, const std::vector<PackImage> &images)
{
    const std::unique_ptr<char[]> memory(new char[bytes.size()]); // of its exact size, for sanitizers
    std::memcpy(memory.get(), bytes.data(), bytes.size());
    Pack pack;
    std::string why, image;
    if (!pack.open(nullptr, memory.get(), bytes.size(), &why)) {
        EXPECT_FALSE(why.empty());
        return false;
    }
    size_t right = 0;
    for (const PackEntry &entry : pack.entries()) static_cast<void>(pack.load(entry, &image, &why));
    for (const PackImage &wanted : images) {
        const PackEntry *entry = pack.find(wanted.entry.key);
        if (entry && pack.load(*entry, &image, &why) && image == wanted.image && entry->target == wanted.entry.target &&
            entry->is_ptx == wanted.entry.is_ptx && entry->compiler == wanted.entry.compiler &&
            entry->label == wanted.entry.label && entry->image_bytes == image.size())
            ++right;
    }
    return right == images.size() && pack.entries().size() == images.size();
}

TEST(PackTest, RoundTrip)
{
    Random random(3);
    for (const int count : {0, 1, 2, 7, 100}) {
        const std::vector<PackImage> images = draw_images(&random, count);
        const std::string bytes = write_pack(images);
        EXPECT_TRUE(holds(bytes, images)) << count;
        Pack pack;
        std::string why;
        ASSERT_TRUE(pack.open(nullptr, bytes.data(), bytes.size(), &why)) << why;
        EXPECT_EQ(pack.targets().size(), static_cast<size_t>(std::min(count, 3)));
        EXPECT_EQ(pack.find(Digest{}), nullptr);
    }
}

TEST(PackTest, TheFirstOfAKeyStays)
{
    Random random(4);
    std::vector<PackImage> images = draw_images(&random, 3);
    images.push_back(images[1]);
    images.back().image = "another";
    const std::string bytes = write_pack(images);
    images.pop_back();
    EXPECT_TRUE(holds(bytes, images));
}

TEST(PackTest, EveryByteCounts)
{
    Random random(5);
    const std::vector<PackImage> images = draw_images(&random, 4);
    const std::string bytes = write_pack(images);
    for (size_t at = 0; at < bytes.size(); ++at) {
        for (const uint8_t flip : {0x01, 0x80, 0xff}) {
            std::string damaged = bytes;
            damaged[at] = static_cast<char>(static_cast<uint8_t>(damaged[at]) ^ flip);
            ASSERT_FALSE(holds(damaged, images)) << "byte " << at;
        }
        ASSERT_FALSE(holds(bytes.substr(0, at), images)) << "cut at " << at;
        ASSERT_FALSE(holds(bytes.substr(at + 1), images)) << "begun after " << at;
    }
    EXPECT_FALSE(holds(bytes + '\0', images));
}

TEST(PackTest, DamageToOneImageLeavesTheOthers)
{
    Random random(6);
    const std::vector<PackImage> images = draw_images(&random, 5);
    std::string bytes = write_pack(images);
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    Pack pack;
    std::string why, image;
    ASSERT_TRUE(pack.open(nullptr, bytes.data(), bytes.size(), &why)) << why;
    int readable = 0;
    for (const PackEntry &entry : pack.entries()) readable += pack.load(entry, &image, &why) ? 1 : 0;
    EXPECT_EQ(readable, 4);
    EXPECT_NE(why.find("checksum"), std::string::npos) << why;
}

/// Writes the checksum of the table anew, as an attacker would.
void repair(std::string *bytes, size_t front)
{
    Sha256 hash;
    hash.add(bytes->data(), 32);
    hash.add(bytes->data() + 64, front - 64);
    const Digest digest = hash.finish();
    std::memcpy(bytes->data() + 32, digest.data(), digest.size());
}

// Behind a right checksum every field is checked for itself.
TEST(PackTest, FieldsAreCheckedBehindTheChecksum)
{
    Random random(7);
    const std::vector<PackImage> images = draw_images(&random, 4);
    const std::string bytes = write_pack(images);
    uint64_t labels = 0;
    for (const PackImage &image : images) labels += image.entry.label.size();
    const size_t front = 64 + 4 * 128 + labels;
    std::string same = bytes;
    repair(&same, front);
    ASSERT_EQ(same, bytes) << "this test computes the checksum as the writer does";
    const uint64_t values[] = {
        0,          1,          64,         front,       bytes.size() - 1, bytes.size(), bytes.size() + 1,
        0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, UINT64_MAX - 63,  UINT64_MAX};
    for (size_t at = 8; at + 8 <= front; at += 4) {
        if (at >= 32 && at < 64) continue;
        for (const uint64_t value : values) {
            for (const size_t width : {4, 8}) {
                std::string changed = bytes;
                for (size_t i = 0; i < width; ++i) changed[at + i] = static_cast<char>(value >> (8 * i));
                if (changed == bytes) continue;
                repair(&changed, front);
                // A label, a compiler's version or a key may be any; the images are the same then.
                Pack pack;
                std::string why, image;
                if (!pack.open(nullptr, changed.data(), changed.size(), &why)) continue;
                for (const PackEntry &entry : pack.entries()) {
                    if (!pack.load(entry, &image, &why)) continue;
                    EXPECT_EQ(image.size(), entry.image_bytes);
                }
            }
        }
    }
    const auto refused = [&](size_t at, const std::string &value, const char *reason) {
        std::string changed = bytes;
        changed.replace(at, value.size(), value);
        repair(&changed, front);
        Pack pack;
        std::string why;
        EXPECT_FALSE(pack.open(nullptr, changed.data(), changed.size(), &why)) << reason;
        EXPECT_NE(why.find(reason), std::string::npos) << why;
    };
    refused(8, "\x02", "format 2");
    refused(64 + 88, "\x01", "lies outside");
    refused(64 + 104, std::string(8, '\0'), "image of 0 bytes");
    refused(64 + 84, "\x04", "no writer sets");
    refused(64 + 64, std::string(1, '\0'), "no writer sets");
    refused(64 + 120, "\x01", "no writer sets");
    refused(64 + 128, std::string(32, '\0'), "not after the entry before it");
}

} // namespace
} // namespace attn::kernel
