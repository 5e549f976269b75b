// What plans want of the kernel store: packs made of it serve them, and the embedded one serves the common ones.
#include "fixture.h"

#include "dense.h"
#include "packing.h"

#include "backends/cuda/default_kernels.h"
#include "backends/cuda/implementations.h"
#include "backends/gpu/recorder.h"

#include <algorithm>

namespace attn::kernel {
namespace {

/// A dense problem that plans may be made of.
struct Dense {
    attn_problem problem = {};
    attn_dense dense = {};

    explicit Dense(attn_dtype dtype, int64_t dim, int64_t max_q)
    {
        problem.size = sizeof problem;
        problem.q_dtype = dtype;
        problem.batch = 2;
        problem.heads_q = 8;
        problem.heads_k = 2;
        problem.dim_qk = dim;
        problem.max_q = max_q;
        problem.max_kv = 4096;
        dense.size = sizeof dense;
        dense.problem = &problem;
        dense.causal = ATTN_BOTTOM_RIGHT;
    }
    Dense(const Dense &) = delete;
    Dense &operator=(const Dense &) = delete;
};

gpu::Facts facts_of(const std::string &target)
{
    gpu::Facts facts;
    std::string why;
    EXPECT_TRUE(gpu::typical_facts(target, &facts, &why)) << why;
    return facts;
}

/// Plans for a device; the message if that fails.
std::string plan(const attn_dense &dense, gpu::Device *device)
{
    DenseProblem problem;
    if (read_dense(&dense, &problem) != ATTN_OK) return last_error();
    std::unique_ptr<Executor> executor;
    const attn_status status =
        gpu::choose(cuda::implementations(), gpu::Selection::standard, "cuda", problem, *device, &executor);
    return status == ATTN_OK ? "" : last_error();
}

class PackingTest : public KernelTest {
protected:
    /// A handle that packs for a target, with the fake compiler.
    attn_status create(const char *target, attn_handle *out)
    {
        packing_ = {};
        packing_.ext.size = sizeof packing_;
        packing_.ext.type = kPackingType;
        packing_.target = target;
        packing_.ctx = this;
        packing_.keep = [](void *self, const PackedKernel *kernel) {
            PackImage image;
            std::copy(std::begin(kernel->key), std::end(kernel->key), image.entry.key.begin());
            image.entry.target = kernel->target;
            image.entry.label = kernel->label;
            image.entry.compiler = kernel->compiler;
            image.entry.is_ptx = kernel->is_ptx != 0;
            image.image.assign(static_cast<const char *>(kernel->image), kernel->bytes);
            static_cast<PackingTest *>(self)->images_.push_back(image);
        };
        attn_options options = {};
        options.size = sizeof options;
        options.next = &packing_.ext;
        options.device = ATTN_DEVICE_CUDA;
        options.flags = ATTN_HANDLE_NO_DISK_CACHE;
        options.compiler_path = ATTN_FAKE_NVRTC;
        return attn_create(&options, out);
    }

