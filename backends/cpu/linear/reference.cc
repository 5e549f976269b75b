#include "backends/cpu/linear/reference.h"

#include "backends/cpu/element_vectors.h"
#include "backends/cpu/linear/token_values.h"

#include <algorithm>
#include <cmath>

namespace attn::cpu {
namespace {

/// Columns that a task keeps: its own of V, and the sum of keys where there is a normaliser.
int64_t kept_columns(const LinearShape &shape, int64_t columns)
{
    return columns + (shape.normaliser ? 1 : 0);
}

size_t scratch_bytes(const LinearShape &shape, int64_t columns)
{
    const int64_t kept = kept_columns(shape, columns);
    return static_cast<size_t>(shape.dim_k * kept + shape.dim_qk + 2 * shape.dim_k + 2 * kept) * sizeof(double);
}

/// A state while tokens pass, and room for one token.
class Recurrence {
public:
    Recurrence(const LinearShape &shape, const LinearTask &task, void *scratch)
        : shape_(shape), task_(task), kept_(kept_columns(shape, task.columns))
    {
        double *next = static_cast<double *>(scratch);
        const auto take = [&](int64_t count) {
            double *taken = next;
            next += count;
            return taken;
        };
        state_ = take(shape.dim_k * kept_);
        row_ = take(shape.dim_qk), k_ = take(shape.dim_k), q_ = take(shape.dim_k);
        v_ = take(kept_), sum_ = take(kept_);
    }

    void run()
    {
        load();
        if (shape_.bidirectional) {
            for (int64_t token = 0; token < task_.keys; ++token) update(token);
            for (int64_t token = 0; token < task_.tokens; ++token) read(token);
        } else {
            for (int64_t token = 0; token < task_.tokens; ++token) {
                if (shape_.read_before) read(token);
                update(token);
                if (!shape_.read_before) read(token);
                if (task_.token_states.base) {
                    StateView kept = task_.token_states;
                    kept.base += token * task_.token_state_step;
                    save(kept);
                }
            }
        }
        if (task_.state_out.base) save(task_.state_out);
    }

private:
    double *row_of(int64_t d) { return state_ + d * kept_; }
    /// Column of the caller's state. The sum of keys comes after those of V.
    int64_t column_of(int64_t c) const { return c < task_.columns ? task_.first_column + c : shape_.dim_v; }

    void load()
    {
        const StateView &in = task_.state_in;
        for (int64_t d = 0; d < shape_.dim_k; ++d)
            for (int64_t c = 0; c < kept_; ++c)
                row_of(d)[c] = !in.base ? 0 : c < task_.columns ? state_element(in, d, column_of(c)) : key_sum(d);
    }

    static double state_element(const StateView &in, int64_t d, int64_t column)
    {
        return read_real(in.base + d * in.row_step + column * in.column_step, in.type);
    }
    double key_sum(int64_t d) const { return state_element(task_.key_sums, d, 0); }

    void save(const StateView &out)
    {
        const bool last = task_.first_column + task_.columns == shape_.dim_v; // it has the sum of keys too
        const int64_t count = last ? kept_ : task_.columns;
        for (int64_t d = 0; d < shape_.dim_k; ++d)
            for (int64_t c = 0; c < count; ++c)
                write_element(out.base + d * out.row_step + column_of(c) * out.column_step, out.type,
                              static_cast<float>(row_of(d)[c]));
    }

    /// sum = S^T x, x by channel.
    template <class Channel>
    void contract(Channel x)
    {
        std::fill_n(sum_, kept_, 0.0);
        for (int64_t d = 0; d < shape_.dim_k; ++d) {
            const double factor = x(d);
            const double *s = row_of(d);
            for (int64_t c = 0; c < kept_; ++c) sum_[c] += factor * s[c];
        }
    }

    /// S += x y^T, x by channel.
    template <class Channel>
    void add_product(Channel x, const double *y)
    {
        for (int64_t d = 0; d < shape_.dim_k; ++d) {
            const double factor = x(d);
            double *s = row_of(d);
            for (int64_t c = 0; c < kept_; ++c) s[c] += factor * y[c];
        }
    }

    void decay(int64_t token)
    {
        if (shape_.decay == Decay::none) return;
        const bool channel = shape_.decay == Decay::channel;
        double factor = channel ? 1 : std::exp(log_decay(shape_, task_, token, 0));
        for (int64_t d = 0; d < shape_.dim_k; ++d) {
            if (channel) factor = std::exp(log_decay(shape_, task_, token, d));
            double *s = row_of(d);
            for (int64_t c = 0; c < kept_; ++c) s[c] *= factor;
        }
    }

    void update(int64_t token)
    {
        read_key(shape_, task_, token, row_, k_);
        for (int64_t c = 0; c < task_.columns; ++c) v_[c] = value_at(task_.v, token, task_.first_column + c);
        if (shape_.normaliser) v_[task_.columns] = 1;
        const auto key = [&](int64_t d) { return k_[d]; };
        switch (shape_.update) {
        case Update::add:
            decay(token);
            break;
        case Update::delta: {
            decay(token);
            contract(key);
            const double beta = value_at(task_.beta, token, 0);
            for (int64_t c = 0; c < kept_; ++c) v_[c] = beta * (v_[c] - sum_[c]);
            break;
        }
        case Update::gated_delta:
            decay(token);
            contract([&](int64_t d) { return value_at(task_.erase, token, d) * k_[d]; });
            for (int64_t c = 0; c < kept_; ++c)
                v_[c] = value_at(task_.write, token, task_.first_column + c) * v_[c] - sum_[c];
            break;
        case Update::dplr: // reads the state before its decay
            contract([&](int64_t d) { return value_at(task_.dplr_c, token, d); });
            decay(token);
            add_product([&](int64_t d) { return value_at(task_.dplr_b, token, d); }, sum_);
            break;
        }
        add_product(key, v_);
    }

    void read(int64_t token)
    {
        for (int64_t r = 0; r < shape_.group; ++r) {
            read_query(shape_, task_, r, token, row_, q_);
            contract([&](int64_t d) { return q_[d]; });
            if (shape_.read_before) {
                read_key(shape_, task_, token, row_, k_);
                double bonus = 0;
                for (int64_t d = 0; d < shape_.dim_k; ++d) bonus += q_[d] * value_at(task_.bonus, 0, d) * k_[d];
                for (int64_t c = 0; c < task_.columns; ++c)
                    sum_[c] += bonus * value_at(task_.v, token, task_.first_column + c);
                if (shape_.normaliser) sum_[task_.columns] += bonus;
            }
            double factor = static_cast<double>(shape_.scale);
            if (shape_.normaliser) {
                const double weights = factor * sum_[task_.columns] + static_cast<double>(shape_.normaliser_eps);
                factor = weights == 0 ? 0 : factor / weights;
            }
            char *out = task_.out + token * task_.out_token_step + r * task_.out_head_step;
            const int64_t step = task_.out_channel_step * element_bytes(task_.out_type);
            for (int64_t c = 0; c < task_.columns; ++c)
                write_element(out + (task_.first_column + c) * step, task_.out_type,
                              static_cast<float>(factor * sum_[c]));
        }
    }

    const LinearShape &shape_;
    const LinearTask &task_;
    const int64_t kept_;
    double *state_, *row_, *k_, *q_, *v_, *sum_;
};

void run(const LinearShape &shape, const LinearTask &task, void *scratch)
{
    Recurrence(shape, task, scratch).run();
}

} // namespace

const LinearKernel kLinearReference = {"cpu.linear.recurrent", scratch_bytes, run, nullptr};

} // namespace attn::cpu
