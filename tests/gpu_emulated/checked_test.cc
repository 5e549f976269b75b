// Checked mode of merges and appends: STATUS says which number is wrong, and rows that it concerns are not written.
#include "tests/conformance/append_call.h"
#include "tests/conformance/launch.h"
#include "tests/conformance/merge_call.h"
#include "tests/conformance/property.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

namespace gpu_emulated {
namespace {

using conformance::AppendCall;
using conformance::AppendSpec;
using conformance::Index;
using conformance::MergeCall;
using conformance::MergeCase;
using conformance::PlanPointer;
using conformance::Tensor;
using Status = std::array<std::int32_t, 4>; // status, slot, position, value

attn_handle handle()
{
    return conformance::backends().front()->handle(1);
}

Status read_status(const Tensor &tensor)
{
    Status s{};
    for (std::int64_t n = 0; n < 4; ++n) s[std::size_t(n)] = static_cast<std::int32_t>(tensor.get({n}));
    return s;
}

void add_status(Tensor &status)
{
    status.poison();
    for (std::int64_t n = 0; n < 4; ++n) status.expect_write({n});
}

Status run_append(AppendCall &call)
{
    call.problem.flags |= ATTN_CHECKED;
    PlanPointer plan;
    EXPECT_EQ(call.plan(handle(), plan), ATTN_OK) << attn_last_error();
    if (!plan) return {};
    for (const attn_slot slot : {ATTN_SLOT_K_CACHE, ATTN_SLOT_V_CACHE, ATTN_SLOT_OUT})
        if (call.tensors.count(slot)) call.tensors.at(slot).poison();
    Tensor &status = call.tensors[ATTN_SLOT_STATUS] = Tensor(ATTN_INT32, {4}, "strided");
    add_status(status);
    EXPECT_EQ(call.execute(plan.get()), ATTN_OK) << attn_last_error();
    EXPECT_FALSE(status.wrote_elsewhere());
    return read_status(status);
}

struct Fault {
    const char *name;
    void (*change)(AppendSpec &);
    void (*spoil)(AppendCall &);
    attn_slot slot;
    std::int32_t position, value;
};

// Two sequences of three new rows.
const Fault kFaults[] = {
    {"short", [](AppendSpec &s) { s.seqlens_kv = true; },
     [](AppendCall &c) { c.tensors.at(ATTN_SLOT_SEQLENS_KV).set({1}, 2); }, ATTN_SLOT_SEQLENS_KV, 1, 2},
    {"first of two", [](AppendSpec &s) { s.seqlens_kv = true; },
     [](AppendCall &c) {
         c.tensors.at(ATTN_SLOT_SEQLENS_KV).set({1}, -7);
         c.tensors.at(ATTN_SLOT_SEQLENS_KV).set({0}, -1);
     },
     ATTN_SLOT_SEQLENS_KV, 0, -1},
    {"huge", [](AppendSpec &s) { s.seqlens_kv = true, s.index = ATTN_INT64; },
     [](AppendCall &c) { c.tensors.at(ATTN_SLOT_SEQLENS_KV).set({0}, 0x1p40); }, ATTN_SLOT_SEQLENS_KV, 0, 0x7fffffff},
    {"used", [](AppendSpec &s) { s.seqlens_q = true; },
     [](AppendCall &c) { c.tensors.at(ATTN_SLOT_SEQLENS_Q).set({1}, 4); }, ATTN_SLOT_SEQLENS_Q, 1, 4},
    {"boundary", [](AppendSpec &s) { s.packed = true; },
     [](AppendCall &c) { c.tensors.at(ATTN_SLOT_CU_SEQLENS_Q).set({2}, 99); }, ATTN_SLOT_CU_SEQLENS_Q, 2, 99},
    {"first boundary", [](AppendSpec &s) { s.packed = true; },
     [](AppendCall &c) { c.tensors.at(ATTN_SLOT_CU_SEQLENS_Q).set({0}, -3); }, ATTN_SLOT_CU_SEQLENS_Q, 0, -3},
    {"too many rows", [](AppendSpec &) {},
     [](AppendCall &c) { // a cache of two rows
         c.tensors[ATTN_SLOT_K_CACHE] = Tensor(ATTN_FLOAT32, {2, 2, 1, 4});
         c.tensors[ATTN_SLOT_V_CACHE] = Tensor(ATTN_FLOAT32, {2, 2, 1, 4});
     },
     ATTN_SLOT_K, 0, 3},
    {"mapping", [](AppendSpec &s) { s.mapped = true; },
     [](AppendCall &c) {
         c.tensors.at(ATTN_SLOT_SLOT_MAPPING).set({1, 2}, 1000);
     },
     ATTN_SLOT_SLOT_MAPPING, 5, 1000},
    {"mapping of pages", [](AppendSpec &s) { s.mapped = true, s.page_size = 2; },
     [](AppendCall &c) {
         c.tensors.at(ATTN_SLOT_SLOT_MAPPING).set({0, 1}, -2);
     },
     ATTN_SLOT_SLOT_MAPPING, 1, -2},
    {"page", [](AppendSpec &s) { s.page_size = 4; },
     [](AppendCall &c) {
         c.tensors.at(ATTN_SLOT_BLOCK_TABLE).set({0, 0}, 100);
     },
     ATTN_SLOT_BLOCK_TABLE, 0, 100},
    {"flat page", [](AppendSpec &s) { s.page_size = 4, s.flat_table = true; },
     [](AppendCall &c) { c.tensors.at(ATTN_SLOT_BLOCK_TABLE).set({2}, -5); }, ATTN_SLOT_BLOCK_TABLE, 2, -5},
    {"flat table", [](AppendSpec &s) { s.page_size = 4, s.flat_table = true; },
     [](AppendCall &c) { c.tensors.at(ATTN_SLOT_BLOCK_TABLE_PTR).set({1}, 77); }, ATTN_SLOT_BLOCK_TABLE_PTR, 1, 77},
    {"position", [](AppendSpec &s) { s.rope = s.table = s.positions = true; },
     [](AppendCall &c) {
         c.tensors.at(ATTN_SLOT_POSITIONS_Q).set({1, 0}, -1);
     },
     ATTN_SLOT_POSITIONS_Q, 3, -1},
    {"angles", [](AppendSpec &s) { s.rope = s.table = true; },
     [](AppendCall &c) {
         for (const attn_slot slot : {ATTN_SLOT_ROPE_COS, ATTN_SLOT_ROPE_SIN})
             c.tensors[slot] = Tensor(ATTN_FLOAT32, {2, 2});
     },
     ATTN_SLOT_ROPE_COS, 0, 2},
};

TEST(EmulatedChecked, AppendsNameTheFault)
{
    for (const Fault &fault : kFaults) {
        SCOPED_TRACE(fault.name);
        AppendSpec spec = conformance::small_append_spec();
        fault.change(spec);
        AppendCall call(spec);
        fault.spoil(call);
        EXPECT_EQ(run_append(call), (Status{ATTN_ERROR_DATA, fault.slot, fault.position, fault.value}));
    }
}

// Numbers at the edge of the rules, of one sequence: the last that is right, and the first that is not, with which
// nothing is written.
TEST(EmulatedChecked, RulesOfAppendsAreExact)
{
    const struct {
        const char *name;
        void (*change)(AppendSpec &);
        attn_slot slot;
        Index at;
        std::int64_t (*right)(AppendCall &); // value; `step` further it is wrong
        std::int64_t step;
    } rules[] = {
        {"longest",
         [](AppendSpec &s) { s.seqlens_kv = true; },
         ATTN_SLOT_SEQLENS_KV,
         {},
         [](AppendCall &c) { return c.tensors.at(ATTN_SLOT_K_CACHE).shape()[1]; },
         1},
        {"longest in pages",
         [](AppendSpec &s) { s.seqlens_kv = true, s.page_size = 2; },
         ATTN_SLOT_SEQLENS_KV,
         {},
         [](AppendCall &c) {
             c.tensors[ATTN_SLOT_BLOCK_TABLE] = Tensor(ATTN_INT32, {1, 2});
             c.tensors.at(ATTN_SLOT_BLOCK_TABLE).set({0, 0}, 0), c.tensors.at(ATTN_SLOT_BLOCK_TABLE).set({0, 1}, 1);
             c.problem.max_kv = 100;
             return std::int64_t{4};
         },
         1},
        {"shortest",
         [](AppendSpec &s) { s.seqlens_kv = true; },
         ATTN_SLOT_SEQLENS_KV,
         {},
         [](AppendCall &) { return std::int64_t{3}; },
         -1},
        {"used",
         [](AppendSpec &s) { s.seqlens_q = true; },
         ATTN_SLOT_SEQLENS_Q,
         {},
         [](AppendCall &c) {
             for (const attn_slot cache : {ATTN_SLOT_K_CACHE, ATTN_SLOT_V_CACHE})
                 c.tensors[cache] = Tensor(ATTN_FLOAT32, {1, 8, 1, 4});
             c.problem.max_kv = 8;
             return std::int64_t{3};
         },
         1},
        {"end",
         [](AppendSpec &s) { s.packed = true; },
         ATTN_SLOT_CU_SEQLENS_Q,
         {1},
         [](AppendCall &c) {
             c.problem.max_q = 100, c.tensors.at(ATTN_SLOT_CU_SEQLENS_Q).set({0}, 0);
             return c.tensors.at(ATTN_SLOT_K).shape()[0];
         },
         1},
        {"longest of packed",
         [](AppendSpec &s) { s.packed = true, s.most_new = 9; },
         ATTN_SLOT_CU_SEQLENS_Q,
         {1},
         [](AppendCall &c) {
             c.problem.max_q = 2, c.tensors.at(ATTN_SLOT_CU_SEQLENS_Q).set({0}, 1);
             return std::int64_t{3};
         },
         1},
        {"slot",
         [](AppendSpec &s) { s.mapped = true, s.most_new = 1; },
         ATTN_SLOT_SLOT_MAPPING,
         {},
         [](AppendCall &c) { return c.tensors.at(ATTN_SLOT_K_CACHE).shape()[1] - 1; },
         1},
        {"slot of pages",
         [](AppendSpec &s) { s.mapped = true, s.most_new = 1, s.page_size = 3; },
         ATTN_SLOT_SLOT_MAPPING,
         {},
         [](AppendCall &c) { return 3 * c.tensors.at(ATTN_SLOT_K_CACHE).shape()[0] - 1; },
         1},
        {"skipped slot",
         [](AppendSpec &s) { s.mapped = true, s.most_new = 1; },
         ATTN_SLOT_SLOT_MAPPING,
         {},
         [](AppendCall &) { return std::int64_t{-1}; },
         -1},
        {"page",
         [](AppendSpec &s) { s.page_size = 3; },
         ATTN_SLOT_BLOCK_TABLE,
         {},
         [](AppendCall &c) { return c.tensors.at(ATTN_SLOT_K_CACHE).shape()[0] - 1; },
         1},
        {"first page",
         [](AppendSpec &s) { s.page_size = 3; },
         ATTN_SLOT_BLOCK_TABLE,
         {},
         [](AppendCall &) { return std::int64_t{0}; },
         -1},
        {"table",
         [](AppendSpec &s) { s.page_size = 3, s.flat_table = true; },
         ATTN_SLOT_BLOCK_TABLE_PTR,
         {1},
         [](AppendCall &c) { return c.tensors.at(ATTN_SLOT_BLOCK_TABLE).shape()[0]; },
         1},
        {"angle",
         [](AppendSpec &s) { s.rope = s.table = s.positions = true, s.most_new = 1, s.write_v = false; },
         ATTN_SLOT_POSITIONS_Q,
         {},
         [](AppendCall &c) { return c.tensors.at(ATTN_SLOT_ROPE_COS).shape()[0] - 1; },
         1},
    };
    for (const auto &rule : rules)
        for (const bool right : {true, false}) {
            SCOPED_TRACE(std::string(rule.name) + (right ? ", right" : ", wrong"));
            AppendSpec spec = conformance::small_append_spec();
            spec.batch = 1;
            rule.change(spec);
            AppendCall call(spec);
            const std::int64_t value = rule.right(call) + (right ? 0 : rule.step);
            call.tensors.at(rule.slot).set(rule.at, double(value));
            const Status status = run_append(call);
            if (right) {
                EXPECT_EQ(status, (Status{ATTN_OK, 0, 0, 0}));
                continue;
            }
            EXPECT_EQ(status[0], ATTN_ERROR_DATA);
            EXPECT_EQ(status[1], rule.slot);
            EXPECT_EQ(status[3], value);
            for (const attn_slot slot : {ATTN_SLOT_K_CACHE, ATTN_SLOT_V_CACHE})
                if (call.tensors.count(slot)) {
                    EXPECT_FALSE(call.tensors.at(slot).wrote_elsewhere());
                }
        }
}

TEST(EmulatedChecked, AFaultyAppendWritesTheOtherRows)
{
    AppendSpec spec = conformance::small_append_spec();
    spec.mapped = true, spec.rope = spec.positions = true, spec.write_q = true;
    AppendCall call(spec);
    Tensor &mapping = call.tensors.at(ATTN_SLOT_SLOT_MAPPING);
    for (std::int64_t b = 0; b < 2; ++b)
        for (std::int64_t t = 0; t < 3; ++t) mapping.set({b, t}, double(t % 2));
    mapping.set({1, 2}, 1000);
    EXPECT_EQ(run_append(call)[0], ATTN_ERROR_DATA);
    mapping.set({1, 2}, -1); // as if it had been skipped
    call.check();
}

// Nor does it hide an earlier row that was to go to the same place.
TEST(EmulatedChecked, ARowWithoutAnglesReplacesNone)
{
    AppendSpec spec = conformance::small_append_spec();
    spec.batch = 1, spec.mapped = true, spec.rope = spec.table = spec.positions = true;
    AppendCall call(spec);
    Tensor &mapping = call.tensors.at(ATTN_SLOT_SLOT_MAPPING), &positions = call.tensors.at(ATTN_SLOT_POSITIONS_Q);
    for (std::int64_t t = 0; t < 3; ++t) mapping.set({0, t}, 0), positions.set({0, t}, double(t));
    positions.set({0, 2}, 1000);
    EXPECT_EQ(run_append(call), (Status{ATTN_ERROR_DATA, ATTN_SLOT_POSITIONS_Q, 2, 1000}));
    mapping.set({0, 2}, -1); // as if it had been skipped
    call.check();
}

TEST(EmulatedChecked, AppendsWithoutFaultComputeAndSaySo)
{
    for (const bool paged : {false, true}) {
        AppendSpec spec = conformance::small_append_spec();
        spec.seqlens_kv = spec.seqlens_q = spec.rope = spec.write_q = true, spec.page_size = paged ? 2 : 0;
        AppendCall call(spec);
        EXPECT_EQ(run_append(call), (Status{ATTN_OK, 0, 0, 0}));
        call.check();
        spec.batch = 0;
        AppendCall nothing(spec);
        EXPECT_EQ(run_append(nothing), (Status{ATTN_OK, 0, 0, 0}));
    }
}

Status run_merge(MergeCase setup, attn_slot slot, std::int64_t position, std::int64_t value)
{
    setup.index_dtype = ATTN_INT64;
    MergeCall call(setup);
    call.problem.flags |= ATTN_CHECKED;
    std::string why;
    const PlanPointer plan = call.plan(handle(), why);
    EXPECT_TRUE(plan) << why;
    if (!plan) return {};
    call.poison_outputs();
    std::vector<attn_arg> args = call.args();
    for (const attn_arg &arg : args)
        if (arg.slot == slot)
            reinterpret_cast<std::int64_t *>(static_cast<char *>(arg.tensor->data) +
                                             arg.tensor->byte_offset)[position * arg.tensor->strides[0]] = value;
    Tensor status(ATTN_INT32, {4});
    add_status(status);
    const attn_tensor view = status.view();
    args.push_back({ATTN_SLOT_STATUS, 0, &view});
    EXPECT_EQ(conformance::launch(plan.get(), args), ATTN_OK) << attn_last_error();
    EXPECT_FALSE(status.wrote_elsewhere());
    if (slot == 0) call.check();
    if (slot == ATTN_SLOT_SEQLENS_Q && read_status(status)[0] != ATTN_OK) { // of that sequence nothing is written
        call.out().poison(), call.lse().poison();
        call.for_each_row([&](std::int64_t b, std::int64_t i, std::int64_t h) {
            if (b == position) return;
            for (std::int64_t c = 0; c < setup.dim; ++c) call.out().expect_write(call.token(b, i, h, c));
            call.lse().expect_write(call.score(b, h, i));
        });
        EXPECT_EQ(conformance::launch(plan.get(), args), ATTN_OK) << attn_last_error();
        EXPECT_FALSE(call.out().wrote_elsewhere());
        EXPECT_FALSE(call.lse().wrote_elsewhere());
    }
    return read_status(status);
}

TEST(EmulatedChecked, MergesNameTheFault)
{
    MergeCase setup = conformance::plain_merge(2);
    setup.shortened = true;
    EXPECT_EQ(run_merge(setup, 0, 0, 0), (Status{ATTN_OK, 0, 0, 0}));
    EXPECT_EQ(run_merge(setup, ATTN_SLOT_SEQLENS_Q, 1, -4), (Status{ATTN_ERROR_DATA, ATTN_SLOT_SEQLENS_Q, 1, -4}));
    EXPECT_EQ(run_merge(setup, ATTN_SLOT_SEQLENS_Q, 2, 6), (Status{ATTN_ERROR_DATA, ATTN_SLOT_SEQLENS_Q, 2, 6}));
    EXPECT_EQ(run_merge(setup, ATTN_SLOT_SEQLENS_Q, 2, 5), (Status{ATTN_OK, 0, 0, 0})); // all rows of the view
    setup.packed = true;
    EXPECT_EQ(run_merge(setup, 0, 0, 0), (Status{ATTN_OK, 0, 0, 0}));
    EXPECT_EQ(run_merge(setup, ATTN_SLOT_CU_SEQLENS_Q, 3, 1000),
              (Status{ATTN_ERROR_DATA, ATTN_SLOT_CU_SEQLENS_Q, 3, 1000}));
}

TEST(EmulatedChecked, StatusComesWithCheckedModeOnly)
{
    attn_bind bind{};
    bind.slot = ATTN_SLOT_STATUS;
    AppendCall append(conformance::small_append_spec());
    append.binds.push_back(bind);
    append.problem.binds = append.binds.data(), append.problem.bind_count = append.binds.size();
    PlanPointer plan;
    EXPECT_EQ(append.plan(handle(), plan), ATTN_ERROR_INVALID);
    EXPECT_NE(std::string(attn_last_error()).find("ATTN_CHECKED"), std::string::npos) << attn_last_error();
    append.problem.flags |= ATTN_CHECKED; // bound too: the same tensor
    EXPECT_EQ(append.plan(handle(), plan), ATTN_OK) << attn_last_error();
    attn_bind resolved{};
    attn_tensor bounds{};
    std::size_t position = 0;
    while (attn_plan_slot(plan.get(), position, &resolved, &bounds) == ATTN_OK && resolved.slot != ATTN_SLOT_STATUS)
        ++position;
    ASSERT_EQ(resolved.slot, ATTN_SLOT_STATUS);
    EXPECT_EQ(resolved.dtype, attn_dtype{ATTN_INT32});
    EXPECT_EQ(bounds.ndim, 1);
    EXPECT_EQ(bounds.shape[0], 4);
}

} // namespace
} // namespace gpu_emulated
