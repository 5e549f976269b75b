// One call of attn_execute() on tensors in host memory, wherever the backend computes. On a GPU every block of memory
// that an argument lies in is copied to the device, at an address that is the same modulo 512, and back: outputs, and
// what must not have changed.
#pragma once

#include <attn/attn.h>

#include <cstddef>
#include <vector>

namespace conformance {

// With a workspace of `bytes` or, if not given, of the size that the plan reports: no better aligned than promised,
// filled with 0xff and fenced. Throws std::runtime_error if memory beside the workspace was written, or if the plan has
// nonsense to say about it; gpu_test::DriverError if the work failed.
attn_status launch(attn_plan, const std::vector<attn_arg> &);
attn_status launch(attn_plan, const std::vector<attn_arg> &, std::size_t bytes);

} // namespace conformance
