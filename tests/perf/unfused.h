// The baselines: attention as two matrix products with a softmax between them, a matrix product alone.
#ifndef ATTN_TESTS_PERF_UNFUSED_H
#define ATTN_TESTS_PERF_UNFUSED_H

#include "attention.h"
#include "rows.h"

#include "src/cli/measure/team.h"

namespace attn::perf {

/// How work is put on the threads.
enum class Split {
    inside, ///< One product at a time, OpenBLAS uses all threads; rows of the softmax are shared out.
    outside ///< Each thread takes heads (of a plain product: rows) of its own, OpenBLAS uses one thread.
};
const char *split_name(Split split);

/**
 * Unfused attention in float32: for each head S = Q K^T with the scale in alpha of sgemm, a masked softmax over S by
 * rows, O = P V, and the division by the row sums on O, where it costs least. Causal changes the mask only: all of S is
 * computed, exponentiated and multiplied. Half inputs are widened first, OUT stays float32. One query per sequence: the
 * heads of a group are the rows of one product.
 */
class Unfused {
public:
    Unfused(const Case &shape, const Inputs &inputs, Team &team, const RowKernels &rows);

    /// OUT is then in out().
    void run(Split split);
    const Buffer<float> &out() const { return out_; }

private:
    struct Head;
    /// A tensor of the inputs as floats: `wide` is its memory where it has to be widened.
    const float *floats(const Buffer<char> &tensor, Buffer<float> *wide);
    void soften(float *scores, float *sums, int64_t begin, int64_t end) const;

    const Case &case_;
    const Inputs &inputs_;
    Team &team_;
    const RowKernels &rows_;
    int64_t units_, unit_rows_; ///< Products Q K^T of one run, and rows of each.
    Buffer<float> q_, k_, v_;   ///< Half inputs, widened.
    Buffer<float> out_;
    std::vector<Buffer<float>> scores_; ///< By thread, [unit_rows, keys].
    std::vector<Buffer<float>> sums_;   ///< By thread, [unit_rows].
};

/// C = A B^T with A [m, k], B [n, k].
class Product {
public:
    Product(int64_t m, int64_t n, int64_t k, Team &team);
    void run(Split split);
    double flops() const { return 2.0 * static_cast<double>(m_) * static_cast<double>(n_) * static_cast<double>(k_); }

private:
    int64_t m_, n_, k_;
    Team &team_;
    Buffer<float> a_, b_, c_;
};

} // namespace attn::perf

#endif
