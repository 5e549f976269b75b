#include "trial.h"

#include <utility>

namespace conformance {

Trial::Trial(const Case &c, std::vector<Content> contents, std::uint64_t placement)
    : instance(c, std::move(contents), placement),
      references_(reference(c, instance.contents())),
      inputs_(instance.input_bytes())
{
}

Errors Trial::run(attn_plan plan, WorkspaceSize workspace, double slack)
{
    Errors e;
    instance.poison_outputs();
    e.broken = execute(plan, instance, workspace);
    if (e.broken.empty()) e = compare(instance, references_, slack);
    if (e.broken.empty() && instance.input_bytes() != inputs_) e.broken = "an input was written";
    return e;
}

} // namespace conformance
