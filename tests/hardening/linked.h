// The library that this program is linked with, as Functions.
#ifndef ATTN_TESTS_HARDENING_LINKED_H
#define ATTN_TESTS_HARDENING_LINKED_H

#include "samples.h"

namespace attn::hardening {

constexpr Functions kLinked = {attn_create,        attn_destroy,       attn_plan_dense,     attn_plan_merge,
                               attn_plan_append,   attn_plan_supports, attn_plan_workspace, attn_plan_slot,
                               attn_plan_describe, attn_plan_destroy,  attn_execute,        attn_last_error};

} // namespace attn::hardening

#endif
