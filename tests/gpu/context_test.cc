// Contexts: the library uses the primary one or the one it was told to, leaves the thread's alone, and refuses streams
// of another.
#include "call.h"
#include "resident.h"

#include "tests/conformance/session.h"

#include <gtest/gtest.h>

#include <string>

namespace gpu_test {
namespace {

using conformance::HandlePointer;

class OwnContext {
public:
    OwnContext()
    {
        int device = 0;
        check(driver().device_get(&device, 0), "cuDeviceGet");
        check(driver().ctx_create(&context_, 0, device), "cuCtxCreate"); // which makes it current
        Context ignored = nullptr;
        check(driver().ctx_pop_current(&ignored), "cuCtxPopCurrent");
    }
    ~OwnContext() { driver().ctx_destroy(context_); }
    OwnContext(const OwnContext &) = delete;
    OwnContext &operator=(const OwnContext &) = delete;
    Context get() const { return context_; }

private:
    Context context_ = nullptr;
};

HandlePointer create(std::uint64_t flags, std::string *why, attn_status *status = nullptr)
{
    attn_options options{};
    options.flags = flags;
    return conformance::backends().front()->create(options, *why, status);
}

Context current()
{
    Context context = nullptr;
    check(driver().ctx_get_current(&context), "cuCtxGetCurrent");
    return context;
}

// Runs every kind of call on the handle, in a context that is current.
void run_all(attn_handle handle)
{
    const OwnStream stream;
    for (const CallKind &kind : call_kinds()) {
        SCOPED_TRACE(kind.name);
        const auto call = kind.make(conformance::session().seed);
        const Context before = current();
        const auto plan = call->plan(handle);
        ASSERT_TRUE(plan);
        EXPECT_EQ(current(), before);
        call->poison();
        Resident resident(plan.get(), call->args());
        EXPECT_EQ(resident.execute(plan.get(), stream.get()), ATTN_OK) << attn_last_error();
        EXPECT_EQ(current(), before);
        stream.synchronize();
        resident.read(call->args());
        call->check();
    }
}

TEST(Contexts, TheThreadsOwnIsLeftAlone)
{
    const OwnContext own;
    const ContextScope outer(own.get());
    std::string why;
    const HandlePointer handle = create(0, &why);
    ASSERT_TRUE(handle) << why;
    EXPECT_EQ(current(), own.get());
    const auto call = call_kinds()[0].make(conformance::session().seed);
    const auto plan = call->plan(handle.get());
    ASSERT_TRUE(plan);
    EXPECT_EQ(current(), own.get());
    const ContextScope primary;
    Resident resident(plan.get(), call->args());
    {
        const ContextScope foreign(own.get()); // while the call is for the primary context
        EXPECT_EQ(resident.execute(plan.get(), nullptr), ATTN_OK) << attn_last_error();
        EXPECT_EQ(current(), own.get());
    }
    check(driver().stream_synchronize(nullptr), "cuStreamSynchronize");
    resident.read(call->args());
    call->check();
}

TEST(Contexts, AStreamOfAnotherContextIsRefused)
{
    const auto call = call_kinds()[0].make(conformance::session().seed);
    const auto plan = call->plan(shared_handle());
    ASSERT_TRUE(plan);
    const OwnContext own;
    const ContextScope outer(own.get());
    const OwnStream foreign;
    const ContextScope primary;
    call->poison();
    const Resident resident(plan.get(), call->args());
    const auto before = output_bytes(call->args());
    EXPECT_EQ(resident.execute(plan.get(), foreign.get()), ATTN_ERROR_INVALID);
    EXPECT_NE(std::string(attn_last_error()).find("stream"), std::string::npos) << attn_last_error();
    check(driver().ctx_synchronize(), "cuCtxSynchronize");
    resident.read(call->args());
    EXPECT_EQ(output_bytes(call->args()), before);
}

TEST(Contexts, TwoHandlesOnOneDevice)
{
    std::string why;
    HandlePointer first = create(0, &why);
    ASSERT_TRUE(first) << why;
    const HandlePointer second = create(ATTN_HANDLE_NO_DISK_CACHE, &why);
    ASSERT_TRUE(second) << why;
    const ContextScope scope;
    run_all(first.get());
    run_all(second.get());
    first.reset();
    run_all(second.get());
}

TEST(Contexts, OfTheCaller)
{
    const OwnContext own;
    std::string why;
    {
        const ContextScope scope(own.get());
        const HandlePointer handle = create(ATTN_HANDLE_CURRENT_CONTEXT, &why);
        ASSERT_TRUE(handle) << why;
        run_all(handle.get());
        // Streams of the primary context are now the foreign ones.
        const auto call = call_kinds()[0].make(conformance::session().seed);
        const auto plan = call->plan(handle.get());
        ASSERT_TRUE(plan);
        const Resident resident(plan.get(), call->args());
        const ContextScope primary;
        const OwnStream foreign;
        EXPECT_EQ(resident.execute(plan.get(), foreign.get()), ATTN_ERROR_INVALID);
        const ContextScope again(own.get());
        check(driver().ctx_synchronize(), "cuCtxSynchronize");
    }
    attn_status status = ATTN_OK;
    EXPECT_FALSE(create(ATTN_HANDLE_CURRENT_CONTEXT, &why, &status)) << "there is no current context";
    EXPECT_NE(status, ATTN_OK);
    EXPECT_NE(why.find("CURRENT_CONTEXT"), std::string::npos) << why;
}

struct Allocator {
    int live = 0, calls = 0;
    static void *ATTN_CALL allocate(void *self, std::size_t bytes)
    {
        auto *allocator = static_cast<Allocator *>(self);
        const ContextScope scope;
        Pointer address = 0;
        if (driver().mem_alloc(&address, bytes) != 0) return nullptr;
        ++allocator->live, ++allocator->calls;
        return reinterpret_cast<void *>(static_cast<std::uintptr_t>(address));
    }
    static void ATTN_CALL release(void *self, void *memory, std::size_t)
    {
        --static_cast<Allocator *>(self)->live;
        const ContextScope scope;
        driver().mem_free(static_cast<Pointer>(reinterpret_cast<std::uintptr_t>(memory)));
    }
};

TEST(Contexts, TheCallersAllocatorGetsEverythingBack)
{
    Allocator allocator;
    attn_options options{};
    options.device_alloc = Allocator::allocate, options.device_free = Allocator::release,
    options.alloc_ctx = &allocator;
    std::string why;
    HandlePointer handle = conformance::backends().front()->create(options, why);
    ASSERT_TRUE(handle) << why;
    {
        const ContextScope scope;
        run_all(handle.get());
    }
    handle.reset();
    EXPECT_EQ(allocator.live, 0) << "of " << allocator.calls;
}

TEST(Contexts, PlansOutliveTheirHandle)
{
    std::string why;
    HandlePointer handle = create(0, &why);
    ASSERT_TRUE(handle) << why;
    const auto call = call_kinds()[0].make(conformance::session().seed);
    const auto plan = call->plan(handle.get());
    handle.reset();
    ASSERT_TRUE(plan);
    const ContextScope scope;
    Resident resident(plan.get(), call->args());
    EXPECT_EQ(resident.execute(plan.get(), nullptr), ATTN_OK) << attn_last_error();
    check(driver().stream_synchronize(nullptr), "cuStreamSynchronize");
    resident.read(call->args());
    call->check();
}

} // namespace
} // namespace gpu_test
