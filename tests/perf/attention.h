// libattn's side of a case: handle, plan, workspace and tensors.
#ifndef ATTN_TESTS_PERF_ATTENTION_H
#define ATTN_TESTS_PERF_ATTENTION_H

#include "cases.h"

#include "src/cli/measure/buffer.h"

#include <memory>

namespace attn::perf {

/// Throws std::runtime_error with the library's message.
void check(attn_status status, const char *what);

struct DestroyHandle {
    void operator()(attn_handle handle) const { attn_destroy(handle); }
};
struct DestroyPlan {
    void operator()(attn_plan plan) const { attn_plan_destroy(plan); }
};
using Handle = std::unique_ptr<attn_handle_s, DestroyHandle>;

Handle open_handle(int threads);

/// Random normal numbers.
Buffer<char> random_values(int64_t count, attn_dtype dtype, unsigned seed);

/// Tensors of a case, random normal, in its dtype.
struct Inputs {
    Buffer<char> q, k, v;

    explicit Inputs(const Case &shape);
};

class Attention {
public:
    /// Keeps views of the inputs.
    Attention(const Handle &handle, const Case &shape, const Inputs &inputs);
    void run();
    Buffer<float> out() const;

private:
    attn_dtype dtype_;
    std::unique_ptr<attn_plan_s, DestroyPlan> plan_;
    Buffer<char> out_, workspace_;
    attn_tensor views_[4];
    attn_arg args_[4];
};

} // namespace attn::perf

#endif
