// What a case costs the oracle.
#ifndef ATTN_SRC_CLI_WORK_H
#define ATTN_SRC_CLI_WORK_H

#include "conformance/case.h"

namespace attn::cli {

/// Multiplications and elements of tensors, roughly. Never overflows.
inline double work_of(const conformance::Case &c)
{
    const auto real = [](int64_t x) { return static_cast<double>(x < 0 ? 0 : x); };
    const double heads = real(c.heads_out());
    const double channels = real(c.dim_qk) + real(c.dim_v) + real(c.bias_rank);
    const double tokens = real(c.batch) * (real(c.max_q) + real(c.max_kv) + real(c.page_size));
    const double table = real(c.table_distance) + real(c.table_buckets);
    const double pairs = real(c.batch) * real(c.max_q) * real(c.max_kv); // each with a score, a weight and maybe a bias
    const double mask = c.has_mask() ? 4 * static_cast<double>(c.mask.size()) : 0;
    return pairs * heads * (channels + 16 + mask) + heads * (tokens * channels + table);
}

} // namespace attn::cli

#endif
