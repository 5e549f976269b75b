// The tensors that a linear plan takes.
#ifndef ATTN_SRC_LINEAR_TENSORS_H
#define ATTN_SRC_LINEAR_TENSORS_H

#include "descriptor_parts.h"
#include "linear.h"

namespace attn {

/// Lists the tensors in `problem`, whose modes are read, and refuses binds that it has no use for.
[[nodiscard]] attn_status list_linear_tensors(Binds *binds, LinearProblem *problem);

} // namespace attn

#endif
