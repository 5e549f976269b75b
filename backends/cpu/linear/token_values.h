// The tokens of a state as doubles: rows after their feature map and norm, log decays after their activation. For the
// reference path and for checked mode, which both want the plain formula.
#ifndef ATTN_BACKENDS_CPU_LINEAR_TOKEN_VALUES_H
#define ATTN_BACKENDS_CPU_LINEAR_TOKEN_VALUES_H

#include "backends/cpu/linear/kernel.h"

namespace attn::cpu {

/// Element of a tensor without NULL base.
double value_at(const TokenView &view, int64_t token, int64_t channel) noexcept;
double read_real(const char *p, Element type) noexcept;

/// Features of a row of Q (head `r` of the group) or K, `dim_k` of them. `row` has room for dim_qk.
void read_query(const LinearShape &shape, const LinearTask &task, int64_t r, int64_t token, double *row,
                double *features) noexcept;
void read_key(const LinearShape &shape, const LinearTask &task, int64_t token, double *row, double *features) noexcept;

/// The natural log of the decay of a channel of the state.
double log_decay(const LinearShape &shape, const LinearTask &task, int64_t token, int64_t channel) noexcept;

} // namespace attn::cpu

#endif