    Packing packing_;
    std::vector<PackImage> images_;
};

TEST_F(PackingTest, ThePackServesThePlanWithoutACompiler)
{
    const Dense wanted(ATTN_BFLOAT16, 96, 512);
    for (const char *target : {"sm_80", "sm_90a", "sm_120a", "compute_80", "compute_90"}) {
        images_.clear();
        attn_handle handle = nullptr;
        ASSERT_EQ(create(target, &handle), ATTN_OK) << attn_last_error();
        for (int twice = 0; twice < 2; ++twice) {
            attn_plan made = nullptr;
            ASSERT_EQ(attn_plan_dense(handle, &wanted.dense, &made), ATTN_OK) << attn_last_error();
            EXPECT_NE(attn_execute(made, nullptr, 0, nullptr, 0, nullptr), ATTN_OK);
            attn_plan_destroy(made);
        }
        attn_destroy(handle);
        ASSERT_GE(images_.size(), 2u) << "forward and combine at least";
        for (const PackImage &image : images_) EXPECT_EQ(image.entry.target, target);
        EXPECT_EQ(static_cast<size_t>(fake().compiles), images_.size()) << "each once";
        fake().compiles = 0;

        // What the same plan asks of a real device's store is in the pack.
        StoreOptions options;
        options.compile = false;
        options.disk_cache = false;
        const std::string pack = write_pack(images_);
        std::unique_ptr<Store> store;
        ASSERT_EQ(open_store(options, embedded_sources(), pack, &store), ATTN_OK) << last_error();
        const gpu::Facts facts = facts_of(target);
        gpu::Recorder device(facts, [&](const Request &request) {
            Image image;
            return store->find(request, facts.arch, false, &image);
        });
        EXPECT_EQ(plan(wanted.dense, &device), "") << target;
    }
}

TEST_F(PackingTest, Refusals)
{
    attn_handle handle = nullptr;
    EXPECT_EQ(create("sm_75", &handle), ATTN_ERROR_INVALID);
    EXPECT_EQ(std::string(attn_last_error()).rfind("sm_75 is no known target; those are", 0), 0u) << attn_last_error();
    EXPECT_EQ(create("hopper", &handle), ATTN_ERROR_INVALID);
    EXPECT_EQ(create(nullptr, &handle), ATTN_ERROR_INVALID);
    ASSERT_EQ(create("sm_103a", &handle), ATTN_OK) << attn_last_error();
    const Dense wanted(ATTN_FLOAT16, 64, 512);
    attn_plan made = nullptr;
    EXPECT_EQ(attn_plan_dense(handle, &wanted.dense, &made), ATTN_ERROR_COMPILE);
    EXPECT_NE(std::string(attn_last_error()).find("does not know sm_103a"), std::string::npos) << attn_last_error();
    attn_destroy(handle);
}

/// Has the default kernels of a target and cannot get others.
class PackedDevice final : public gpu::Device {
public:
    explicit PackedDevice(const cuda::DefaultTarget &target)
        : recorder_(facts_of(target.name), [](const Request &) { return ATTN_OK; }),
          kernels_(cuda::default_kernels(target))
    {
    }
    const gpu::Facts &facts() const noexcept override { return recorder_.facts(); }
    attn_status load(const Request &request, bool compile, uint32_t threads, uint32_t shared_bytes,
                     gpu::Kernel *out) override
    {
        if (!has(request))
            return fail(ATTN_ERROR_COMPILE, "%s is not in the embedded pack",
                        request.defines.empty() ? request.source.c_str() : request.defines[0].c_str());
        return recorder_.load(request, compile, threads, shared_bytes, out);
    }
    bool has(const Request &request) override
    {
        return std::find(kernels_.begin(), kernels_.end(), request) != kernels_.end();
    }
    bool waits_for_compiler() const noexcept override { return false; }
    attn_status upload(const void *data, size_t bytes, std::unique_ptr<gpu::Buffer> *out) override
    {
        return recorder_.upload(data, bytes, out);
    }
    attn_status enter(void *stream) const noexcept override { return recorder_.enter(stream); }
    void leave() const noexcept override {}
    attn_status launch(const gpu::Kernel &kernel, const gpu::Grid &grid, void *stream,
                       void **parameters) const noexcept override
    {
        return recorder_.launch(kernel, grid, stream, parameters);
    }

private:
    gpu::Recorder recorder_;
    std::vector<Request> kernels_;
};

TEST(DefaultKernelsTest, CommonPlansNeedNoCompiler)
{
    for (const cuda::DefaultTarget &target : cuda::kDefaultTargets) {
        EXPECT_LE(cuda::default_kernels(target).size(), cuda::kMostDefaultKernels) << target.name;
        PackedDevice device(target);
        for (const attn_dtype dtype : {ATTN_FLOAT32, ATTN_FLOAT16, ATTN_BFLOAT16})
            for (const int64_t dim : {32, 64, 80, 96, 128, 192, 256, 512})
                for (const int64_t max_q : {1, 4, 512})
                    for (const double softcap : {0.0, 30.0}) {
                        Dense wanted(dtype, dim, max_q);
                        wanted.dense.softcap = softcap;
                        if (dim == 512) wanted.problem.dim_qk = 3; // channels of V alone take the largest shape
                        EXPECT_EQ(plan(wanted.dense, &device), "")
                            << target.name << ", dtype " << dtype << ", dim " << dim << ", max_q " << max_q;
                    }
    }
}

} // namespace
} // namespace attn::kernel
