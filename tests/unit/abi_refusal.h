// Tables of descriptors that planning refuses.
#ifndef ATTN_TESTS_UNIT_ABI_REFUSAL_H
#define ATTN_TESTS_UNIT_ABI_REFUSAL_H

#include "abi_fixture.h"

namespace caller {

constexpr attn_status kInvalid = ATTN_ERROR_INVALID, kUnsupported = ATTN_ERROR_UNSUPPORTED;

/// A change to the descriptor of Dense, and what planning says to it.
struct Refusal {
    const char *name;
    void (*change)(Dense &d);
    attn_status status;
    Parts parts;
};

class Descriptor : public ::testing::Test {
protected:
    void expect(const std::vector<Refusal> &table)
    {
        for (const Refusal &refusal : table) {
            SCOPED_TRACE(refusal.name);
            Dense d;
            refusal.change(d);
            const attn_plan poison = reinterpret_cast<attn_plan>(&d);
            attn_plan plan = poison;
            EXPECT_TRUE(fails(attn_plan_dense(handle_, d.get(), &plan), refusal.status, refusal.parts));
            const std::string message = attn_last_error();
            EXPECT_EQ(plan, poison) << "a failing call wrote its output";
            if (plan != poison) attn_plan_destroy(plan);
            EXPECT_EQ(attn_plan_supports(handle_, ATTN_KIND_DENSE, d.get()), refusal.status);
            EXPECT_EQ(attn_last_error(), message) << "attn_plan_supports() says something else";
        }
    }
    void expect_valid(const char *name, void (*change)(Dense &d))
    {
        SCOPED_TRACE(name);
        Dense d;
        change(d);
        EXPECT_TRUE(succeeds(attn_plan_supports(handle_, ATTN_KIND_DENSE, d.get())));
        const Plan plan(handle_, d);
    }

    Handle handle_;
};

} // namespace caller

#endif
