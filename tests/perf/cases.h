// What is measured: shapes and element types.
#ifndef ATTN_TESTS_PERF_CASES_H
#define ATTN_TESTS_PERF_CASES_H

#include <attn/attn.h>

#include <string>
#include <vector>

namespace attn::perf {

/// One problem, batch 1. Tensors are contiguous `[1, token, head, dim]`, K and V `[1, head, token, dim]` if by_head.
struct Case {
    std::string name;
    int64_t queries, keys;
    int64_t heads_q, heads_kv;
    int64_t dim;
    bool causal; ///< Diagonal top left; queries == keys.
    attn_dtype dtype;
    bool by_head = false;

    bool is_decode() const { return queries == 1; }
    int64_t q_elements() const { return queries * heads_q * dim; }
    int64_t kv_elements() const { return keys * heads_kv * dim; } ///< Of K, and of V.
    double flops() const;
    double kv_bytes() const; ///< Bytes of K and V as stored.
};

std::vector<Case> all_cases();

} // namespace attn::perf

#endif
