// What the tests of the kernel store share: sources of their own, scratch directories, the environment, the fake
// compiler.
#ifndef ATTN_TESTS_KERNEL_FIXTURE_H
#define ATTN_TESTS_KERNEL_FIXTURE_H

#include "fake_nvrtc.h"

#include "kernel/pack.h"
#include "kernel/source.h"
#include "kernel/store.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <optional>
#include <string>
#include <sys/stat.h>

namespace attn::kernel {

/// tests/kernel/sources
Sources test_sources() noexcept;

/// The kernel of the test sources, for a factor.
inline Request scale_request(int factor = 3)
{
    return {"test/scale.cuh",
            "attn_test_scale",
            {"SCALE=" + std::to_string(factor)},
            "__device__ inline float offset() { return 1.0f; }\n"};
}

/// A directory for one test.
class Scratch {
public:
    Scratch()
    {
        std::string name = std::filesystem::temp_directory_path() / "attn-kernel-XXXXXX";
        if (!mkdtemp(name.data())) std::abort();
        path_ = name;
    }
    ~Scratch()
    {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    Scratch(const Scratch &) = delete;
    Scratch &operator=(const Scratch &) = delete;
    std::string operator/(const std::string &name) const { return path_ + '/' + name; }
    const std::string &path() const { return path_; }

private:
    std::string path_;
};

/// A variable of the environment that has a value, or none, for a while.
class Variable {
public:
    Variable(const char *name, const char *value) : name_(name)
    {
        if (const char *old = std::getenv(name)) old_ = old;
        set(value);
    }
    ~Variable() { set(old_ ? old_->c_str() : nullptr); }
    Variable(const Variable &) = delete;
    Variable &operator=(const Variable &) = delete;

private:
    void set(const char *value) { value ? setenv(name_, value, 1) : unsetenv(name_); }

    const char *name_;
    std::optional<std::string> old_;
};

inline std::string read_file(const std::string &path)
{
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
}

/// Creates a file for the user alone.
inline void write_file(const std::string &path, const std::string &bytes)
{
    std::ofstream(path, std::ios::binary) << bytes;
    chmod(path.c_str(), 0600);
}

/// The one file of a directory, "" if there is none or more.
inline std::string only_file(const std::string &directory)
{
    std::string found;
    for (const auto &entry : std::filesystem::directory_iterator(directory)) {
        if (!found.empty()) return "";
        found = entry.path();
    }
    return found;
}

/// Tests whose compiler is the fake one. Nothing of the user's is read or written: the cache is in a scratch directory.
class KernelTest : public testing::Test {
protected:
    void SetUp() override;

    FakeNvrtc &fake() { return *fake_; }
    /// The fake as the compiler, and the scratch directory as the cache.
    StoreOptions options() const;
    std::unique_ptr<Store> open(const StoreOptions &options, std::string_view pack = {});
    /// A pack with the test kernel as the fake compiles it for some targets. Nothing is counted.
    std::string make_pack(const std::vector<std::string> &targets, int factor = 3, int32_t compiler = 13000);

    Scratch scratch_;
    Variable no_cache_{"ATTN_CACHE_DIR", nullptr};
    Variable no_path_{"ATTN_KERNEL_PATH", nullptr};
    Variable home_{"HOME", nullptr};
    Variable caches_{"XDG_CACHE_HOME", nullptr};

private:
    FakeNvrtc *fake_ = nullptr;
};

} // namespace attn::kernel

#endif
