// The C ABI: argument checks, exceptions stopped at the border, and nothing else.

#include "abi.h"
#include "append.h"
#include "arguments.h"
#include "conv.h"
#include "dense.h"
#include "describe.h"
#include "handle.h"
#include "linear.h"
#include "merge.h"
#include "names.h"
#include "scan.h"
#include "state.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

struct attn_plan_s {
    attn_handle_s *handle;
    std::unique_ptr<attn::Problem> problem;
    std::unique_ptr<attn::Executor> executor;

    explicit attn_plan_s(attn_handle_s *owner) : handle(owner) { handle->retain(); }
    ~attn_plan_s()
    {
        executor.reset();
        handle->release();
    }
    attn_plan_s(const attn_plan_s &) = delete;
    attn_plan_s &operator=(const attn_plan_s &) = delete;
};

namespace attn {
namespace {

/// Puts errno back: what is below, a driver most of all, may set it.
class ErrnoStays {
public:
    ErrnoStays() = default;
    ~ErrnoStays() { errno = before_; }
    ErrnoStays(const ErrnoStays &) = delete;
    ErrnoStays &operator=(const ErrnoStays &) = delete;

private:
    const int before_ = errno;
};

/// Runs `function` with every exception turned into a status: none may cross the ABI.
template <class Function>
attn_status guarded(const char *name, Function function) noexcept
{
    const ErrnoStays errno_stays;
    try {
        return function();
    } catch (const std::bad_alloc &) {
        return fail(ATTN_ERROR_MEMORY, "%s: out of host memory", name);
    } catch (const std::exception &error) {
        return fail(ATTN_ERROR_INTERNAL, "%s: %s", name, error.what());
    } catch (...) {
        return fail(ATTN_ERROR_INTERNAL, "%s: unknown exception", name);
    }
}

attn_status require(const void *pointer, const char *function, const char *argument)
{
    if (pointer) return ATTN_OK;
    return fail(ATTN_ERROR_INVALID, "%s: %s = NULL: must not be NULL", function, argument);
}

/// Reads a descriptor of a kind into a new problem for a device.
attn_status read_problem_of(attn_kind kind, attn_device device, const void *desc, std::unique_ptr<Problem> *out)
{
    switch (kind) {
    case ATTN_KIND_DENSE: {
        auto problem = std::make_unique<DenseProblem>();
        problem->device = device;
        if (const attn_status status = read_dense(static_cast<const attn_dense *>(desc), problem.get())) return status;
        *out = std::move(problem);
        return ATTN_OK;
    }
    case ATTN_KIND_MERGE: {
        auto problem = std::make_unique<MergeProblem>();
        problem->device = device;
        if (const attn_status status = read_merge(static_cast<const attn_merge *>(desc), problem.get())) return status;
        *out = std::move(problem);
        return ATTN_OK;
    }
    case ATTN_KIND_APPEND: {
        auto problem = std::make_unique<AppendProblem>();
        problem->device = device;
        if (const attn_status status = read_append(static_cast<const attn_append *>(desc), problem.get()))
            return status;
        *out = std::move(problem);
        return ATTN_OK;
    }
    case ATTN_KIND_LINEAR: {
        auto problem = std::make_unique<LinearProblem>();
        if (const attn_status status = read_linear(static_cast<const attn_linear *>(desc), problem.get()))
            return status;
        *out = std::move(problem);
        return ATTN_OK;
    }
    case ATTN_KIND_CONV: {
        auto problem = std::make_unique<ConvProblem>();
        if (const attn_status status = read_conv(static_cast<const attn_conv *>(desc), problem.get())) return status;
        *out = std::move(problem);
        return ATTN_OK;
    }
    case ATTN_KIND_SCAN: {
        auto problem = std::make_unique<ScanProblem>();
        if (const attn_status status = read_scan(static_cast<const attn_scan *>(desc), problem.get())) return status;
        *out = std::move(problem);
        return ATTN_OK;
    }
    default:
        return fail(ATTN_ERROR_INVALID, "kind = %d: not a value of attn_kind", kind);
    }
}

/// Makes a plan; `function` is the caller's name for it.
attn_status make_plan(const char *function, attn_handle handle, attn_kind kind, const void *desc,
                      attn_plan *plan) noexcept
{
    if (const attn_status status = require(handle, function, "handle")) return status;
    if (const attn_status status = require(plan, function, "plan")) return status;
    return guarded(function, [&]() -> attn_status {
        auto made = std::make_unique<attn_plan_s>(handle);
        if (const attn_status status = read_problem_of(kind, handle->device, desc, &made->problem)) return status;
        if (const attn_status status = handle->backend->plan(*handle, *made->problem, &made->executor)) return status;
        handle->write_log(4, "%s: %s", function, made->executor->kernel());
        *plan = made.release();
        return ATTN_OK;
    });
}

} // namespace

attn_status check_workspace(const void *workspace, size_t bytes, size_t needed, size_t alignment) noexcept
{
    if (bytes < needed)
        return fail(ATTN_ERROR_WORKSPACE, "bytes = %zu: these sizes need a workspace of %zu", bytes, needed);
    if (needed && !workspace) return fail(ATTN_ERROR_WORKSPACE, "workspace = NULL: these sizes need %zu bytes", needed);
    if (needed && reinterpret_cast<uintptr_t>(workspace) % alignment != 0)
        return fail(ATTN_ERROR_WORKSPACE, "workspace = %p: must be a multiple of %zu", workspace, alignment);
    return ATTN_OK;
}

} // namespace attn

