// The JSON description of a plan: its portable form, and what a person wants to know of it.
#ifndef ATTN_SRC_DESCRIBE_H
#define ATTN_SRC_DESCRIBE_H

#include "backend.h"

#include <string>

namespace attn {

/// Version of the schema; fields are only added within one version.
constexpr int64_t kDescriptionVersion = 1;

/// Describes a plan. FLOPs and bytes are those of one execute at the bounds, every sequence at full length.
std::string describe_plan(const attn_handle_s &handle, const Problem &problem, const Executor &executor);

/// The sizes at the bounds of a problem.
Sizes bounding_sizes(const Problem &problem) noexcept;

} // namespace attn

#endif
