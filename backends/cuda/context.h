// A context of a device, and the scopes in which calls are made in it.
#ifndef ATTN_BACKENDS_CUDA_CONTEXT_H
#define ATTN_BACKENDS_CUDA_CONTEXT_H

#include "backends/cuda/driver.h"

#include <memory>
#include <sys/types.h>

namespace attn::cuda {

/// The primary context of a device, retained, or one of the caller's, which must outlive this.
class Context {
public:
    /// `use_current`: the context that is current on this thread, which must be of the device `device_id`.
    [[nodiscard]] static attn_status open(const Driver &driver, int32_t device_id, bool use_current,
                                          std::unique_ptr<Context> *out);
    ~Context();
    Context(const Context &) = delete;
    Context &operator=(const Context &) = delete;

    const Driver &driver() const noexcept { return driver_; }
    CUdevice device() const noexcept { return device_; }
    CUcontext handle() const noexcept { return handle_; }
    bool is_primary() const noexcept { return is_primary_; }
    /// Whether this is a child forked after open(): no call may be made here.
    bool forked() const noexcept;
    /// Fails in a forked child.
    [[nodiscard]] attn_status check_process() const noexcept;

    /// Makes it current for this thread, on top of what is.
    [[nodiscard]] CUresult push() const noexcept { return driver_.cuCtxPushCurrent(handle_); }
    /// Words the failure of push().
    [[nodiscard]] attn_status fail_push(CUresult result) const noexcept;
    /// Undoes push(). What the driver reports here is an error of earlier work; the next call has it too.
    void pop() const noexcept;

private:
    Context(const Driver &driver, CUdevice device, CUcontext handle, bool is_primary);

    const Driver &driver_;
    CUdevice device_;
    CUcontext handle_;
    bool is_primary_;
    pid_t process_;
};

/// While it lives this thread may make calls that a stream capture going on elsewhere would not allow: nothing that
/// planning does has to do with captured work.
class RelaxedCapture {
public:
    explicit RelaxedCapture(const Driver &driver) noexcept;
    ~RelaxedCapture();
    RelaxedCapture(const RelaxedCapture &) = delete;
    RelaxedCapture &operator=(const RelaxedCapture &) = delete;
    bool entered() const noexcept { return result_ == CUDA_SUCCESS; }
    /// Words the failure if it did not.
    [[nodiscard]] attn_status status() const noexcept;

private:
    const Driver &driver_;
    CUstreamCaptureMode mode_ = CU_STREAM_CAPTURE_MODE_RELAXED; ///< The thread's own, once exchanged.
    CUresult result_;
};

/// Where plans are made and undone: the context is current, captures are relaxed. Destructors ask entered() alone: they
/// do what can be done, and the message stays that of a failure before.
class PlanningScope {
public:
    explicit PlanningScope(const Context &context) noexcept;
    ~PlanningScope();
    PlanningScope(const PlanningScope &) = delete;
    PlanningScope &operator=(const PlanningScope &) = delete;
    /// Whether the context is current.
    bool entered() const noexcept { return result_ == CUDA_SUCCESS; }
    /// Words the failure of either part.
    [[nodiscard]] attn_status status() const noexcept;

private:
    const Context &context_;
    RelaxedCapture capture_;
    CUresult result_; ///< Of making the context current.
};

} // namespace attn::cuda

#endif
