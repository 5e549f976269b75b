// Options of dense attention, each to be measured beside attention without it.
#ifndef ATTN_TESTS_PERF_OPTION_CASES_H
#define ATTN_TESTS_PERF_OPTION_CASES_H

#include <attn/attn.h>

#include <string>
#include <vector>

namespace attn::perf {

/// What a plan is made from. 2048 tokens of 8 heads of 128 channels, unless an option says otherwise.
struct Description {
    attn_problem problem = {};
    attn_dense dense = {};
    attn_bias_table table = {};
    bool has_table = false;
    std::vector<attn_term> terms; ///< Of a mask program.
    std::vector<double> widths;   ///< By head: p[0] of its first term.
    int64_t document = 1;         ///< Tokens of the same id.
    std::vector<attn_bind> binds;
    int64_t used_keys = 0;    ///< SEQLENS_KV; 0: not bound.
    int64_t channel_step = 1; ///< Of Q, K, V and OUT.
    int64_t position_step = 1;

    explicit Description(attn_dtype dtype);
    void bind(attn_slot slot, uint32_t flags = 0);
    void add_term(uint16_t op, int64_t p0 = 0, int64_t p1 = 0);
};

struct OptionCase {
    std::string name;
    bool causal;                     ///< Both sides.
    double bar;                      ///< Largest ratio of the times in float32; 0: none.
    void (*describe)(Description &); ///< The option.
    void (*plain)(Description &);    ///< What it is compared with; NULL: nothing changed.
};

const std::vector<OptionCase> &option_cases();

} // namespace attn::perf

#endif
