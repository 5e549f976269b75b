#include "backends/cuda/sm90_model.h"

#include "backends/cuda/sm90_costs.h"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace attn::sm90 {
namespace {

/// Of a launch, from the end of the kernel before to the first product.
constexpr double kLaunchUs = 3;
/// Of one whose keys are split and of the kernel that combines, beside the products: one query and 1024 keys take 13.8.
constexpr double kSplitUs = 13;
/// Tiles of a head that are looked at, evenly apart, for what they visit on average.
constexpr int64_t kMostLooks = 64;

/// The row of a table for the problem's channels and mask: of the smallest dim that holds them, or the largest.
template <class Cost, size_t count, class Serves>
const Cost &row_of(const Cost (&table)[count], int64_t dim, Serves serves)
{
    const Cost *best = nullptr;
    for (const Cost &row : table)
        if (serves(row) && (!best || best->dim < dim)) best = &row;
    return best ? *best : table[0];
}

bool is_masked(const DenseMask &mask)
{
    return mask.causal || mask.has_left || mask.has_right;
}

/// Keys of the blocks that rows [first, last) of a head visit. Where positions say, on the device: as if both were in
/// order and ended together.
int64_t keys_visited(const DenseProblem &p, int64_t first, int64_t last)
{
    const DenseMask &mask = p.mask;
    const bool ends_together = mask.align == ATTN_BOTTOM_RIGHT || mask.align == ATTN_BY_POSITION;
    const int64_t diagonal = ends_together ? p.max_kv - p.max_q : 0;
    int64_t begin = 0, end = p.max_kv;
    if (mask.causal) end = std::min(end, last + diagonal);
    if (mask.has_right) end = std::min(end, last + diagonal + std::min(mask.right, p.max_kv));
    end = std::max<int64_t>(end, 0);
    if (mask.has_left) begin = std::clamp<int64_t>(first + diagonal - std::min(mask.left, p.max_kv), 0, end);
    return end - begin;
}

/// Of the tiles of a head, in blocks of keys.
struct Visits {
    double mean = 0, most = 0;
};
Visits visits_of(const DenseProblem &p, int64_t rows, int64_t keys)
{
    Visits visits;
    const int64_t tiles = (p.max_q + rows - 1) / rows, looks = std::clamp<int64_t>(tiles, 1, kMostLooks);
    for (int64_t i = 0; i < looks; ++i) {
        const int64_t tile = looks == 1 ? 0 : i * (tiles - 1) / (looks - 1);
        const int64_t seen = keys_visited(p, tile * rows, std::min(p.max_q, (tile + 1) * rows));
        const int64_t blocks = (seen + keys - 1) / keys;
        visits.mean += static_cast<double>(blocks) / static_cast<double>(looks);
        visits.most = std::max(visits.most, static_cast<double>(blocks));
    }
    return visits;
}

} // namespace

double forward_us(const DenseProblem &p, int consumers, int64_t units) noexcept
{
    const bool masked = is_masked(p.mask);
    const int64_t dim = std::max(p.dim_qk, p.dim_v);
    const TileCost &cost = row_of(kTileCosts, dim, [&](const TileCost &row) {
        return row.causal == masked && (row.consumers == consumers || (row.dim == 64 && !masked));
    });
    const double block = cost.block * static_cast<double>(p.dim_qk + p.dim_v) / (2.0 * static_cast<double>(cost.dim));
    const Visits visits = visits_of(p, cost.rows(), cost.keys());
    const double tiles = static_cast<double>(p.batch) * static_cast<double>(p.heads_out) *
                         std::ceil(static_cast<double>(p.max_q) / static_cast<double>(cost.rows()));
    const double mean = cost.tile + visits.mean * block, longest = cost.tile + visits.most * block;
    // Where tiles take equally long an SM has whole ones; else those who are done first take the next.
    const double each = tiles / static_cast<double>(units), rounds = masked ? each : std::ceil(each);
    return kLaunchUs + std::max(longest, rounds * mean);
}

double split_us(const DenseProblem &p, int64_t units) noexcept
{
    const bool masked = is_masked(p.mask);
    const PortableRate &portable = row_of(kPortableRates, std::max(p.dim_qk, p.dim_v),
                                          [&](const PortableRate &row) { return row.causal == masked; });
    constexpr int64_t kRows = 64, kKeys = 64;
    const double pairs = static_cast<double>(p.batch) * static_cast<double>(p.heads_out) *
                         static_cast<double>(p.max_q) * visits_of(p, kRows, kKeys).mean * double{kKeys};
    const double rate = portable.rate * static_cast<double>(units) / static_cast<double>(kMeasuredUnits);
    return kSplitUs + 2e-6 * pairs * static_cast<double>(p.dim_qk + p.dim_v) / rate;
}

} // namespace attn::sm90
