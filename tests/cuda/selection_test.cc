// Which implementation of a list a handle takes, and what is said of those that it passed over.
#include "backends/cuda/implementations.h"
#include "json.h"
#include "tests/cuda/session.h"

#include <attn/attn.h>

#include <cstdlib>
#include <vector>

namespace attn::cuda::test {
namespace {

/// ATTN_GPU_IMPLEMENTATION for as long as it lives.
class Variable {
public:
    explicit Variable(const char *value) { setenv("ATTN_GPU_IMPLEMENTATION", value, 1); }
    ~Variable() { unsetenv("ATTN_GPU_IMPLEMENTATION"); }
    Variable(const Variable &) = delete;
    Variable &operator=(const Variable &) = delete;
};

struct Idle final : Executor {
    const char *kernel() const noexcept override { return "idle"; }
    size_t workspace_bytes(const Sizes &) const noexcept override { return 0; }
    size_t workspace_alignment() const noexcept override { return 1; }
    attn_status execute(const attn_handle_s &, const Arguments &, void *, size_t, void *) const noexcept override
    {
        return ATTN_OK;
    }
    void describe(JsonWriter &) const override {}
};

std::string serve(const Problem &, gpu::Device &)
{
    return "";
}
std::string refuse(const Problem &, gpu::Device &)
{
    return "does not compute anything";
}
attn_status make(const Problem &, gpu::Device &, std::unique_ptr<Executor> *out)
{
    *out = std::make_unique<Idle>();
    return ATTN_OK;
}

attn_status lack(const Problem &, gpu::Device &, std::unique_ptr<Executor> *)
{
    return fail(ATTN_ERROR_COMPILE, "no such kernel");
}
attn_status fail_to_make(const Problem &, gpu::Device &, std::unique_ptr<Executor> *)
{
    return fail(ATTN_ERROR_MEMORY, "out of memory");
}

class Selections : public Session {
protected:
    /// The refusals on the way to the choice, "NAME: REASON;" each, or the message that there is none.
    std::string choose(const std::vector<gpu::Implementation> &list, gpu::Selection selection)
    {
        const auto device = open();
        Problem problem;
        problem.kind = ATTN_KIND_DENSE;
        std::unique_ptr<Executor> executor;
        if (gpu::choose(list, selection, "cuda", problem, *device, &executor) != ATTN_OK) return last_error();
        std::string text;
        for (const Refusal &refusal : executor->refusals) text += refusal.kernel + ": " + refusal.reason + ";";
        return text;
    }
};

TEST_F(Selections, FirstThatServes)
{
    using gpu::Family;
    const gpu::Implementation tuned = {ATTN_KIND_DENSE, "tuned", Family::sm90, serve, make};
    const gpu::Implementation narrow = {ATTN_KIND_DENSE, "narrow", Family::sm90, refuse, make};
    const gpu::Implementation absent = {ATTN_KIND_DENSE, "absent", Family::sm90, serve, lack};
    const gpu::Implementation broken = {ATTN_KIND_DENSE, "broken", Family::sm90, serve, fail_to_make};
    const gpu::Implementation other = {ATTN_KIND_MERGE, "other", Family::portable, serve, make};
    const gpu::Implementation portable = {ATTN_KIND_DENSE, "portable", Family::portable, serve, make};
    EXPECT_EQ(choose({other, tuned, portable}, gpu::Selection::standard), "");
    EXPECT_EQ(choose({narrow, tuned, portable}, gpu::Selection::standard), "narrow: does not compute anything;");
    EXPECT_EQ(choose({narrow, tuned, portable}, gpu::Selection::portable),
              "narrow: is not portable: ATTN_GPU_IMPLEMENTATION = portable;"
              "tuned: is not portable: ATTN_GPU_IMPLEMENTATION = portable;");
    EXPECT_EQ(choose({absent, portable}, gpu::Selection::standard), "absent: no such kernel;");
    EXPECT_EQ(choose({broken, portable}, gpu::Selection::standard), "out of memory");
    EXPECT_EQ(choose({narrow, other}, gpu::Selection::standard),
              "attn_dense: no kernel of the cuda backend serves this: narrow does not compute anything");
    EXPECT_EQ(choose({other}, gpu::Selection::standard), "attn_dense: no kernel of the cuda backend serves this");
}

TEST_F(Selections, EveryKindHasAPortableImplementation)
{
    for (const attn_kind kind : {ATTN_KIND_DENSE, ATTN_KIND_MERGE, ATTN_KIND_APPEND}) {
        bool found = false;
        for (const gpu::Implementation &implementation : implementations())
            found |= implementation.kind == kind && implementation.family == gpu::Family::portable;
        EXPECT_TRUE(found) << kind;
    }
}

TEST_F(Selections, Variable)
{
    attn_options options = {};
    options.size = sizeof options, options.device = ATTN_DEVICE_CUDA;
    attn_handle handle = nullptr;
    for (const char *value : {"portable", ""}) {
        const Variable variable(value);
        ASSERT_EQ(attn_create(&options, &handle), ATTN_OK) << last_error();
        attn_destroy(handle);
    }
    const Variable variable("fastest");
    EXPECT_TRUE(failed_with(attn_create(&options, &handle), ATTN_ERROR_INVALID,
                            {"ATTN_GPU_IMPLEMENTATION = fastest: must be portable, or not set"}));
    EXPECT_EQ(attn_create(nullptr, &handle), ATTN_OK) << "no matter of the CPU";
    attn_destroy(handle);
}

} // namespace
} // namespace attn::cuda::test
