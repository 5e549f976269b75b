// Checked mode: lengths, bounds and pages that lie on the device are validated there, and STATUS says what is wrong.
#include "resident.h"

#include "tests/conformance/append_call.h"
#include "tests/conformance/property.h"
#include "tests/conformance/session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>

namespace gpu_test {
namespace {

using conformance::Case;
using Status = std::array<std::int32_t, 4>; // status, slot, position, value

conformance::Tensor status_tensor()
{
    return conformance::Tensor(ATTN_INT32, {4});
}
Status read_status(const conformance::Tensor &tensor)
{
    Status s{};
    for (std::int64_t n = 0; n < 4; ++n) s[std::size_t(n)] = static_cast<std::int32_t>(tensor.get({n}));
    return s;
}

// Executes with STATUS and gives what it holds.
Status checked(attn_plan plan, std::vector<attn_arg> args)
{
    conformance::Tensor tensor = status_tensor();
    const attn_tensor view = tensor.view();
    args.push_back({ATTN_SLOT_STATUS, 0, &view});
    const ContextScope scope;
    const OwnStream stream;
    Resident resident(plan, args);
    EXPECT_EQ(resident.execute(plan, stream.get()), ATTN_OK) << attn_last_error();
    stream.synchronize();
    resident.read(args);
    return read_status(tensor);
}

// A number to put into an integer tensor of one axis or two, at a position counted row by row.
struct Fault {
    const char *name;
    const char *q_lengths, *kv_lengths;
    attn_slot slot;
    std::int64_t position, value;
};

void put(const std::vector<attn_arg> &args, const Fault &fault)
{
    const auto arg = std::find_if(args.begin(), args.end(), [&](const attn_arg &a) { return a.slot == fault.slot; });
    ASSERT_NE(arg, args.end());
    const attn_tensor &t = *arg->tensor;
    ASSERT_EQ(t.dtype, attn_dtype{ATTN_INT32});
    const std::int64_t columns = t.ndim == 2 ? t.shape[1] : 1;
    const std::int64_t offset = t.ndim == 2
                                    ? fault.position / columns * t.strides[0] + fault.position % columns * t.strides[1]
                                    : fault.position * t.strides[0];
    auto *data = reinterpret_cast<std::int32_t *>(static_cast<char *>(t.data) + t.byte_offset);
    data[offset] = static_cast<std::int32_t>(fault.value);
}

class Checked {
public:
    explicit Checked(const Case &c) : instance(c, conformance::draw_contents(c), 0), descriptor_(c, instance.bounds())
    {
        descriptor_.problem.flags |= ATTN_CHECKED;
        std::string why;
        plan = conformance::make_plan(conformance::backends().front()->handle(1), descriptor_, why);
        EXPECT_TRUE(plan) << why;
        instance.poison_outputs();
    }
    conformance::Instance instance;
    conformance::PlanPointer plan;

private:
    conformance::Descriptor descriptor_;
};

Case lengths_of(const char *q, const char *kv)
{
    Case c;
    c.seed = conformance::session().seed;
    c.q_dtype = c.k_dtype = c.v_dtype = c.out_dtype = "bf16";
    c.batch = 3, c.max_q = 20, c.max_kv = 50, c.q_lengths = q, c.kv_lengths = kv;
    return c;
}

constexpr Fault kFaults[] = {
    {"negative length", "seqlens", "dense", ATTN_SLOT_SEQLENS_Q, 1, -1},
    {"more queries than rows", "seqlens", "dense", ATTN_SLOT_SEQLENS_Q, 2, 21},
    {"negative keys", "dense", "seqlens", ATTN_SLOT_SEQLENS_KV, 0, -7},
    {"more keys than rows", "dense", "seqlens", ATTN_SLOT_SEQLENS_KV, 2, 51},
    {"more keys than pages", "dense", "paged+seqlens", ATTN_SLOT_SEQLENS_KV, 1, 10000},
    {"first bound", "cu", "dense", ATTN_SLOT_CU_SEQLENS_Q, 0, -1},
    {"last bound", "cu", "dense", ATTN_SLOT_CU_SEQLENS_Q, 3, 100000},
    {"bounds of keys", "dense", "cu", ATTN_SLOT_CU_SEQLENS_KV, 3, 100000},
    {"page", "dense", "paged+seqlens", ATTN_SLOT_BLOCK_TABLE, 0, 100000},
    {"negative page", "dense", "paged+seqlens", ATTN_SLOT_BLOCK_TABLE, 0, -1},
};

TEST(CheckedMode, NamesWhatIsWrong)
{
    for (const Fault &fault : kFaults) {
        SCOPED_TRACE(fault.name);
        Checked call(lengths_of(fault.q_lengths, fault.kv_lengths));
        ASSERT_TRUE(call.plan);
        const auto args = call.instance.args();
        if (fault.slot == ATTN_SLOT_BLOCK_TABLE) // the first page is in use
            put(args, {"", "", "", ATTN_SLOT_SEQLENS_KV, 0, 1});
        put(args, fault);
        const Status status = checked(call.plan.get(), args);
        EXPECT_EQ(status[0], ATTN_ERROR_DATA);
        EXPECT_EQ(status[1], fault.slot);
        EXPECT_EQ(status[2], fault.position);
        EXPECT_EQ(status[3], fault.value);
        // Which rows of OUT there are, wrong lengths of queries do not say.
        if (fault.slot != ATTN_SLOT_SEQLENS_Q && fault.slot != ATTN_SLOT_CU_SEQLENS_Q) {
            EXPECT_FALSE(call.instance.wrote_elsewhere());
        }
    }
}

TEST(CheckedMode, FindsNothingWrongAndComputes)
{
    for (const char *q : {"dense", "cu", "seqlens", "cu+seqlens"})
        for (const char *kv : {"dense", "cu", "seqlens", "paged", "paged+seqlens", "paged+ptr+seqlens"}) {
            const Case c = lengths_of(q, kv);
            ATTN_TRACE_CASE(c);
            Checked call(c);
            ASSERT_TRUE(call.plan);
            const Status status = checked(call.plan.get(), call.instance.args());
            EXPECT_EQ(status, (Status{ATTN_OK, 0, 0, 0}));
            EXPECT_EQ(conformance::compare(call.instance, conformance::reference(c, call.instance.contents())).broken,
                      "");
        }
}

TEST(CheckedMode, OfAppends)
{
    const struct {
        const char *name;
        bool mapped;
        attn_slot slot;
        std::int64_t position, value;
    } faults[] = {{"mapping", true, ATTN_SLOT_SLOT_MAPPING, 1, 100000},
                  {"negative mapping", true, ATTN_SLOT_SLOT_MAPPING, 2, -2},
                  {"short", false, ATTN_SLOT_SEQLENS_KV, 1, 1},
                  {"long", false, ATTN_SLOT_SEQLENS_KV, 0, 100000},
                  {"page", false, ATTN_SLOT_BLOCK_TABLE, 0, 100000}};
    for (const auto &fault : faults) {
        SCOPED_TRACE(fault.name);
        conformance::AppendSpec spec = conformance::small_append_spec();
        spec.mapped = fault.mapped, spec.page_size = 2, spec.seqlens_kv = !fault.mapped;
        conformance::AppendCall call(spec);
        call.problem.flags |= ATTN_CHECKED;
        conformance::PlanPointer plan;
        ASSERT_EQ(call.plan(conformance::backends().front()->handle(1), plan), ATTN_OK) << attn_last_error();
        conformance::Tensor &tensor = call.tensors.at(fault.slot);
        const std::int64_t columns = tensor.shape().size() == 2 ? tensor.shape()[1] : 1;
        if (fault.slot == ATTN_SLOT_BLOCK_TABLE) // whichever page is written to
            for (std::int64_t b = 0; b < tensor.shape()[0]; ++b)
                for (std::int64_t n = 0; n < columns; ++n) tensor.set({b, n}, double(fault.value));
        else
            tensor.set(columns == 1 ? conformance::Index{fault.position}
                                    : conformance::Index{fault.position / columns, fault.position % columns},
                       double(fault.value));
        std::vector<attn_arg> args;
        std::vector<attn_tensor> views;
        views.reserve(call.tensors.size());
        for (auto &[slot, t] : call.tensors) {
            views.push_back(t.view());
            args.push_back({slot, 0, &views.back()});
        }
        const Status status = checked(plan.get(), args);
        EXPECT_EQ(status[0], ATTN_ERROR_DATA);
        EXPECT_EQ(status[1], fault.slot);
        if (fault.slot != ATTN_SLOT_BLOCK_TABLE) {
            EXPECT_EQ(status[2], fault.position);
        }
        EXPECT_EQ(status[3], fault.value);
        for (attn_slot slot : {ATTN_SLOT_K_CACHE, ATTN_SLOT_V_CACHE})
            EXPECT_FALSE(call.tensors.at(slot).wrote_elsewhere() && status[0] == ATTN_OK);
    }
}

} // namespace
} // namespace gpu_test
