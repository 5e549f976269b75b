#include "bench_run.h"

#include "conformance/number.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <random>

namespace attn::cli {
namespace {

constexpr int kPlans = 21; ///< Of which the median is reported.

size_t bytes_of(attn_dtype dtype, const std::vector<int64_t> &shape)
{
    int64_t count = conformance::element_size(dtype);
    for (const int64_t extent : shape) count *= extent;
    return static_cast<size_t>(count);
}

/// Random normal numbers. Speed does not depend on them, so a prime number of them is repeated.
void fill_random(perf::Buffer<char> *memory, attn_dtype dtype, unsigned seed)
{
    constexpr size_t kPrime = 1000003;
    const size_t size = conformance::element_size(dtype), period = std::min(memory->size(), kPrime * size);
    std::mt19937 bits(seed);
    std::normal_distribution<float> normal;
    for (size_t at = 0; at < period; at += size)
        conformance::encode(dtype, static_cast<double>(normal(bits)), memory->data() + at);
    for (size_t at = period; at < memory->size(); at += period)
        std::copy_n(memory->data(), std::min(period, memory->size() - at), memory->data() + at);
}

} // namespace

Workload::Workload(const Handle &handle, const BenchCase &shape)
    : handle_(handle), shape_(shape), lengths_(shape.lengths())
{
    switch (shape_.op) {
    case Operator::dense:
        add_dense();
        break;
    case Operator::merge:
        add_merge();
        break;
    case Operator::append:
        add_append();
        break;
    case Operator::linear:
        add_linear();
        break;
    case Operator::conv:
    case Operator::scan:
        add_sequence();
        break;
    }
    for (size_t i = 0; i < args_.size(); ++i) args_[i].tensor = &views_[i];
    plan_.emplace(plan());
    workspace_.resize(plan_->workspace_bytes());
}

void Workload::run()
{
    plan_->execute(args_.data(), args_.size(), workspace_.data(), workspace_.size());
}

Problem Workload::problem() const
{
    const BenchCase &c = shape_;
    Problem p(c.dtype);
    p.batch(c.batch).lengths(c.queries, c.keys);
    if (c.op == Operator::merge) return p.heads(c.heads_q).dims(0, c.dim_v);
    if (c.op == Operator::conv || c.op == Operator::scan) return p.heads(c.heads_q).dims(c.dim_qk, 0);
    p.dims(c.dim_qk, c.dim_v).page_size(c.page_size);
    if (c.op == Operator::append) {
        p.heads(c.heads_kv);
        const attn_dtype cache = c.cache_dtype ? c.cache_dtype : c.dtype;
        p.dtypes(cache, cache, 0);
        if (cache != c.dtype) p.bind(ATTN_SLOT_K, c.dtype).bind(ATTN_SLOT_V, c.dtype);
        return p.bind(ATTN_SLOT_SEQLENS_KV);
    }
    p.heads(c.heads_q, c.heads_kv);
    if (c.op == Operator::linear) return p.bind(ATTN_SLOT_STATE_IN).bind(ATTN_SLOT_STATE_OUT);
    if (c.v_aliases_k) p.flags(ATTN_V_ALIASES_K);
    const int64_t total = std::accumulate(lengths_.begin(), lengths_.end(), int64_t{0});
    if (c.packed) p.packed(total, total);
    if (c.page_size) p.bind(ATTN_SLOT_SEQLENS_KV);
    return p;
}

Plan Workload::plan() const
{
    const BenchCase &c = shape_;
    if (c.op == Operator::merge) return {handle_, Merge(problem(), static_cast<size_t>(c.parts))};
    if (c.op == Operator::append) {
        Append append(problem());
        auto rope = sized<attn_rope>();
        if (c.rope) append.fields().rope = &rope;
        return {handle_, append};
    }
    if (c.op == Operator::linear) {
        Linear linear(problem());
        linear.decay(c.decay).update(c.update);
        if (c.update == ATTN_UPDATE_DELTA) linear.flags(ATTN_LINEAR_QK_L2NORM);
        if (c.recurrent) linear.flags(ATTN_LINEAR_RECURRENT);
        return {handle_, linear};
    }
    if (c.op == Operator::conv)
        return {handle_, Conv(problem(), static_cast<size_t>(c.width)).activation(ATTN_CONV_SILU)};
    if (c.op == Operator::scan) return {handle_, Scan(problem())};
    Dense dense(problem());
    if (c.causal != ATTN_ALIGN_NONE) dense.causal(c.causal);
    if (c.window_left >= 0) dense.window_left(c.window_left);
    return {handle_, dense};
}

perf::Buffer<char> &Workload::add(attn_slot slot, attn_dtype dtype, const std::vector<int64_t> &shape, uint32_t index)
{
    perf::Buffer<char> &memory = memory_.emplace_back(bytes_of(dtype, shape));
    attn_tensor tensor = view(memory.data(), dtype, {});
    tensor.ndim = static_cast<int32_t>(shape.size());
    int64_t step = 1;
    for (size_t axis = shape.size(); axis-- > 0; step *= shape[axis])
        tensor.shape[axis] = shape[axis], tensor.strides[axis] = step;
    views_.push_back(tensor);
    args_.push_back({slot, index, nullptr});
    return memory;
}

void Workload::add_random(attn_slot slot, attn_dtype dtype, const std::vector<int64_t> &shape, uint32_t index)
{
    fill_random(&add(slot, dtype, shape, index), dtype, static_cast<unsigned>(memory_.size()));
}

void Workload::add_integers(attn_slot slot, const std::vector<int32_t> &values, const std::vector<int64_t> &shape)
{
    perf::Buffer<char> &memory = add(slot, ATTN_INT32, shape);
    std::copy_n(reinterpret_cast<const char *>(values.data()), memory.size(), memory.data());
}

/// BLOCK_TABLE of a pool in which every sequence has as many pages, in random order as after long use.
void Workload::add_pages(int64_t pages_each)
{
    std::vector<int32_t> pages(static_cast<size_t>(shape_.batch * pages_each));
    std::iota(pages.begin(), pages.end(), 0);
    std::shuffle(pages.begin(), pages.end(), std::mt19937(1));
    add_integers(ATTN_SLOT_BLOCK_TABLE, pages, {shape_.batch, pages_each});
}

void Workload::add_lengths()
{
    if (shape_.packed) {
        std::vector<int32_t> bounds = {0};
        for (const int64_t length : lengths_) bounds.push_back(bounds.back() + static_cast<int32_t>(length));
        add_integers(ATTN_SLOT_CU_SEQLENS_Q, bounds, {shape_.batch + 1});
        add_integers(ATTN_SLOT_CU_SEQLENS_KV, bounds, {shape_.batch + 1});
    }
    if (shape_.page_size || shape_.op == Operator::append)
        add_integers(ATTN_SLOT_SEQLENS_KV, std::vector<int32_t>(lengths_.begin(), lengths_.end()), {shape_.batch});
}

void Workload::add_dense()
{
    const BenchCase &c = shape_;
    std::vector<int64_t> q = {c.batch, c.queries, c.heads_q}, kv = {c.batch, c.keys, c.heads_kv};
    if (c.packed) {
        const int64_t total = std::accumulate(lengths_.begin(), lengths_.end(), int64_t{0});
        q = {total, c.heads_q}, kv = {total, c.heads_kv};
    }
    if (c.page_size) {
        const int64_t pages_each = (c.keys + c.page_size - 1) / c.page_size;
        kv = {c.batch * pages_each, c.page_size, c.heads_kv};
        add_pages(pages_each);
    }
    const auto with = [](std::vector<int64_t> shape, int64_t channels) {
        shape.push_back(channels);
        return shape;
    };
    add_random(ATTN_SLOT_Q, c.dtype, with(q, c.dim_qk));
    add_random(ATTN_SLOT_K, c.dtype, with(kv, c.dim_qk));
    if (!c.v_aliases_k) add_random(ATTN_SLOT_V, c.dtype, with(kv, c.dim_v));
    add(ATTN_SLOT_OUT, c.dtype, with(q, c.dim_v));
    add_lengths();
}

void Workload::add_merge()
{
    const BenchCase &c = shape_;
    for (uint32_t part = 0; part < static_cast<uint32_t>(c.parts); ++part) {
        add_random(ATTN_SLOT_PARTIAL_OUT, ATTN_FLOAT32, {c.batch, c.queries, c.heads_q, c.dim_v}, part);
        add_random(ATTN_SLOT_PARTIAL_LSE, ATTN_FLOAT32, {c.batch, c.heads_q, c.queries}, part);
    }
    add(ATTN_SLOT_OUT, c.dtype, {c.batch, c.queries, c.heads_q, c.dim_v});
}

void Workload::add_append()
{
    const BenchCase &c = shape_;
    std::vector<int64_t> k = {c.batch, c.keys, c.heads_kv, c.dim_qk}, v = {c.batch, c.keys, c.heads_kv, c.dim_v};
    if (c.page_size) {
        const int64_t pages_each = (c.keys + c.page_size - 1) / c.page_size;
        k[0] = v[0] = c.batch * pages_each;
        k[1] = v[1] = c.page_size;
        add_pages(pages_each);
    }
    const attn_dtype cache = c.cache_dtype ? c.cache_dtype : c.dtype;
    add_random(ATTN_SLOT_K, c.dtype, {c.batch, c.queries, c.heads_kv, c.dim_qk});
    add_random(ATTN_SLOT_V, c.dtype, {c.batch, c.queries, c.heads_kv, c.dim_v});
    add(ATTN_SLOT_K_CACHE, cache, k);
    add(ATTN_SLOT_V_CACHE, cache, v);
    add_lengths();
}

/// Uniform numbers.
void Workload::add_gate(attn_slot slot, const std::vector<int64_t> &shape, float first, float last)
{
    perf::Buffer<char> &memory = add(slot, ATTN_FLOAT32, shape);
    std::mt19937 bits(static_cast<unsigned>(memory_.size()));
    std::uniform_real_distribution<float> uniform(first, last);
    for (size_t at = 0; at < memory.size(); at += sizeof(float)) {
        const float x = uniform(bits);
        std::copy_n(reinterpret_cast<const char *>(&x), sizeof x, memory.data() + at);
    }
}

/// The state is updated in place, as a model does.
void Workload::add_linear()
{
    const BenchCase &c = shape_;
    const std::vector<int64_t> rows = {c.batch, c.queries, c.heads_q, c.dim_qk};
    const std::vector<int64_t> tokens = {c.batch, c.queries, c.heads_q};
    add_random(ATTN_SLOT_Q, c.dtype, rows);
    add_random(ATTN_SLOT_K, c.dtype, rows);
    add_random(ATTN_SLOT_V, c.dtype, {c.batch, c.queries, c.heads_q, c.dim_v});
    add(ATTN_SLOT_OUT, c.dtype, {c.batch, c.queries, c.heads_q, c.dim_v});
    if (c.decay == ATTN_DECAY_HEAD) add_gate(ATTN_SLOT_DECAY, {c.heads_q}, -0.1f, 0);
    if (c.decay == ATTN_DECAY_TOKEN) add_gate(ATTN_SLOT_DECAY, tokens, -0.1f, 0);
    if (c.decay == ATTN_DECAY_CHANNEL) add_gate(ATTN_SLOT_DECAY, rows, -0.1f, 0);
    if (c.update == ATTN_UPDATE_DELTA) add_gate(ATTN_SLOT_BETA, tokens, 0, 1);
    if (c.update == ATTN_UPDATE_DPLR) { // small enough that the state does not grow
        const float most = 1 / static_cast<float>(c.dim_qk);
        add_gate(ATTN_SLOT_DPLR_B, rows, 0, most);
        add_gate(ATTN_SLOT_DPLR_C, rows, -most, 0);
    }
    perf::Buffer<char> &zeros = add(ATTN_SLOT_STATE_IN, ATTN_FLOAT32, {c.batch, c.heads_q, c.dim_qk, c.dim_v});
    std::fill_n(zeros.data(), zeros.size(), char{0});
    const attn_tensor state = views_.back();
    views_.push_back(state);
    args_.push_back({ATTN_SLOT_STATE_OUT, 0, nullptr});
}

void Workload::add_sequence()
{
    const BenchCase &c = shape_;
    const std::vector<int64_t> rows = {c.batch, c.queries, c.heads_q, c.dim_qk};
    add_random(ATTN_SLOT_X, c.dtype, rows);
    if (c.op == Operator::conv)
        add_random(ATTN_SLOT_CONV_WEIGHT, ATTN_FLOAT32, {c.heads_q, c.dim_qk, c.width});
    else
        add_gate(ATTN_SLOT_DECAY, rows, -0.5f, 0);
    add(ATTN_SLOT_OUT, c.dtype, rows);
}

double measure_multiply_add(perf::Team &team, const std::string &isa, int repetitions)
{
    perf::MultiplyAdd loop(team, perf::ceiling_loops(isa));
    return loop.flops() / perf::race({[&] { loop.run(); }}, repetitions)[0].median;
}

Ceilings measure_ceilings(perf::Team &team, const std::string &isa, int repetitions)
{
    perf::Read read(team, perf::ceiling_loops(isa));
    const double seconds = perf::race({[&] { read.run(); }}, repetitions)[0].median;
    return {isa, measure_multiply_add(team, isa, repetitions), read.bytes() / seconds};
}

double BenchResult::rate() const
{
    return (shape.ceiling == Ceiling::read ? shape.bytes() : shape.flops()) / times.median;
}

BenchResult measure(const Handle &handle, const BenchCase &shape, const Ceilings &ceilings, int repetitions)
{
    Workload workload(handle, shape); // makes the plan a first time
    std::vector<double> plans;
    for (int i = 0; i < kPlans; ++i) {
        const auto start = std::chrono::steady_clock::now();
        const Plan plan = workload.plan();
        plans.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    std::nth_element(plans.begin(), plans.begin() + kPlans / 2, plans.end());
    const perf::Times times = perf::race({[&] { workload.run(); }}, repetitions)[0];
    return {shape, plans[kPlans / 2], times, shape.ceiling == Ceiling::read ? ceilings.read : ceilings.multiply_add};
}

} // namespace attn::cli
