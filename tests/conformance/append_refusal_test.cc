// Append plans and calls that are refused: the status, the message, and that nothing was written before.
#include "append_call.h"
#include "launch.h"
#include "property.h"

#include <cmath>
#include <string>
#include <vector>

namespace conformance {
namespace {

using Call = AppendCall;
using Spec = AppendSpec;

struct Fault {
    const char *name;
    void (*change)(Spec &);
    void (*spoil)(Call &);
    attn_status status;
    std::vector<const char *> parts; // of the message
};

void expect_message(const Fault &fault)
{
    for (const char *part : fault.parts)
        EXPECT_NE(std::string(attn_last_error()).find(part), std::string::npos)
            << part << " is not in: " << attn_last_error();
}

TEST(Append, BadInputsAreFoundBeforeAnythingIsWritten)
{
    const auto lengths = [](Spec &s) { s.seqlens_kv = true; };
    const auto paged = [](Spec &s) { s.seqlens_kv = true, s.page_size = 2; };
    const auto flat = [](Spec &s) { s.seqlens_kv = s.flat_table = true, s.page_size = 2; };
    const auto mapped = [](Spec &s) { s.mapped = true; };
    const auto mapped_pages = [](Spec &s) { s.mapped = true, s.page_size = 2; };
    const auto packed = [](Spec &s) { s.packed = true; };
    const auto table = [](Spec &s) { s.rope = s.table = true; };
    const auto positions = [](Spec &s) { s.rope = s.table = s.positions = true; };
    const auto ring = [](Spec &s) { s.ring = 4, s.seqlens_kv = true; };
    constexpr attn_status data = ATTN_ERROR_DATA;
    const Fault faults[] = {
        {"short",
         lengths,
         [](Call &c) { c.tensors.at(ATTN_SLOT_SEQLENS_KV).set({1}, 2); },
         data,
         {"SEQLENS_KV[1] = 2", "must be 3 .. "}},
        {"negative",
         lengths,
         [](Call &c) { c.tensors.at(ATTN_SLOT_SEQLENS_KV).set({0}, -1); },
         data,
         {"SEQLENS_KV[0] = -1"}},
        {"wild",
         [](Spec &s) { s.seqlens_kv = true, s.index = ATTN_INT64; },
         [](Call &c) { c.tensors.at(ATTN_SLOT_SEQLENS_KV).set({0}, -0x1p63); },
         data,
         {"SEQLENS_KV[0] = -9223372036854775808"}},
        {"wild mapping",
         mapped_pages,
         [](Call &c) {
             c.tensors.at(ATTN_SLOT_SLOT_MAPPING).set({0, 1}, -0x1p63);
         },
         data,
         {"SLOT_MAPPING[0][1] = -9223372036854775808"}},
        {"few pages for the ring",
         [](Spec &s) { s.ring = 4, s.seqlens_kv = true, s.page_size = 2; },
         [](Call &c) {
             Tensor &table = c.tensors[ATTN_SLOT_BLOCK_TABLE] = Tensor(ATTN_INT32, {2, 1});
             table.set({0, 0}, 0), table.set({1, 0}, 1);
         },
         data,
         {"BLOCK_TABLE", "pages for 2 rows", "of the ring"}},
        {"long",
         lengths,
         [](Call &c) { c.tensors.at(ATTN_SLOT_SEQLENS_KV).set({1}, 1000); },
         data,
         {"SEQLENS_KV[1] = 1000"}},
        {"more pages than listed",
         paged,
         [](Call &c) { c.tensors.at(ATTN_SLOT_SEQLENS_KV).set({1}, 1000); },
         data,
         {"SEQLENS_KV[1] = 1000"}},
        {"page",
         paged,
         [](Call &c) {
             Tensor &t = c.tensors.at(ATTN_SLOT_BLOCK_TABLE);
             const double pool = double(c.tensors.at(ATTN_SLOT_K_CACHE).shape()[0]);
             for (std::int64_t i = 0; i < t.shape()[1]; ++i) t.set({1, i}, pool);
         },
         data,
         {"BLOCK_TABLE", "sequence 1", "must be 0 .. "}},
        {"negative page",
         flat,
         [](Call &c) {
             Tensor &t = c.tensors.at(ATTN_SLOT_BLOCK_TABLE);
             for (std::int64_t i = 0; i < t.shape()[0]; ++i) t.set({i}, -2);
         },
         data,
         {"BLOCK_TABLE", "sequence 0", "= -2"}},
        {"table range",
         flat,
         [](Call &c) { c.tensors.at(ATTN_SLOT_BLOCK_TABLE_PTR).set({2}, 999); },
         data,
         {"BLOCK_TABLE_PTR[2] = 999"}},
        {"table order",
         flat,
         [](Call &c) { c.tensors.at(ATTN_SLOT_BLOCK_TABLE_PTR).set({0}, 999); },
         data,
         {"BLOCK_TABLE_PTR[0]"}},
        {"mapping",
         mapped,
         [](Call &c) {
             c.tensors.at(ATTN_SLOT_SLOT_MAPPING).set({1, 2}, double(c.tensors.at(ATTN_SLOT_K_CACHE).shape()[1]));
         },
         data,
         {"SLOT_MAPPING[1][2] = ", "must be -1 .. "}},
        {"mapping below",
         mapped,
         [](Call &c) {
             c.tensors.at(ATTN_SLOT_SLOT_MAPPING).set({0, 1}, -2);
         },
         data,
         {"SLOT_MAPPING[0][1] = -2"}},
        {"mapping to pages",
         mapped_pages,
         [](Call &c) {
             c.tensors.at(ATTN_SLOT_SLOT_MAPPING).set({1, 2}, double(2 * c.tensors.at(ATTN_SLOT_K_CACHE).shape()[0]));
         },
         data,
         {"SLOT_MAPPING[1][2] = ", "pages of 2 rows"}},
        {"packed mapping",
         [](Spec &s) { s.mapped = s.packed = true, s.seed = 9; },
         [](Call &c) {
             for (std::int64_t i = 0; i < c.tensors.at(ATTN_SLOT_SLOT_MAPPING).shape()[0]; ++i)
                 c.tensors.at(ATTN_SLOT_SLOT_MAPPING).set({i}, 77);
         },
         data,
         {"SLOT_MAPPING[", "] = 77"}},
        {"boundaries",
         packed,
         [](Call &c) { c.tensors.at(ATTN_SLOT_CU_SEQLENS_Q).set({2}, 50); },
         data,
         {"CU_SEQLENS_Q[2] = 50"}},
        {"first boundary",
         packed,
         [](Call &c) { c.tensors.at(ATTN_SLOT_CU_SEQLENS_Q).set({0}, -1); },
         data,
         {"CU_SEQLENS_Q[0] = -1"}},
        {"used",
         [](Spec &s) { s.seqlens_q = true; },
         [](Call &c) { c.tensors.at(ATTN_SLOT_SEQLENS_Q).set({1}, 4); },
         data,
         {"SEQLENS_Q[1] = 4", "0 .. 3"}},
        {"position",
         positions,
         [](Call &c) {
             c.tensors.at(ATTN_SLOT_POSITIONS_Q).set({1, 0}, double(c.tensors.at(ATTN_SLOT_ROPE_COS).shape()[0]));
         },
         data,
         {"POSITIONS_Q[1][0] = ", "ROPE_COS"}},
        {"negative position",
         positions,
         [](Call &c) {
             c.tensors.at(ATTN_SLOT_POSITIONS_Q).set({0, 2}, -1);
         },
         data,
         {"POSITIONS_Q[0][2] = -1"}},
        {"row beyond the table",
         table,
         [](Call &c) {
             c.tensors[ATTN_SLOT_ROPE_COS] = Tensor(ATTN_FLOAT32, {2, 2});
             c.tensors[ATTN_SLOT_ROPE_SIN] = Tensor(ATTN_FLOAT32, {2, 2});
         },
         data,
         {"ROPE_COS", "row 2 of sequence 0"}},
        {"small ring",
         ring,
         [](Call &c) {
             c.tensors[ATTN_SLOT_K_CACHE] = Tensor(ATTN_FLOAT32, {2, 3, 1, 4});
             c.tensors[ATTN_SLOT_V_CACHE] = Tensor(ATTN_FLOAT32, {2, 3, 1, 4});
         },
         ATTN_ERROR_INVALID,
         {"K_CACHE.shape[1] = 3", "ring_rows = 4"}},
        {"too many rows",
         [](Spec &) {},
         [](Call &c) {
             c.tensors[ATTN_SLOT_K_CACHE] = Tensor(ATTN_FLOAT32, {2, 2, 1, 4});
             c.tensors[ATTN_SLOT_V_CACHE] = Tensor(ATTN_FLOAT32, {2, 2, 1, 4});
         },
         data,
         {"sequence 0 has 3 new rows", "2 rows"}},
        {"tables differ",
         table,
         [](Call &c) {
             c.tensors[ATTN_SLOT_ROPE_SIN] = Tensor(ATTN_FLOAT32, {9, 2});
         },
         ATTN_ERROR_INVALID,
         {"ROPE_SIN.shape[0] = 9", "positions"}},
        {"caches differ",
         [](Spec &) {},
         [](Call &c) {
             c.tensors[ATTN_SLOT_V_CACHE] = Tensor(ATTN_FLOAT32, {2, 2, 1, 4});
         },
         ATTN_ERROR_INVALID,
         {"V_CACHE.shape[1] = 2"}},
        {"dtype",
         [](Spec &) {},
         [](Call &c) {
             c.tensors[ATTN_SLOT_K] = Tensor(ATTN_FLOAT16, {2, 3, 1, 4});
         },
         ATTN_ERROR_INVALID,
         {"K.dtype = float16", "float32"}},
    };
    for (const Fault &fault : faults) {
        SCOPED_TRACE(fault.name);
        for_each_backend([&](const Backend &backend) {
            if (backend.is_gpu() && fault.status == data) return; // the host does not read what lies on the device
            Spec spec = small_append_spec();
            fault.change(spec);
            Call call(spec);
            fault.spoil(call);
            PlanPointer plan;
            ASSERT_EQ(call.plan(backend.handle(1), plan), ATTN_OK) << attn_last_error();
            EXPECT_EQ(call.execute(plan.get()), fault.status) << attn_last_error();
            expect_message(fault);
            for (attn_slot slot : {ATTN_SLOT_K_CACHE, ATTN_SLOT_V_CACHE})
                EXPECT_FALSE(call.tensors.at(slot).wrote_elsewhere());
        });
    }
}

TEST(Append, CachesMayNotOverlapTheNewRows)
{
    Call call(small_append_spec());
    PlanPointer plan;
    ASSERT_EQ(call.plan(backends()[0]->handle(1), plan), ATTN_OK) << attn_last_error();
    attn_tensor k_cache = call.tensors.at(ATTN_SLOT_K_CACHE).view(),
                v_cache = call.tensors.at(ATTN_SLOT_V_CACHE).view();
    attn_tensor k = k_cache, v = call.tensors.at(ATTN_SLOT_V).view();
    k.shape[1] = 3, k.strides[0] = 0;
    const std::vector<attn_arg> args{
        {ATTN_SLOT_K, 0, &k}, {ATTN_SLOT_V, 0, &v}, {ATTN_SLOT_K_CACHE, 0, &k_cache}, {ATTN_SLOT_V_CACHE, 0, &v_cache}};
    EXPECT_EQ(launch(plan.get(), args), ATTN_ERROR_INVALID);
    EXPECT_NE(std::string(attn_last_error()).find("overlap"), std::string::npos) << attn_last_error();
}

void add_bind(Call &c, attn_slot slot, attn_dtype dtype = 0, std::uint32_t flags = 0)
{
    attn_bind bind{};
    bind.slot = slot, bind.dtype = dtype, bind.flags = flags;
    c.binds.push_back(bind);
    c.problem.binds = c.binds.data(), c.problem.bind_count = c.binds.size();
}

TEST(Append, DescriptorsThatBreakARuleAreNamed)
{
    const auto plain = [](Spec &) {};
    const auto rope = [](Spec &s) { s.rope = true; };
    constexpr attn_status invalid = ATTN_ERROR_INVALID, unsupported = ATTN_ERROR_UNSUPPORTED;
    const Fault faults[] = {
        {"odd", rope, [](Call &c) { c.rope.dim = 3; }, invalid, {"attn_rope.dim = 3", "even"}},
        {"wide", rope, [](Call &c) { c.rope.dim = 4, c.rope.first = 1; }, invalid, {"attn_rope.first + dim = 1 + 4"}},
        {"first", rope, [](Call &c) { c.rope.first = 4; }, invalid, {"attn_rope.first = 4"}},
        {"negative first", rope, [](Call &c) { c.rope.first = -1; }, invalid, {"attn_rope.first = -1"}},
        {"base", rope, [](Call &c) { c.rope.base = -1; }, invalid, {"attn_rope.base = -1"}},
        {"infinite base", rope, [](Call &c) { c.rope.base = INFINITY; }, invalid, {"attn_rope.base = inf"}},
        {"base of a table",
         rope,
         [](Call &c) { c.rope.base = 7, c.rope.source = ATTN_ROPE_TABLE; },
         invalid,
         {"attn_rope.base = 7", "ATTN_ROPE_BASE"}},
        {"rope flags", rope, [](Call &c) { c.rope.flags = 8; }, invalid, {"attn_rope.flags = 0x8"}},
        {"layout", rope, [](Call &c) { c.rope.layout = 2; }, invalid, {"attn_rope.layout = 2"}},
        {"source", rope, [](Call &c) { c.rope.source = -1; }, invalid, {"attn_rope.source = -1"}},
        {"nothing to rotate",
         plain,
         [](Call &c) {
             static attn_rope rotation;
             rotation.size = sizeof rotation;
             c.append.rope = &rotation;
             add_bind(c, ATTN_SLOT_K, 0, ATTN_BIND_ABSENT);
         },
         invalid,
         {"attn_append.rope", "NULL"}},
        {"sinks",
         plain,
         [](Call &c) { c.append.sink_tokens = 4; },
         invalid,
         {"attn_append.sink_tokens = 4", "ring_rows"}},
        {"sinks fill the ring",
         plain,
         [](Call &c) { c.append.sink_tokens = c.append.ring_rows = 2; },
         invalid,
         {"attn_append.sink_tokens = 2", "ring_rows = 2"}},
        {"ring",
         plain,
         [](Call &c) { c.append.ring_rows = 1000; },
         invalid,
         {"attn_append.ring_rows = 1000", "max_kv"}},
        {"flags", plain, [](Call &c) { c.append.flags = 1; }, invalid, {"attn_append.flags = 0x1"}},
        {"scale", plain, [](Call &c) { c.problem.scale = 2; }, invalid, {"attn_problem.scale = 2"}},
        {"precision",
         plain,
         [](Call &c) { c.problem.precision = ATTN_PRECISION_TF32; },
         invalid,
         {"attn_problem.precision = 1"}},
        {"total_q",
         plain,
         [](Call &c) { c.problem.total_q = 6; },
         invalid,
         {"attn_problem.total_q = 6", "CU_SEQLENS_Q"}},
        {"total_kv", plain, [](Call &c) { c.problem.total_kv = 6; }, invalid, {"attn_problem.total_kv = 6"}},
        {"out_dtype",
         plain,
         [](Call &c) { c.problem.out_dtype = ATTN_FLOAT16; },
         invalid,
         {"attn_problem.out_dtype = float16"}},
        {"Q alone", plain, [](Call &c) { add_bind(c, ATTN_SLOT_Q); }, invalid, {"slot Q is bound", "OUT"}},
        {"OUT alone", plain, [](Call &c) { add_bind(c, ATTN_SLOT_OUT); }, invalid, {"slot OUT is bound", "Q"}},
        {"nothing",
         plain,
         [](Call &c) { add_bind(c, ATTN_SLOT_K, 0, ATTN_BIND_ABSENT), add_bind(c, ATTN_SLOT_V, 0, ATTN_BIND_ABSENT); },
         invalid,
         {"ABSENT", "nothing to do"}},
        {"half absent",
         plain,
         [](Call &c) { add_bind(c, ATTN_SLOT_K, 0, ATTN_BIND_ABSENT), add_bind(c, ATTN_SLOT_K_CACHE); },
         invalid,
         {"slot K_CACHE is bound", "ABSENT"}},
        {"absent with dtype",
         plain,
         [](Call &c) { add_bind(c, ATTN_SLOT_K, ATTN_FLOAT16, ATTN_BIND_ABSENT); },
         invalid,
         {"slot K", "ABSENT"}},
        {"absent elsewhere",
         plain,
         [](Call &c) { add_bind(c, ATTN_SLOT_SEQLENS_Q, 0, ATTN_BIND_ABSENT); },
         invalid,
         {"SEQLENS_Q", "ABSENT"}},
        {"positions", plain, [](Call &c) { add_bind(c, ATTN_SLOT_POSITIONS_Q); }, invalid, {"POSITIONS_Q", "rope"}},
        {"positions of keys",
         rope,
         [](Call &c) { add_bind(c, ATTN_SLOT_POSITIONS_KV); },
         invalid,
         {"POSITIONS_KV", "POSITIONS_Q"}},
        {"tables", rope, [](Call &c) { add_bind(c, ATTN_SLOT_ROPE_COS); }, invalid, {"ROPE_COS", "ATTN_ROPE_TABLE"}},
        {"block table",
         plain,
         [](Call &c) { add_bind(c, ATTN_SLOT_BLOCK_TABLE); },
         invalid,
         {"BLOCK_TABLE", "page_size"}},
        {"block table and mapping",
         [](Spec &s) { s.mapped = true, s.page_size = 2; },
         [](Call &c) { add_bind(c, ATTN_SLOT_BLOCK_TABLE_PTR); },
         invalid,
         {"BLOCK_TABLE_PTR", "SLOT_MAPPING"}},
        {"lengths and mapping",
         [](Spec &s) { s.mapped = true; },
         [](Call &c) { add_bind(c, ATTN_SLOT_SEQLENS_KV); },
         invalid,
         {"SEQLENS_KV"}},
        {"ring and mapping",
         [](Spec &s) { s.mapped = true; },
         [](Call &c) { c.append.ring_rows = 2; },
         invalid,
         {"attn_append.ring_rows = 2", "SLOT_MAPPING"}},
        {"rope and mapping",
         [](Spec &s) { s.mapped = s.rope = true; },
         [](Call &) {},
         invalid,
         {"attn_append.rope", "POSITIONS_Q"}},
        {"narrow mapping",
         [](Spec &s) { s.mapped = true; },
         [](Call &c) { c.binds.back().dtype = ATTN_INT32; },
         invalid,
         {"int32", "SLOT_MAPPING", "int64"}},
        {"packed keys", plain, [](Call &c) { add_bind(c, ATTN_SLOT_CU_SEQLENS_KV); }, invalid, {"CU_SEQLENS_KV"}},
        {"dense slots", plain, [](Call &c) { add_bind(c, ATTN_SLOT_LSE); }, invalid, {"LSE", "append"}},
        {"pages of nothing",
         plain,
         [](Call &c) {
             add_bind(c, ATTN_SLOT_K, 0, ATTN_BIND_ABSENT), add_bind(c, ATTN_SLOT_V, 0, ATTN_BIND_ABSENT);
             add_bind(c, ATTN_SLOT_Q), add_bind(c, ATTN_SLOT_OUT), c.problem.page_size = 4;
         },
         invalid,
         {"attn_problem.page_size = 4"}},
        {"aliased V",
         plain,
         [](Call &c) { c.problem.flags = ATTN_V_ALIASES_K, add_bind(c, ATTN_SLOT_V_CACHE); },
         invalid,
         {"V_CACHE", "ATTN_V_ALIASES_K"}},
        {"cache dtype",
         plain,
         [](Call &c) { add_bind(c, ATTN_SLOT_K_CACHE, ATTN_FLOAT16); },
         invalid,
         {"float16", "K_CACHE", "float32"}},
        {"quantised cache",
         plain,
         [](Call &c) { c.problem.k_dtype = ATTN_FLOAT8_E4M3FN; },
         unsupported,
         {"attn_append", "K", "float8_e4m3fn"}},
        {"quantised rows",
         plain,
         [](Call &c) { add_bind(c, ATTN_SLOT_V, ATTN_INT8); },
         unsupported,
         {"slot V", "int8"}},
        {"scales",
         plain,
         [](Call &c) { add_bind(c, ATTN_SLOT_SCALE | ATTN_SLOT_K_CACHE); },
         unsupported,
         {"SCALE|K_CACHE"}},
        {"backward",
         plain,
         [](Call &c) { c.problem.direction = ATTN_BACKWARD; },
         unsupported,
         {"attn_problem.direction = backward"}},
    };
    for (const Fault &fault : faults) {
        SCOPED_TRACE(fault.name);
        for_each_backend([&](const Backend &backend) {
            Spec spec = small_append_spec();
            fault.change(spec);
            Call call(spec);
            fault.spoil(call);
            PlanPointer plan;
            EXPECT_EQ(call.plan(backend.handle(1), plan), fault.status) << attn_last_error();
            expect_message(fault);
            EXPECT_EQ(attn_plan_supports(backend.handle(1), ATTN_KIND_APPEND, &call.append), fault.status);
        });
    }
}

} // namespace
} // namespace conformance
