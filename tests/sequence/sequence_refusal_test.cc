// Descriptors and tensors that conv and scan plans refuse: the status and what the message names.
#include "sequence_call.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

namespace sequence {
namespace {

attn_handle handle()
{
    return conformance::backends().front()->handle(1);
}

struct Fault {
    const char *name;
    bool conv;
    std::function<void(Call &)> change;
    attn_status status;
    std::vector<const char *> parts; // of the message
};

void expect_message(const Fault &fault)
{
    for (const char *part : fault.parts)
        EXPECT_NE(std::string(attn_last_error()).find(part), std::string::npos)
            << fault.name << ": " << part << " is not in: " << attn_last_error();
}

constexpr bool kConv = true, kScan = false;

TEST(SequenceRefusal, Descriptors)
{
    constexpr attn_status invalid = ATTN_ERROR_INVALID;
    const Fault faults[] = {
        {"size", kConv, [](Call &c) { c.conv.size = 8; }, invalid, {"attn_conv.size = 8", "at least 48"}},
        {"size", kScan, [](Call &c) { c.scan.size = 8; }, invalid, {"attn_scan.size = 8", "at least 48"}},
        {"problem", kConv, [](Call &c) { c.conv.problem = nullptr; }, invalid, {"attn_conv.problem = NULL"}},
        {"problem", kScan, [](Call &c) { c.scan.problem = nullptr; }, invalid, {"attn_scan.problem = NULL"}},
        {"flags", kConv, [](Call &c) { c.conv.flags = 1; }, invalid, {"attn_conv.flags = 0x1", "unknown bits"}},
        {"flags", kScan, [](Call &c) { c.scan.flags = 6; }, invalid, {"attn_scan.flags = 0x6", "unknown bits 0x6"}},
        {"no width", kConv, [](Call &c) { c.conv.width = 0; }, invalid, {"attn_conv.width = 0", "1 .. 8"}},
        {"width", kConv, [](Call &c) { c.conv.width = 9; }, invalid, {"attn_conv.width = 9", "1 .. 8"}},
        {"activation", kConv, [](Call &c) { c.conv.activation = 2; }, invalid, {"attn_conv.activation = 2", "0 .. 1"}},
        {"reserved", kScan, [](Call &c) { c.scan.reserved = 3; }, invalid, {"attn_scan.reserved = 3", "must be 0"}},
        {"form", kScan, [](Call &c) { c.scan.form = -1; }, invalid, {"attn_scan.form = -1", "0 .. 1"}},
        {"state dtype",
         kConv,
         [](Call &c) { c.conv.state_dtype = ATTN_INT8; },
         invalid,
         {"attn_conv.state_dtype = int8", "float32, float16 or bfloat16"}},
        {"state dtype of nothing",
         kScan,
         [](Call &c) { c.problem.bind_count = 0; },
         invalid,
         {"attn_scan.state_dtype = float32", "neither STATE_IN nor STATE_OUT"}},
        {"a state of one tap",
         kConv,
         [](Call &c) { c.conv.width = 1; },
         invalid,
         {"slot = STATE_IN", "width is more than 1"}},
        {"k_dtype", kConv, [](Call &c) { c.problem.k_dtype = ATTN_FLOAT16; }, invalid, {"k_dtype", "a convolution"}},
        {"heads_v", kScan, [](Call &c) { c.problem.heads_v = 1; }, invalid, {"heads_v = 1", "heads_q = 2", "a scan"}},
        {"dim_v", kScan, [](Call &c) { c.problem.dim_v = 9; }, invalid, {"dim_v = 9", "dim_qk = 8"}},
        {"max_kv", kConv, [](Call &c) { c.problem.max_kv = 9; }, invalid, {"max_kv = 9", "must be 0"}},
        {"page_size", kConv, [](Call &c) { c.problem.page_size = 2; }, invalid, {"page_size = 2"}},
        {"scale", kScan, [](Call &c) { c.problem.scale = 2; }, invalid, {"scale = 2", "no scores"}},
        {"aliases", kScan, [](Call &c) { c.problem.flags = ATTN_V_ALIASES_K; }, invalid, {"ATTN_V_ALIASES_K"}},
        {"total_q", kScan, [](Call &c) { c.problem.total_q = 4; }, invalid, {"total_q = 4", "CU_SEQLENS_Q"}},
        {"write",
         kScan,
         [](Call &c) { c.scan.flags = ATTN_SCAN_LERP, c.bind(ATTN_SLOT_WRITE); },
         invalid,
         {"slot = WRITE", "without ATTN_SCAN_LERP"}},
        {"decay", kConv, [](Call &c) { c.bind(ATTN_SLOT_DECAY); }, invalid, {"slot = DECAY", "does not take it"}},
        {"weight", kScan, [](Call &c) { c.bind(ATTN_SLOT_CONV_WEIGHT); }, invalid, {"slot = CONV_WEIGHT"}},
        {"index of nothing",
         kConv,
         [](Call &c) {
             c.binds.clear(), c.conv.state_dtype = 0;
             c.bind(ATTN_SLOT_STATE_INDEX);
         },
         invalid,
         {"slot = STATE_INDEX", "pool of states"}},
        {"broadcast X",
         kScan,
         [](Call &c) { c.bind(ATTN_SLOT_X, 0, ATTN_BIND_BROADCAST_AXIS0); },
         invalid,
         {"slot X", "cannot be broadcast"}},
        {"gradient",
         kScan,
         [](Call &c) { c.bind(ATTN_SLOT_GRAD | ATTN_SLOT_X); },
         ATTN_ERROR_UNSUPPORTED,
         {"attn_scan", "GRAD|X"}},
        {"backward",
         kConv,
         [](Call &c) { c.problem.direction = ATTN_BACKWARD; },
         ATTN_ERROR_UNSUPPORTED,
         {"attn_conv", "backward"}},
        {"dtype",
         kConv,
         [](Call &c) { c.problem.q_dtype = ATTN_FLOAT8_E5M2, c.conv.state_dtype = ATTN_FLOAT32; },
         ATTN_ERROR_UNSUPPORTED,
         {"slot X of dtype float8_e5m2"}},
    };
    for (const Fault &fault : faults) {
        Spec s;
        s.conv = fault.conv;
        Call call(s);
        ASSERT_EQ(call.supports(handle()), ATTN_OK) << fault.name << ": " << attn_last_error();
        fault.change(call);
        conformance::PlanPointer plan;
        EXPECT_EQ(call.plan(handle(), plan), fault.status) << fault.name << ": " << attn_last_error();
        expect_message(fault);
        EXPECT_EQ(call.supports(handle()), fault.status) << fault.name;
    }
}

TEST(SequenceRefusal, Values)
{
    constexpr attn_status data = ATTN_ERROR_DATA;
    const auto gate = [](double value) { return [value](Call &c) { c.at(ATTN_SLOT_DECAY).set({1, 2, 1, 3}, value); }; };
    const Fault faults[] = {
        {"a log above 0", kScan, gate(0.25), data, {"DECAY of sequence 1, token 2, head 1, channel 3: 0.25", "<= 0"}},
        {"no number", kScan, gate(NAN), data, {"DECAY of sequence 1, token 2, head 1, channel 3", "<= 0"}},
        {"length", kConv, [](Call &c) { c.at(ATTN_SLOT_SEQLENS_Q).set({1}, 22); }, data, {"SEQLENS_Q[1] = 22"}},
        {"state", kConv, [](Call &c) { c.at(ATTN_SLOT_STATE_INDEX).set({0}, 9); }, data, {"STATE_INDEX[0] = 9"}},
        {"state twice",
         kScan,
         [](Call &c) { c.at(ATTN_SLOT_STATE_INDEX).set({1}, 2); },
         data,
         {"STATE_INDEX[1] = 2", "sequence 0"}},
    };
    for (const Fault &fault : faults) {
        Spec s;
        s.conv = fault.conv, s.checked = s.used = s.pool = true;
        Call call(s);
        conformance::PlanPointer plan;
        ASSERT_EQ(call.plan(handle(), plan), ATTN_OK) << attn_last_error();
        ASSERT_EQ(call.execute(plan.get()), ATTN_OK) << attn_last_error();
        call.at(ATTN_SLOT_OUT).poison();
        const auto before = call.at(ATTN_SLOT_OUT).bytes();
        fault.change(call);
        EXPECT_EQ(call.execute(plan.get()), fault.status) << fault.name << ": " << attn_last_error();
        expect_message(fault);
        EXPECT_EQ(call.at(ATTN_SLOT_OUT).bytes(), before) << fault.name;
    }
    for (const double value : {-0.1, 1.1}) {
        Spec s;
        s.conv = false, s.factor = s.checked = true;
        Call call(s);
        gate(value)(call);
        conformance::PlanPointer plan;
        ASSERT_EQ(call.plan(handle(), plan), ATTN_OK) << attn_last_error();
        EXPECT_EQ(call.execute(plan.get()), data);
        EXPECT_NE(std::string(attn_last_error()).find("must be 0 .. 1"), std::string::npos) << attn_last_error();
    }
}

TEST(SequenceRefusal, Descriptions)
{
    for (const bool conv : {true, false}) {
        Spec s;
        s.conv = conv;
        const Call call(s);
        conformance::PlanPointer plan;
        ASSERT_EQ(call.plan(handle(), plan), ATTN_OK) << attn_last_error();
        char text[8192];
        ASSERT_EQ(attn_plan_describe(plan.get(), text, sizeof text, nullptr), ATTN_OK);
        for (const char *part :
             {conv ? "\"kind\":\"conv\"" : "\"kind\":\"scan\"", conv ? "\"width\":4" : "\"form\":\"log\"",
              conv ? "cpu.conv." : "cpu.scan.", "\"state_dtype\":\"float32\"", "\"X\""})
            EXPECT_NE(std::string(text).find(part), std::string::npos) << part << " is not in " << text;
    }
}

} // namespace
} // namespace sequence
