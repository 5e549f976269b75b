// Descriptors of every kind from bytes: fields, sizes of structs, extensions, binds, tables.
#ifndef ATTN_TESTS_FUZZ_DESCRIPTOR_H
#define ATTN_TESTS_FUZZ_DESCRIPTOR_H

#include "input.h"
#include "memory.h"

namespace attn::fuzz {

/// A descriptor. Every pointer in it is NULL or leads to as many bytes as its struct or count claims.
struct Descriptor {
    attn_kind kind = 0;
    const void *struct_ = nullptr; ///< What `kind` says: an attn_dense, attn_merge ...
};

Descriptor read_descriptor(Input *input, Memory *memory);

/// Sizes for attn_plan_workspace_for().
const attn_sizes *read_sizes(Input *input, Memory *memory);

} // namespace attn::fuzz

#endif
