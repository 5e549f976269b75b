#include "linear_bench.h"

#include "attention.h"

#include "src/cli/measure/team.h"
#include "src/cli/measure/timing.h"

#include <algorithm>
#include <cblas.h>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <deque>
#include <functional>

namespace attn::perf {
namespace {

constexpr int64_t kDim = 128, kHeads = 4, kTokens = 8192;
constexpr int64_t kStepBatch = 64, kStepHeads = 32; ///< 128 MiB of states.

/// One of the chunk forms, from additive with a scalar decay to low-rank transitions with a decay by channel.
struct Form {
    const char *name;
    attn_decay decay;
    attn_update update;
    double bar;      ///< Of the speed beside the reference path.
    double products; ///< Multiply-adds of a token and head in chunks of 64; 0: no bar beside sgemm.
};

constexpr double kAddProducts = 64.0 * (kDim + kDim) + 2.0 * kDim * kDim;

constexpr Form kForms[] = {
    {"1 add, no decay", ATTN_DECAY_NONE, ATTN_UPDATE_ADD, 5, kAddProducts},
    {"1 add, decay by token", ATTN_DECAY_TOKEN, ATTN_UPDATE_ADD, 5, kAddProducts},
    {"2 add, decay by channel", ATTN_DECAY_CHANNEL, ATTN_UPDATE_ADD, 5, 0},
    {"3 delta, no decay", ATTN_DECAY_NONE, ATTN_UPDATE_DELTA, 5, 0},
    {"3 delta, decay by token", ATTN_DECAY_TOKEN, ATTN_UPDATE_DELTA, 5, 0},
    {"4 delta, decay by channel", ATTN_DECAY_CHANNEL, ATTN_UPDATE_DELTA, 5, 0},
    {"4 gated delta", ATTN_DECAY_CHANNEL, ATTN_UPDATE_GATED_DELTA, 5, 0},
    {"5 low-rank", ATTN_DECAY_CHANNEL, ATTN_UPDATE_DPLR, 3, 0},
};

/// A plan with its tensors. States are updated in place.
class Workload {
public:
    Workload(const Handle &handle, const Form &form, int64_t batch, int64_t heads, int64_t tokens, bool recurrent)
    {
        const attn_bind binds[] = {{ATTN_SLOT_STATE_IN, 0, 0, 0, {}, {}}, {ATTN_SLOT_STATE_OUT, 0, 0, 0, {}, {}}};
        attn_problem problem = {};
        problem.size = sizeof problem;
        problem.binds = binds, problem.bind_count = 2;
        problem.q_dtype = ATTN_FLOAT32;
        problem.batch = batch, problem.heads_q = heads, problem.dim_qk = kDim, problem.max_q = tokens;
        attn_linear linear = {};
        linear.size = sizeof linear;
        linear.problem = &problem;
        linear.decay = form.decay, linear.update = form.update;
        if (form.update == ATTN_UPDATE_DELTA || form.update == ATTN_UPDATE_GATED_DELTA)
            linear.flags |= ATTN_LINEAR_QK_L2NORM;
        if (recurrent) linear.flags |= ATTN_LINEAR_RECURRENT;
        attn_plan plan = nullptr;
        check(attn_plan_linear(handle.get(), &linear, &plan), "attn_plan_linear");
        plan_.reset(plan);
        attn_bind bind;
        attn_tensor bounds;
        for (size_t position = 0; attn_plan_slot(plan, position, &bind, &bounds) == ATTN_OK; ++position)
            add(bind.slot, bounds);
        for (size_t i = 0; i < args_.size(); ++i) args_[i].tensor = &views_[i];
        size_t bytes = 0;
        check(attn_plan_workspace(plan, &bytes, nullptr), "attn_plan_workspace");
        workspace_.resize(bytes);
    }

    void run()
    {
        check(attn_execute(plan_.get(), args_.data(), args_.size(), workspace_.data(), workspace_.size(), nullptr),
              "attn_execute");
    }

private:
    void add(attn_slot slot, attn_tensor bounds)
    {
        if (slot == ATTN_SLOT_STATE_OUT) {
            const attn_tensor before = views_[state_];
            views_.push_back(before);
            args_.push_back({slot, 0, nullptr});
            return;
        }
        int64_t count = 1;
        for (int axis = bounds.ndim - 1; axis >= 0; --axis) bounds.strides[axis] = count, count *= bounds.shape[axis];
        memory_.push_back(random_values(count, ATTN_FLOAT32, static_cast<unsigned>(slot)));
        float *values = reinterpret_cast<float *>(memory_.back().data());
        for (int64_t i = 0; i < count; ++i) {
            float &x = values[i];
            if (slot == ATTN_SLOT_DECAY) x = -0.05f * std::abs(x);
            if (slot == ATTN_SLOT_BETA || slot == ATTN_SLOT_ERASE || slot == ATTN_SLOT_WRITE) x = 1 / (1 + std::exp(x));
            if (slot == ATTN_SLOT_DPLR_B) x = std::abs(x) / kDim;
            if (slot == ATTN_SLOT_DPLR_C) x = -std::abs(x) / kDim;
            if (slot == ATTN_SLOT_STATE_IN) x = 0;
        }
        if (slot == ATTN_SLOT_STATE_IN) state_ = views_.size();
        bounds.data = memory_.back().data();
        views_.push_back(bounds);
        args_.push_back({slot, 0, nullptr});
    }

