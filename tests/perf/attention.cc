#include "attention.h"

#include "backends/cpu/simd.h"

#include <cstring>
#include <random>
#include <stdexcept>

namespace attn::perf {
namespace {

using cpu::kWidth;

Buffer<char> narrow(const Buffer<float> &values, attn_dtype dtype)
{
    Buffer<char> bytes(values.size() * (dtype == ATTN_FLOAT32 ? 4 : 2));
    if (dtype == ATTN_FLOAT32) {
        std::memcpy(bytes.data(), values.data(), bytes.size());
        return bytes;
    }
    auto *halves = reinterpret_cast<uint16_t *>(bytes.data());
    for (size_t i = 0; i < values.size(); ++i)
        halves[i] = dtype == ATTN_FLOAT16 ? cpu::to_float16(values[i]) : cpu::to_bfloat16(values[i]);
    return bytes;
}

Buffer<float> widen(const Buffer<char> &bytes, attn_dtype dtype)
{
    Buffer<float> values(bytes.size() / (dtype == ATTN_FLOAT32 ? 4 : 2));
    if (dtype == ATTN_FLOAT32) {
        std::memcpy(values.data(), bytes.data(), bytes.size());
        return values;
    }
    const auto *halves = reinterpret_cast<const uint16_t *>(bytes.data());
    for (size_t i = 0; i < values.size(); i += kWidth)
        cpu::store(values.data() + i,
                   dtype == ATTN_FLOAT16 ? cpu::from_float16(halves + i) : cpu::from_bfloat16(halves + i));
    return values;
}

} // namespace

void check(attn_status status, const char *what)
{
    if (status == ATTN_OK) return;
    throw std::runtime_error(std::string(what) + ": " + attn_status_name(status) + ": " + attn_last_error());
}

Handle open_handle(int threads)
{
    attn_options options = {};
    options.size = sizeof options;
    options.max_workers = threads;
    attn_handle handle = nullptr;
    check(attn_create(&options, &handle), "attn_create");
    return Handle(handle);
}

Buffer<char> random_values(int64_t count, attn_dtype dtype, unsigned seed)
{
    std::mt19937 bits(seed);
    std::normal_distribution<float> normal;
    Buffer<float> values(static_cast<size_t>(count));
    for (float &value : values) value = normal(bits);
    return narrow(values, dtype);
}

Inputs::Inputs(const Case &shape)
    : q(random_values(shape.q_elements(), shape.dtype, 1)),
      k(random_values(shape.kv_elements(), shape.dtype, 2)),
      v(random_values(shape.kv_elements(), shape.dtype, 3))
{
}

Attention::Attention(const Handle &handle, const Case &shape, const Inputs &inputs)
    : dtype_(shape.dtype), out_(inputs.q.size())
{
    attn_problem problem = {};
    problem.size = sizeof problem;
    problem.q_dtype = dtype_;
    problem.heads_q = shape.heads_q;
    problem.heads_k = shape.heads_kv;
    problem.dim_qk = shape.dim;
    problem.max_q = shape.queries;
    problem.max_kv = shape.keys;
    attn_dense dense = {};
    dense.size = sizeof dense;
    dense.problem = &problem;
    dense.causal = shape.causal ? ATTN_TOP_LEFT : ATTN_ALIGN_NONE;
    attn_plan plan = nullptr;
    check(attn_plan_dense(handle.get(), &dense, &plan), "attn_plan_dense");
    plan_.reset(plan);
    size_t bytes = 0;
    check(attn_plan_workspace(plan, &bytes, nullptr), "attn_plan_workspace");
    workspace_.resize(bytes);

    const auto view = [&](const Buffer<char> &data, int64_t tokens, int64_t heads) {
        return attn_tensor_4d(data.data(), dtype_, 1, tokens, heads, shape.dim);
    };
    const auto cache = [&](const Buffer<char> &data) {
        return shape.by_head ? attn_tensor_swap_axes(view(data, shape.heads_kv, shape.keys), 1, 2)
                             : view(data, shape.keys, shape.heads_kv);
    };
    views_[0] = view(inputs.q, shape.queries, shape.heads_q);
    views_[1] = cache(inputs.k);
    views_[2] = cache(inputs.v);
    views_[3] = view(out_, shape.queries, shape.heads_q);
    constexpr attn_slot kSlots[] = {ATTN_SLOT_Q, ATTN_SLOT_K, ATTN_SLOT_V, ATTN_SLOT_OUT};
    for (int i = 0; i < 4; ++i) args_[i] = {kSlots[i], 0, &views_[i]};
}

void Attention::run()
{
    check(attn_execute(plan_.get(), args_, 4, workspace_.data(), workspace_.size(), nullptr), "attn_execute");
}

Buffer<float> Attention::out() const
{
    return widen(out_, dtype_);
}

} // namespace attn::perf
