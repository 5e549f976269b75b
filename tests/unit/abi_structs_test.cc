// The `size` rule of growable structs and the extension chain.

#define ATTN_EXPERIMENTAL
#include "abi_fixture.h"

#include <functional>

namespace {

using caller::fails;
using caller::zeroed;

/// A struct with room behind it, as a newer header would have it.
template <class Struct>
struct Newer {
    Struct base;
    unsigned char tail[64];
};

/// Calls a function that reads the struct; the rest of the call is valid.
template <class Struct>
using Call = std::function<attn_status(const Struct *)>;

/// Every size the struct may be given with; `valid` is what the call returns for a proper one.
template <class Struct>
void check_sizes(const std::string &name, const Struct &proper, attn_status valid, const Call<Struct> &call)
{
    SCOPED_TRACE(name);
    Newer<Struct> given;
    const auto reset = [&](size_t size) {
        memset(&given, 0, sizeof given);
        memcpy(&given.base, &proper, sizeof proper);
        given.base.size = size;
        return &given.base;
    };
    const std::string field = name + ".size = ";
    for (const size_t size : {size_t{0}, size_t{1}, sizeof(size_t), sizeof(Struct) - 8, sizeof(Struct) - 1}) {
        const std::string value = field + std::to_string(size);
        const std::string least = "at least " + std::to_string(sizeof(Struct));
        EXPECT_TRUE(fails(call(reset(size)), ATTN_ERROR_INVALID, {value.c_str(), least.c_str(), "sizeof"}));
    }
    for (const size_t size : {size_t{65537}, SIZE_MAX})
        EXPECT_TRUE(fails(call(reset(size)), ATTN_ERROR_INVALID,
                          {(field + std::to_string(size)).c_str(), "no struct is that large"}));
    EXPECT_EQ(call(reset(sizeof(Struct))), valid) << attn_last_error();
    EXPECT_EQ(call(reset(sizeof(Struct) + 1)), valid) << attn_last_error();
    EXPECT_EQ(call(reset(sizeof given)), valid) << attn_last_error();

    for (const size_t at : {size_t{0}, size_t{7}, sizeof given.tail - 1}) {
        reset(sizeof given);
        given.tail[at] = 1;
        const std::string byte = "byte " + std::to_string(sizeof(Struct) + at) + " is not 0";
        const std::string known = "knows only " + std::to_string(sizeof(Struct));
        EXPECT_TRUE(fails(call(&given.base), ATTN_ERROR_ABI,
                          {(field + std::to_string(sizeof given)).c_str(), byte.c_str(), known.c_str(), "newer"}));
    }
    reset(sizeof(Struct));
    memset(given.tail, 0xff, sizeof given.tail);
    EXPECT_EQ(call(&given.base), valid) << "what lies beyond `size` is not read: " << attn_last_error();
}

/// What may hang on the struct's `next`: nothing, in this release.
template <class Struct>
void check_chain(const std::string &name, const Struct &proper, const Call<Struct> &call)
{
    SCOPED_TRACE(name);
    attn_ext first = zeroed<attn_ext>(), second = zeroed<attn_ext>();
    Struct given = proper;
    given.next = &first;
    for (const attn_ext_type type : {0, 2, 999, -1}) {
        first = zeroed<attn_ext>();
        first.type = type;
        const std::string place = name + ".next[0].type = " + std::to_string(type);
        EXPECT_TRUE(fails(call(&given), ATTN_ERROR_ABI, {place.c_str(), "not an extension of this struct"}));
    }
    first = zeroed<attn_ext>();
    first.size = sizeof(attn_ext) - 1;
    EXPECT_TRUE(fails(call(&given), ATTN_ERROR_INVALID, {(name + ".next[0].size = 23").c_str(), "size"}));
    // A chain that never ends must still be answered.
    first = zeroed<attn_ext>();
    first.next = &second, second.next = &first, first.type = second.type = 77;
    EXPECT_TRUE(fails(call(&given), ATTN_ERROR_ABI, {(name + ".next[0].type = 77").c_str()}));
}

class Structs : public ::testing::Test {
protected:
    template <class Struct>
    void check(const std::string &name, const Struct &proper, attn_status valid, const Call<Struct> &call)
    {
        check_sizes(name, proper, valid, call);
        check_chain(name, proper, call);
    }
    attn_status plan()
    {
        attn_plan made = nullptr;
        const attn_status status = attn_plan_dense(handle_, desc_.get(), &made);
        EXPECT_EQ(made != nullptr, status == ATTN_OK);
        attn_plan_destroy(made);
        return status;
    }

