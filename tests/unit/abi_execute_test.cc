// The arguments of attn_execute(): which tensors, their dtype, rank, extents, strides, device and alignment, and the
// workspace. A refused call writes nothing.

#include "abi_fixture.h"

namespace {

using caller::Dense;
using caller::Execution;
using caller::fails;
using caller::Parts;

constexpr attn_status kInvalid = ATTN_ERROR_INVALID;

struct Refusal {
    const char *name;
    void (*change)(Execution &e);
    Parts parts;
};

class Execute : public ::testing::Test {
protected:
    void expect(Dense &desc, const std::vector<Refusal> &table, attn_status status = kInvalid)
    {
        const caller::Plan plan(handle_, desc);
        for (const Refusal &refusal : table) {
            SCOPED_TRACE(refusal.name);
            Execution e(plan.workspace());
            refusal.change(e);
            EXPECT_TRUE(e.refused(plan, status, refusal.parts));
        }
    }

    caller::Handle handle_;
    Dense desc_;
};

TEST_F(Execute, ComputesTheFixture)
{
    const caller::Plan plan(handle_, desc_);
    Execution e(plan.workspace());
    ASSERT_TRUE(e.served(plan));
    EXPECT_TRUE(caller::is_near(e.out_memory.floats(), caller::reference(e)));
}

TEST_F(Execute, Tensors)
{
    expect(
        desc_,
        {
            {"none", [](Execution &e) { e.args.clear(); }, {"slot Q index 0 is missing"}},
            {"without K",
             [](Execution &e) { e.args.erase(e.args.begin() + 1); },
             {"args", "slot K index 0 is missing"}},
            {"without OUT", [](Execution &e) { e.args.erase(e.args.begin() + 3); }, {"slot OUT index 0 is missing"}},
            {"without LSE", [](Execution &e) { e.args.pop_back(); }, {"slot LSE index 0 is missing"}},
            {"Q twice", [](Execution &e) { e.add(ATTN_SLOT_Q, e.q); }, {"args[5]", "slot Q index 0", "given twice"}},
            {"OUT twice", [](Execution &e) { e.args[1] = e.args[3]; }, {"args[3]", "slot OUT", "given twice"}},
            {"no slot", [](Execution &e) { e.args[2].slot = 0; }, {"args[2].slot = 0x0", "attn_slot"}},
            {"unknown slot", [](Execution &e) { e.add(0x7f, e.q); }, {"args[5].slot = 0x7f", "attn_slot"}},
            {"negative slot", [](Execution &e) { e.add(-3, e.q); }, {"args[5].slot = 0xfffffffd", "attn_slot"}},
            {"not bound",
             [](Execution &e) { e.add(ATTN_SLOT_SEQLENS_KV, e.q); },
             {"args[5]", "slot SEQLENS_KV index 0", "not a tensor of this plan", "attn_bind"}},
            {"derived",
             [](Execution &e) { e.add(ATTN_SLOT_GRAD | ATTN_SLOT_Q, e.q); },
             {"args[5]", "slot GRAD|Q index 0", "not a tensor of this plan"}},
            {"other index", [](Execution &e) { e.args[0].index = 1; }, {"args[0]", "slot Q index 1", "not a tensor"}},
            {"no view", [](Execution &e) { e.args[4].tensor = nullptr; }, {"args[4].tensor = NULL", "slot LSE"}},
        });
    const caller::Plan plan(handle_, desc_);
    Execution e(plan.workspace());
    EXPECT_TRUE(fails(attn_execute(plan, nullptr, 5, e.workspace.data(), e.workspace.bytes(), nullptr), kInvalid,
                      {"args = NULL", "count = 5"}));
    EXPECT_TRUE(fails(attn_execute(plan, nullptr, 0, e.workspace.data(), e.workspace.bytes(), nullptr), kInvalid,
                      {"slot Q index 0 is missing"}));
}

TEST_F(Execute, AnyOrder)
{
    const caller::Plan plan(handle_, desc_);
    Execution e(plan.workspace());
    std::swap(e.args[0], e.args[4]);
    std::swap(e.args[1], e.args[3]);
    ASSERT_TRUE(e.served(plan));
    EXPECT_TRUE(caller::is_near(e.out_memory.floats(), caller::reference(e)));
}

TEST_F(Execute, DtypeAndRank)
{
    expect(
        desc_,
        {
            {"Q float16", [](Execution &e) { e.q.dtype = ATTN_FLOAT16; }, {"Q.dtype = float16", "must be float32"}},
            {"K 0", [](Execution &e) { e.k.dtype = 0; }, {"K.dtype = dtype 0x000000", "must be float32", "planned"}},
            {"V unknown", [](Execution &e) { e.v.dtype = 0xabcdef; }, {"V.dtype = dtype 0xabcdef", "must be float32"}},
            {"OUT float64", [](Execution &e) { e.out.dtype = ATTN_FLOAT64; }, {"OUT.dtype = float64", "float32"}},
            {"LSE int32", [](Execution &e) { e.lse.dtype = ATTN_INT32; }, {"LSE.dtype = int32", "float32"}},
            {"Q of 3 axes", [](Execution &e) { e.q.ndim = 3; }, {"Q.ndim = 3", "must be 4"}},
            {"K of 0 axes", [](Execution &e) { e.k.ndim = 0; }, {"K.ndim = 0", "must be 4"}},
            {"V of 8 axes", [](Execution &e) { e.v.ndim = 8; }, {"V.ndim = 8", "must be 4"}},
            {"V of 9 axes", [](Execution &e) { e.v.ndim = 9; }, {"V.ndim = 9", "0 .. 8"}},
            {"LSE of -1 axes", [](Execution &e) { e.lse.ndim = -1; }, {"LSE.ndim = -1", "0 .. 8"}},
            {"LSE of INT32_MAX axes",
             [](Execution &e) { e.lse.ndim = INT32_MAX; },
             {"LSE.ndim = 2147483647", "0 .. 8"}},
            {"LSE of 4 axes", [](Execution &e) { e.lse.ndim = 4; }, {"LSE.ndim = 4", "must be 3"}},
        });
}

TEST_F(Execute, Extents)
{
    expect(
        desc_,
        {
            {"negative", [](Execution &e) { e.q.shape[0] = -1; }, {"Q.shape[0] = -1", ">= 0"}},
            {"INT64_MIN",
             [](Execution &e) { e.k.shape[1] = INT64_MIN; },
             {"K.shape[1] = -9223372036854775808", ">= 0"}},
            {"batch", [](Execution &e) { e.q.shape[0] = 3; }, {"Q.shape[0] = 3", "the batch is at most 2"}},
            {"Tq", [](Execution &e) { e.q.shape[1] = 5; }, {"Q.shape[1] = 5", "Tq is at most 4"}},
            {"Tk", [](Execution &e) { e.k.shape[1] = 7; }, {"K.shape[1] = 7", "Tk is at most 6"}},
            {"INT64_MAX",
             [](Execution &e) { e.k.shape[1] = INT64_MAX; },
             {"K.shape[1] = 9223372036854775807", "at most 6"}},
            {"heads", [](Execution &e) { e.q.shape[2] = 2; }, {"Q.shape[2] = 2", "must be 4"}},
            {"channels", [](Execution &e) { e.v.shape[3] = 8; }, {"V.shape[3] = 8", "must be 4"}},
            {"no heads", [](Execution &e) { e.k.shape[2] = 0; }, {"K.shape[2] = 0", "must be 2"}},
            {"batch of K",
             [](Execution &e) { e.k.shape[0] = 1; },
             {"K.shape[0] = 1", "must be 2", "the batch", "by Q"}},
            {"Tk of V", [](Execution &e) { e.v.shape[1] = 5; }, {"V.shape[1] = 5", "must be 6", "Tk is 6 by K"}},
            {"Tq of OUT", [](Execution &e) { e.out.shape[1] = 3; }, {"OUT.shape[1] = 3", "must be 4", "Tq is 4 by Q"}},
            {"Tq of LSE", [](Execution &e) { e.lse.shape[2] = 0; }, {"LSE.shape[2] = 0", "must be 4", "Tq is 4 by Q"}},
            {"heads of LSE", [](Execution &e) { e.lse.shape[1] = 2; }, {"LSE.shape[1] = 2", "must be 4"}},
        });
}

TEST_F(Execute, Memory)
{
    expect(
        desc_,
        {
            {"NULL", [](Execution &e) { e.q.data = nullptr; }, {"Q.data = NULL", "no extent is 0"}},
            {"OUT NULL", [](Execution &e) { e.out.data = nullptr; }, {"OUT.data = NULL"}},
            {"NULL and an offset", [](Execution &e) { e.k.data = nullptr, e.k.byte_offset = 64; }, {"K.data = NULL"}},
            {"misaligned",
             [](Execution &e) { e.k.data = static_cast<char *>(e.k.data) + 2; },
             {"K.data = ", "multiple of its 4-byte elements"}},
            {"misaligned offset", [](Execution &e) { e.lse.byte_offset = 1; }, {"LSE.data = ", "+ 1", "4-byte"}},
            {"stride overflows",
             [](Execution &e) { e.q.strides[0] = INT64_MAX; },
             {"Q: shape times strides leaves the address space"}},
            {"stride underflows",
             [](Execution &e) { e.v.strides[1] = INT64_MIN; },
             {"V: shape times strides leaves the address space"}},
            {"stride below 0",
             [](Execution &e) { e.v.strides[1] = -(int64_t{1} << 60); },
             {"V: shape times strides leaves the address space"}},
            {"offset beyond",
             [](Execution &e) { e.k.byte_offset = SIZE_MAX - 63; },
             {"K: shape times strides leaves the address space"}},
            {"cuda",
             [](Execution &e) { e.q.device = ATTN_DEVICE_CUDA; },
             {"Q.device = 2:0", "must be 1:0 (cpu)", "or 0"}},
            {"managed", [](Execution &e) { e.v.device = ATTN_DEVICE_CUDA_MANAGED; }, {"V.device = 13:0", "1:0"}},
            {"hip",
             [](Execution &e) { e.out.device = ATTN_DEVICE_HIP, e.out.device_id = 3; },
             {"OUT.device = 10:3", "1:0"}},
            {"other cpu",
             [](Execution &e) { e.k.device = ATTN_DEVICE_CPU, e.k.device_id = 1; },
             {"K.device = 1:1", "1:0"}},
            {"unknown device", [](Execution &e) { e.k.device = -5; }, {"K.device = -5:0", "1:0"}},
        });
}

TEST_F(Execute, MemoryThatIsServed)
{
    const caller::Plan plan(handle_, desc_);
    Execution e(plan.workspace());
    e.q.device = ATTN_DEVICE_CPU;
    e.k.device = ATTN_DEVICE_CUDA_HOST, e.k.device_id = 1;
    e.v.device = ATTN_DEVICE_HIP_HOST;
    e.out.device_id = 77; // ignored where device is 0
    e.q.data = e.q_data.data() - 16, e.q.byte_offset = 16 * sizeof(float);
    ASSERT_TRUE(e.served(plan));
    EXPECT_TRUE(caller::is_near(e.out_memory.floats(), caller::reference(e)));
}

TEST_F(Execute, EmptyViewsNeedNoMemory)
{
    const caller::Plan plan(handle_, desc_);
    for (const bool no_batch : {false, true}) {
        Execution e(plan.workspace());
        for (attn_tensor *view : {&e.q, &e.out, &e.lse}) {
            view->shape[no_batch ? 0 : view == &e.lse ? 2 : 1] = 0;
            view->data = nullptr;
        }
        if (no_batch) e.k.shape[0] = e.v.shape[0] = 0, e.k.data = e.v.data = nullptr;
        EXPECT_TRUE(e.served(plan));
        EXPECT_TRUE(e.out_memory.untouched());
    }
    Execution e(plan.workspace()); // no keys: rows that see nothing
    e.k.shape[1] = e.v.shape[1] = 0, e.k.data = e.v.data = nullptr;
    ASSERT_TRUE(e.served(plan));
    EXPECT_TRUE(caller::is_near(e.out_memory.floats(), std::vector<double>(Execution::B * 4 * 4 * 4, 0.0)));
    EXPECT_EQ(e.lse_memory.floats()[0], -INFINITY);
}

TEST_F(Execute, Promises)
{
    desc_.bind(ATTN_SLOT_Q, 0, ATTN_BIND_ALIGNED);
    desc_.bind(ATTN_SLOT_K, 0, ATTN_BIND_INNER_CONTIGUOUS);
    desc_.bind(ATTN_SLOT_OUT, 0, ATTN_BIND_ALIGNED | ATTN_BIND_INNER_CONTIGUOUS);
    const caller::Plan plan(handle_, desc_);
    Execution proper(plan.workspace());
    ASSERT_EQ(reinterpret_cast<uintptr_t>(proper.q.data) % 16, 0u);
    EXPECT_TRUE(proper.served(plan));
    expect(
        desc_,
        {
            {"address",
             [](Execution &e) { e.q.byte_offset = 8; },
             {"Q.data = ", "ATTN_BIND_ALIGNED", "multiple of 16"}},
            {"stride",
             [](Execution &e) { e.q.strides[1] = 30; },
             {"Q.strides[1] = 30", "ATTN_BIND_ALIGNED", "16 bytes"}},
            {"stride of heads", [](Execution &e) { e.q.strides[2] = 7; }, {"Q.strides[2] = 7", "ATTN_BIND_ALIGNED"}},
            {"inner", [](Execution &e) { e.k.strides[3] = 2; }, {"K.strides[3] = 2", "INNER_CONTIGUOUS", "must be 1"}},
            {"inner -1", [](Execution &e) { e.out.strides[3] = -1; }, {"OUT.strides[3] = -1", "INNER_CONTIGUOUS"}},
        });
    Execution inner(plan.workspace()); // the promise of alignment does not speak of the last axis
    inner.q.strides[3] = -1, inner.q.byte_offset = 32;
    inner.q.shape[0] = inner.k.shape[0] = inner.v.shape[0] = inner.out.shape[0] = inner.lse.shape[0] = 1;
    EXPECT_TRUE(inner.served(plan));
}

TEST_F(Execute, Stream)
{
    expect(desc_, {{"stream", [](Execution &e) { e.stream = &e; }, {"stream = ", "must be NULL on the CPU"}}});
}

TEST_F(Execute, Workspace)
{
    const caller::Plan plan(handle_, desc_);
    size_t bytes = 0, alignment = 0;
    ASSERT_EQ(attn_plan_workspace(plan, &bytes, &alignment), ATTN_OK);
    ASSERT_GT(bytes, 0u);
    EXPECT_GE(alignment, 1u);
    EXPECT_LE(alignment, 16u);
    constexpr attn_status kWorkspace = ATTN_ERROR_WORKSPACE;
    const std::string needs = std::to_string(bytes);
    Execution e(bytes + 64);
    char *memory = static_cast<char *>(e.workspace.data());
    while (reinterpret_cast<uintptr_t>(memory) % 16 != 0) ++memory;
    const auto run = [&](void *workspace, size_t size) {
        return attn_execute(plan, e.args.data(), e.args.size(), workspace, size, nullptr);
    };
    EXPECT_TRUE(fails(run(memory, bytes - 1), kWorkspace, {"bytes = ", needs.c_str()}));
    EXPECT_TRUE(fails(run(memory, 0), kWorkspace, {"bytes = 0", needs.c_str()}));
    EXPECT_TRUE(fails(run(nullptr, 0), kWorkspace, {"bytes = 0"}));
    EXPECT_TRUE(fails(run(nullptr, bytes), kWorkspace, {"workspace = NULL", needs.c_str()}));
    for (const size_t off : {1, 2, 4, 8}) {
        if (off % alignment == 0) continue;
        EXPECT_TRUE(fails(run(memory + off, bytes), kWorkspace, {"workspace = ", "multiple of"}));
    }
    EXPECT_TRUE(e.out_memory.untouched() && e.lse_memory.untouched() && e.workspace.untouched());
    for (size_t off = 0; off <= 64 && memory + off + bytes <= static_cast<char *>(e.workspace.data()) + bytes + 64;
         off += alignment) {
        ASSERT_TRUE(caller::succeeds(run(memory + off, bytes)));
        EXPECT_TRUE(caller::is_near(e.out_memory.floats(), caller::reference(e)));
        EXPECT_TRUE(e.workspace.guards_untouched());
    }
}

} // namespace
