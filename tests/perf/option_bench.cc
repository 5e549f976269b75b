#include "option_bench.h"

#include "attention.h"
#include "option_cases.h"

#include "src/cli/measure/timing.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <deque>
#include <numeric>
#include <random>

namespace attn::perf {
namespace {

/// A plan with its tensors, in the largest shapes that it takes.
class Workload {
public:
    Workload(const Handle &handle, Description description);
    void run()
    {
        check(attn_execute(plan_.get(), args_.data(), args_.size(), workspace_.data(), workspace_.size(), nullptr),
              "attn_execute");
    }

private:
    void add(const attn_bind &bind, attn_tensor bounds);
    void fill_integers(attn_slot slot, int64_t count, attn_dtype dtype, Buffer<char> *memory) const;

    Description description_;
    std::unique_ptr<attn_plan_s, DestroyPlan> plan_;
    std::deque<Buffer<char>> memory_;
    std::deque<attn_tensor> views_;
    std::vector<attn_arg> args_;
    Buffer<char> workspace_;
};

Workload::Workload(const Handle &handle, Description description) : description_(std::move(description))
{
    Description &d = description_;
    d.problem.binds = d.binds.data();
    d.problem.bind_count = d.binds.size();
    d.dense.problem = &d.problem;
    if (d.has_table) d.dense.bias_table = &d.table;
    attn_program program = {};
    const attn_table widths = {d.widths.data(), nullptr, static_cast<int64_t>(d.widths.size()), 1};
    program.size = sizeof program;
    program.terms = d.terms.data(), program.term_count = d.terms.size();
    if (!d.widths.empty()) program.tables = &widths, program.table_count = d.terms[0].table = 1;
    if (!d.terms.empty()) d.dense.mask = &program;
    attn_plan plan = nullptr;
    check(attn_plan_dense(handle.get(), &d.dense, &plan), "attn_plan_dense");
    plan_.reset(plan);
    attn_bind bind;
    attn_tensor bounds;
    for (size_t position = 0; attn_plan_slot(plan, position, &bind, &bounds) == ATTN_OK; ++position) add(bind, bounds);
    for (size_t i = 0; i < args_.size(); ++i) args_[i].tensor = &views_[i];
    size_t bytes = 0;
    check(attn_plan_workspace(plan, &bytes, nullptr), "attn_plan_workspace");
    workspace_.resize(bytes);
}

void Workload::add(const attn_bind &bind, attn_tensor bounds)
{
    const attn_problem &p = description_.problem;
    const int64_t keys = p.max_kv ? p.max_kv : p.max_q, batch = std::max<int64_t>(p.batch, 1);
    for (int axis = 0; axis < bounds.ndim; ++axis) { // -1: as many pages as the keys need, or keys
        int64_t &extent = bounds.shape[axis];
        if (extent < 0) extent = p.page_size ? batch * ((keys + p.page_size - 1) / p.page_size) : keys;
    }
    const bool is_wide = bind.slot <= ATTN_SLOT_OUT;
    int64_t step = is_wide ? description_.channel_step : 1;
    for (int axis = bounds.ndim - 1; axis >= 0; --axis) {
        bounds.strides[axis] = step;
        step *= bounds.shape[axis];
    }
    if (bind.dtype == ATTN_INT32 || bind.dtype == ATTN_INT64)
        fill_integers(bind.slot, step, bind.dtype, &memory_.emplace_back());
    else
        memory_.push_back(random_values(step, bind.dtype, static_cast<unsigned>(bind.slot)));
    bounds.data = memory_.back().data();
    views_.push_back(bounds);
    args_.push_back({bind.slot, bind.index, nullptr});
}

void Workload::fill_integers(attn_slot slot, int64_t count, attn_dtype dtype, Buffer<char> *memory) const
{
    std::vector<int64_t> values(static_cast<size_t>(count));
    std::iota(values.begin(), values.end(), 0);
    if (slot == ATTN_SLOT_BLOCK_TABLE) std::shuffle(values.begin(), values.end(), std::mt19937(1));
    for (int64_t &value : values) {
        if (slot == ATTN_SLOT_CU_SEQLENS_Q || slot == ATTN_SLOT_CU_SEQLENS_KV) value *= description_.problem.max_q;
        if (slot == ATTN_SLOT_SEQLENS_KV) value = description_.used_keys;
        if (slot == ATTN_SLOT_IDS_Q || slot == ATTN_SLOT_IDS_KV) value /= description_.document;
        if (slot == ATTN_SLOT_POSITIONS_Q || slot == ATTN_SLOT_POSITIONS_KV) value *= description_.position_step;
    }
    const size_t bytes = dtype == ATTN_INT64 ? 8 : 4; // the low bytes come first
    memory->resize(values.size() * bytes);
    for (size_t i = 0; i < values.size(); ++i) std::memcpy(memory->data() + i * bytes, &values[i], bytes);
}

Ratio measure(const Handle &handle, attn_dtype dtype, const OptionCase &option, int repetitions)
{
    Description with(dtype), without(dtype);
    if (option.causal) with.dense.causal = without.dense.causal = ATTN_TOP_LEFT;
    option.describe(with);
    if (option.plain) option.plain(without);
    Workload one(handle, std::move(with)), other(handle, std::move(without));
    return compare([&] { one.run(); }, [&] { other.run(); }, repetitions);
}

} // namespace

attn_dtype option_dtype(const std::string &name)
{
    return name == "fp32" ? ATTN_FLOAT32 : name == "fp16" ? ATTN_FLOAT16 : name == "bf16" ? ATTN_BFLOAT16 : 0;
}

bool measure_options(attn_dtype dtype, const std::string &filter, int threads, int repetitions)
{
    const Handle handle = open_handle(threads);
    std::printf("%-38s %8s %21s %8s\n%-38s %8s %21s %8s\n", "", "", "cpu time / plain", "", "option (s2048 h8 d128)",
                "cpu ms", "median (quartiles)", "elapsed");
    bool good = true;
    for (const OptionCase &option : option_cases()) {
        if (option.name.find(filter) == std::string::npos) continue;
        const Ratio ratio = measure(handle, dtype, option, repetitions);
        const bool missed = dtype == ATTN_FLOAT32 && option.bar > 0 && ratio.median > option.bar;
        const std::string name = option.name + (option.causal ? ", causal" : "");
        std::printf("%-38s %8.2f    %.2f (%.2f .. %.2f) %8.2f%s\n", name.c_str(), ratio.seconds * 1e3, ratio.median,
                    ratio.lower, ratio.upper, ratio.passed, missed ? "  MISSED" : "");
        std::fflush(stdout);
        good &= !missed;
    }
    return good;
}

} // namespace attn::perf
