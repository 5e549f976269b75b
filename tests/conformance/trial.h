// A case ready to run and to be judged, any number of times.
#pragma once

#include "backend.h"
#include "measure.h"

#include <cstdint>
#include <vector>

namespace conformance {

class Trial {
public:
    // Computes the references: one serves all backends. `placement`: see Instance.
    Trial(const Case &, std::vector<Content>, std::uint64_t placement = 0);
    explicit Trial(const Case &c) : Trial(c, draw_contents(c)) {}

    Instance instance;

    // Executes the plan and compares every output with its reference; also that no input was written.
    Errors run(attn_plan, WorkspaceSize, double slack = 1);

private:
    std::vector<Result> references_;
    std::vector<Bytes> inputs_;
};

} // namespace conformance
