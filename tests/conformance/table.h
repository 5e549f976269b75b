// The conformance table: which options are crossed with which. A new option joins by a line in table.cc.
#pragma once

#include "case.h"
#include "covering.h"

#include <cstdint>
#include <vector>

namespace conformance {

struct TableCases {
    std::vector<Case> cases;
    std::size_t pairs_possible = 0, pairs_covered = 0;
    std::vector<std::string> missing;
};

// A case for every row of a pairwise covering array.
TableCases pairwise_cases(std::uint64_t seed);
// The same for table_options.cc: the options beyond masks, lengths and dtypes, with fewer of those.
TableCases option_cases(std::uint64_t seed);
Case random_option_case(std::uint64_t seed);
// The same for table_tiles.cc: what kernels of whole tiles are made for.
TableCases tile_cases(std::uint64_t seed);
Case random_tile_case(std::uint64_t seed);
// The same for table_few.cc: few rows, as in decoding.
TableCases few_cases(std::uint64_t seed);
Case random_few_case(std::uint64_t seed);
// The same for table_latent.cc: absorbed MLA.
TableCases latent_cases(std::uint64_t seed);
Case random_latent_case(std::uint64_t seed);
// A random descriptor: any row of the table, with sizes, lengths and windows off the beaten track.
Case random_case(std::uint64_t seed);

} // namespace conformance
