// Append to a cache on a GPU: entry of the implementation list.
#ifndef ATTN_BACKENDS_GPU_APPEND_EXECUTOR_H
#define ATTN_BACKENDS_GPU_APPEND_EXECUTOR_H

#include "backend.h"
#include "backends/gpu/device.h"

#include <string>
#include <vector>

namespace attn::gpu {

/// Why the kernels do not serve a problem; empty if they do.
std::string refuse_append(const Problem &problem, Device &device);

/// Prepares the kernels for a problem that refuse_append() accepted. The device must outlive the executor.
[[nodiscard]] attn_status make_append(const Problem &problem, Device &device, std::unique_ptr<Executor> *out);

/// Every kernel that an append can ask for.
std::vector<kernel::Request> append_requests();

} // namespace attn::gpu

#endif
