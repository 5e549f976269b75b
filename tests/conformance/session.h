// Settings of a test run, from the environment:
//   ATTN_TEST_SEED    base seed, decimal; without it a random one, printed at the start
//   ATTN_TEST_RANDOM  number of random descriptors, 300 without it
//   ATTN_TEST_SUBSET  not empty: only small cases, for builds with sanitizers
//   ATTN_TEST_BACKEND only this backend, as "cpu/amx" or "cuda"; a GPU is tested only so
//   ATTN_TEST_HANDLE_FLAGS  flags of handles on a GPU: NO_COMPILE, NO_DISK_CACHE, NO_WAIT, by commas
//   ATTN_TEST_SHARD   "2/16": of the cases of the tables only those numbered 2, 18, 34, ..
//   ATTN_TEST_CASE    JSON of one case, as a failure printed it, for --gtest_filter='Replay.*'
#pragma once

#include <cstdint>
#include <string>

namespace conformance {

struct Session {
    std::uint64_t seed = 0;
    std::int64_t random_cases = 300;
    bool subset = false;
    std::int64_t shard = 0, shards = 1;
    std::string replay;
    // Whether this process runs that case of a table.
    bool owns(std::int64_t number) const { return number % shards == shard; }
};
const Session &session();

} // namespace conformance
