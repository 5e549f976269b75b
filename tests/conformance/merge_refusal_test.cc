// Merge plans and calls that are refused: the status and the message.
#include "launch.h"
#include "merge_call.h"
#include "property.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace conformance {
namespace {

using Call = MergeCall;

TEST(Merge, BadDescriptors)
{
    const auto bind = [](Call &call, attn_slot slot, std::uint32_t index, attn_dtype dtype, std::uint32_t flags) {
        attn_bind b{};
        b.slot = slot, b.index = index, b.dtype = dtype, b.flags = flags;
        call.binds.push_back(b);
        call.problem.binds = call.binds.data(), call.problem.bind_count = call.binds.size();
    };
    const attn_status invalid = ATTN_ERROR_INVALID, unsupported = ATTN_ERROR_UNSUPPORTED;
    const struct {
        std::function<void(Call &)> change;
        attn_status status;
        const char *message;
    } table[] = {
        {[](Call &c) { c.merge.problem = nullptr; }, invalid, "attn_merge.problem = NULL"},
        {[](Call &c) { c.merge.parts = 0; }, invalid, "attn_merge.parts = 0: must be >= 1"},
        {[](Call &c) { c.merge.parts = 1025; }, invalid, "attn_merge.parts = 1025: must be >= 1 and <= 1024"},
        {[](Call &c) { c.merge.parts = SIZE_MAX; }, invalid, "attn_merge.parts = 18446744073709551615"},
        {[](Call &c) { c.merge.flags = 1; }, invalid, "attn_merge.flags = 0x1"},
        {[](Call &c) { c.merge.activation = 3; }, invalid, "attn_merge.activation = 3"},
        {[](Call &c) { c.merge.gate = 3; }, invalid, "attn_merge.gate = 3"},
        {[](Call &c) { c.merge.gate = 1; }, invalid, "attn_merge.gate = 1: must be 0 where slot GATE is not bound"},
        {[](Call &c) { c.problem.dim_v = 0; }, invalid, "attn_problem.dim_v = 0: must be 1"},
        {[](Call &c) { c.problem.dim_qk = 8; }, invalid, "attn_problem.dim_qk = 8: must be 0 or dim_v = 16"},
        {[](Call &c) { c.problem.heads_k = 2; }, invalid, "attn_problem.heads_k = 2: must be 0 or heads_q = 4"},
        {[](Call &c) { c.problem.heads_v = 8; }, invalid, "attn_problem.heads_v = 8: must be 0 or heads_q = 4"},
        {[](Call &c) { c.problem.k_dtype = ATTN_FLOAT16; }, invalid, "attn_problem.k_dtype = float16: must be 0"},
        {[](Call &c) { c.problem.v_dtype = ATTN_FLOAT32; }, invalid, "attn_problem.v_dtype = float32: must be 0"},
        {[](Call &c) { c.problem.max_kv = 4; }, invalid, "attn_problem.max_kv = 4: must be 0"},
        {[](Call &c) { c.problem.total_kv = 4; }, invalid, "attn_problem.total_kv = 4: must be 0"},
        {[](Call &c) { c.problem.page_size = 4; }, invalid, "attn_problem.page_size = 4: must be 0"},
        {[](Call &c) { c.problem.scale = 0.5; }, invalid, "attn_problem.scale = 0.5: must be 0"},
        {[](Call &c) { c.problem.total_q = 5; }, invalid,
         "attn_problem.total_q = 5: must be 0 where slot CU_SEQLENS_Q"},
        {[](Call &c) { c.problem.flags = ATTN_V_ALIASES_K; }, invalid, "attn_problem.flags = 0x10: ATTN_V_ALIASES_K"},
        {[](Call &c) { c.problem.q_dtype = 0; }, invalid, "attn_problem.q_dtype"},
        {[](Call &c) { c.problem.max_q = 0; }, invalid, "attn_problem.max_q = 0"},
        {[](Call &c) { c.problem.direction = ATTN_BACKWARD; }, unsupported, "attn_problem.direction = backward"},
        {[](Call &c) { c.problem.out_dtype = ATTN_FLOAT8_E5M2; }, unsupported, "slot OUT of float8_e5m2"},
        {[&](Call &c) { bind(c, ATTN_SLOT_PARTIAL_OUT, 1, 0, 0); }, invalid, "slot PARTIAL_OUT is bound with index 0"},
        {[&](Call &c) { bind(c, ATTN_SLOT_PARTIAL_OUT, 0, ATTN_FLOAT64, 0); }, invalid,
         "float64 for slot PARTIAL_OUT: must be float32, float16 or bfloat16"},
        {[&](Call &c) { bind(c, ATTN_SLOT_PARTIAL_LSE, 0, ATTN_FLOAT16, 0); }, invalid,
         "slot PARTIAL_LSE: must be float32"},
        {[&](Call &c) { bind(c, ATTN_SLOT_PARTIAL_OUT, 0, 0, ATTN_BIND_BROADCAST_AXIS0); }, invalid, "PARTIAL_OUT"},
        {[&](Call &c) { bind(c, ATTN_SLOT_OUT, 0, 0, ATTN_BIND_ABSENT); }, invalid, "slot OUT: it cannot be ABSENT"},
        {[&](Call &c) { bind(c, ATTN_SLOT_GATE, 1, 0, 0); }, invalid, "slot GATE has index 0 only"},
        {[&](Call &c) { bind(c, ATTN_SLOT_GATE, 0, ATTN_INT8, 0); }, invalid, "int8 for slot GATE: must be"},
        {[&](Call &c) { bind(c, ATTN_SLOT_HEAD_WEIGHT, 0, 0, ATTN_BIND_BROADCAST_AXIS2); }, invalid, "HEAD_WEIGHT"},
        {[&](Call &c) { bind(c, ATTN_SLOT_K, 0, 0, 0); }, invalid, "slot = K: a merge does not take it"},
        {[&](Call &c) { bind(c, ATTN_SLOT_SEQLENS_KV, 0, 0, 0); }, invalid, "slot = SEQLENS_KV: a merge does not take"},
        {[&](Call &c) { bind(c, ATTN_SLOT_GRAD | ATTN_SLOT_OUT, 0, 0, 0); }, unsupported, "slot GRAD|OUT"},
        {[&](Call &c) { bind(c, ATTN_SLOT_STATUS, 0, 0, 0); }, unsupported, "slot STATUS"},
        {[&](Call &c) { c.merge.activation = ATTN_RELU; }, invalid, "slot = LSE: a merge takes it only where"},
        {[&](Call &c) { c.binds.clear(), c.merge.activation = 1, bind(c, ATTN_SLOT_SINK_LOGITS, 0, 0, 0); }, invalid,
         "slot = SINK_LOGITS: a merge takes it only where attn_merge.activation is ATTN_SOFTMAX"},
        {[&](Call &c) { c.binds.clear(), c.merge.activation = 2, bind(c, ATTN_SLOT_PARTIAL_LSE, 0, 0, 0); }, invalid,
         "slot = PARTIAL_LSE: a merge takes it only where"},
        {[&](Call &c) {
             bind(c, ATTN_SLOT_CU_SEQLENS_Q, 0, 0, 0);
             bind(c, ATTN_SLOT_GATE, 0, 0, ATTN_BIND_BROADCAST_AXIS3);
         },
         invalid, "slot GATE: an axis to broadcast is beyond its rank"},
    };
    const attn_handle handle = backends()[0]->handle(1);
    for (const auto &row : table) {
        Call call(plain_merge(2));
        call.problem.dim_v = 16;
        row.change(call);
        SCOPED_TRACE(row.message);
        attn_plan plan = nullptr;
        const attn_status status = attn_plan_merge(handle, &call.merge, &plan);
        // Of STATUS a GPU says that it is for checked mode; a pretended one refuses as the CPU does.
        const bool either = on_gpu() && std::string(row.message) == "slot STATUS";
        EXPECT_TRUE(status == row.status || (either && status == invalid)) << status << " instead of " << row.status;
        const std::string message = attn_last_error();
        EXPECT_NE(message.find(row.message), std::string::npos) << message;
        EXPECT_EQ(plan, nullptr);
        EXPECT_EQ(attn_plan_supports(handle, ATTN_KIND_MERGE, &call.merge), status);
    }
    Call call(plain_merge(2)); // what a merge shares with its parts may be given again
    call.problem.dim_qk = call.problem.dim_v, call.problem.dim_v = 0, call.problem.heads_k = call.problem.heads_q;
    std::string why;
    EXPECT_TRUE(call.plan(handle, why)) << why;
}

TEST(Merge, BadArguments)
{
    MergeCase s = plain_merge(3);
    s.packed = s.shortened = true;
    s.tq = 4;
    const attn_handle handle = backends()[0]->handle(1);
    const struct {
        std::function<void(Call &, std::vector<attn_arg> &)> change;
        attn_status status;
        const char *message;
    } table[] = {
        {[](Call &, auto &args) { args.erase(args.begin() + 2); }, ATTN_ERROR_INVALID, "missing"},
        {[](Call &, auto &args) { args[2].index = 7; }, ATTN_ERROR_INVALID, "index 7 is not a tensor of this plan"},
        {[](Call &, auto &args) { args[2] = args[1]; }, ATTN_ERROR_INVALID, "is given twice"},
    };
    for (const auto &row : table) {
        SCOPED_TRACE(row.message);
        Call call(s);
        std::string why;
        const PlanPointer plan = call.plan(handle, why);
        ASSERT_TRUE(plan) << why;
        auto args = call.args();
        row.change(call, args);
        EXPECT_EQ(launch(plan.get(), args), row.status);
        EXPECT_NE(std::string(attn_last_error()).find(row.message), std::string::npos) << attn_last_error();
        call.poison_outputs();
    }
    if (on_gpu()) return; // the host does not read lengths that lie on the device
    const struct {
        attn_slot slot;
        std::int64_t at, value;
        const char *message;
    } lengths[] = {
        {ATTN_SLOT_CU_SEQLENS_Q, 0, -1, "CU_SEQLENS_Q[0] = -1: must be >= 0"},
        {ATTN_SLOT_CU_SEQLENS_Q, 1, 99, "CU_SEQLENS_Q[1] = 99: must be at most"},
        {ATTN_SLOT_CU_SEQLENS_Q, 3, -2, "must not be less than the one before"},
        {ATTN_SLOT_SEQLENS_Q, 0, -1, "SEQLENS_Q[0] = -1: must be 0 .."},
        {ATTN_SLOT_SEQLENS_Q, 2, 40, "SEQLENS_Q[2] = 40: must be 0 .."},
    };
    for (const auto &row : lengths) {
        SCOPED_TRACE(row.message);
        Call call(s);
        std::string why;
        const PlanPointer plan = call.plan(handle, why);
        ASSERT_TRUE(plan) << why;
        for (const attn_arg &arg : call.args())
            if (arg.slot == row.slot) static_cast<std::int32_t *>(arg.tensor->data)[row.at] = std::int32_t(row.value);
        const auto args = call.args();
        EXPECT_EQ(launch(plan.get(), args), ATTN_ERROR_DATA);
        EXPECT_NE(std::string(attn_last_error()).find(row.message), std::string::npos) << attn_last_error();
    }
}

} // namespace
} // namespace conformance
