// Merge plans against dense plans whose keys were split.
#include "launch.h"
#include "property.h"
#include "tensor.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <vector>

namespace conformance {
namespace {

// Dense attention and its parts. Tensors are plain row-major arrays.
struct Dense {
    std::int64_t batch, tq, tk, hq, hk, dim;
    attn_dtype dtype = ATTN_FLOAT32;

    Tensor random(std::vector<std::int64_t> shape, Random &r) const
    {
        Tensor t(dtype, shape);
        for (std::int64_t a = 0; a < shape[0]; ++a)
            for (std::int64_t b = 0; b < shape[1]; ++b)
                for (std::int64_t c = 0; c < shape[2]; ++c)
                    for (std::int64_t d = 0; d < shape[3]; ++d) t.set({a, b, c, d}, r.normal());
        return t;
    }
};

// Runs dense attention of given views with LSE, OUT as its view says.
void run_dense(attn_handle handle, const attn_tensor &q, const attn_tensor &k, const attn_tensor &v,
               const attn_tensor &out, const attn_tensor &lse)
{
    attn_bind bind{};
    bind.slot = ATTN_SLOT_LSE;
    attn_problem problem{};
    problem.size = sizeof problem;
    problem.binds = &bind, problem.bind_count = 1;
    problem.q_dtype = q.dtype, problem.out_dtype = out.dtype;
    problem.batch = q.shape[0], problem.max_q = q.shape[1], problem.max_kv = std::max<std::int64_t>(k.shape[1], 1);
    problem.heads_q = q.shape[2], problem.heads_k = k.shape[2], problem.dim_qk = q.shape[3];
    attn_dense dense{};
    dense.size = sizeof dense, dense.problem = &problem;
    attn_plan made = nullptr;
    ASSERT_EQ(attn_plan_dense(handle, &dense, &made), ATTN_OK) << attn_last_error();
    const PlanPointer plan(made);
    const std::vector<attn_arg> args{{ATTN_SLOT_Q, 0, &q},
                                     {ATTN_SLOT_K, 0, &k},
                                     {ATTN_SLOT_V, 0, &v},
                                     {ATTN_SLOT_OUT, 0, &out},
                                     {ATTN_SLOT_LSE, 0, &lse}};
    ASSERT_EQ(launch(made, args), ATTN_OK) << attn_last_error();
}

void run_merge(attn_handle handle, attn_dtype q_dtype, std::vector<Tensor> &outs, std::vector<Tensor> &lses,
               Tensor &out, Tensor &lse)
{
    attn_bind bind{};
    bind.slot = ATTN_SLOT_LSE;
    attn_problem problem{};
    problem.size = sizeof problem;
    problem.binds = &bind, problem.bind_count = 1, problem.q_dtype = q_dtype, problem.out_dtype = out.dtype();
    problem.batch = out.shape()[0], problem.max_q = out.shape()[1], problem.heads_q = out.shape()[2];
    problem.dim_v = out.shape()[3];
    attn_merge merge{};
    merge.size = sizeof merge, merge.problem = &problem, merge.parts = outs.size();
    attn_plan made = nullptr;
    ASSERT_EQ(attn_plan_merge(handle, &merge, &made), ATTN_OK) << attn_last_error();
    const PlanPointer plan(made);
    std::deque<attn_tensor> views;
    std::vector<attn_arg> args;
    const auto add = [&](attn_slot slot, std::size_t index, Tensor &tensor) {
        views.push_back(tensor.view());
        args.push_back({slot, static_cast<std::uint32_t>(index), &views.back()});
    };
    for (std::size_t p = 0; p < outs.size(); ++p) add(ATTN_SLOT_PARTIAL_OUT, p, outs[p]);
    for (std::size_t p = 0; p < outs.size(); ++p) add(ATTN_SLOT_PARTIAL_LSE, p, lses[p]);
    add(ATTN_SLOT_OUT, 0, out), add(ATTN_SLOT_LSE, 0, lse);
    ASSERT_EQ(launch(made, args), ATTN_OK) << attn_last_error();
}

attn_tensor rows_of(attn_tensor view, std::int64_t first, std::int64_t count)
{
    view.byte_offset += static_cast<std::size_t>(first * view.strides[1]) * element_size(view.dtype);
    view.shape[1] = count;
    return view;
}

void expect_same_rows(const Tensor &got, const Tensor &wanted, double tolerance)
{
    const auto &n = got.shape();
    double error = 0, norm = 0;
    for (std::int64_t a = 0; a < n[0]; ++a)
        for (std::int64_t b = 0; b < n[1]; ++b)
            for (std::int64_t c = 0; c < n[2]; ++c)
                for (std::int64_t d = 0; d < (n.size() > 3 ? n[3] : 1); ++d) {
                    const double x = got.get({a, b, c, d}), y = wanted.get({a, b, c, d});
                    error += (x - y) * (x - y), norm += y * y;
                }
    EXPECT_LE(std::sqrt(error), tolerance * std::sqrt(norm)); // false for NaN
}

TEST(Merge, SplitKeysOfADensePlan)
{
    const struct {
        Dense d;
        double tolerance;
    } all[] = {{{2, 5, 37, 4, 2, 64}, 2e-6},
               {{3, 1, 300, 8, 2, 128}, 2e-6},
               {{1, 40, 90, 2, 2, 33, ATTN_BFLOAT16}, 4e-3},
               {{2, 1, 64, 6, 3, 80, ATTN_FLOAT16}, 6e-4}};
    Random random(session().seed, 703);
    for (const auto &entry : all) {
        const Dense &d = entry.d;
        const double tolerance = entry.tolerance;
        Tensor q = d.random({d.batch, d.tq, d.hq, d.dim}, random), k = d.random({d.batch, d.tk, d.hk, d.dim}, random);
        Tensor v = d.random({d.batch, d.tk, d.hk, d.dim}, random);
        const std::vector<std::int64_t> out_shape{d.batch, d.tq, d.hq, d.dim}, lse_shape{d.batch, d.hq, d.tq};
        const std::int64_t parts = random.integer(2, 6);
        std::vector<std::int64_t> cuts{0, 0, d.tk}; // an empty part among them
        for (std::int64_t n = 0; n + 2 < parts; ++n) cuts.push_back(random.integer(0, d.tk));
        std::sort(cuts.begin(), cuts.end());
        for_each_backend([&](const Backend &backend) {
            Tensor whole(d.dtype, out_shape), whole_lse(ATTN_FLOAT32, lse_shape);
            run_dense(backend.handle(2), q.view(), k.view(), v.view(), whole.view(), whole_lse.view());
            std::vector<Tensor> outs, lses;
            for (std::size_t p = 0; p + 1 < cuts.size(); ++p) {
                outs.emplace_back(ATTN_FLOAT32, out_shape), lses.emplace_back(ATTN_FLOAT32, lse_shape);
                const std::int64_t count = cuts[p + 1] - cuts[p];
                run_dense(backend.handle(2), q.view(), rows_of(k.view(), cuts[p], count),
                          rows_of(v.view(), cuts[p], count), outs.back().view(), lses.back().view());
            }
            Tensor out(d.dtype, out_shape), lse(ATTN_FLOAT32, lse_shape);
            run_merge(backend.handle(2), d.dtype, outs, lses, out, lse);
            expect_same_rows(out, whole, tolerance);
            expect_same_rows(lse, whole_lse, 2e-6);
        });
    }
}

// Sequences that share a prompt: the prompt sees the batch as its query axis, so its outputs are views with axes
// exchanged.
TEST(Merge, SharedPrompt)
{
    const Dense d{5, 1, 20, 4, 2, 48};
    const std::int64_t prompt = 31;
    Random random(session().seed, 704);
    Tensor q = d.random({d.batch, 1, d.hq, d.dim}, random);
    Tensor prompt_k = d.random({1, prompt, d.hk, d.dim}, random), prompt_v = d.random({1, prompt, d.hk, d.dim}, random);
    Tensor own_k = d.random({d.batch, d.tk, d.hk, d.dim}, random),
           own_v = d.random({d.batch, d.tk, d.hk, d.dim}, random);
    Tensor all_k(ATTN_FLOAT32, {d.batch, prompt + d.tk, d.hk, d.dim}), all_v = all_k;
    for (std::int64_t b = 0; b < d.batch; ++b)
        for (std::int64_t j = 0; j < prompt + d.tk; ++j)
            for (std::int64_t h = 0; h < d.hk; ++h)
                for (std::int64_t c = 0; c < d.dim; ++c) {
                    const bool shared = j < prompt;
                    all_k.set({b, j, h, c}, shared ? prompt_k.get({0, j, h, c}) : own_k.get({b, j - prompt, h, c}));
                    all_v.set({b, j, h, c}, shared ? prompt_v.get({0, j, h, c}) : own_v.get({b, j - prompt, h, c}));
                }
    const std::vector<std::int64_t> out_shape{d.batch, 1, d.hq, d.dim}, lse_shape{d.batch, d.hq, 1};
    for_each_backend([&](const Backend &backend) {
        const attn_handle handle = backend.handle(2);
        std::vector<Tensor> outs(2, Tensor(ATTN_FLOAT32, out_shape)), lses(2, Tensor(ATTN_FLOAT32, lse_shape));
        run_dense(handle, attn_tensor_swap_axes(q.view(), 0, 1), prompt_k.view(), prompt_v.view(),
                  attn_tensor_swap_axes(outs[0].view(), 0, 1), attn_tensor_swap_axes(lses[0].view(), 0, 2));
        run_dense(handle, q.view(), own_k.view(), own_v.view(), outs[1].view(), lses[1].view());
        Tensor out(ATTN_FLOAT32, out_shape), lse(ATTN_FLOAT32, lse_shape), whole = out, whole_lse = lse;
        run_merge(handle, ATTN_FLOAT32, outs, lses, out, lse);
        run_dense(handle, q.view(), all_k.view(), all_v.view(), whole.view(), whole_lse.view());
        expect_same_rows(out, whole, 2e-6);
        expect_same_rows(lse, whole_lse, 2e-6);
    });
}

} // namespace
} // namespace conformance
