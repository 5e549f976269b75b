// What a call of a linear plan is like: a method, sizes, dtypes and storage. The contents follow from the seed.
#pragma once

#include <attn/attn.h>

#include <cstdint>
#include <string>
#include <vector>

namespace linear {

struct Session {
    std::uint64_t seed = 0;
    bool subset = false;
};
const Session &session();

// A method of the literature as the fields of a descriptor, and what its inputs are like.
struct Method {
    std::string name;
    attn_decay decay = ATTN_DECAY_NONE;
    attn_decay_form form = ATTN_DECAY_LOG;
    attn_update update = ATTN_UPDATE_ADD;
    attn_read read = ATTN_READ_AFTER;
    attn_feature_map map = ATTN_FEATURE_IDENTITY;
    std::uint64_t flags = 0;
    double scale = 0, eps = 0, lower_bound = 0, decay_scale = 0;
    double gate = 0.1; // mean of -log decay where it is given directly
    std::string line;  // the descriptor, for the table
};
const std::vector<Method> &methods();
const Method &method(const std::string &name);

struct Spec {
    std::string method = "linear";
    std::uint64_t seed = 1;
    std::int32_t workers = 1;
    std::int64_t batch = 2, tokens = 21, heads_q = 2, heads_k = 2, heads_v = 2, dim_qk = 8, dim_v = 8;
    std::int64_t keys = 0; // of bidirectional methods; 0: as many as tokens
    attn_dtype dtype = ATTN_FLOAT32, out = ATTN_FLOAT32, gate = ATTN_FLOAT32, state = ATTN_FLOAT32;
    bool state_in = true, state_out = true, pool = false, in_place = false, per_token = false, value_major = false;
    bool packed = false, used = false; // CU_SEQLENS, SEQLENS
    bool broadcast = false;            // gates of all heads alike
    bool recurrent = false;
    bool checked = false;
    std::int64_t chunk = 0;
    double gate_size = 0; // instead of that of the method
    std::string layout = "bshd", state_layout = "bshd";

    std::string text() const;
};

} // namespace linear
