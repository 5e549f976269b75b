#include "unfused.h"

#include <algorithm>
#include <atomic>
#include <cblas.h>
#include <cmath>

namespace attn::perf {
namespace {

constexpr double kLog2e = 1.44269504088896340736;

void set_blas_threads(Split split, const Team &team)
{
    openblas_set_num_threads(split == Split::inside ? team.size() : 1);
}

blasint narrow(int64_t value)
{
    return static_cast<blasint>(value);
}

} // namespace

const char *split_name(Split split)
{
    return split == Split::inside ? "inside" : "outside";
}

/// One product Q K^T and its P V.
struct Unfused::Head {
    const float *q, *k, *v;
    float *out;
};

Unfused::Unfused(const Case &shape, const Inputs &inputs, Team &team, const RowKernels &rows)
    : case_(shape),
      inputs_(inputs),
      team_(team),
      rows_(rows),
      units_(shape.is_decode() ? shape.heads_kv : shape.heads_q),
      unit_rows_(shape.is_decode() ? shape.heads_q / shape.heads_kv : shape.queries),
      out_(static_cast<size_t>(shape.q_elements())),
      scores_(static_cast<size_t>(team.size())),
      sums_(static_cast<size_t>(team.size()))
{
    for (auto &scores : scores_) scores.resize(static_cast<size_t>(unit_rows_ * shape.keys));
    for (auto &sums : sums_) sums.resize(static_cast<size_t>(unit_rows_));
}

const float *Unfused::floats(const Buffer<char> &tensor, Buffer<float> *wide)
{
    if (case_.dtype == ATTN_FLOAT32) return reinterpret_cast<const float *>(tensor.data());
    const auto *halves = reinterpret_cast<const uint16_t *>(tensor.data());
    wide->resize(tensor.size() / 2);
    team_.run([&](int worker) {
        const auto [begin, end] = share(static_cast<int64_t>(tensor.size()) / 32, worker, team_.size());
        rows_.widen(halves + begin * 16, wide->data() + begin * 16, (end - begin) * 16, case_.dtype == ATTN_BFLOAT16);
    });
    return wide->data();
}

void Unfused::soften(float *scores, float *sums, int64_t begin, int64_t end) const
{
    for (int64_t row = begin; row < end; ++row)
        sums[row] = rows_.soften(scores + row * case_.keys, case_.causal ? row + 1 : case_.keys, case_.keys);
}

void Unfused::run(Split split)
{
    set_blas_threads(split, team_);
    const float *q = floats(inputs_.q, &q_), *k = floats(inputs_.k, &k_), *v = floats(inputs_.v, &v_);
    const int64_t dim = case_.dim, q_step = case_.is_decode() ? dim : case_.heads_q * dim;
    const int64_t kv_step = case_.by_head ? dim : case_.heads_kv * dim;
    const int64_t kv_head_step = case_.by_head ? case_.keys * dim : dim;
    const auto head = [&](int64_t unit) {
        const int64_t q_head = unit * case_.heads_q / units_, kv_head = unit * case_.heads_kv / units_;
        return Head{q + q_head * dim, k + kv_head * kv_head_step, v + kv_head * kv_head_step,
                    out_.data() + q_head * dim};
    };
    const auto scale = static_cast<float>(kLog2e / std::sqrt(static_cast<double>(dim)));
    const blasint m = narrow(unit_rows_), n = narrow(case_.keys), d = narrow(dim);
    const auto multiply_qk = [&](const Head &h, float *scores) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, d, scale, h.q, narrow(q_step), h.k, narrow(kv_step),
                    0.0f, scores, n);
    };
    const auto multiply_pv = [&](const Head &h, const float *scores) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, d, n, 1.0f, scores, n, h.v, narrow(kv_step), 0.0f,
                    h.out, narrow(q_step));
    };
    const auto divide = [&](const Head &h, const float *sums, int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) rows_.scale(h.out + row * q_step, dim, 1.0f / sums[row]);
    };

    if (split == Split::outside) {
        std::atomic<int64_t> next = 0;
        team_.run([&](int worker) {
            float *scores = scores_[static_cast<size_t>(worker)].data();
            float *sums = sums_[static_cast<size_t>(worker)].data();
            for (int64_t unit; (unit = next++) < units_;) {
                const Head h = head(unit);
                multiply_qk(h, scores);
                soften(scores, sums, 0, unit_rows_);
                multiply_pv(h, scores);
                divide(h, sums, 0, unit_rows_);
            }
        });
        return;
    }
    float *scores = scores_[0].data(), *sums = sums_[0].data();
    for (int64_t unit = 0; unit < units_; ++unit) {
        const Head h = head(unit);
        multiply_qk(h, scores);
        team_.run([&](int worker) {
            const auto [begin, end] = share(unit_rows_, worker, team_.size());
            soften(scores, sums, begin, end);
        });
        multiply_pv(h, scores);
        divide(h, sums, 0, unit_rows_);
    }
}

Product::Product(int64_t m, int64_t n, int64_t k, Team &team)
    : m_(m),
      n_(n),
      k_(k),
      team_(team),
      a_(static_cast<size_t>(m * k)),
      b_(static_cast<size_t>(n * k)),
      c_(static_cast<size_t>(m * n))
{
    // Small integers: neither zeros nor subnormals.
    for (size_t i = 0; i < a_.size(); ++i) a_[i] = static_cast<float>(i % 7) - 3.5f;
    for (size_t i = 0; i < b_.size(); ++i) b_[i] = static_cast<float>(i % 11) - 5.5f;
}

void Product::run(Split split)
{
    set_blas_threads(split, team_);
    const auto multiply = [&](int64_t begin, int64_t end) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, narrow(end - begin), narrow(n_), narrow(k_), 1.0f,
                    a_.data() + begin * k_, narrow(k_), b_.data(), narrow(k_), 0.0f, c_.data() + begin * n_,
                    narrow(n_));
    };
    if (split == Split::inside) {
        multiply(0, m_);
        return;
    }
    team_.run([&](int worker) {
        const auto [begin, end] = share(m_, worker, team_.size());
        multiply(begin, end);
    });
}

} // namespace attn::perf
