// What kernels cost on an NVIDIA H200, by which plans choose between them. Made by tests/perf/fit_costs.py from
// docs/data/dense_h200.csv; a test compares them.
#ifndef ATTN_BACKENDS_CUDA_SM90_COSTS_H
#define ATTN_BACKENDS_CUDA_SM90_COSTS_H

#include <cstdint>

namespace attn::sm90 {

/// Of a tile of cuda.dense.forward_sm90 on an SM, in microseconds: `tile` and, for each block of keys that it visits,
/// `block`.
struct TileCost {
    int64_t dim; ///< Channels of Q and of V.
    bool causal;
    int consumers; ///< Of 64 rows.
    double tile, block;

    constexpr int64_t rows() const { return 64 * int64_t{consumers}; }
    constexpr int64_t keys() const { return dim > 128 ? 64 : 128; } ///< Of a block.
};
/// Of the portable kernel where it keeps all SMs busy, in TFLOP/s.
struct PortableRate {
    int64_t dim;
    bool causal;
    double rate;
};
constexpr int64_t kMeasuredUnits = 132; ///< SMs.

constexpr TileCost kTileCosts[] = {
    {64, false, 3, 1.292, 1.326},  {64, true, 2, 1.589, 1.066},  {64, true, 3, 1.846, 1.305},
    {128, false, 2, 1.825, 1.336}, {128, true, 2, 2.740, 1.332}, {256, false, 2, 5.142, 1.267},
    {256, true, 2, 5.749, 1.291},
};
constexpr PortableRate kPortableRates[] = {
    {64, false, 340.1},
    {64, true, 336.3},
    {128, false, 391.9},
    {128, true, 358.4},
};

} // namespace attn::sm90

#endif
