// Valid plans of every kind, for fuzzing what is passed to attn_execute().
#ifndef ATTN_TESTS_FUZZ_PLANS_H
#define ATTN_TESTS_FUZZ_PLANS_H

#include <attn/attn.h>

#include <vector>

namespace attn::fuzz {

/// Made once on every handle of handles.h and destroyed at the end of the process.
const std::vector<attn_plan> &plans();

} // namespace attn::fuzz

#endif
