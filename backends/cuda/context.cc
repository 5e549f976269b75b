// Opens a context and enters it.
#include "backends/cuda/context.h"

#include <unistd.h>

namespace attn::cuda {
namespace {

attn_status find_current(const Driver &driver, int32_t device_id, CUdevice device, CUcontext *out)
{
    CUcontext context = nullptr;
    if (const CUresult result = driver.cuCtxGetCurrent(&context)) return fail_call(driver, "cuCtxGetCurrent", result);
    if (!context)
        return fail(ATTN_ERROR_INVALID,
                    "attn_options.flags: ATTN_HANDLE_CURRENT_CONTEXT needs a context that is current on this thread");
    CUdevice owner = 0;
    if (const CUresult result = driver.cuCtxGetDevice(&owner)) return fail_call(driver, "cuCtxGetDevice", result);
    if (owner != device)
        return fail(ATTN_ERROR_INVALID,
                    "attn_options.device_id = %d: the current context %p is of device %d, they must be the same",
                    device_id, static_cast<void *>(context), owner);
    *out = context;
    return ATTN_OK;
}

} // namespace

Context::Context(const Driver &driver, CUdevice device, CUcontext handle, bool is_primary)
    : driver_(driver), device_(device), handle_(handle), is_primary_(is_primary), process_(getpid())
{
}

attn_status Context::open(const Driver &driver, int32_t device_id, bool use_current, std::unique_ptr<Context> *out)
{
    int count = 0;
    if (driver.has_devices)
        if (const CUresult result = driver.cuDeviceGetCount(&count))
            return fail_call(driver, "cuDeviceGetCount", result);
    if (device_id < 0 || device_id >= count)
        return fail(ATTN_ERROR_NO_DEVICE, "attn_options.device_id = %d: there are %d cuda devices", device_id, count);
    CUdevice device = 0;
    if (const CUresult result = driver.cuDeviceGet(&device, device_id)) return fail_call(driver, "cuDeviceGet", result);
    CUcontext handle = nullptr;
    if (use_current) {
        if (const attn_status status = find_current(driver, device_id, device, &handle)) return status;
        out->reset(new Context(driver, device, handle, false));
        return ATTN_OK;
    }
    const RelaxedCapture capture(driver);
    if (const attn_status status = capture.status()) return status;
    // Allocated before the context is retained, so that nothing can fail in between.
    std::unique_ptr<Context> context(new Context(driver, device, nullptr, false));
    if (const CUresult result = driver.cuDevicePrimaryCtxRetain(&context->handle_, device))
        return fail_call(driver, "cuDevicePrimaryCtxRetain", result);
    context->is_primary_ = true;
    *out = std::move(context);
    return ATTN_OK;
}

Context::~Context()
{
    if (!is_primary_ || forked()) return;
    const RelaxedCapture capture(driver_);
    static_cast<void>(driver_.cuDevicePrimaryCtxRelease(device_)); // nothing is left to do for a context that failed
}

bool Context::forked() const noexcept
{
    return getpid() != process_;
}

attn_status Context::check_process() const noexcept
{
    if (!forked()) return ATTN_OK;
    return fail(ATTN_ERROR_FORKED, "the handle was created before fork(): a cuda handle cannot be used in a child");
}

attn_status Context::fail_push(CUresult result) const noexcept
{
    return fail_call(driver_, "cuCtxPushCurrent", result);
}

void Context::pop() const noexcept
{
    CUcontext popped = nullptr;
    static_cast<void>(driver_.cuCtxPopCurrent(&popped));
}

RelaxedCapture::RelaxedCapture(const Driver &driver) noexcept
    : driver_(driver), result_(driver.cuThreadExchangeStreamCaptureMode(&mode_))
{
}

RelaxedCapture::~RelaxedCapture()
{
    if (entered()) static_cast<void>(driver_.cuThreadExchangeStreamCaptureMode(&mode_));
}

attn_status RelaxedCapture::status() const noexcept
{
    return entered() ? ATTN_OK : fail_call(driver_, "cuThreadExchangeStreamCaptureMode", result_);
}

PlanningScope::PlanningScope(const Context &context) noexcept
    : context_(context), capture_(context.driver()), result_(context.push())
{
}

PlanningScope::~PlanningScope()
{
    if (entered()) context_.pop();
}

attn_status PlanningScope::status() const noexcept
{
    if (const attn_status status = capture_.status()) return status;
    return entered() ? ATTN_OK : context_.fail_push(result_);
}

} // namespace attn::cuda
