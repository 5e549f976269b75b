// Where kernels come from: the embedded pack serves what is common without a compiler.
#include "call.h"

#include "tests/conformance/property.h"

#include <gtest/gtest.h>

#include <string>

namespace gpu_test {
namespace {

using conformance::Case;

conformance::HandlePointer handle_without_compiler()
{
    attn_options options{};
    options.flags = ATTN_HANDLE_NO_COMPILE | ATTN_HANDLE_NO_DISK_CACHE;
    std::string why;
    auto handle = conformance::backends().front()->create(options, why);
    EXPECT_TRUE(handle) << why;
    return handle;
}

// On architectures that the embedded pack is for.
bool has_pack()
{
    attn_device_properties properties{};
    properties.size = sizeof properties;
    EXPECT_EQ(attn_device_info(ATTN_DEVICE_CUDA, 0, &properties), ATTN_OK) << attn_last_error();
    const std::string arch = properties.arch;
    return arch == "sm_90" || arch == "sm_90a" || arch.rfind("sm_8", 0) == 0;
}

TEST(KernelSources, TheEmbeddedPackServesCommonPlans)
{
    if (!has_pack()) GTEST_SKIP() << "no pack is embedded for this architecture";
    const auto handle = handle_without_compiler();
    ASSERT_TRUE(handle);
    for (const char *dtype : {"bf16", "fp16"})
        for (std::int64_t dim : {64, 128})
            for (const char *causal : {"none", "bottom_right"})
                for (const char *kv : {"dense", "seqlens", "cu", "paged+seqlens"})
                    for (std::int64_t queries : {1, 70}) {
                        Case c;
                        c.q_dtype = c.k_dtype = c.v_dtype = c.out_dtype = dtype;
                        c.dim_qk = c.dim_v = dim, c.causal = causal, c.kv_lengths = kv, c.max_q = queries;
                        c.max_kv = 90, c.heads_q = 4, c.heads_k = c.heads_v = 1, c.batch = 2;
                        if (c.kv_lengths == "cu") c.q_lengths = "cu";
                        ATTN_TRACE_CASE(c);
                        conformance::Instance instance(c, conformance::draw_contents(c), 0);
                        const auto plan = conformance::plan_for(handle.get(), instance);
                        ASSERT_TRUE(plan);
                        conformance::run(plan.get(), instance);
                        EXPECT_EQ(conformance::compare(instance, conformance::reference(c, instance.contents())).broken,
                                  "");
                    }
    for (const CallKind &kind : call_kinds()) {
        SCOPED_TRACE(kind.name);
        EXPECT_TRUE(kind.make(1)->plan(handle.get()));
    }
}

} // namespace
} // namespace gpu_test