    caller::Handle handle_;
    caller::Dense desc_;
};

TEST_F(Structs, Options)
{
    check<attn_options>("attn_options", zeroed<attn_options>(), ATTN_OK, [](const attn_options *options) {
        attn_handle handle = nullptr;
        const attn_status status = attn_create(options, &handle);
        EXPECT_EQ(handle != nullptr, status == ATTN_OK);
        attn_destroy(handle);
        return status;
    });
}

TEST_F(Structs, DeviceProperties)
{
    check<attn_device_properties>("attn_device_properties", zeroed<attn_device_properties>(), ATTN_OK,
                                  [](const attn_device_properties *given) {
                                      auto *properties = const_cast<attn_device_properties *>(given);
                                      return attn_device_info(ATTN_DEVICE_CPU, 0, properties);
                                  });
}

TEST_F(Structs, Sizes)
{
    const caller::Plan plan(handle_, desc_);
    check<attn_sizes>("attn_sizes", zeroed<attn_sizes>(), ATTN_OK, [&](const attn_sizes *sizes) {
        size_t bytes = 12345;
        const attn_status status = attn_plan_workspace_for(plan, sizes, &bytes);
        EXPECT_EQ(bytes == 12345, status != ATTN_OK);
        return status;
    });
}

TEST_F(Structs, Problem)
{
    desc_.get();
    check<attn_problem>("attn_problem", desc_.problem, ATTN_OK, [&](const attn_problem *problem) {
        desc_.links_binds = false;
        desc_.dense.problem = problem;
        return plan();
    });
}

TEST_F(Structs, Dense)
{
    desc_.get();
    const auto call = [&](const attn_dense *dense) {
        attn_plan made = nullptr;
        const attn_status status = attn_plan_dense(handle_, dense, &made);
        EXPECT_EQ(made != nullptr, status == ATTN_OK);
        attn_plan_destroy(made);
        return status;
    };
    check_sizes<attn_dense>("attn_dense", desc_.dense, ATTN_OK, call);
    attn_ext unknown = zeroed<attn_ext>();
    unknown.type = 999;
    desc_.dense.next = &unknown;
    EXPECT_TRUE(fails(plan(), ATTN_ERROR_ABI, {"attn_dense.next[0].type = 999", "not an extension"}));
    unknown.size = 0;
    EXPECT_TRUE(fails(plan(), ATTN_ERROR_INVALID, {"attn_dense.next[0].size = 0"}));
}

TEST_F(Structs, Program)
{
    check<attn_program>("attn_program", desc_.program, ATTN_OK, [&](const attn_program *program) {
        desc_.dense.mask = program;
        return plan();
    });
}

// The structs of options that no kernel serves yet obey the same rule before the option is refused.

TEST_F(Structs, Rope)
{
    check<attn_rope>("attn_rope", desc_.rope, ATTN_ERROR_UNSUPPORTED, [&](const attn_rope *rope) {
        desc_.dense.rope = rope;
        return plan();
    });
}

TEST_F(Structs, BiasTable)
{
    desc_.dense.align = ATTN_TOP_LEFT;
    check<attn_bias_table>("attn_bias_table", desc_.table, ATTN_OK, [&](const attn_bias_table *table) {
        desc_.dense.bias_table = table;
        return attn_plan_supports(handle_, ATTN_KIND_DENSE, desc_.get());
    });
}

/// What a merge needs: it has neither K nor V.
attn_problem merge_problem()
{
    attn_problem problem = zeroed<attn_problem>();
    problem.q_dtype = ATTN_FLOAT32, problem.heads_q = 4, problem.dim_v = 8, problem.max_q = 4;
    return problem;
}

TEST_F(Structs, Merge)
{
    const attn_problem problem = merge_problem();
    attn_merge merge = zeroed<attn_merge>();
    merge.problem = &problem, merge.parts = 2;
    check<attn_merge>("attn_merge", merge, ATTN_OK,
                      [&](const attn_merge *given) { return attn_plan_supports(handle_, ATTN_KIND_MERGE, given); });
}

TEST_F(Structs, Append)
{
    attn_append append = zeroed<attn_append>();
    append.problem = &desc_.problem;
    check<attn_append>("attn_append", append, ATTN_OK,
                       [&](const attn_append *given) { return attn_plan_supports(handle_, ATTN_KIND_APPEND, given); });
}

TEST_F(Structs, LinearConvAndScan)
{
    attn_problem problem = zeroed<attn_problem>();
    problem.q_dtype = ATTN_FLOAT32, problem.heads_q = 4, problem.dim_qk = 8, problem.max_q = 4;
    attn_linear linear = zeroed<attn_linear>();
    attn_conv conv = zeroed<attn_conv>();
    attn_scan scan = zeroed<attn_scan>();
    linear.problem = conv.problem = scan.problem = &problem;
    conv.width = 4;
    check<attn_linear>("attn_linear", linear, ATTN_OK,
                       [&](const attn_linear *given) { return attn_plan_supports(handle_, ATTN_KIND_LINEAR, given); });
    check<attn_conv>("attn_conv", conv, ATTN_OK,
                     [&](const attn_conv *given) { return attn_plan_supports(handle_, ATTN_KIND_CONV, given); });
    check<attn_scan>("attn_scan", scan, ATTN_OK,
                     [&](const attn_scan *given) { return attn_plan_supports(handle_, ATTN_KIND_SCAN, given); });
}

TEST_F(Structs, ProblemOfMergeAndAppend)
{
    attn_merge merge = zeroed<attn_merge>();
    merge.parts = 2;
    check_sizes<attn_problem>("attn_problem", merge_problem(), ATTN_OK, [&](const attn_problem *problem) {
        merge.problem = problem;
        return attn_plan_supports(handle_, ATTN_KIND_MERGE, &merge);
    });
    attn_append append = zeroed<attn_append>();
    check_sizes<attn_problem>("attn_problem", desc_.problem, ATTN_OK, [&](const attn_problem *problem) {
        append.problem = problem;
        return attn_plan_supports(handle_, ATTN_KIND_APPEND, &append);
    });
}

TEST_F(Structs, ExtensionsOfTheProblemOfMergeAndAppend)
{
    attn_merge merge = zeroed<attn_merge>();
    merge.parts = 2;
    attn_append append = zeroed<attn_append>();
    attn_ext unknown = zeroed<attn_ext>();
    unknown.type = 999;
    desc_.problem.next = &unknown;
    merge.problem = append.problem = &desc_.problem;
    EXPECT_TRUE(fails(attn_plan_supports(handle_, ATTN_KIND_MERGE, &merge), ATTN_ERROR_ABI, {"attn_problem.next[0]"}));
    EXPECT_TRUE(
        fails(attn_plan_supports(handle_, ATTN_KIND_APPEND, &append), ATTN_ERROR_ABI, {"attn_problem.next[0]"}));
}

TEST_F(Structs, DropoutIsKnownAndRefusedByName)
{
    attn_dropout dropout = {};
    dropout.ext.size = sizeof dropout, dropout.ext.type = ATTN_EXT_DROPOUT, dropout.probability = 0.1;
    desc_.dense.next = &dropout.ext;
    EXPECT_TRUE(fails(plan(), ATTN_ERROR_UNSUPPORTED, {"attn_dense", "does not compute", "ATTN_EXT_DROPOUT"}));
}

TEST_F(Structs, ExtensionRules)
{
    attn_dropout first = {}, second = {};
    first.ext.size = second.ext.size = sizeof first;
    first.ext.type = second.ext.type = ATTN_EXT_DROPOUT;
    first.probability = second.probability = 0.1;
    desc_.dense.next = &first.ext;

    first.ext.next = &second.ext;
    EXPECT_TRUE(fails(plan(), ATTN_ERROR_INVALID, {"attn_dense.next[1].type = 1", "given twice"}));
    first.ext.next = &first.ext;
    EXPECT_TRUE(fails(plan(), ATTN_ERROR_INVALID, {"attn_dense.next"})) << "a cycle";
    first.ext.next = &second.ext, second.ext.type = 999;
    EXPECT_TRUE(fails(plan(), ATTN_ERROR_ABI, {"attn_dense.next[1].type = 999"}));
    first.ext.next = nullptr, first.ext.reserved = 5;
    EXPECT_TRUE(fails(plan(), ATTN_ERROR_INVALID, {"attn_dense.next[0].reserved = 5", "must be 0"}));
}

TEST_F(Structs, DropoutIsValidatedBeforeItIsRefused)
{
    attn_dropout first = {};
    first.ext.size = sizeof first, first.ext.type = ATTN_EXT_DROPOUT, first.probability = 0.1;
    desc_.dense.next = &first.ext;

    // The attn_dropout of this header is 32 bytes: a shorter one has no probability.
    first.ext.size = sizeof(attn_ext);
    EXPECT_TRUE(fails(plan(), ATTN_ERROR_INVALID, {"attn_dense.next[0].size = 24"}));
    first.ext.size = sizeof first;
    for (const double probability : {-0.5, 0.0, 1.0, 1.5, std::nan("")}) {
        first.probability = probability;
        EXPECT_TRUE(fails(plan(), ATTN_ERROR_INVALID, {"attn_dropout.probability = ", "(0, 1)"}));
    }
}

} // namespace
