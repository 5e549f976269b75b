// What is tested: the list of backends, and one guarded call of the library.
#pragma once

#include "instance.h"

#include <attn/attn.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace conformance {

struct DestroyPlan {
    void operator()(attn_plan plan) const { attn_plan_destroy(plan); }
};
using PlanPointer = std::unique_ptr<attn_plan_s, DestroyPlan>;
struct DestroyHandle {
    void operator()(attn_handle handle) const { attn_destroy(handle); }
};
using HandlePointer = std::unique_ptr<attn_handle_s, DestroyHandle>;

class Backend {
public:
    Backend(std::string name, std::string isa) : name_(std::move(name)), isa_(std::move(isa)) {}
    const std::string &name() const { return name_; }
    // A handle with that many workers; shared by all callers. Throws std::runtime_error if there is none.
    attn_handle handle(std::int64_t workers) const;
    // A handle with the caller's options (max_workers, parallel_for, ..). Null with `status` and the message in `why`
    // if there is none.
    HandlePointer create(attn_options options, std::string &why, attn_status *status = nullptr) const;

private:
    std::string name_, isa_;
    mutable std::map<std::int64_t, HandlePointer> handles_;
};

// The backends of this machine. Those it lacks are named in `absent`, with the reason.
const std::vector<std::unique_ptr<Backend>> &backends();
const std::map<std::string, std::string> &absent_backends();

// Plans; on failure null, with the status and message in `why`.
PlanPointer make_plan(attn_handle, const Descriptor &, std::string &why);

enum class WorkspaceSize { bound, for_actual_sizes };

// Executes with a workspace of exactly the reported size and no better alignment than promised, filled with 0xff and
// fenced. Empty, or what went wrong.
std::string execute(attn_plan, Instance &, WorkspaceSize = WorkspaceSize::bound);

} // namespace conformance
