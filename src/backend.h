// What a backend is to the rest of the library.
#ifndef ATTN_SRC_BACKEND_H
#define ATTN_SRC_BACKEND_H

#include "arguments.h"
#include "problem.h"

#include <memory>
#include <string>
#include <vector>

namespace attn {

class JsonWriter;

/// An implementation that stands before the chosen one in its list, and why it was not taken.
struct Refusal {
    std::string kernel, reason;
};

/// A kernel chosen for a problem, with everything that can be prepared. Immutable.
class Executor {
public:
    std::vector<Refusal> refusals; ///< Set by the choice, before anybody else has the executor.

    virtual ~Executor() = default;
    /// "cpu.dense.forward.avx2"
    virtual const char *kernel() const noexcept = 0;
    /// Workspace for an execute of at most these sizes; the bounds of the problem give the bound.
    virtual size_t workspace_bytes(const Sizes &sizes) const noexcept = 0;
    virtual size_t workspace_alignment() const noexcept = 0;
    /// Runs on matched arguments. Checks the workspace against the sizes that the length tensors leave, writes nothing
    /// on failure, allocates nothing.
    virtual attn_status execute(const attn_handle_s &handle, const Arguments &arguments, void *workspace, size_t bytes,
                                void *stream) const noexcept = 0;
    /// Adds the kernel's own facts (tile sizes ...) to an open JSON object.
    virtual void describe(JsonWriter &json) const = 0;
};

/// A device family. Each keeps an ordered list of implementations; the first that accepts a problem gets it.
class Backend {
public:
    virtual ~Backend() = default;
    virtual const char *name() const noexcept = 0;
    /// Chooses an implementation. `executor` may be NULL: then only the choice is made and nothing is prepared. A
    /// refusal's message has the reason of each implementation. The problem must outlive the executor.
    virtual attn_status plan(const attn_handle_s &handle, const Problem &problem,
                             std::unique_ptr<Executor> *executor) const = 0;
};

/// The rule of every backend for the caller's workspace.
[[nodiscard]] attn_status check_workspace(const void *workspace, size_t bytes, size_t needed,
                                          size_t alignment) noexcept;

/// Opens the CPU backend. The variable ATTN_CPU_ISA names an instruction set to use instead of the best.
[[nodiscard]] attn_status open_cpu_backend(std::unique_ptr<Backend> *out);
/// Fills in what attn_device_info() says of the CPU.
[[nodiscard]] attn_status describe_cpu(attn_device_properties *properties);
/// Opens a CUDA device; loads the driver. `options` are checked.
[[nodiscard]] attn_status open_cuda_backend(const attn_options &options, std::unique_ptr<Backend> *out);
/// Opens what `extension`, a Packing (packing.h), asks for.
[[nodiscard]] attn_status open_packing_backend(const attn_options &options, const attn_ext &extension,
                                               std::unique_ptr<Backend> *out);
/// What attn_device_count() and attn_device_info() say of CUDA devices; load the driver. The ordinal is checked.
[[nodiscard]] attn_status count_cuda_devices(int32_t *count);
[[nodiscard]] attn_status describe_cuda_device(int32_t device_id, attn_device_properties *properties);
/// Cores this process may use, at least 1.
int32_t usable_cores() noexcept;

} // namespace attn

#endif
