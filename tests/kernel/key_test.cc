// Hashes, sources, keys and targets.
#include "fixture.h"

#include "kernel/key.h"
#include "kernel/sha256.h"
#include "kernel/target.h"

#include <set>

namespace attn::kernel {
namespace {

std::string hash(const std::string &text)
{
    return hexadecimal(sha256(text.data(), text.size()));
}

// The examples of FIPS 180-4 and of NIST's validation suite.
TEST(Sha256Test, StandardVectors)
{
    EXPECT_EQ(hash(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    EXPECT_EQ(hash("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmn"
                   "opqrstnopqrstu"),
              "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
    EXPECT_EQ(hash(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    EXPECT_EQ(hash("\xbd"), "68325720aabd7c82f30f554b313d0570c95accbb7dc4b5aae11204c08ffe732b");
}

TEST(Sha256Test, PiecesAreTheWhole)
{
    std::string text;
    for (int i = 0; i < 300; ++i) text += static_cast<char>(i * 37);
    for (size_t piece = 1; piece < 140; ++piece) {
        Sha256 sum;
        for (size_t at = 0; at < text.size(); at += piece) sum.add(text.data() + at, std::min(piece, text.size() - at));
        EXPECT_EQ(hexadecimal(sum.finish()), hash(text)) << piece;
    }
}

// CMake computes the digests, with a SHA-256 of its own.
TEST(SourcesTest, EmbeddedAsTheyAre)
{
    const Sources sources = test_sources();
    EXPECT_EQ(sources.end() - sources.begin(), 3);
    for (const Source &source : sources) {
        EXPECT_EQ(source.view(), read_file(std::string(ATTN_TEST_SOURCES) + '/' + source.path));
        EXPECT_EQ(source.text[source.bytes], 0);
        EXPECT_EQ(source.sha256, hash(std::string(source.view())));
    }
    for (const Source &source : embedded_sources()) EXPECT_EQ(source.sha256, hash(std::string(source.view())));
}

/// A table of texts.
class Table {
public:
    void add(const std::string &path, const std::string &text)
    {
        for (const auto &file : files_)
            if (file->path == path) {
                file->text = text;
                file->digest = hash(text);
                return;
            }
        files_.push_back(std::make_unique<File>(File{path, text, hash(text)}));
    }
    Sources sources()
    {
        table_.clear();
        for (const auto &file : files_)
            table_.push_back({file->path.c_str(), reinterpret_cast<const unsigned char *>(file->text.c_str()),
                              file->text.size(), file->digest.c_str()});
        return Sources(table_.data(), table_.size());
    }

private:
    struct File {
        std::string path, text, digest;
    };
    std::vector<std::unique_ptr<File>> files_;
    std::vector<Source> table_;
};

std::string reached(const Sources &sources, const std::string &path, std::string_view generated = "")
{
    std::vector<const Source *> files;
    std::string why, text;
    if (!sources.reach(path, generated, &files, &why)) return why;
    for (const Source *file : files) {
        if (!text.empty()) text += ' ';
        text += file->path;
    }
    return text;
}

TEST(SourcesTest, ReachesOverAnyNumberOfSteps)
{
    Table table;
    table.add("z/main.cuh",
              "#include \"b.h\"\n  #  include\t\"a.h\" // twice\n#include \"b.h\"\nint x; // #include \"no\"");
    table.add("a.h", "#include \"c.h\"");
    table.add("b.h", "#ifdef NEVER\n#include \"a.h\"\n#endif\n#include \"z/main.cuh\"\n"); // a circle
    table.add("c.h", "");
    table.add("d.h", "#include \"attn_generated.cuh\"\n");
    const Sources sources = table.sources();
    EXPECT_EQ(reached(sources, "z/main.cuh"), "z/main.cuh a.h b.h c.h");
    EXPECT_EQ(reached(sources, "c.h", "#include \"d.h\"\n"), "c.h d.h");
    EXPECT_EQ(reached(sources, "e.h"), "the library has no source e.h");
}

TEST(SourcesTest, NothingFromOutside)
{
    Table table;
    const std::string bad[] = {"<cuda_fp16.h>", "\"/etc/passwd\"", "\"../main.cuh\"", "MACRO", "\"open", "\"\""};
    for (const std::string &include : bad) {
        table.add("main.cuh", "#include " + include + "\n");
        EXPECT_EQ(reached(table.sources(), "main.cuh"),
                  "main.cuh includes " + include + ", which the library does not have");
    }
    table.add("main.cuh", "");
    EXPECT_EQ(reached(table.sources(), "main.cuh", "#include <x>"),
              "attn_generated.cuh includes <x>, which the library does not have");
}

TEST(KeyTest, EveryPartCounts)
{
    Table table;
    table.add("main.cuh", "#include \"a.h\"\n");
    table.add("a.h", "#include \"b.h\"\n");
    table.add("b.h", "int b;\n");
    table.add("other.h", "int other;\n");
    const Request request = {"main.cuh", "entry", {"A=1", "B=2"}, "int g;"};
    std::set<Digest> keys;
    const auto key = [&](const Request &wanted, const std::string &target = "sm_90a") {
        Digest digest;
        std::string why;
        EXPECT_TRUE(digest_request(table.sources(), wanted, &digest, &why)) << why;
        return key_of(digest, target);
    };
    keys.insert(key(request));
    EXPECT_EQ(keys.count(key(request)), 1u);
    const auto differs = [&](const char *what, const Digest &digest) {
        EXPECT_TRUE(keys.insert(digest).second) << what;
    };
    differs("target", key(request, "sm_90"));
    differs("PTX", key(request, "compute_90"));
    differs("entry", key({"main.cuh", "entry2", {"A=1", "B=2"}, "int g;"}));
    differs("generated", key({"main.cuh", "entry", {"A=1", "B=2"}, "int g; "}));
    differs("definition", key({"main.cuh", "entry", {"A=1", "B=3"}, "int g;"}));
    differs("order", key({"main.cuh", "entry", {"B=2", "A=1"}, "int g;"}));
    differs("one definition of two", key({"main.cuh", "entry", {"A=1B=2"}, "int g;"}));
    differs("cut elsewhere", key({"main.cuh", "entry", {"A=1B", "=2"}, "int g;"}));
    differs("moved to another part", key({"main.cuh", "entry", {"A=1", "B=2", "int g;"}, ""}));
    differs("source", key({"a.h", "entry", {"A=1", "B=2"}, "int g;"}));
    table.add("b.h", "int b ;\n");
    differs("a header of a header", key(request));
    const Digest before = key(request);
    table.add("other.h", "changed\n");
    EXPECT_EQ(key(request), before) << "what is not included does not count";
}

TEST(KeyTest, Label)
{
    EXPECT_EQ(label_of({"a.cuh", "f", {}, ""}), "f of a.cuh");
    EXPECT_EQ(label_of({"a.cuh", "f", {"A=1", "B"}, ""}), "f of a.cuh, A=1 B");
    EXPECT_EQ(label_of({"a.cuh", "f", {"A"}, "abc"}), "f of a.cuh, A, generated ba7816bf8f01");
}

TEST(TargetTest, WhatServesWhat)
{
    const auto yes = [](const char *target, const char *arch) { EXPECT_GT(serves(target, arch), 0) << target << arch; };
    const auto no = [](const char *target, const char *arch) { EXPECT_EQ(serves(target, arch), 0) << target << arch; };
    yes("sm_80", "sm_80"), yes("sm_80", "sm_86"), yes("sm_80", "sm_89"), yes("sm_86", "sm_89");
    no("sm_86", "sm_80"), no("sm_80", "sm_90"), no("sm_80", "sm_90a"), no("sm_90", "sm_100a");
    yes("sm_90", "sm_90a"), yes("sm_90a", "sm_90a"), no("sm_90a", "sm_90"), no("sm_90a", "sm_91a");
    yes("sm_120", "sm_121a"), no("sm_100a", "sm_103a"), no("sm_100", "sm_120");
    yes("compute_80", "sm_80"), yes("compute_80", "sm_90a"), yes("compute_80", "sm_120a"), no("compute_90", "sm_89");
    yes("compute_90a", "sm_90a"), no("compute_90a", "sm_100a");
    yes("gfx942", "gfx942"), no("gfx942", "gfx950"), no("sm_80", "gfx942"), no("gfx942", "sm_80");
    no("compute_80", "compute_90"), no("sm_8x", "sm_80"), no("sm_", "sm_80"), no("sm_-80", "sm_80"), no("", "sm_80");
}

TEST(TargetTest, TheNearestIsBest)
{
    const char *order[] = {"sm_90a", "sm_90", "compute_90a", "compute_90", "compute_86", "compute_80"};
    for (size_t i = 1; i < std::size(order); ++i)
        EXPECT_GT(serves(order[i - 1], "sm_90a"), serves(order[i], "sm_90a")) << order[i];
    EXPECT_GT(serves("sm_86", "sm_89"), serves("sm_80", "sm_89"));
    EXPECT_GT(serves("sm_80", "sm_89"), serves("compute_89", "sm_89"));
}

TEST(TargetTest, Drivers)
{
    EXPECT_TRUE(loads_on_driver(13000, false, 13000));
    EXPECT_TRUE(loads_on_driver(13010, false, 13000));
    EXPECT_FALSE(loads_on_driver(13010, true, 13000));
    EXPECT_TRUE(loads_on_driver(12090, true, 13000));
    EXPECT_FALSE(loads_on_driver(13000, false, 12080));
    EXPECT_TRUE(loads_on_driver(13000, true, 0));
    EXPECT_EQ(version_text(12040), "12.4");
}

} // namespace
} // namespace attn::kernel
