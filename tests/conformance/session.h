// Settings of a test run, from the environment:
//   ATTN_TEST_SEED    base seed, decimal; without it a random one, printed at the start
//   ATTN_TEST_RANDOM  number of random descriptors, 300 without it
//   ATTN_TEST_SUBSET  not empty: only small cases, for builds with sanitizers
//   ATTN_TEST_BACKEND only this backend, as "cpu/amx", of those that are present
//   ATTN_TEST_CASE    JSON of one case, as a failure printed it, for --gtest_filter='Replay.*'
#pragma once

#include <cstdint>
#include <string>

namespace conformance {

struct Session {
    std::uint64_t seed = 0;
    std::int64_t random_cases = 300;
    bool subset = false;
    std::string replay;
};
const Session &session();

} // namespace conformance