using attn::ErrnoStays;
using attn::fail;
using attn::guarded;
using attn::require;

extern "C" {

uint32_t attn_version(void)
{
    return ATTN_VERSION;
}

const char *attn_status_name(attn_status status)
{
    return attn::status_name(status);
}

const char *attn_last_error(void)
{
    return attn::last_error();
}

size_t attn_last_error_copy(char *buffer, size_t capacity)
{
    const char *text = attn::last_error();
    const size_t length = strlen(text);
    if (buffer && capacity) {
        const size_t kept = std::min(length, capacity - 1);
        memcpy(buffer, text, kept);
        buffer[kept] = '\0';
    }
    return length + 1;
}

attn_status attn_device_count(attn_device device, int32_t *count)
{
    if (const attn_status status = require(count, "attn_device_count", "count")) return status;
    switch (device) {
    case ATTN_DEVICE_CPU:
        *count = 1;
        return ATTN_OK;
    case ATTN_DEVICE_CUDA: {
        const ErrnoStays errno_stays;
        return attn::count_cuda_devices(count);
    }
    case ATTN_DEVICE_HIP:
        return fail(ATTN_ERROR_NO_DEVICE, "device = %s: this build of libattn has no %s backend",
                    attn::device_name(device), attn::device_name(device));
    default:
        return fail(ATTN_ERROR_INVALID, "device = %d: must be ATTN_DEVICE_CPU, _CUDA or _HIP", device);
    }
}

attn_status attn_device_info(attn_device device, int32_t device_id, attn_device_properties *properties)
{
    return guarded("attn_device_info", [&]() -> attn_status {
        attn_device_properties filled;
        if (const attn_status status = attn::read_struct(properties, "attn_device_properties", &filled)) return status;
        if (const attn_status status = attn::no_extensions(filled.next, "attn_device_properties")) return status;
        int32_t count = 0;
        if (const attn_status status = attn_device_count(device, &count)) return status;
        if (device_id < 0 || device_id >= count)
            return fail(ATTN_ERROR_NO_DEVICE, "device_id = %d: there are %d %s devices", device_id, count,
                        attn::device_name(device));
        const size_t size = properties->size;
        const attn_ext *next = properties->next;
        if (const attn_status status = device == ATTN_DEVICE_CUDA ? attn::describe_cuda_device(device_id, &filled)
                                                                  : attn::describe_cpu(&filled))
            return status;
        filled.size = size, filled.next = next;
        memcpy(properties, &filled, std::min(size, sizeof filled));
        return ATTN_OK;
    });
}

attn_status attn_create(const attn_options *options, attn_handle *handle)
{
    if (const attn_status status = require(handle, "attn_create", "handle")) return status;
    return guarded("attn_create", [&] { return attn::create_handle(options, handle); });
}

void attn_destroy(attn_handle handle)
{
    const ErrnoStays errno_stays;
    if (handle) handle->release();
}

attn_status attn_plan_dense(attn_handle handle, const attn_dense *desc, attn_plan *plan)
{
    return attn::make_plan("attn_plan_dense", handle, ATTN_KIND_DENSE, desc, plan);
}

attn_status attn_plan_merge(attn_handle handle, const attn_merge *desc, attn_plan *plan)
{
    return attn::make_plan("attn_plan_merge", handle, ATTN_KIND_MERGE, desc, plan);
}

attn_status attn_plan_append(attn_handle handle, const attn_append *desc, attn_plan *plan)
{
    return attn::make_plan("attn_plan_append", handle, ATTN_KIND_APPEND, desc, plan);
}

attn_status attn_plan_linear(attn_handle handle, const attn_linear *desc, attn_plan *plan)
{
    return attn::make_plan("attn_plan_linear", handle, ATTN_KIND_LINEAR, desc, plan);
}

attn_status attn_plan_conv(attn_handle handle, const attn_conv *desc, attn_plan *plan)
{
    return attn::make_plan("attn_plan_conv", handle, ATTN_KIND_CONV, desc, plan);
}

attn_status attn_plan_scan(attn_handle handle, const attn_scan *desc, attn_plan *plan)
{
    return attn::make_plan("attn_plan_scan", handle, ATTN_KIND_SCAN, desc, plan);
}

attn_status attn_state_save(const attn_linear *desc, const attn_tensor *state, int64_t tokens, void *buffer,
                            size_t capacity, size_t *needed)
{
    return guarded("attn_state_save", [&] { return attn::save_states(desc, state, tokens, buffer, capacity, needed); });
}

attn_status attn_state_inspect(const void *buffer, size_t bytes, attn_state_info *info)
{
    return guarded("attn_state_inspect", [&] { return attn::inspect_states(buffer, bytes, info); });
}

attn_status attn_state_load(const attn_linear *desc, const void *buffer, size_t bytes, const attn_tensor *state,
                            int64_t *tokens)
{
    return guarded("attn_state_load", [&] { return attn::load_states(desc, buffer, bytes, state, tokens); });
}

attn_status attn_state_copy(const attn_tensor *from, attn_state_layout from_layout, const attn_tensor *to,
                            attn_state_layout to_layout)
{
    return guarded("attn_state_copy", [&] { return attn::copy_states(from, from_layout, to, to_layout); });
}

attn_status attn_plan_supports(attn_handle handle, attn_kind kind, const void *desc)
{
    if (const attn_status status = require(handle, "attn_plan_supports", "handle")) return status;
    return guarded("attn_plan_supports", [&]() -> attn_status {
        std::unique_ptr<attn::Problem> problem;
        if (const attn_status status = attn::read_problem_of(kind, handle->device, desc, &problem)) return status;
        return handle->backend->plan(*handle, *problem, nullptr);
    });
}

attn_status attn_plan_workspace(attn_plan plan, size_t *bytes, size_t *alignment)
{
    if (const attn_status status = require(plan, "attn_plan_workspace", "plan")) return status;
    if (const attn_status status = require(bytes, "attn_plan_workspace", "bytes")) return status;
    *bytes = plan->executor->workspace_bytes(attn::bounding_sizes(*plan->problem));
    if (alignment) *alignment = plan->executor->workspace_alignment();
    return ATTN_OK;
}

attn_status attn_plan_workspace_for(attn_plan plan, const attn_sizes *sizes, size_t *bytes)
{
    if (const attn_status status = require(plan, "attn_plan_workspace_for", "plan")) return status;
    if (const attn_status status = require(bytes, "attn_plan_workspace_for", "bytes")) return status;
    attn_sizes given;
    if (const attn_status status = attn::read_struct(sizes, "attn_sizes", &given)) return status;
    if (const attn_status status = attn::no_extensions(given.next, "attn_sizes")) return status;
    attn::Sizes actual = attn::bounding_sizes(*plan->problem);
    const struct {
        const char *field;
        int64_t value;
        attn::Axis axis;
    } fields[] = {{"attn_sizes.batch", given.batch, attn::Axis::batch},
                  {"attn_sizes.max_q", given.max_q, attn::Axis::query},
                  {"attn_sizes.max_kv", given.max_kv, attn::Axis::key},
                  {"attn_sizes.total_q", given.total_q, attn::Axis::total_q},
                  {"attn_sizes.total_kv", given.total_kv, attn::Axis::total_kv}};
    for (const auto &field : fields) {
        int64_t &extent = actual.at(field.axis);
        const bool packed = field.axis == attn::Axis::total_q    ? plan->problem->packed_q
                            : field.axis == attn::Axis::total_kv ? plan->problem->storage == attn::Storage::packed
                                                                 : true;
        if (field.value != 0 && !packed)
            return fail(ATTN_ERROR_INVALID, "%s = %lld: must be 0, the plan is not packed", field.field,
                        static_cast<long long>(field.value));
        if (field.value < 0 || field.value > extent)
            return fail(ATTN_ERROR_INVALID, "%s = %lld: must be 0 .. %lld, the bound of the plan", field.field,
                        static_cast<long long>(field.value), static_cast<long long>(extent));
        if (field.value) extent = field.value;
    }
    *bytes = plan->executor->workspace_bytes(actual);
    return ATTN_OK;
}

attn_status attn_plan_slot(attn_plan plan, size_t position, attn_bind *bind, attn_tensor *bounds)
{
    if (const attn_status status = require(plan, "attn_plan_slot", "plan")) return status;
    if (const attn_status status = require(bind, "attn_plan_slot", "bind")) return status;
    const auto &tensors = plan->problem->tensors;
    if (position >= tensors.size())
        return fail(ATTN_ERROR_CAPACITY, "position = %zu: the plan takes %zu tensors", position, tensors.size());
    const attn::TensorSpec &spec = tensors[position];
    *bind = {};
    bind->slot = spec.slot, bind->index = spec.index, bind->dtype = spec.dtype, bind->flags = spec.flags;
    if (bounds) {
        *bounds = {};
        bounds->device = plan->handle->device, bounds->device_id = plan->handle->device_id;
        bounds->ndim = spec.ndim, bounds->dtype = spec.dtype;
        for (int axis = 0; axis < spec.ndim; ++axis) bounds->shape[axis] = spec.bounds[axis];
    }
    return ATTN_OK;
}

attn_status attn_plan_describe(attn_plan plan, char *buffer, size_t capacity, size_t *needed)
{
    if (const attn_status status = require(plan, "attn_plan_describe", "plan")) return status;
    if (capacity)
        if (const attn_status status = require(buffer, "attn_plan_describe", "buffer")) return status;
    return guarded("attn_plan_describe", [&]() -> attn_status {
        const std::string text = attn::describe_plan(*plan->handle, *plan->problem, *plan->executor);
        const bool size_only = capacity == 0 && needed;
        if (!size_only && text.size() + 1 > capacity)
            return fail(ATTN_ERROR_CAPACITY, "capacity = %zu: the description needs %zu bytes", capacity,
                        text.size() + 1);
        if (needed) *needed = text.size() + 1;
        if (!size_only) memcpy(buffer, text.c_str(), text.size() + 1);
        return ATTN_OK;
    });
}

attn_status attn_execute(attn_plan plan, const attn_arg *args, size_t count, void *workspace, size_t bytes,
                         void *stream)
{
    if (const attn_status status = require(plan, "attn_execute", "plan")) return status;
    const ErrnoStays errno_stays;
    const attn_handle_s &handle = *plan->handle;
    attn::Arguments arguments;
    if (const attn_status status =
            attn::match_arguments(plan->problem->tensors, handle.device, handle.device_id, args, count, &arguments))
        return status;
    return plan->executor->execute(handle, arguments, workspace, bytes, stream);
}

void attn_plan_destroy(attn_plan plan)
{
    const ErrnoStays errno_stays;
    delete plan;
}

} // extern "C"
