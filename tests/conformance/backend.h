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
    // `isa`: value of ATTN_CPU_ISA, for the CPU.
    Backend(std::string name, attn_device device, std::string isa)
        : name_(std::move(name)), device_(device), isa_(std::move(isa))
    {
    }
    const std::string &name() const { return name_; }
    std::string family() const { return name_.substr(0, name_.find('/')); }
    // What the names of its merges and appends begin with.
    std::string kernels() const { return is_gpu() ? "gpu" : "cpu"; }
    bool is_gpu() const { return device_ != ATTN_DEVICE_CPU; }
    // A handle with that many workers, on a GPU the handle; shared by all callers. Throws std::runtime_error if there
    // is none.
    attn_handle handle(std::int64_t workers) const;
    // A handle with the caller's options (parallel_for, ..; max_workers means nothing on a GPU). Null with `status` and
    // the message in `why` if there is none.
    HandlePointer create(attn_options options, std::string &why, attn_status *status = nullptr) const;

private:
    std::string name_;
    attn_device device_;
    std::string isa_;
    mutable std::map<std::int64_t, HandlePointer> handles_;
};

// The backends of this machine. Those it lacks are named in `absent`, with the reason. A GPU is looked for only if
// ATTN_TEST_BACKEND names it, and is then the only one.
const std::vector<std::unique_ptr<Backend>> &backends();
const std::map<std::string, std::string> &absent_backends();

// Whether the backends are a GPU.
bool on_gpu();
// Whether tensors have to lie in its own memory.
bool has_device_memory();
// Whether its handles may not compile, see ATTN_TEST_HANDLE_FLAGS.
bool forbids_compiler();

// Plans; on failure null, with the status and message in `why`.
PlanPointer make_plan(attn_handle, const Descriptor &, std::string &why);

enum class WorkspaceSize { bound, for_actual_sizes };

// Executes, see launch(), with a workspace of the bound or of what the plan wants for the sizes of the instance. Empty,
// or what went wrong.
std::string execute(attn_plan, Instance &, WorkspaceSize = WorkspaceSize::bound);

} // namespace conformance
