// Rules of single fields of attn_problem and attn_dense: extents, heads, dtypes, flags, enumerators, numbers.

#include "abi_refusal.h"

#include <limits>

namespace {

using caller::Dense;
using caller::fails;
using caller::kInvalid;
using caller::kUnsupported;
using caller::succeeds;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

class Problem : public caller::Descriptor {};

TEST_F(Problem, ProblemIsRequired)
{
    expect(
        {{"problem", [](Dense &d) { d.dense.problem = nullptr; }, kInvalid, {"attn_dense.problem = NULL", "required"}},
         {"reserved", [](Dense &d) { d.dense.reserved = 3; }, kInvalid, {"attn_dense.reserved = 3", "must be 0"}}});
}

TEST_F(Problem, Extents)
{
    struct Field {
        const char *name;
        int64_t attn_problem::*member;
        bool required;
        int64_t most;
    };
    constexpr int64_t kLargest = int64_t{1} << 47, kLargestDim = int64_t{1} << 20;
    const Field fields[] = {
        {"attn_problem.batch", &attn_problem::batch, false, kLargest},
        {"attn_problem.heads_q", &attn_problem::heads_q, true, kLargest},
        {"attn_problem.heads_k", &attn_problem::heads_k, false, kLargest},
        {"attn_problem.heads_v", &attn_problem::heads_v, false, kLargest},
        {"attn_problem.dim_qk", &attn_problem::dim_qk, true, kLargestDim},
        {"attn_problem.dim_v", &attn_problem::dim_v, false, kLargestDim},
        {"attn_problem.max_q", &attn_problem::max_q, true, kLargest},
        {"attn_problem.max_kv", &attn_problem::max_kv, false, kLargest},
        {"attn_problem.total_q", &attn_problem::total_q, false, kLargest},
        {"attn_problem.total_kv", &attn_problem::total_kv, false, kLargest},
        {"attn_problem.page_size", &attn_problem::page_size, false, kLargest},
    };
    for (const Field &field : fields) {
        std::vector<int64_t> values = {-1, INT64_MIN, INT64_MAX, field.most + 1};
        if (field.required) values.push_back(0);
        for (const int64_t value : values) {
            SCOPED_TRACE(field.name);
            Dense d;
            d.problem.*field.member = value;
            attn_plan plan = nullptr;
            const std::string place = std::string(field.name) + " = " + std::to_string(value);
            EXPECT_TRUE(fails(attn_plan_dense(handle_, d.get(), &plan), kInvalid, {place.c_str(), "must be", ".."}));
            EXPECT_EQ(plan, nullptr);
        }
    }
}

TEST_F(Problem, ProductsThatOverflow)
{
    expect({{"total_q by default",
             [](Dense &d) { d.problem.batch = int64_t{1} << 40, d.problem.max_q = int64_t{1} << 40; },
             kInvalid,
             {"attn_problem.total_q = ", "must be"}},
            {"total_kv by default",
             [](Dense &d) { d.problem.batch = int64_t{1} << 24, d.problem.max_kv = int64_t{1} << 24; },
             kInvalid,
             {"attn_problem.total_kv = ", "must be"}}});
}

TEST_F(Problem, Heads)
{
    expect({{"heads_q",
             [](Dense &d) { d.problem.heads_q = 3, d.problem.heads_k = 4; },
             kInvalid,
             {"attn_problem.heads_q = 3", "must divide the 4 heads of OUT"}},
            {"heads_k", [](Dense &d) { d.problem.heads_k = 3; }, kInvalid, {"attn_problem.heads_k = 3", "divide", "4"}},
            {"heads_v",
             [](Dense &d) {
                 d.problem.heads_v = 8;
                 d.problem.heads_q = 6;
                 d.problem.heads_k = 4;
             },
             kInvalid,
             {"attn_problem.heads_q = 6", "must divide the 8 heads of OUT"}},
            {"heads_v smaller", [](Dense &d) { d.problem.heads_v = 3; }, kInvalid, {"attn_problem.heads_v = 3"}}});
    expect_valid("more heads of V than of Q", [](Dense &d) { d.problem.heads_v = 8; });
}

TEST_F(Problem, Dtypes)
{
    expect(
        {{"q_dtype missing", [](Dense &d) { d.problem.q_dtype = 0; }, kInvalid, {"attn_problem.q_dtype", "required"}},
         {"q_dtype",
          [](Dense &d) { d.problem.q_dtype = 0x123456; },
          kInvalid,
          {"attn_problem.q_dtype = 0x123456", "not a value of attn_dtype"}},
         {"k_dtype", [](Dense &d) { d.problem.k_dtype = 0x012003; }, kInvalid, {"attn_problem.k_dtype = 0x012003"}},
         {"v_dtype", [](Dense &d) { d.problem.v_dtype = 0x022002; }, kInvalid, {"attn_problem.v_dtype = 0x022002"}},
         {"out_dtype",
          [](Dense &d) { d.problem.out_dtype = 0xffffffff; },
          kInvalid,
          {"attn_problem.out_dtype = 0xffffffff", "not a value of attn_dtype"}},
         {"q float64",
          [](Dense &d) { d.problem.q_dtype = ATTN_FLOAT64; },
          kUnsupported,
          {"attn_problem.q_dtype = float64", "needs float32, float16 or bfloat16"}},
         {"k int8", [](Dense &d) { d.problem.k_dtype = ATTN_INT8; }, kUnsupported, {"attn_problem.k_dtype = int8"}},
         {"v e4m3",
          [](Dense &d) { d.problem.v_dtype = ATTN_FLOAT8_E4M3FN; },
          kUnsupported,
          {"attn_problem.v_dtype = float8_e4m3fn"}},
         {"out bool",
          [](Dense &d) { d.problem.out_dtype = ATTN_BOOL; },
          kUnsupported,
          {"attn_problem.out_dtype = bool"}}});
}

TEST_F(Problem, FlagsAndEnumerators)
{
    expect({
        {"problem.flags",
         [](Dense &d) { d.problem.flags = 1 << 5; },
         kInvalid,
         {"attn_problem.flags = 0x20", "unknown bits 0x20"}},
        {"problem.flags, high",
         [](Dense &d) { d.problem.flags = (uint64_t{1} << 63) | ATTN_CHECKED; },
         kInvalid,
         {"attn_problem.flags = 0x8000000000000008", "unknown bits 0x8000000000000000"}},
        {"direction", [](Dense &d) { d.problem.direction = 3; }, kInvalid, {"attn_problem.direction = 3", "0 .. 2"}},
        {"direction < 0", [](Dense &d) { d.problem.direction = -1; }, kInvalid, {"attn_problem.direction = -1"}},
        {"precision", [](Dense &d) { d.problem.precision = 2; }, kInvalid, {"attn_problem.precision = 2", "0 .. 1"}},
        {"precision < 0", [](Dense &d) { d.problem.precision = -7; }, kInvalid, {"attn_problem.precision = -7"}},
        {"dense.flags", [](Dense &d) { d.dense.flags = 4; }, kInvalid, {"attn_dense.flags = 0x4", "unknown bits 0x4"}},
        {"causal", [](Dense &d) { d.dense.causal = 4; }, kInvalid, {"attn_dense.causal = 4", "0 .. 3"}},
        {"causal < 0", [](Dense &d) { d.dense.causal = INT32_MIN; }, kInvalid, {"attn_dense.causal = -2147483648"}},
        {"align", [](Dense &d) { d.dense.align = 4; }, kInvalid, {"attn_dense.align = 4", "0 .. 3"}},
        {"activation", [](Dense &d) { d.dense.activation = 3; }, kInvalid, {"attn_dense.activation = 3", "0 .. 2"}},
        {"bias_stage", [](Dense &d) { d.dense.bias_stage = 2; }, kInvalid, {"attn_dense.bias_stage = 2", "0 .. 1"}},
        {"gate", [](Dense &d) { d.dense.gate = 3; }, kInvalid, {"attn_dense.gate = 3", "0 .. 2"}},
    });
    for (const uint64_t flags :
         {ATTN_ALLOW_NONDETERMINISTIC, ATTN_BATCH_INVARIANT, ATTN_STRICT_NONFINITE, ATTN_CHECKED}) {
        Dense d;
        d.problem.flags = flags;
        EXPECT_TRUE(succeeds(attn_plan_supports(handle_, ATTN_KIND_DENSE, d.get()))) << flags;
    }
    expect_valid("tf32", [](Dense &d) { d.problem.precision = ATTN_PRECISION_TF32; });
}

TEST_F(Problem, Numbers)
{
    expect({
        {"scale inf", [](Dense &d) { d.problem.scale = kInfinity; }, kInvalid, {"attn_problem.scale = inf", "finite"}},
        {"scale nan", [](Dense &d) { d.problem.scale = kNan; }, kInvalid, {"attn_problem.scale = ", "nan", "finite"}},
        {"softcap < 0", [](Dense &d) { d.dense.softcap = -2; }, kInvalid, {"attn_dense.softcap = -2", ">= 0"}},
        {"softcap inf",
         [](Dense &d) { d.dense.softcap = kInfinity; },
         kInvalid,
         {"attn_dense.softcap = inf", "finite"}},
        {"softcap nan", [](Dense &d) { d.dense.softcap = kNan; }, kInvalid, {"attn_dense.softcap", "finite"}},
        {"softcap tiny", [](Dense &d) { d.dense.softcap = 1e-31; }, kInvalid, {"attn_dense.softcap = 1e-31", "1e-30"}},
        {"softcap huge", [](Dense &d) { d.dense.softcap = 1e31; }, kInvalid, {"attn_dense.softcap = 1e+31", "1e30"}},
        {"activation_bias nan",
         [](Dense &d) { d.dense.activation_bias = kNan; },
         kInvalid,
         {"attn_dense.activation_bias", "finite"}},
        {"activation_length < 0",
         [](Dense &d) { d.dense.activation_length = -1; },
         kInvalid,
         {"attn_dense.activation_length = -1"}},
        {"bias_rank < 0", [](Dense &d) { d.dense.bias_rank = -1; }, kInvalid, {"attn_dense.bias_rank = -1"}},
        {"bias_rank huge",
         [](Dense &d) { d.dense.bias_rank = INT64_MAX; },
         kInvalid,
         {"attn_dense.bias_rank = 9223372036854775807"}},
    });
    expect_valid("negative scale", [](Dense &d) { d.problem.scale = -0.5; });
    expect_valid("softcap", [](Dense &d) { d.dense.softcap = 30; });
}

TEST_F(Problem, ScaleThatNoFloatHolds)
{
    // As floats these are infinite, and every score would be NaN.
    expect({{"scale", [](Dense &d) { d.problem.scale = 1e300; }, kInvalid, {"attn_problem.scale = 1e+300"}},
            {"scale over softcap",
             [](Dense &d) { d.problem.scale = 1e20, d.dense.softcap = 1e-30; },
             kInvalid,
             {"attn_problem.scale = 1e+20"}}});
}

} // namespace
