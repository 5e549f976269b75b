// Append plans against loops in fp64: where every new row goes, what happens to its channels, and that no other byte of
// a cache changes.
#include "append_call.h"
#include "launch.h"
#include "property.h"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace conformance {
namespace {

using Call = AppendCall;
using Spec = AppendSpec;

constexpr attn_dtype kFloats[] = {ATTN_FLOAT32, ATTN_FLOAT16, ATTN_BFLOAT16};

Spec random_spec(std::uint64_t seed)
{
    Random r(seed, 3);
    Spec s;
    s.seed = seed;
    const auto pick_float = [&] { return kFloats[r.integer(0, 2)]; };
    s.workers = r.integer(1, 3);
    s.batch = r.chance(0.05) ? 0 : r.integer(1, 4);
    s.most_new = r.chance(0.05) ? 0 : r.chance(0.3) ? 1 : r.integer(1, 40);
    s.heads_k = r.integer(1, 3);
    s.heads_v = r.chance(0.7) ? s.heads_k : s.heads_k * r.integer(1, 2);
    s.heads_q = s.heads_v * r.integer(1, 2);
    s.dim_qk = r.chance(0.1) ? 2 * r.integer(257, 330) : 2 * r.integer(1, 40);
    s.dim_v = r.integer(1, 70);
    s.k_cache = pick_float(), s.v_cache = pick_float(), s.q = pick_float(), s.out = pick_float();
    s.k = r.chance(0.5) ? s.k_cache : pick_float(), s.v = r.chance(0.5) ? s.v_cache : pick_float();
    s.write_q = r.chance(0.5);
    if (r.chance(0.2)) s.write_k = false;
    if (r.chance(0.2)) s.write_v = false;
    if (!s.caches()) s.write_q = true;
    s.packed = r.chance(0.3), s.seqlens_q = r.chance(0.4);
    s.seqlens_kv = r.chance(0.6);
    if (s.caches()) {
        if (r.chance(0.5)) s.page_size = r.integer(1, 20);
        s.mapped = r.chance(0.25);
        s.flat_table = s.page_size && !s.mapped && r.chance(0.4);
        if (!s.mapped && r.chance(0.3))
            s.ring = r.integer(1, 24), s.sinks = r.integer(0, std::min<std::int64_t>(s.ring - 1, 5));
    }
    s.rope = (s.write_k || s.write_q) && r.chance(0.7);
    if (s.rope) {
        s.interleaved = r.chance(0.5), s.table = r.chance(0.4), s.positions = s.mapped || r.chance(0.4);
        if (r.chance(0.5)) {
            s.rope_dim = 2 * r.integer(1, s.dim_qk / 2);
            s.rope_first = r.integer(0, s.dim_qk - s.rope_dim);
        }
        if (!s.table && r.chance(0.5)) s.base = r.chance(0.5) ? 500000 : 1 + 100 * r.uniform();
    }
    if (s.mapped || (!s.caches() && (!s.rope || s.positions))) s.seqlens_kv = false;
    // Without lengths a row is its own number, so the cache of a ring still holds everything.
    s.index = r.chance(0.5) ? ATTN_INT64 : ATTN_INT32;
    const char *layouts[] = {"bshd", "bhsd", "gaps", "reversed", "strided", "repeated"};
    s.in_layout = layouts[r.integer(0, 5)], s.cache_layout = layouts[r.integer(0, 4)];
    const char *index_layouts[] = {"bshd", "gaps", "strided", "reversed"};
    s.index_layout = index_layouts[r.integer(0, 3)];
    return s;
}

TEST(Append, RandomCallsAgreeWithTheLoops)
{
    Random seeds(session().seed, 900);
    for (std::int64_t n = 0; n < session().random_cases; ++n) {
        const Spec spec = random_spec(seeds.next());
        SCOPED_TRACE(text_of(spec));
        for_each_backend([&](const Backend &backend) { Call(spec).run(backend); });
        if (testing::Test::HasFailure()) return; // the first is enough
    }
}

TEST(Append, EveryPairOfDtypesConverts)
{
    std::uint64_t seed = Random(session().seed, 901).next();
    for (attn_dtype from : kFloats)
        for (attn_dtype to : kFloats)
            for (bool rope : {false, true})
                for (const char *layout : {"bshd", "strided"}) {
                    Spec s;
                    s.seed = ++seed, s.batch = 2, s.most_new = 5, s.heads_q = s.heads_k = s.heads_v = 2, s.dim_qk = 38;
                    s.dim_v = 300, s.k = from, s.v = to, s.q = from, s.k_cache = to, s.v_cache = from, s.out = to;
                    s.write_q = s.rope = rope, s.in_layout = s.cache_layout = layout;
                    SCOPED_TRACE(text_of(s));
                    for_each_backend([&](const Backend &backend) { Call(s).run(backend); });
                }
}

// Numbers that rounding treats specially: ties, subnormals, overflow, infinities, NaN; and NaNs copied bit by bit.
TEST(Append, ConversionsRoundLikeTheFormats)
{
    const double numbers[] = {
        0.0,      -0.0,      1 + 0x1p-11, 1 + 3 * 0x1p-11,   1 + 0x1p-8, 65519.0, 65520.0,  -70000.0,
        0x1p-24,  0x1p-25,   0x1.8p-25,   0x1p-14 - 0x1p-25, 3.3e38,     -1e-40,  0x1p-133, 0x1.fffffep127,
        INFINITY, -INFINITY, NAN,         0x1.ffcp15,        0x1.ffep15, 1e-7,    6.1e-5,   0.1};
    const std::int64_t count = std::size(numbers);
    for (attn_dtype from : kFloats)
        for (attn_dtype to : kFloats)
            for_each_backend([&](const Backend &backend) {
                Spec s;
                s.dim_qk = s.dim_v = count + count % 2, s.k = s.v = from, s.k_cache = s.v_cache = to;
                Call call(s);
                for (attn_slot slot : {ATTN_SLOT_K, ATTN_SLOT_V})
                    for (std::int64_t c = 0; c < count; ++c) call.tensors.at(slot).set({0, 0, 0, c}, numbers[c]);
                PlanPointer plan;
                ASSERT_EQ(call.plan(backend.handle(1), plan), ATTN_OK) << attn_last_error();
                ASSERT_EQ(call.execute(plan.get()), ATTN_OK) << attn_last_error();
                for (std::int64_t c = 0; c < count; ++c) {
                    const double x = call.tensors.at(ATTN_SLOT_K).get({0, 0, 0, c});
                    const double got = call.tensors.at(ATTN_SLOT_K_CACHE).get({0, 0, 0, c}), wanted = round_to(to, x);
                    if (std::isnan(wanted)) {
                        EXPECT_TRUE(std::isnan(got)) << x;
                    } else {
                        EXPECT_EQ(got, wanted) << x << ' ' << dtype_name(from) << " to " << dtype_name(to);
                        EXPECT_EQ(std::signbit(got), std::signbit(wanted)) << x;
                    }
                }
            });
    Spec s; // rows of poison: a NaN with payload
    s.most_new = 3, s.seqlens_q = false;
    Call call(s);
    call.tensors.at(ATTN_SLOT_K).poison();
    PlanPointer plan;
    ASSERT_EQ(call.plan(backends()[0]->handle(1), plan), ATTN_OK);
    ASSERT_EQ(call.execute(plan.get()), ATTN_OK) << attn_last_error();
    EXPECT_FALSE(call.tensors.at(ATTN_SLOT_K_CACHE).wrote_elsewhere());
}

// Rows carry their own number, so that the cache shows who went where.
std::vector<double> ring_after(const Backend &backend, std::int64_t ring, std::int64_t sinks,
                               const std::vector<std::int64_t> &chunks, std::int64_t page_size)
{
    const std::int64_t rows = 12;
    Tensor k_cache(ATTN_FLOAT32, page_size ? std::vector{rows / page_size, page_size, std::int64_t{1}, std::int64_t{1}}
                                           : std::vector{std::int64_t{1}, rows, std::int64_t{1}, std::int64_t{1}});
    for (std::int64_t r = 0; r < rows; ++r)
        k_cache.set(page_size ? Index{r / page_size, r % page_size, 0, 0} : Index{0, r, 0, 0}, -1);
    attn_bind binds[2] = {};
    binds[0].slot = ATTN_SLOT_SEQLENS_KV, binds[1].slot = ATTN_SLOT_V, binds[1].flags = ATTN_BIND_ABSENT;
    attn_problem problem{};
    problem.size = sizeof problem, problem.binds = binds, problem.bind_count = 2, problem.q_dtype = ATTN_FLOAT32;
    problem.heads_k = 1, problem.dim_qk = 1, problem.max_q = 100, problem.max_kv = rows, problem.page_size = page_size;
    attn_append append{};
    append.size = sizeof append, append.problem = &problem, append.ring_rows = ring, append.sink_tokens = sinks;
    attn_plan made = nullptr;
    EXPECT_EQ(attn_plan_append(backend.handle(2), &append, &made), ATTN_OK) << attn_last_error();
    const PlanPointer plan(made);
    std::int64_t length = 0;
    for (std::int64_t chunk : chunks) {
        Tensor k(ATTN_FLOAT32, {1, chunk, 1, 1}), lengths(ATTN_INT32, {1}), table(ATTN_INT32, {1, rows});
        for (std::int64_t t = 0; t < chunk; ++t) k.set({0, t, 0, 0}, double(length + t));
        length += chunk;
        lengths.set({0}, double(length));
        if (page_size)
            for (std::int64_t i = 0; i < rows / page_size; ++i) table.set({0, i}, double(i));
        const attn_tensor views[] = {k.view(), k_cache.view(), lengths.view(), table.view()};
        std::vector<attn_arg> args{
            {ATTN_SLOT_K, 0, &views[0]}, {ATTN_SLOT_K_CACHE, 0, &views[1]}, {ATTN_SLOT_SEQLENS_KV, 0, &views[2]}};
        if (page_size) args.push_back({ATTN_SLOT_BLOCK_TABLE, 0, &views[3]});
        EXPECT_EQ(launch(made, args), ATTN_OK) << attn_last_error();
    }
    std::vector<double> cache;
    for (std::int64_t r = 0; r < rows; ++r)
        cache.push_back(k_cache.get(page_size ? Index{r / page_size, r % page_size, 0, 0} : Index{0, r, 0, 0}));
    return cache;
}

TEST(Append, RingsKeepTheSinksAndTheLastRows)
{
    for_each_backend([&](const Backend &backend) {
        for (std::int64_t page_size : {0, 3}) {
            using V = std::vector<double>;
            EXPECT_EQ(ring_after(backend, 6, 0, {8}, page_size), (V{6, 7, 2, 3, 4, 5, -1, -1, -1, -1, -1, -1}));
            EXPECT_EQ(ring_after(backend, 6, 2, {8}, page_size), (V{0, 1, 6, 7, 4, 5, -1, -1, -1, -1, -1, -1}));
            EXPECT_EQ(ring_after(backend, 6, 5, {9}, page_size), (V{0, 1, 2, 3, 4, 8, -1, -1, -1, -1, -1, -1}));
            EXPECT_EQ(ring_after(backend, 12, 4, {5}, page_size), (V{0, 1, 2, 3, 4, -1, -1, -1, -1, -1, -1, -1}));
            const V all{0, 1, 98, 99, 92, 93, 94, 95, 96, 97, -1, -1};
            EXPECT_EQ(ring_after(backend, 10, 2, {100}, page_size), all);
            EXPECT_EQ(ring_after(backend, 10, 2, {3, 1, 0, 50, 45, 1}, page_size), all);
        }
    });
}

// Several new rows for one place: the last in the order of sequences and rows stays, for any number of workers.
TEST(Append, OfSeveralRowsForOnePlaceTheLastStays)
{
    const std::uint64_t seed = Random(session().seed, 902).next();
    for (std::int64_t workers : {1, 2, 5})
        for (std::int64_t page_size : {0, 4}) {
            Spec s;
            s.seed = seed, s.workers = workers, s.batch = 3, s.most_new = session().subset ? 40 : 300, s.heads_k = 4;
            s.heads_q = s.heads_v = 4, s.dim_qk = s.dim_v = 128, s.mapped = true, s.page_size = page_size;
            SCOPED_TRACE(text_of(s));
            for_each_backend([&](const Backend &backend) { Call(s).run(backend); });
        }
}

TEST(Append, ManyRowsOnManyWorkers)
{
    std::uint64_t seed = Random(session().seed, 903).next();
    for (std::int64_t page_size : {0, 16})
        for (std::int64_t workers : {1, 4}) {
            Spec s;
            s.seed = ++seed, s.workers = workers, s.batch = 2, s.most_new = session().subset ? 50 : 400, s.heads_q = 8;
            s.heads_k = s.heads_v = 2, s.dim_qk = s.dim_v = 64, s.page_size = page_size, s.write_q = s.rope = true;
            s.seqlens_kv = true, s.q = s.k = s.v = s.k_cache = s.v_cache = s.out = ATTN_BFLOAT16;
            SCOPED_TRACE(text_of(s));
            for_each_backend([&](const Backend &backend) { Call(s).run(backend); });
        }
}

// A table of the rounded cosines and sines gives the bits that the base gives.
TEST(Append, TableOfTheSameAnglesGivesTheSameBits)
{
    for_each_backend([&](const Backend &backend) {
        for (bool interleaved : {false, true}) {
            Spec s;
            s.seed = Random(session().seed, 904).next(), s.batch = 2, s.most_new = 9, s.dim_qk = s.dim_v = 24;
            s.write_q = s.rope = s.seqlens_kv = true, s.interleaved = interleaved;
            Call by_base(s);
            by_base.run(backend);
            Call by_table(s);
            const std::int64_t rows = 64;
            Tensor cosines(ATTN_FLOAT32, {rows, s.dim_qk / 2}), sines(ATTN_FLOAT32, {rows, s.dim_qk / 2});
            for (std::int64_t p = 0; p < rows; ++p)
                for (std::int64_t c = 0; c < s.dim_qk / 2; ++c) {
                    const double angle = double(p) * std::pow(10000.0, -2.0 * double(c) / double(s.dim_qk));
                    cosines.set({p, c}, std::cos(angle)), sines.set({p, c}, std::sin(angle));
                }
            by_table.tensors[ATTN_SLOT_ROPE_COS] = cosines, by_table.tensors[ATTN_SLOT_ROPE_SIN] = sines;
            by_table.rope.source = ATTN_ROPE_TABLE;
            by_table.s.table = true;
            by_table.run(backend);
            EXPECT_EQ(by_base.tensors.at(ATTN_SLOT_K_CACHE).bytes(), by_table.tensors.at(ATTN_SLOT_K_CACHE).bytes());
            EXPECT_EQ(by_base.tensors.at(ATTN_SLOT_OUT).bytes(), by_table.tensors.at(ATTN_SLOT_OUT).bytes());
        }
    });
}

// Dense attention on a cache that was appended to in chunks, and on the rows as they came, all at once.
void append_then_attend(const Backend &backend, std::uint64_t seed, std::int64_t page_size, std::int64_t heads_k,
                        attn_dtype dtype)
{
    const std::int64_t batch = 2, tk = 37, heads_q = 4, dim = 16, rows = 48, tq = 5;
    Random random(seed, 11);
    Tensor q(dtype, {batch, tq, heads_q, dim}), k(dtype, {batch, tk, heads_k, dim}),
        v(dtype, {batch, tk, heads_k, dim});
    for (std::int64_t b = 0; b < batch; ++b)
        for (std::int64_t t = 0; t < tk; ++t)
            for (std::int64_t c = 0; c < dim; ++c) {
                for (std::int64_t h = 0; h < heads_k; ++h)
                    k.set({b, t, h, c}, random.normal()), v.set({b, t, h, c}, random.normal());
                if (t < tq)
                    for (std::int64_t h = 0; h < heads_q; ++h) q.set({b, t, h, c}, random.normal());
            }
    const std::int64_t per = page_size ? rows / page_size : 0, pool = batch * per;
    const std::vector<std::int64_t> shape =
        page_size ? std::vector{pool, page_size, heads_k, dim} : std::vector{batch, rows, heads_k, dim};
    Tensor k_cache(dtype, shape), v_cache(dtype, shape), table(ATTN_INT32, {batch, per}), lengths(ATTN_INT32, {batch});
    for (std::int64_t i = 0; i < pool; ++i) table.set({i % batch, i / batch}, double((i * 5 + 3) % pool));

    attn_bind bind{};
    bind.slot = ATTN_SLOT_SEQLENS_KV;
    attn_problem problem{};
    problem.size = sizeof problem, problem.binds = &bind, problem.bind_count = 1, problem.q_dtype = dtype;
    problem.batch = batch, problem.heads_q = heads_q, problem.heads_k = heads_k, problem.dim_qk = dim;
    problem.max_q = 40, problem.max_kv = rows, problem.page_size = page_size;
    attn_append append{};
    append.size = sizeof append, append.problem = &problem;
    attn_plan made = nullptr;
    ASSERT_EQ(attn_plan_append(backend.handle(2), &append, &made), ATTN_OK) << attn_last_error();
    const PlanPointer appends(made);
    const auto with_table = [&](std::vector<attn_arg> args, const attn_tensor *view) {
        if (page_size) args.push_back({ATTN_SLOT_BLOCK_TABLE, 0, view});
        return args;
    };
    const attn_tensor views[] = {k_cache.view(), v_cache.view(), lengths.view(), table.view(), q.view()};
    for (std::int64_t done = 0; done < tk;) {
        const std::int64_t count = std::min(random.integer(1, 12), tk - done);
        attn_tensor new_k = k.view(), new_v = v.view();
        new_k.shape[1] = new_v.shape[1] = count;
        const std::size_t skipped = std::size_t(done * new_k.strides[1]) * element_size(dtype);
        new_k.byte_offset += skipped, new_v.byte_offset += skipped;
        done += count;
        for (std::int64_t b = 0; b < batch; ++b) lengths.set({b}, double(done));
        const auto args = with_table({{ATTN_SLOT_K, 0, &new_k},
                                      {ATTN_SLOT_V, 0, &new_v},
                                      {ATTN_SLOT_K_CACHE, 0, &views[0]},
                                      {ATTN_SLOT_V_CACHE, 0, &views[1]},
                                      {ATTN_SLOT_SEQLENS_KV, 0, &views[2]}},
                                     &views[3]);
        ASSERT_EQ(launch(made, args), ATTN_OK) << attn_last_error();
    }

    const auto attend = [&](bool cached, Tensor &out) {
        attn_problem p = problem;
        p.bind_count = cached ? 1 : 0, p.page_size = cached ? page_size : 0, p.max_q = tq;
        p.out_dtype = ATTN_FLOAT32;
        attn_dense dense{};
        dense.size = sizeof dense, dense.problem = &p, dense.causal = ATTN_BOTTOM_RIGHT;
        attn_plan dense_plan = nullptr;
        ASSERT_EQ(attn_plan_dense(backend.handle(2), &dense, &dense_plan), ATTN_OK) << attn_last_error();
        const PlanPointer owner(dense_plan);
        const attn_tensor whole_k = k.view(), whole_v = v.view(), out_view = out.view();
        std::vector<attn_arg> args{{ATTN_SLOT_Q, 0, &views[4]}, {ATTN_SLOT_OUT, 0, &out_view}};
        args.push_back({ATTN_SLOT_K, 0, cached ? &views[0] : &whole_k});
        args.push_back({ATTN_SLOT_V, 0, cached ? &views[1] : &whole_v});
        if (cached) args.push_back({ATTN_SLOT_SEQLENS_KV, 0, &views[2]}), args = with_table(args, &views[3]);
        ASSERT_EQ(launch(dense_plan, args), ATTN_OK) << attn_last_error();
    };
    Tensor from_cache(ATTN_FLOAT32, {batch, tq, heads_q, dim}), from_rows(ATTN_FLOAT32, {batch, tq, heads_q, dim});
    attend(true, from_cache);
    attend(false, from_rows);
    double error = 0, norm = 0;
    for (std::int64_t b = 0; b < batch; ++b)
        for (std::int64_t t = 0; t < tq; ++t)
            for (std::int64_t h = 0; h < heads_q; ++h)
                for (std::int64_t c = 0; c < dim; ++c) {
                    const double x = from_cache.get({b, t, h, c}), y = from_rows.get({b, t, h, c});
                    error += (x - y) * (x - y), norm += y * y;
                }
    EXPECT_LE(std::sqrt(error / norm), tolerance(ATTN_FLOAT32).global); // NaN fails too
}

TEST(Append, AttentionOnTheCacheIsAttentionOnTheRows)
{
    std::uint64_t seed = Random(session().seed, 905).next();
    for_each_backend([&](const Backend &backend) {
        for (std::int64_t page_size : {0, 8})
            for (std::int64_t heads_k : {4, 1})
                for (attn_dtype dtype : kFloats) append_then_attend(backend, ++seed, page_size, heads_k, dtype);
    });
}

// Absorbed MLA: one latent cache, its rotary channels at the end.
TEST(Append, AliasedValuesNeedNoCacheOfTheirOwn)
{
    Spec s = small_append_spec();
    s.write_v = false, s.rope = s.seqlens_kv = true, s.dim_qk = 24, s.rope_dim = 8, s.rope_first = 16;
    Call call(s);
    std::erase_if(call.binds, [](const attn_bind &bind) { return bind.slot == ATTN_SLOT_V_CACHE; });
    call.problem.bind_count = call.binds.size();
    call.problem.flags = ATTN_V_ALIASES_K, call.problem.dim_v = 16;
    for_each_backend([&](const Backend &backend) { call.run(backend); });
}

TEST(Append, DescriptionNamesTheKernelAndTheOptions)
{
    Spec s = small_append_spec();
    s.rope = s.interleaved = true, s.ring = 4, s.sinks = 1;
    Call call(s);
    PlanPointer plan;
    ASSERT_EQ(call.plan(backends()[0]->handle(1), plan), ATTN_OK) << attn_last_error();
    std::size_t needed = 0;
    ASSERT_EQ(attn_plan_describe(plan.get(), nullptr, 0, &needed), ATTN_OK);
    std::string json(needed, '\0');
    ASSERT_EQ(attn_plan_describe(plan.get(), json.data(), json.size(), nullptr), ATTN_OK);
    const std::string kernel = "\"kernel\":\"" + backends()[0]->kernels() + ".append";
    for (const char *part :
         {"\"kind\":\"append\"", kernel.c_str(), "\"workspace_bytes\":", "\"append\":{", "\"ring_rows\":4",
          "\"sink_tokens\":1", "\"layout\":\"interleaved\"", "\"slot\":\"K_CACHE\""})
        EXPECT_NE(json.find(part), std::string::npos) << part << " is not in " << json;
    attn_bind bind{};
    attn_tensor bounds{};
    ASSERT_EQ(attn_plan_slot(plan.get(), 2, &bind, &bounds), ATTN_OK);
    EXPECT_EQ(bind.slot, ATTN_SLOT_K_CACHE);
    EXPECT_EQ(bounds.ndim, 4);
}

} // namespace
} // namespace conformance
