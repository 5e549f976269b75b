// What the kernels for Hopper refuse alike.
#ifndef ATTN_BACKENDS_CUDA_SM90_REFUSAL_H
#define ATTN_BACKENDS_CUDA_SM90_REFUSAL_H

#include "backends/gpu/device.h"
#include "dense.h"

#include <string>
#include <vector>

namespace attn::sm90 {

/// Why a device has no such kernels; empty if it does.
std::string refuse_device(const gpu::Facts &facts);

/// What of a problem a kernel does not compute, as one reason; empty if there is nothing.
std::string refuse_faults(const std::vector<std::string> &faults);

/// What of the pages a kernel cannot copy `keys` keys at a time, each copy from one page; empty if there is nothing.
std::string page_fault(const DenseProblem &problem, int64_t keys);

/// Why a kernel is not at hand; empty if it is, or may be compiled.
std::string refuse_request(const kernel::Request &request, gpu::Device &device);

} // namespace attn::sm90

#endif
