// Two copies of the library in one process, as when two products in it bring their own: each works as if alone.
#include "samples.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <dlfcn.h>
#include <filesystem>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

namespace attn::hardening {
namespace {

/// One loaded file.
class Copy {
public:
    Copy(const std::string &path, int scope) : library_(dlopen(path.c_str(), RTLD_NOW | scope))
    {
        EXPECT_NE(library_, nullptr) << dlerror();
        if (!library_) return;
        load("attn_create", &functions.create);
        load("attn_destroy", &functions.destroy);
        load("attn_plan_dense", &functions.plan_dense);
        load("attn_plan_merge", &functions.plan_merge);
        load("attn_plan_append", &functions.plan_append);
        load("attn_plan_supports", &functions.plan_supports);
        load("attn_plan_workspace", &functions.plan_workspace);
        load("attn_plan_slot", &functions.plan_slot);
        load("attn_plan_describe", &functions.plan_describe);
        load("attn_plan_destroy", &functions.plan_destroy);
        load("attn_execute", &functions.execute);
        load("attn_last_error", &functions.last_error);
    }
    ~Copy() { close(); }
    Copy(const Copy &) = delete;
    Copy &operator=(const Copy &) = delete;
    void close()
    {
        if (!library_) return;
        EXPECT_EQ(dlclose(library_), 0) << dlerror();
        library_ = nullptr;
    }

    Functions functions = {};

private:
    template <class Function>
    void load(const char *name, Function *function)
    {
        void *address = dlsym(library_, name);
        ASSERT_NE(address, nullptr) << dlerror();
        memcpy(function, &address, sizeof address);
    }

    void *library_;
};

attn_handle create(const Functions &library, int32_t workers)
{
    attn_options options = {};
    options.size = sizeof options;
    options.max_workers = workers;
    attn_handle handle = nullptr;
    EXPECT_EQ(library.create(&options, &handle), ATTN_OK) << library.last_error();
    return handle;
}

/// Everything that one sample gives on one copy, planned, executed and destroyed.
std::vector<unsigned char> results(const Functions &library, attn_handle handle, const Sample &sample)
{
    attn_plan plan = nullptr;
    if (sample.plan(library, handle, &plan) != ATTN_OK) return {};
    Tensors tensors(library, plan, 11);
    std::vector<unsigned char> outputs;
    if (tensors.execute() == ATTN_OK) outputs = tensors.outputs();
    library.plan_destroy(plan);
    return outputs;
}

class Copies : public testing::Test {
protected:
    void SetUp() override
    {
        original_ = std::filesystem::canonical(ATTN_LIBRARY).string();
        directory_ = std::filesystem::temp_directory_path() / ("attn-copies-" + std::to_string(getpid()));
        std::filesystem::create_directories(directory_);
        copy_ = (directory_ / "libother.so").string();
        std::filesystem::copy_file(original_, copy_, std::filesystem::copy_options::overwrite_existing);
    }
    void TearDown() override { std::filesystem::remove_all(directory_); }

