// The disk cache, and what files and directories that hold code must be like.
#include "fixture.h"

#include "kernel/trust.h"

#include <fcntl.h>
#include <thread>
#include <unistd.h>

namespace attn::kernel {
namespace {

class CacheTest : public KernelTest {
protected:
    Origin origin(const StoreOptions &with)
    {
        Image image;
        const auto store = open(with);
        EXPECT_EQ(store->find(scale_request(), "sm_90a", true, &image), ATTN_OK) << last_error();
        return image.origin;
    }
    std::string refusal(const StoreOptions &with)
    {
        std::unique_ptr<Store> store;
        EXPECT_EQ(open_store(with, test_sources(), {}, &store), ATTN_ERROR_INVALID);
        return last_error();
    }
};

TEST_F(CacheTest, OneFileForAKeyAndNothingElse)
{
    const StoreOptions with = options();
    EXPECT_EQ(origin(with), Origin::compiled);
    const std::string file = only_file(with.cache_dir);
    ASSERT_NE(file, "");
    EXPECT_EQ(std::filesystem::path(file).filename().string().size(), 64 + sizeof kPackSuffix - 1);
    struct stat facts;
    ASSERT_EQ(stat(file.c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777, 0600u);
    ASSERT_EQ(stat(with.cache_dir.c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777, 0700u);
    EXPECT_EQ(origin(with), Origin::disk);
}

TEST_F(CacheTest, ACacheIsADirectoryOfPacks)
{
    StoreOptions with = options();
    EXPECT_EQ(origin(with), Origin::compiled);
    with.kernel_path = with.cache_dir;
    with.disk_cache = false;
    EXPECT_EQ(origin(with), Origin::pack);
}

TEST_F(CacheTest, DamagedIsCompiledAgain)
{
    const StoreOptions with = options();
    origin(with);
    const std::string file = only_file(with.cache_dir), bytes = read_file(file);
    int compiles = fake().compiles;
    for (const std::string &content : {std::string(), std::string("no pack"), bytes.substr(0, bytes.size() - 1),
                                       bytes + "x", std::string(bytes.size(), '\0')}) {
        write_file(file, content);
        EXPECT_EQ(origin(with), Origin::compiled);
        EXPECT_EQ(fake().compiles, ++compiles);
        EXPECT_EQ(read_file(file), bytes) << "replaced";
        EXPECT_EQ(origin(with), Origin::disk);
    }
}

TEST_F(CacheTest, AFileUnderAnotherKeyIsNotBelieved)
{
    const StoreOptions with = options();
    origin(with);
    const std::string file = only_file(with.cache_dir);
    Image image;
    const auto store = open(with);
    ASSERT_EQ(store->find(scale_request(4), "sm_90a", true, &image), ATTN_OK);
    for (const auto &entry : std::filesystem::directory_iterator(with.cache_dir))
        if (entry.path() != file) std::filesystem::rename(entry.path(), file);
    EXPECT_EQ(origin(with), Origin::compiled);
}

TEST_F(CacheTest, FilesThatOthersCouldHaveWritten)
{
    const StoreOptions with = options();
    origin(with);
    const std::string file = only_file(with.cache_dir);
    for (const mode_t mode : {0620, 0602, 0666}) {
        ASSERT_EQ(chmod(file.c_str(), mode), 0);
        EXPECT_EQ(origin(with), Origin::compiled) << std::oct << mode;
        EXPECT_EQ(origin(with), Origin::disk);
    }
    const std::string moved = scratch_ / "moved";
    std::filesystem::rename(file, moved);
    std::filesystem::create_symlink(moved, file);
    EXPECT_EQ(origin(with), Origin::compiled) << "a symbolic link";
    EXPECT_FALSE(std::filesystem::is_symlink(file)) << "replaced, not followed";
    std::filesystem::remove(file);
    ASSERT_EQ(mkfifo(file.c_str(), 0600), 0);
    EXPECT_EQ(origin(with), Origin::compiled) << "a pipe";
    if (geteuid() == 0) {
        ASSERT_EQ(chown(file.c_str(), 65534, 65534), 0);
        EXPECT_EQ(origin(with), Origin::compiled) << "another owner";
        EXPECT_EQ(origin(with), Origin::disk);
    }
}

TEST_F(CacheTest, DirectoriesThatOthersMayWrite)
{
    StoreOptions with = options();
    const std::string directory = with.cache_dir;
    std::filesystem::create_directory(directory);
    const auto refused = [&](mode_t mode, const char *who) {
        ASSERT_EQ(chmod(directory.c_str(), mode), 0);
        EXPECT_EQ(refusal(with), "attn_options.cache_dir = " + directory + ": may be written by " + who +
                                     ": must be writable by its owner only, as it holds code");
    };
    refused(0770, "its group");
    refused(0702, "everyone");
    refused(01777, "everyone");
    ASSERT_EQ(chmod(directory.c_str(), 0755), 0);
    EXPECT_EQ(origin(with), Origin::compiled) << "others may read";
    StoreOptions link = with;
    link.cache_dir = scratch_ / "link";
    std::filesystem::create_directory_symlink(directory, link.cache_dir);
    EXPECT_EQ(refusal(link), "attn_options.cache_dir = " + link.cache_dir + ": must not be a symbolic link");
    link.cache_dir = scratch_ / "file";
    write_file(link.cache_dir, "");
    EXPECT_EQ(refusal(link), "attn_options.cache_dir = " + link.cache_dir + ": must be a directory");
    link.cache_dir = "cache";
    EXPECT_EQ(refusal(link), "attn_options.cache_dir = cache: must be an absolute path: code is never loaded from the "
                             "current directory");
    with.cache_dir.clear();
    ASSERT_EQ(chmod(directory.c_str(), 0770), 0);
    const Variable variable("ATTN_CACHE_DIR", directory.c_str());
    EXPECT_EQ(refusal(with).rfind("ATTN_CACHE_DIR = " + directory + ": may be written by its group", 0), 0u);
}

TEST_F(CacheTest, AnotherOwner)
{
    StoreOptions with = options();
    with.cache_dir = "/usr";
    if (geteuid() == 0) {
        with.cache_dir = scratch_ / "foreign";
        std::filesystem::create_directory(with.cache_dir);
        ASSERT_EQ(chmod(with.cache_dir.c_str(), 0755), 0);
        ASSERT_EQ(chown(with.cache_dir.c_str(), 65534, 65534), 0);
    }
    const std::string message = refusal(with);
    EXPECT_NE(message.find("must belong to user " + std::to_string(geteuid())), std::string::npos) << message;
    with.kernel_path = with.cache_dir;
    with.cache_dir = scratch_ / "cache";
    if (geteuid() == 0) {
        EXPECT_NE(refusal(with).find("belongs to user 65534: must belong to user 0, as"), std::string::npos);
    } else {
        EXPECT_EQ(origin(with), Origin::compiled) << "packs may be root's";
    }
}

TEST_F(CacheTest, NothingCanBeWritten)
{
    StoreOptions with = options();
    with.cache_dir = "/proc/attn-cache";
    const auto store = open(with);
    Image image;
    EXPECT_EQ(store->find(scale_request(), "sm_90a", true, &image), ATTN_OK) << last_error();
    EXPECT_EQ(store->find(scale_request(), "sm_90a", true, &image), ATTN_OK) << last_error();
    EXPECT_EQ(fake().compiles, 1) << "it stays in memory";
    if (geteuid() != 0) {
        with.cache_dir = scratch_ / "readonly";
        std::filesystem::create_directory(with.cache_dir);
        ASSERT_EQ(chmod(with.cache_dir.c_str(), 0500), 0);
        EXPECT_EQ(origin(with), Origin::compiled);
        EXPECT_EQ(only_file(with.cache_dir), "");
    }
}

TEST_F(CacheTest, TheUsersOwn)
{
    StoreOptions with = options();
    with.cache_dir.clear();
    EXPECT_EQ(origin(with), Origin::compiled) << "no directory at all";
    EXPECT_EQ(origin(with), Origin::compiled);
    const std::string home = scratch_ / "home";
    const Variable variable("HOME", home.c_str());
    EXPECT_EQ(origin(with), Origin::compiled);
    EXPECT_NE(only_file(home + "/.cache/libattn"), "");
    EXPECT_EQ(origin(with), Origin::disk);
    {
        const Variable caches("XDG_CACHE_HOME", (scratch_ / "xdg").c_str());
        EXPECT_EQ(origin(with), Origin::compiled);
        EXPECT_NE(only_file(scratch_ / "xdg/libattn"), "");
    }
    {
        const Variable caches("XDG_CACHE_HOME", "relative");
        EXPECT_EQ(origin(with), Origin::disk) << "ignored, so HOME's";
    }
    ASSERT_EQ(chmod((home + "/.cache/libattn").c_str(), 0777), 0);
    EXPECT_EQ(origin(with), Origin::compiled) << "not trusted, so not used; an error only where the user named it";
}

TEST_F(CacheTest, ManyWritersOfOneFile)
{
    const StoreOptions with = options();
    std::vector<std::thread> threads;
    std::atomic<int> failures{0};
    for (int i = 0; i < 8; ++i)
        threads.emplace_back([&] {
            std::unique_ptr<Store> store;
            Image image;
            if (open_store(with, test_sources(), {}, &store) != ATTN_OK ||
                store->find(scale_request(), "sm_90a", true, &image) != ATTN_OK)
                ++failures;
        });
    for (std::thread &thread : threads) thread.join();
    EXPECT_EQ(failures, 0);
    EXPECT_NE(only_file(with.cache_dir), "") << "no temporary file stays";
    EXPECT_EQ(origin(with), Origin::disk);
}

TEST(TrustTest, TheTemporaryFileOfAFailedWriteGoes)
{
    const Scratch scratch;
    Descriptor directory;
    std::string why;
    ASSERT_EQ(open_trusted(scratch.path(), Owner::user, &directory, &why), Opened::directory) << why;
    std::filesystem::create_directory(scratch / "taken"); // a file cannot be renamed to a directory
    EXPECT_FALSE(replace_file(directory, "taken", "bytes", &why));
    EXPECT_NE(why, "");
    EXPECT_EQ(only_file(scratch.path()), scratch / "taken");
}

TEST(TrustTest, FilesTooLarge)
{
    const Scratch scratch;
    write_file(scratch / "file", "12345");
    Descriptor file;
    std::string why, bytes;
    ASSERT_EQ(open_trusted(scratch / "file", Owner::user, &file, &why), Opened::file) << why;
    EXPECT_FALSE(read_whole(file, 4, &bytes, &why));
    EXPECT_EQ(why, "has 5 bytes: must have at most 4");
    EXPECT_TRUE(read_whole(file, 5, &bytes, &why));
    EXPECT_EQ(bytes, "12345");
}

} // namespace
} // namespace attn::kernel
