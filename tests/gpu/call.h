// Calls of every kind for the tests of a GPU, with their tensors in host memory and an oracle that judges them.
#pragma once

#include "tests/conformance/backend.h"

#include <attn/attn.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace gpu_test {

class Call {
public:
    virtual ~Call() = default;
    // A failure of the test, and null, if it is refused.
    virtual conformance::PlanPointer plan(attn_handle) = 0;
    virtual std::vector<attn_arg> args() = 0;
    // Fills outputs, and what surrounds them, with poison.
    virtual void poison() = 0;
    // Compares outputs with the oracle; failures are those of the test.
    virtual void check() = 0;
};

// How to make the calls of one kind. Those of different seeds differ in contents and lengths; `variation` gives one
// with the shapes of another.
struct CallKind {
    std::string name;
    std::function<std::unique_ptr<Call>(std::uint64_t seed)> make;
};
// Prefill, decoding with split keys, decoding of pages, merge and append.
const std::vector<CallKind> &call_kinds();
std::unique_ptr<Call> variation(const CallKind &, Call &of, std::uint64_t seed);

// The handle of the GPU that all tests share.
attn_handle shared_handle();

} // namespace gpu_test