    std::unique_ptr<attn_plan_s, DestroyPlan> plan_;
    std::deque<Buffer<char>> memory_;
    std::deque<attn_tensor> views_;
    std::vector<attn_arg> args_;
    Buffer<char> workspace_;
    size_t state_ = 0;
};

/// Seconds of a call by the time of all its threads, which other load on the machine hardly touches.
double busy_seconds(const std::function<void()> &call, int threads, int repetitions)
{
    const Times times = race({call}, repetitions)[0];
    return times.median * std::min(times.processors / threads, 1.0);
}

/// FLOP/s of sgemm on squares that suit it.
double measure_sgemm(int threads, int repetitions)
{
    constexpr int kSize = 2048;
    openblas_set_num_threads(threads);
    Buffer<float> a(kSize * kSize, 0.5f), b(kSize * kSize, 0.25f), c(kSize * kSize);
    const auto product = [&] {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, kSize, kSize, kSize, 1, a.data(), kSize, b.data(), kSize,
                    0, c.data(), kSize);
    };
    return 2.0 * kSize * kSize * kSize / busy_seconds(product, threads, repetitions);
}

/// Bytes/s of reading and writing as many floats as a step has states.
double measure_read_write(int threads, int repetitions)
{
    Team team(threads);
    Buffer<float> values(static_cast<size_t>(kStepBatch * kStepHeads * kDim * kDim), 1.0f);
    const auto scale = [&] {
        team.run([&](int worker) {
            const auto [first, last] = share(static_cast<int64_t>(values.size()), worker, threads);
            for (int64_t i = first; i < last; ++i) values[static_cast<size_t>(i)] *= 0.999f;
        });
    };
    return 8.0 * static_cast<double>(values.size()) / busy_seconds(scale, threads, repetitions);
}

bool measure_forms(const Handle &handle, const std::string &filter, double sgemm, int threads, int repetitions)
{
    std::printf("1 x %lld tokens, %lld heads, K = V = %lld, fp32\n%-28s %10s %12s %8s %10s\n",
                static_cast<long long>(kTokens), static_cast<long long>(kHeads), static_cast<long long>(kDim), "form",
                "chunks ms", "reference ms", "times", "of sgemm");
    bool good = true;
    for (const Form &form : kForms) {
        if (std::string(form.name).find(filter) == std::string::npos) continue;
        Workload chunks(handle, form, 1, kHeads, kTokens, false), reference(handle, form, 1, kHeads, kTokens, true);
        const double fast = busy_seconds([&] { chunks.run(); }, threads, repetitions);
        const double slow = busy_seconds([&] { reference.run(); }, threads, std::min(repetitions, 3));
        const double share = 2 * form.products * kTokens * kHeads / fast / sgemm;
        const bool missed = slow / fast < form.bar || (form.products != 0 && share < 0.6);
        std::printf("%-28s %10.2f %12.1f %8.1f %9.0f%%%s\n", form.name, fast * 1e3, slow * 1e3, slow / fast,
                    share * 100, missed ? "  MISSED" : "");
        good &= !missed;
    }
    return good;
}

bool measure_steps(const Handle &handle, const std::string &filter, double bandwidth, int threads, int repetitions)
{
    const double bytes = 2.0 * 4 * kStepBatch * kStepHeads * kDim * kDim;
    std::printf("one token, batch %lld, %lld heads: %.0f MiB of states\n%-28s %10s %12s\n",
                static_cast<long long>(kStepBatch), static_cast<long long>(kStepHeads), bytes / 2 / 1048576, "form",
                "ms", "of bandwidth");
    bool good = true;
    for (const Form &form : kForms) {
        if (std::string(form.name).find(filter) == std::string::npos) continue;
        Workload step(handle, form, kStepBatch, kStepHeads, 1, false);
        const double seconds = busy_seconds([&] { step.run(); }, threads, repetitions);
        const bool missed = bytes / seconds < 0.7 * bandwidth;
        std::printf("%-28s %10.2f %11.0f%%%s\n", form.name, seconds * 1e3, bytes / seconds / bandwidth * 100,
                    missed ? "  MISSED" : "");
        good &= !missed;
    }
    return good;
}

} // namespace

bool measure_linear(const std::string &filter, int threads, int repetitions)
{
    const Handle handle = open_handle(threads);
    const double sgemm = measure_sgemm(threads, repetitions), bandwidth = measure_read_write(threads, repetitions);
    std::printf("sgemm (%s) %.0f GFLOP/s; reading and writing memory %.1f GB/s\n\n", openblas_get_corename(),
                sgemm * 1e-9, bandwidth * 1e-9);
    const bool forms = measure_forms(handle, filter, sgemm, threads, repetitions);
    std::printf("\n");
    return measure_steps(handle, filter, bandwidth, threads, repetitions) && forms;
}

} // namespace attn::perf
