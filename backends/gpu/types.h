// Integer types for headers that host compilers and the compilers of kernels both read. The latter have no system
// headers.
#ifndef ATTN_BACKENDS_GPU_TYPES_H
#define ATTN_BACKENDS_GPU_TYPES_H

namespace attn::gpu {

using i32 = int;
using u32 = unsigned int;
using i64 = long long;
using u64 = unsigned long long;

static_assert(sizeof(i32) == 4 && sizeof(i64) == 8, "sizes of integers");

} // namespace attn::gpu

#endif
