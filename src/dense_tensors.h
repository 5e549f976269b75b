// The tensors that a dense plan takes.
#ifndef ATTN_SRC_DENSE_TENSORS_H
#define ATTN_SRC_DENSE_TENSORS_H

#include "dense.h"
#include "descriptor_parts.h"

namespace attn {

/// Fills problem->tensors, bounds and storage from the normalised options and the binds; every bind must find its use.
[[nodiscard]] attn_status list_dense_tensors(Binds *binds, DenseProblem *problem);

} // namespace attn

#endif
