// What a call of a conv or scan plan is like: options, sizes, dtypes and storage. The contents follow from the seed.
#pragma once

#include "number.h"

#include <attn/attn.h>

#include <cstdint>
#include <string>

namespace sequence {

struct Session {
    std::uint64_t seed = 0;
    bool subset = false;
};
const Session &session();

struct Spec {
    bool conv = true;
    std::uint64_t seed = 1;
    std::int32_t workers = 1;
    std::int64_t batch = 2, tokens = 21, heads = 2, channels = 8;
    attn_dtype dtype = ATTN_FLOAT32, out = ATTN_FLOAT32, state = ATTN_FLOAT32;
    attn_dtype other = ATTN_FLOAT32; // of weights, gates and residuals
    std::int64_t width = 4;
    bool silu = false, bias = false, residual = false; // conv
    bool factor = false, lerp = false, write = false;  // scan
    double gate_size = 0.3;                            // mean of -log decay
    bool broadcast = false;                            // gates of all channels alike
    bool state_in = true, state_out = true, pool = false, in_place = false;
    bool packed = false, used = false; // CU_SEQLENS_Q, SEQLENS_Q
    bool checked = false;
    std::string layout = "bshd", state_layout = "bshd";

    std::string text() const;
};

// A valid case drawn from everything above.
Spec random_spec(bool conv, conformance::Random &random);

} // namespace sequence
