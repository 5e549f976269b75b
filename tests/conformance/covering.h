// Pairwise covering arrays: rows that together hold every allowed pair of values of every two axes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace conformance {

struct AxisShape {
    std::string name;
    std::vector<std::string> values;
    // Values with which nothing is computed. A row with one proves nothing about its other values, so it only counts
    // for the pairs that the hollow value is part of.
    std::vector<bool> hollow;
};

// No row may have one of values_a of axis_a together with one of values_b of axis_b.
struct Exclusion {
    std::string axis_a;
    std::vector<std::string> values_a;
    std::string axis_b;
    std::vector<std::string> values_b;
};

struct CoveringArray {
    std::vector<std::vector<int>> rows; // index of a value per axis
    std::size_t pairs_possible = 0, pairs_covered = 0;
    std::vector<std::string> missing; // allowed pairs that no row could be completed for
};

// Greedy; the same seed gives the same rows.
CoveringArray cover_pairs(const std::vector<AxisShape> &, const std::vector<Exclusion> &, std::uint64_t seed);
// One random row that respects the exclusions.
std::vector<int> random_row(const std::vector<AxisShape> &, const std::vector<Exclusion> &, std::uint64_t seed);

} // namespace conformance
