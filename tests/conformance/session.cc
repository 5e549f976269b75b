#include "session.h"

#include <cstdlib>
#include <random>
#include <stdexcept>

namespace conformance {

const Session &session()
{
    static const Session settings = [] {
        Session s;
        const auto variable = [](const char *name) {
            const char *text = std::getenv(name);
            return std::string(text ? text : "");
        };
        const std::string seed = variable("ATTN_TEST_SEED"), count = variable("ATTN_TEST_RANDOM");
        s.seed = seed.empty() ? std::random_device{}() : std::stoull(seed);
        s.subset = !variable("ATTN_TEST_SUBSET").empty();
        s.random_cases = count.empty() ? (s.subset ? 40 : 300) : std::stoll(count);
        s.replay = variable("ATTN_TEST_CASE");
        if (const std::string shard = variable("ATTN_TEST_SHARD"); !shard.empty()) {
            const std::size_t slash = shard.find('/');
            if (slash == std::string::npos) throw std::invalid_argument("ATTN_TEST_SHARD = " + shard);
            s.shard = std::stoll(shard), s.shards = std::stoll(shard.substr(slash + 1));
            if (s.shard < 0 || s.shard >= s.shards) throw std::invalid_argument("ATTN_TEST_SHARD = " + shard);
        }
        return s;
    }();
    return settings;
}

} // namespace conformance
