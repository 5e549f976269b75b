// The implementation lists of the GPU backends.
#ifndef ATTN_BACKENDS_GPU_IMPLEMENTATION_H
#define ATTN_BACKENDS_GPU_IMPLEMENTATION_H

#include "backend.h"
#include "backends/gpu/device.h"

#include <memory>
#include <span>
#include <string>

namespace attn::gpu {

/// What an implementation needs of a GPU beyond what all have.
enum class Family {
    portable, ///< Nothing: the instructions of sm_80.
    sm90      ///< Those of sm_90a alone.
};

/// One entry of an implementation list. It gets problems of its kind only.
struct Implementation {
    attn_kind kind;
    const char *name;
    Family family;
    /// Why it does not serve a problem; empty if it does. Compiles nothing.
    std::string (*refuse)(const Problem &problem, Device &device);
    /// Loads the kernels and uploads the constants. The problem and the device outlive the executor.
    attn_status (*make)(const Problem &problem, Device &device, std::unique_ptr<Executor> *out);
};

/// Which implementations a handle takes.
enum class Selection {
    standard, ///< The first of the list that serves.
    portable  ///< Portable ones only.
};

/// Reads the variable ATTN_GPU_IMPLEMENTATION, for tests and comparisons: `portable`, or not set.
[[nodiscard]] attn_status read_selection(Selection *out);

/// Chooses the first of the list that serves a problem and makes its executor, unless `executor` is NULL. `backend` is
/// the name in the message of a refusal, which has the reason of each. One whose kernel cannot be had is passed over
/// where there are others.
[[nodiscard]] attn_status choose(std::span<const Implementation> list, Selection selection, const char *backend,
                                 const Problem &problem, Device &device, std::unique_ptr<Executor> *executor);

} // namespace attn::gpu

#endif
