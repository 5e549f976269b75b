// Descriptors and tensors that a linear plan refuses: the status and what the message names.
#include "linear_call.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace linear {
namespace {

attn_handle handle()
{
    return conformance::backends().front()->handle(1);
}

struct Fault {
    const char *name;
    void (*change)(Call &);
    attn_status status;
    std::vector<const char *> parts; // of the message
    const char *method = "linear";
};

void bind(Call &c, attn_slot slot, std::uint32_t index = 0)
{
    attn_bind b = {};
    b.slot = slot, b.index = index;
    c.binds.push_back(b);
    c.problem.binds = c.binds.data(), c.problem.bind_count = c.binds.size();
}

void expect_message(const Fault &fault)
{
    for (const char *part : fault.parts)
        EXPECT_NE(std::string(attn_last_error()).find(part), std::string::npos)
            << fault.name << ": " << part << " is not in: " << attn_last_error();
}

TEST(LinearRefusal, Descriptors)
{
    constexpr attn_status invalid = ATTN_ERROR_INVALID;
    const double nan = std::numeric_limits<double>::quiet_NaN();
    static double bad;
    bad = nan;
    const Fault faults[] = {
        {"size", [](Call &c) { c.linear.size = 8; }, invalid, {"attn_linear.size = 8", "at least 104"}},
        {"problem", [](Call &c) { c.linear.problem = nullptr; }, invalid, {"attn_linear.problem = NULL"}},
        {"flags", [](Call &c) { c.linear.flags = 1u << 9; }, invalid, {"attn_linear.flags = 0x200", "unknown bits"}},
        {"decay", [](Call &c) { c.linear.decay = 4; }, invalid, {"attn_linear.decay = 4", "0 .. 3"}},
        {"update", [](Call &c) { c.linear.update = -1; }, invalid, {"attn_linear.update = -1"}},
        {"read", [](Call &c) { c.linear.read = 2; }, invalid, {"attn_linear.read = 2"}},
        {"map", [](Call &c) { c.linear.feature_map = 7; }, invalid, {"attn_linear.feature_map = 7"}},
        {"layout", [](Call &c) { c.linear.state_layout = 2; }, invalid, {"attn_linear.state_layout = 2"}},
        {"keep", [](Call &c) { c.linear.state_keep = 2; }, invalid, {"attn_linear.state_keep = 2"}},
        {"form without a gate",
         [](Call &c) { c.linear.decay_form = ATTN_DECAY_SOFTPLUS; },
         invalid,
         {"attn_linear.decay_form = 1", "per token or channel"}},
        {"bound of nothing",
         [](Call &c) { c.linear.decay_lower_bound = -5; },
         invalid,
         {"attn_linear.decay_lower_bound = -5", "there is a decay"}},
        {"positive bound",
         [](Call &c) { c.linear.decay_lower_bound = 1; },
         invalid,
         {"attn_linear.decay_lower_bound = 1", "< 0"},
         "retnet"},
        {"bound of the sigmoid form",
         [](Call &c) { c.linear.decay_lower_bound = 0; },
         invalid,
         {"decay_lower_bound = 0", "ATTN_DECAY_SIGMOID"},
         "kda_safe"},
        {"scale of nothing",
         [](Call &c) { c.linear.decay_scale = 2; },
         invalid,
         {"attn_linear.decay_scale = 2", "ATTN_DECAY_LOG_SIGMOID"},
         "hgrn2"},
        {"negative scale", [](Call &c) { c.linear.decay_scale = -2; }, invalid, {"decay_scale = -2"}, "gla"},
        {"read before a delta",
         [](Call &c) { c.linear.read = ATTN_READ_BEFORE; },
         invalid,
         {"attn_linear.read = 1", "ATTN_UPDATE_ADD"},
         "deltanet"},
        {"normalised delta",
         [](Call &c) { c.linear.flags |= ATTN_LINEAR_NORMALISER; },
         invalid,
         {"ATTN_LINEAR_NORMALISER", "ATTN_UPDATE_ADD"},
         "deltanet"},
        {"eps without normaliser",
         [](Call &c) { c.linear.normaliser_eps = 1; },
         invalid,
         {"attn_linear.normaliser_eps = 1", "ATTN_LINEAR_NORMALISER"},
         "retnet"},
        {"eps", [](Call &c) { c.linear.normaliser_eps = bad; }, invalid, {"attn_linear.normaliser_eps = nan"}},
        {"chunk", [](Call &c) { c.linear.chunk = 257; }, invalid, {"attn_linear.chunk = 257", "0 .. 256"}},
        {"chunk of a recurrence",
         [](Call &c) { c.linear.chunk = 8, c.linear.flags |= ATTN_LINEAR_RECURRENT; },
         invalid,
         {"attn_linear.chunk = 8", "ATTN_LINEAR_RECURRENT"}},
        {"both directions with decay",
         [](Call &c) { c.linear.flags |= ATTN_LINEAR_BIDIRECTIONAL; },
         invalid,
         {"attn_linear.decay = 1", "ATTN_LINEAR_BIDIRECTIONAL"},
         "retnet"},
        {"keep without a state",
         [](Call &c) {
             c.binds.clear(), c.problem.bind_count = 0, c.linear.state_dtype = 0;
             c.linear.state_keep = ATTN_STATE_PER_TOKEN;
         },
         invalid,
         {"attn_linear.state_keep = 1", "STATE_OUT"}},
        {"layout without a state",
         [](Call &c) {
             c.binds.clear(), c.problem.bind_count = 0, c.linear.state_dtype = 0;
             c.linear.state_layout = ATTN_STATE_VK;
         },
         invalid,
         {"attn_linear.state_layout = 1", "STATE_IN"}},
        {"dtype without a state",
         [](Call &c) { c.binds.clear(), c.problem.bind_count = 0; },
         invalid,
         {"attn_linear.state_dtype = float32"}},
        {"state dtype",
         [](Call &c) { c.linear.state_dtype = ATTN_FLOAT64; },
         invalid,
         {"attn_linear.state_dtype = float64"}},
        {"heads", [](Call &c) { c.problem.heads_k = 4; }, invalid, {"attn_problem.heads_k = 4", "divide the 2 heads"}},
        {"keys of their own",
         [](Call &c) { c.problem.max_kv = 99; },
         invalid,
         {"attn_problem.max_kv = 99", "max_q = 21"}},
        {"pages", [](Call &c) { c.problem.page_size = 16; }, invalid, {"attn_problem.page_size = 16"}},
        {"alias", [](Call &c) { c.problem.flags = ATTN_V_ALIASES_K; }, invalid, {"ATTN_V_ALIASES_K", "dense plans"}},
        {"total", [](Call &c) { c.problem.total_q = 9; }, invalid, {"attn_problem.total_q = 9", "CU_SEQLENS_Q"}},
        {"features",
         [](Call &c) { c.problem.dim_qk = 2000; },
         invalid,
         {"attn_problem.dim_qk = 2000", "features"},
         "based"},
        {"group",
         [](Call &c) { c.problem.heads_q = int64_t{1} << 40; },
         invalid,
         {"attn_problem.heads_q = 1099511627776", "read one state"}},
        {"bound slot of another mode",
         [](Call &c) { bind(c, ATTN_SLOT_BETA); },
         invalid,
         {"BETA", "ATTN_UPDATE_DELTA"}},
        {"keys' lengths", [](Call &c) { bind(c, ATTN_SLOT_SEQLENS_KV); }, invalid, {"SEQLENS_KV", "bidirectional"}},
        {"slot of other plans", [](Call &c) { bind(c, ATTN_SLOT_LSE); }, invalid, {"LSE", "does not take it"}},
        {"index", [](Call &c) { bind(c, ATTN_SLOT_FEATURE, 2); }, invalid, {"index = 2", "FEATURE"}, "hedgehog"},
        {"pool of nothing",
         [](Call &c) {
             c.binds.clear(), c.linear.state_dtype = 0;
             bind(c, ATTN_SLOT_STATE_INDEX);
         },
         invalid,
         {"STATE_INDEX", "pool of states"}},
        {"rope",
         [](Call &c) {
             static attn_rope rope = {};
             rope.size = sizeof rope;
             c.linear.rope = &rope;
         },
         ATTN_ERROR_UNSUPPORTED,
         {"attn_linear.rope"}},
        {"direction",
         [](Call &c) { c.problem.direction = ATTN_BACKWARD; },
         ATTN_ERROR_UNSUPPORTED,
         {"attn_problem.direction"}},
        {"status", [](Call &c) { bind(c, ATTN_SLOT_STATUS); }, ATTN_ERROR_UNSUPPORTED, {"slot STATUS"}},
        {"dtype", [](Call &c) { c.problem.q_dtype = ATTN_INT8; }, ATTN_ERROR_UNSUPPORTED, {"slot Q of dtype int8"}},
    };
    for (const Fault &fault : faults) {
        Spec s;
        s.method = fault.method;
        Call call(s);
        fault.change(call);
        conformance::PlanPointer plan;
        EXPECT_EQ(call.plan(handle(), plan), fault.status) << fault.name << ": " << attn_last_error();
        expect_message(fault);
        EXPECT_EQ(attn_plan_supports(handle(), ATTN_KIND_LINEAR, &call.linear), fault.status) << fault.name;
    }
}

TEST(LinearRefusal, TensorsOfAnExecute)
{
    const auto expect = [](const Spec &s, void (*spoil)(Call &), attn_status status, const char *part) {
        Call call(s);
        conformance::PlanPointer plan;
        ASSERT_EQ(call.plan(handle(), plan), ATTN_OK) << attn_last_error();
        spoil(call);
        const auto before = call.at(ATTN_SLOT_OUT).bytes();
        EXPECT_EQ(call.execute(plan.get()), status) << part;
        EXPECT_NE(std::string(attn_last_error()).find(part), std::string::npos) << attn_last_error();
        EXPECT_EQ(call.at(ATTN_SLOT_OUT).bytes(), before) << part;
    };
    Spec pool;
    pool.pool = true;
    expect(
        pool, [](Call &c) { c.at(ATTN_SLOT_STATE_INDEX).set({1}, 4); }, ATTN_ERROR_DATA, "STATE_INDEX[1] = 4");
    expect(
        pool, [](Call &c) { c.at(ATTN_SLOT_STATE_INDEX).set({0}, -1); }, ATTN_ERROR_DATA, "must be 0 .. 3");
    pool.checked = true;
    expect(
        pool, [](Call &c) { c.at(ATTN_SLOT_STATE_INDEX).set({1}, 2); }, ATTN_ERROR_DATA, "that of sequence 0 too");
    Spec packed;
    packed.packed = true;
    expect(
        packed, [](Call &c) { c.at(ATTN_SLOT_CU_SEQLENS_Q).set({2}, 99); }, ATTN_ERROR_DATA, "CU_SEQLENS_Q[2] = 99");
    Spec used;
    used.used = true;
    expect(
        used, [](Call &c) { c.at(ATTN_SLOT_SEQLENS_Q).set({1}, 22); }, ATTN_ERROR_DATA, "SEQLENS_Q[1] = 22");
}

TEST(LinearRefusal, StateOutOverStateIn)
{
    // The very view is an update in place; anything else that overlaps is refused.
    Spec s;
    s.in_place = true;
    Call call(s);
    conformance::PlanPointer plan;
    ASSERT_EQ(call.plan(handle(), plan), ATTN_OK) << attn_last_error();
    ASSERT_EQ(call.execute(plan.get()), ATTN_OK) << attn_last_error();
    std::vector<attn_tensor> views;
    std::vector<attn_arg> args;
    views.reserve(call.tensors.size() + 1);
    for (auto &[key, tensor] : call.tensors) {
        views.push_back(tensor.view());
        args.push_back({key.first, key.second, &views.back()});
    }
    attn_tensor shifted = call.at(ATTN_SLOT_STATE_IN).view();
    shifted.byte_offset += sizeof(float);
    args.push_back({ATTN_SLOT_STATE_OUT, 0, &shifted});
    std::vector<unsigned char> workspace(1 << 20);
    EXPECT_EQ(attn_execute(plan.get(), args.data(), args.size(), workspace.data(), workspace.size(), nullptr),
              ATTN_ERROR_INVALID);
    EXPECT_NE(std::string(attn_last_error()).find("STATE_OUT.data"), std::string::npos) << attn_last_error();
}

TEST(LinearRefusal, CheckedModeNamesTheValue)
{
    const auto expect = [](const char *method, void (*spoil)(Call &), std::vector<const char *> parts) {
        Spec s;
        s.method = method, s.checked = true, s.gate_size = 0.2;
        Call call(s);
        conformance::PlanPointer plan;
        ASSERT_EQ(call.plan(handle(), plan), ATTN_OK) << attn_last_error();
        ASSERT_EQ(call.execute(plan.get()), ATTN_OK) << method << ": " << attn_last_error();
        spoil(call);
        EXPECT_EQ(call.execute(plan.get()), ATTN_ERROR_DATA) << method;
        for (const char *part : parts)
            EXPECT_NE(std::string(attn_last_error()).find(part), std::string::npos) << attn_last_error();
    };
    expect("hgrn2",
           [](Call &c) {
               c.at(ATTN_SLOT_DECAY).set({1, 3, 1, 5}, 0.25);
           },
           {"DECAY of sequence 1, token 3, head 1, channel 5", "is 0.25", "<= 0"});
    expect("rwkv7",
           [](Call &c) {
               c.at(ATTN_SLOT_DECAY).set({0, 2, 0, 1}, -3);
           },
           {"DECAY of sequence 0, token 2, head 0, channel 1", "is -3", "lower bound"});
    expect("retnet", [](Call &c) { c.at(ATTN_SLOT_DECAY).set({1}, NAN); }, {"DECAY", "head 1", "nan"});
    expect("deltanet",
           [](Call &c) {
               c.at(ATTN_SLOT_BETA).set({1, 4, 0}, 2.5);
           },
           {"BETA |K|^2 of sequence 1, token 4, head 0", "0 .. 2"});
    expect("gated_deltanet_2",
           [](Call &c) {
               for (int i = 0; i < 8; ++i) c.at(ATTN_SLOT_ERASE).set({0, 1, 1, i}, 9);
           },
           {"ERASE K . K of sequence 0, token 1, head 1"});
    expect("rwkv7",
           [](Call &c) {
               for (int i = 0; i < 8; ++i) c.at(ATTN_SLOT_DPLR_B).set({0, 1, 1, i}, 9);
           },
           {"-DPLR_B . DPLR_C of sequence 0, token 1, head 1"});
}

TEST(LinearRefusal, CheckedModeWantsNormalisedKeys)
{
    Spec s;
    s.method = "deltanet", s.checked = true;
    Call call(s);
    call.linear.flags &= ~std::uint64_t{ATTN_LINEAR_QK_L2NORM};
    conformance::PlanPointer plan;
    ASSERT_EQ(call.plan(handle(), plan), ATTN_OK) << attn_last_error();
    EXPECT_EQ(call.execute(plan.get()), ATTN_ERROR_DATA); // keys of length sqrt(8)
    EXPECT_NE(std::string(attn_last_error()).find("normalise the keys"), std::string::npos) << attn_last_error();
}

TEST(LinearRefusal, ADescriptionNamesTheMode)
{
    Spec s;
    s.method = "kda";
    Call call(s);
    conformance::PlanPointer plan;
    ASSERT_EQ(call.plan(handle(), plan), ATTN_OK) << attn_last_error();
    std::size_t size = 0;
    ASSERT_EQ(attn_plan_describe(plan.get(), nullptr, 0, &size), ATTN_OK);
    std::string text(size, '\0');
    ASSERT_EQ(attn_plan_describe(plan.get(), text.data(), size, nullptr), ATTN_OK);
    for (const char *part : {"\"kind\":\"linear\"", "\"decay\":\"channel\"", "\"update\":\"delta\"",
                             "\"decay_form\":\"softplus\"", "\"slot\":\"STATE_OUT\"", "\"state_rows\":8"})
        EXPECT_NE(text.find(part), std::string::npos) << part << " is not in " << text;
}

} // namespace
} // namespace linear