    std::string original_, copy_;

private:
    std::filesystem::path directory_;
};

TEST_F(Copies, WorkInTurn)
{
    const auto samples = make_samples();
    for (const int scope : {RTLD_LOCAL, RTLD_GLOBAL}) {
        Copy first(original_, scope), second(copy_, RTLD_LOCAL);
        ASSERT_NE(first.functions.execute, second.functions.execute);
        const attn_handle one = create(first.functions, 3), two = create(second.functions, 3);
        std::vector<attn_plan> plans[2];
        for (const auto &sample : samples) {
            plans[0].push_back(nullptr), plans[1].push_back(nullptr);
            ASSERT_EQ(sample->plan(first.functions, one, &plans[0].back()), ATTN_OK) << first.functions.last_error();
            ASSERT_EQ(sample->plan(second.functions, two, &plans[1].back()), ATTN_OK) << second.functions.last_error();
        }
        for (size_t i = 0; i < samples.size(); ++i) { // all plans of both live
            SCOPED_TRACE(samples[i]->name);
            Tensors a(first.functions, plans[0][i], 5), b(second.functions, plans[1][i], 5);
            EXPECT_EQ(a.execute(), ATTN_OK) << first.functions.last_error();
            EXPECT_EQ(b.execute(), ATTN_OK) << second.functions.last_error();
            EXPECT_EQ(a.outputs(), b.outputs());
        }
        for (const attn_plan plan : plans[0]) first.functions.plan_destroy(plan);
        for (const attn_plan plan : plans[1]) second.functions.plan_destroy(plan);
        first.functions.destroy(one);
        second.functions.destroy(two);
    }
}

TEST_F(Copies, HaveMessagesOfTheirOwn)
{
    Copy first(original_, RTLD_GLOBAL), second(copy_, RTLD_LOCAL);
    attn_handle none = nullptr;
    attn_options options = {};
    options.size = sizeof options;
    options.max_workers = -1;
    ASSERT_EQ(first.functions.create(&options, &none), ATTN_ERROR_INVALID);
    EXPECT_STREQ(second.functions.last_error(), "");
    options.max_workers = -2;
    ASSERT_EQ(second.functions.create(&options, &none), ATTN_ERROR_INVALID);
    EXPECT_NE(std::string(first.functions.last_error()).find("= -1"), std::string::npos);
    EXPECT_NE(std::string(second.functions.last_error()).find("= -2"), std::string::npos);
    std::thread([&] {
        EXPECT_STREQ(first.functions.last_error(), "");
        EXPECT_STREQ(second.functions.last_error(), "");
    }).join();
}

TEST_F(Copies, WorkAtOnce)
{
    const auto samples = make_samples();
    Copy first(original_, RTLD_LOCAL), second(copy_, RTLD_LOCAL);
    const Functions libraries[] = {first.functions, second.functions};
    const attn_handle handles[] = {create(libraries[0], 3), create(libraries[1], 3)};
    std::vector<std::vector<unsigned char>> expected;
    for (const auto &sample : samples) {
        expected.push_back(results(libraries[0], handles[0], *sample));
        ASSERT_FALSE(expected.back().empty()) << libraries[0].last_error();
    }
    std::atomic<int> different{0};
    std::vector<std::thread> threads;
    for (size_t thread = 0; thread < 4; ++thread)
        threads.emplace_back([&, thread] {
            for (size_t round = 0; round < 40; ++round) {
                const size_t i = (round + thread) % samples.size(), which = (round + thread / 2) % 2;
                different += results(libraries[which], handles[which], *samples[i]) != expected[i];
            }
        });
    for (std::thread &thread : threads) thread.join();
    EXPECT_EQ(different.load(), 0);
    for (int i = 0; i < 2; ++i) libraries[i].destroy(handles[i]);
}

TEST_F(Copies, OneStaysWhenTheOtherGoes)
{
    const auto samples = make_samples();
    Copy kept(copy_, RTLD_LOCAL);
    const attn_handle handle = create(kept.functions, 3);
    attn_plan plan = nullptr;
    ASSERT_EQ(samples[0]->plan(kept.functions, handle, &plan), ATTN_OK);
    Tensors tensors(kept.functions, plan, 4);
    ASSERT_EQ(tensors.execute(), ATTN_OK);
    const std::vector<unsigned char> expected = tensors.outputs();
    for (int round = 0; round < 5; ++round) { // loaded and unloaded again and again, with threads of its own each time
        Copy passing(original_, round % 2 ? RTLD_GLOBAL : RTLD_LOCAL);
        const attn_handle other = create(passing.functions, 4);
        EXPECT_FALSE(results(passing.functions, other, *samples[4]).empty());
        // A thread that has met the library goes on after the library has gone.
        std::atomic<int> step{0};
        std::thread witness([&] {
            attn_handle none = nullptr;
            attn_options options = {};
            EXPECT_EQ(passing.functions.create(&options, &none), ATTN_ERROR_INVALID);
            step.store(1);
            while (step.load() != 2) std::this_thread::yield();
        });
        while (step.load() != 1) std::this_thread::yield();
        passing.functions.destroy(other);
        passing.close();
        step.store(2);
        witness.join();
        tensors.reset();
        ASSERT_EQ(tensors.execute(), ATTN_OK) << kept.functions.last_error();
        EXPECT_EQ(tensors.outputs(), expected);
    }
    kept.functions.plan_destroy(plan);
    kept.functions.destroy(handle);
}

} // namespace
} // namespace attn::hardening
