// A small dense problem as a caller writes it, and the checks that every failing call must pass: the status, a message
// that names field, value and rule, and outputs that nobody touched.
#ifndef ATTN_TESTS_UNIT_ABI_FIXTURE_H
#define ATTN_TESTS_UNIT_ABI_FIXTURE_H

#include <attn/attn.h>

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace caller {

using Parts = std::vector<const char *>;

/// Makes CUDA absent on every machine.
inline void hide_cuda_driver()
{
    setenv("ATTN_CUDA_DRIVER", "/nonexistent/libcuda.so.1", 1);
}

/// A growable struct as the header wants it: zero, with its size.
template <class Struct>
Struct zeroed()
{
    Struct s;
    memset(&s, 0, sizeof s);
    s.size = sizeof s;
    return s;
}

inline attn_bind bind_of(attn_slot slot, attn_dtype dtype = 0, uint32_t flags = 0, uint32_t index = 0)
{
    attn_bind bind = {};
    bind.slot = slot, bind.index = index, bind.dtype = dtype, bind.flags = flags;
    return bind;
}

/// Whether `got` is `wanted` and the message of the thread has every one of `parts`.
inline ::testing::AssertionResult fails(attn_status got, attn_status wanted, const Parts &parts)
{
    const std::string message = attn_last_error();
    if (got != wanted)
        return ::testing::AssertionFailure() << "status " << attn_status_name(got) << " (" << got << ") instead of "
                                             << attn_status_name(wanted) << "; last message: " << message;
    for (const char *part : parts)
        if (message.find(part) == std::string::npos)
            return ::testing::AssertionFailure() << "no \"" << part << "\" in the message: " << message;
    return ::testing::AssertionSuccess();
}

inline ::testing::AssertionResult succeeds(attn_status got)
{
    if (got == ATTN_OK) return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure() << attn_status_name(got) << ": " << attn_last_error();
}

class Handle {
public:
    explicit Handle(const attn_options *options = nullptr) { EXPECT_TRUE(succeeds(attn_create(options, &handle_))); }
    /// A handle with `workers` threads of its own.
    static attn_options workers(int32_t workers)
    {
        attn_options options = zeroed<attn_options>();
        options.max_workers = workers;
        return options;
    }
    ~Handle() { attn_destroy(handle_); }
    Handle(const Handle &) = delete;
    Handle &operator=(const Handle &) = delete;
    operator attn_handle() const { return handle_; }
    attn_handle release()
    {
        attn_handle handle = handle_;
        handle_ = nullptr;
        return handle;
    }

private:
    attn_handle handle_ = nullptr;
};

/// A descriptor with all that it may point to. B 2, Tq 4, Tk 6, Hq 4, Hk = Hv = 2, dim_qk 8, dim_v 4, LSE bound.
struct Dense {
    attn_problem problem = zeroed<attn_problem>();
    attn_dense dense = zeroed<attn_dense>();
    attn_program program = zeroed<attn_program>();
    attn_rope rope = zeroed<attn_rope>();
    attn_bias_table table = zeroed<attn_bias_table>();
    attn_term term = {};
    std::vector<attn_bind> binds = {bind_of(ATTN_SLOT_LSE)};
    bool links_binds = true; ///< Whether get() fills problem.binds and bind_count.

    Dense()
    {
        problem.q_dtype = ATTN_FLOAT32;
        problem.batch = 2, problem.heads_q = 4, problem.heads_k = 2;
        problem.dim_qk = 8, problem.dim_v = 4;
        problem.max_q = 4, problem.max_kv = 6;
        term.op = ATTN_MASK_PREFIX, term.p[0] = 1;
        program.terms = &term, program.term_count = 1;
        dense.problem = &problem;
    }
    Dense(const Dense &) = delete;
    Dense &operator=(const Dense &) = delete;

    void bind(attn_slot slot, attn_dtype dtype = 0, uint32_t flags = 0, uint32_t index = 0)
    {
        binds.push_back(bind_of(slot, dtype, flags, index));
    }
    const attn_dense *get()
    {
        if (links_binds) problem.binds = binds.data(), problem.bind_count = binds.size();
        return &dense;
    }
};

class Plan {
public:
    Plan(attn_handle handle, Dense &desc) { EXPECT_TRUE(succeeds(attn_plan_dense(handle, desc.get(), &plan_))); }
    ~Plan() { attn_plan_destroy(plan_); }
    Plan(const Plan &) = delete;
    Plan &operator=(const Plan &) = delete;
    operator attn_plan() const { return plan_; }
    size_t workspace() const
    {
        size_t bytes = 0;
        EXPECT_TRUE(succeeds(attn_plan_workspace(plan_, &bytes, nullptr)));
        return bytes;
    }

private:
    attn_plan plan_ = nullptr;
};

/// Memory between two guards, filled with a byte that no result consists of.
class Guarded {
public:
    static constexpr unsigned char kPoison = 0xa5;
    static constexpr size_t kGuard = 256;

    Guarded() = default;
    explicit Guarded(size_t bytes) : bytes_(bytes), memory_(bytes + 2 * kGuard, kPoison) {}

    void *data() { return memory_.data() + kGuard; }
    float *floats() { return reinterpret_cast<float *>(data()); }
    size_t bytes() const { return bytes_; }
    bool untouched() const { return clean(0, memory_.size()); }
    bool guards_untouched() const { return clean(0, kGuard) && clean(kGuard + bytes_, memory_.size()); }

private:
    bool clean(size_t begin, size_t end) const
    {
        for (size_t i = begin; i < end; ++i)
            if (memory_[i] != kPoison) return false;
        return true;
    }

    size_t bytes_ = 0;
    std::vector<unsigned char> memory_;
};

/// A number that depends on its place only, in -1 .. 1.
inline float filler(size_t i)
{
    return static_cast<float>(static_cast<int>(i * 7919 % 257) - 128) / 128.0f;
}

inline std::vector<float> filled(size_t count, size_t seed)
{
    std::vector<float> values(count);
    for (size_t i = 0; i < count; ++i) values[i] = filler(i + 1000 * seed);
    return values;
}

/// The tensors of one attn_execute() of the problem of Dense, as batched views; tests change what they are about.
struct Execution {
    static constexpr int64_t B = 2, Tq = 4, Tk = 6, Hq = 4, Hk = 2, Dqk = 8, Dv = 4;

    std::vector<float> q_data = filled(B * Tq * Hq * Dqk, 1);
    std::vector<float> k_data = filled(B * Tk * Hk * Dqk, 2);
    std::vector<float> v_data = filled(B * Tk * Hk * Dv, 3);
    Guarded out_memory{B * Tq * Hq * Dv * sizeof(float)}, lse_memory{B * Hq * Tq * sizeof(float)};
    Guarded workspace;
    attn_tensor q = attn_tensor_4d(q_data.data(), ATTN_FLOAT32, B, Tq, Hq, Dqk);
    attn_tensor k = attn_tensor_4d(k_data.data(), ATTN_FLOAT32, B, Tk, Hk, Dqk);
    attn_tensor v = attn_tensor_4d(v_data.data(), ATTN_FLOAT32, B, Tk, Hk, Dv);
    attn_tensor out = attn_tensor_4d(out_memory.data(), ATTN_FLOAT32, B, Tq, Hq, Dv);
    attn_tensor lse = attn_tensor_3d(lse_memory.data(), ATTN_FLOAT32, B, Hq, Tq);
    std::vector<attn_arg> args = {{ATTN_SLOT_Q, 0, &q},
                                  {ATTN_SLOT_K, 0, &k},
                                  {ATTN_SLOT_V, 0, &v},
                                  {ATTN_SLOT_OUT, 0, &out},
                                  {ATTN_SLOT_LSE, 0, &lse}};
    void *stream = nullptr;

    explicit Execution(size_t workspace_bytes) : workspace(workspace_bytes) {}
    Execution(const Execution &) = delete;
    Execution &operator=(const Execution &) = delete;

    void add(attn_slot slot, const attn_tensor &view) { args.push_back({slot, 0, &view}); }

    attn_status run(attn_plan plan)
    {
        return attn_execute(plan, args.data(), args.size(), workspace.data(), workspace.bytes(), stream);
    }

    /// The call fails as told and writes neither results nor workspace.
    ::testing::AssertionResult refused(attn_plan plan, attn_status wanted, const Parts &parts)
    {
        const ::testing::AssertionResult failure = fails(run(plan), wanted, parts);
        if (!failure) return failure;
        if (!out_memory.untouched()) return ::testing::AssertionFailure() << "OUT was written";
        if (!lse_memory.untouched()) return ::testing::AssertionFailure() << "LSE was written";
        if (!workspace.untouched()) return ::testing::AssertionFailure() << "the workspace was written";
        return ::testing::AssertionSuccess();
    }

    /// The call succeeds and stays within its buffers.
    ::testing::AssertionResult served(attn_plan plan)
    {
        const ::testing::AssertionResult success = succeeds(run(plan));
        if (!success) return success;
        if (!out_memory.guards_untouched() || !lse_memory.guards_untouched() || !workspace.guards_untouched())
            return ::testing::AssertionFailure() << "memory beyond a buffer was written";
        return ::testing::AssertionSuccess();
    }
};

/// Attention of the views in double precision; heads by the rule of the header. Row-major `[B, Tq, Hq, Dv]`.
inline std::vector<double> reference(const Execution &e)
{
    using E = Execution;
    std::vector<double> out(E::B * E::Tq * E::Hq * E::Dv);
    for (int64_t b = 0; b < E::B; ++b)
        for (int64_t i = 0; i < E::Tq; ++i)
            for (int64_t h = 0; h < E::Hq; ++h) {
                const int64_t kh = h * E::Hk / E::Hq;
                double sum = 0;
                double *row = &out[((b * E::Tq + i) * E::Hq + h) * E::Dv];
                for (int64_t j = 0; j < E::Tk; ++j) {
                    double score = 0;
                    for (int64_t c = 0; c < E::Dqk; ++c)
                        score += static_cast<double>(e.q_data[((b * E::Tq + i) * E::Hq + h) * E::Dqk + c]) *
                                 e.k_data[((b * E::Tk + j) * E::Hk + kh) * E::Dqk + c];
                    const double weight = std::exp(score / std::sqrt(static_cast<double>(E::Dqk)));
                    sum += weight;
                    for (int64_t c = 0; c < E::Dv; ++c)
                        row[c] += weight * e.v_data[((b * E::Tk + j) * E::Hk + kh) * E::Dv + c];
                }
                for (int64_t c = 0; c < E::Dv; ++c) row[c] /= sum;
            }
    return out;
}

inline ::testing::AssertionResult is_near(const float *got, const std::vector<double> &wanted)
{
    for (size_t i = 0; i < wanted.size(); ++i)
        if (!(std::abs(got[i] - wanted[i]) < 1e-5))
            return ::testing::AssertionFailure() << "element " << i << " is " << got[i] << " instead of " << wanted[i];
    return ::testing::AssertionSuccess();
}

} // namespace caller

#endif
