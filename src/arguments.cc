#include "arguments.h"

#include "names.h"
#include "overlap.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>

namespace attn {
namespace {

constexpr const char *kAxisNames[kAxisCount] = {"fixed",
                                                "the batch",
                                                "the batch + 1",
                                                "Tq",
                                                "Tk",
                                                "the packed rows of Q",
                                                "the packed rows of K",
                                                "the pages of K",
                                                "the pages of V",
                                                "the columns of BLOCK_TABLE",
                                                "the entries of BLOCK_TABLE",
                                                "the positions of ROPE_COS",
                                                "the states of the pool"};

/// "K" or "PARTIAL_OUT[2]".
struct Label {
    char text[80];
    explicit Label(const TensorSpec &spec)
    {
        if (spec.index)
            snprintf(text, sizeof text, "%s[%u]", slot_name(spec.slot), spec.index);
        else
            snprintf(text, sizeof text, "%s", slot_name(spec.slot));
    }
};

/// Whether memory of the view's kind can be used by a device. Memory of the host that a driver pinned, and memory that
/// it manages, has the ordinal of no particular device.
bool is_reachable(const attn_tensor &view, attn_device device, int32_t device_id)
{
    switch (view.device) {
    case ATTN_DEVICE_DEFAULT:
        return true;
    case ATTN_DEVICE_CUDA_HOST:
        return device == ATTN_DEVICE_CPU || device == ATTN_DEVICE_CUDA;
    case ATTN_DEVICE_HIP_HOST:
        return device == ATTN_DEVICE_CPU || device == ATTN_DEVICE_HIP;
    case ATTN_DEVICE_CUDA_MANAGED:
        return device == ATTN_DEVICE_CUDA;
    default:
        return view.device == device && view.device_id == device_id;
    }
}

attn_status check_memory(const TensorSpec &spec, const attn_tensor &view, attn_device device, int32_t device_id)
{
    if (!is_reachable(view, device, device_id))
        return fail(ATTN_ERROR_INVALID, "%s.device = %d:%d: must be %d:%d (%s), the device of the handle, or 0",
                    Label(spec).text, view.device, view.device_id, device, device_id, device_name(device));
    bool empty = false;
    for (int axis = 0; axis < view.ndim; ++axis) empty |= view.shape[axis] == 0;
    if (empty) return ATTN_OK;
    if (!view.data)
        return fail(ATTN_ERROR_INVALID, "%s.data = NULL: must point to memory, no extent is 0", Label(spec).text);

    const int64_t bytes = dtype_bytes(spec.dtype);
    const uintptr_t address = reinterpret_cast<uintptr_t>(view.data) + view.byte_offset;
    if (address % static_cast<uintptr_t>(bytes) != 0)
        return fail(ATTN_ERROR_INVALID, "%s.data = %p + %zu: must be a multiple of its %lld-byte elements",
                    Label(spec).text, view.data, view.byte_offset, static_cast<long long>(bytes));
    int64_t first, last;
    if (!view_span(view, bytes, &first, &last))
        return fail(ATTN_ERROR_INVALID, "%s: shape times strides leaves the address space", Label(spec).text);
    if (spec.flags & ATTN_BIND_ALIGNED) {
        if (address % 16 != 0)
            return fail(ATTN_ERROR_INVALID, "%s.data = %p + %zu: bound ATTN_BIND_ALIGNED, must be a multiple of 16",
                        Label(spec).text, view.data, view.byte_offset);
        for (int axis = 0; axis + 1 < view.ndim; ++axis)
            if (view.shape[axis] > 1 && (view.strides[axis] * bytes) % 16 != 0)
                return fail(ATTN_ERROR_INVALID,
                            "%s.strides[%d] = %lld: bound ATTN_BIND_ALIGNED, must be a multiple of 16 bytes",
                            Label(spec).text, axis, static_cast<long long>(view.strides[axis]));
    }
    if ((spec.flags & ATTN_BIND_INNER_CONTIGUOUS) && view.shape[view.ndim - 1] > 1 && view.strides[view.ndim - 1] != 1)
        return fail(ATTN_ERROR_INVALID, "%s.strides[%d] = %lld: bound ATTN_BIND_INNER_CONTIGUOUS, must be 1",
                    Label(spec).text, view.ndim - 1, static_cast<long long>(view.strides[view.ndim - 1]));
    if (spec.output && !has_distinct_elements(view))
        return fail(ATTN_ERROR_INVALID,
                    "%s.strides: the output overlaps itself; each axis must step beyond the reach of the faster ones",
                    Label(spec).text);
    return ATTN_OK;
}

/// Extents of one view against the bounds of the plan and against the views before it.
attn_status check_shape(const TensorSpec &spec, const attn_tensor &view, Sizes *sizes,
                        const TensorSpec *(&setter)[kAxisCount])
{
    if (view.ndim != spec.ndim)
        return fail(ATTN_ERROR_INVALID, "%s.ndim = %d: must be %d", Label(spec).text, view.ndim, spec.ndim);
    if (view.dtype != spec.dtype) {
        char given[32];
        snprintf(given, sizeof given, "%s", dtype_text(view.dtype));
        return fail(ATTN_ERROR_INVALID, "%s.dtype = %s: must be %s, as planned", Label(spec).text, given,
                    dtype_text(spec.dtype));
    }
    for (int i = 0; i < spec.ndim; ++i) {
        const int64_t extent = view.shape[i], bound = spec.bounds[i];
        const int axis = static_cast<int>(spec.axes[i]);
        if (extent < 0)
            return fail(ATTN_ERROR_INVALID, "%s.shape[%d] = %lld: must be >= 0", Label(spec).text, i,
                        static_cast<long long>(extent));
        if (spec.axes[i] == Axis::fixed) {
            if (extent != bound)
                return fail(ATTN_ERROR_INVALID, "%s.shape[%d] = %lld: must be %lld", Label(spec).text, i,
                            static_cast<long long>(extent), static_cast<long long>(bound));
            continue;
        }
        if (bound != kFree ? extent > bound : extent > kLargestExtent)
            return fail(ATTN_ERROR_INVALID, "%s.shape[%d] = %lld: %s is at most %lld in this plan", Label(spec).text, i,
                        static_cast<long long>(extent), kAxisNames[axis],
                        static_cast<long long>(bound != kFree ? bound : kLargestExtent));
        if (spec.axes[i] == Axis::batch_plus_1 && extent < 1)
            return fail(ATTN_ERROR_INVALID, "%s.shape[%d] = 0: must be the batch + 1, so at least 1", Label(spec).text,
                        i);
        // The batch is one axis whether it is counted by sequences or by the boundaries between them.
        const bool boundary = spec.axes[i] == Axis::batch_plus_1;
        const int shared = boundary ? static_cast<int>(Axis::batch) : axis;
        const int64_t value = boundary ? extent - 1 : extent;
        if (sizes->extent[shared] == kFree) {
            sizes->extent[shared] = value;
            setter[shared] = &spec;
        } else if (sizes->extent[shared] != value) {
            const Label other(*setter[shared]);
            return fail(ATTN_ERROR_INVALID, "%s.shape[%d] = %lld: must be %lld, %s is %lld by %s", Label(spec).text, i,
                        static_cast<long long>(extent),
                        static_cast<long long>(sizes->extent[shared] + (boundary ? 1 : 0)), kAxisNames[shared],
                        static_cast<long long>(sizes->extent[shared]), other.text);
        }
    }
    return ATTN_OK;
}

/// A state may be replaced by the one after: STATE_OUT as the very view of STATE_IN.
bool is_updated_in_place(const TensorSpec &out, const attn_tensor &to, const TensorSpec &in, const attn_tensor &from)
{
    if (out.slot != ATTN_SLOT_STATE_OUT || in.slot != ATTN_SLOT_STATE_IN || to.data != from.data ||
        to.byte_offset != from.byte_offset || to.ndim != from.ndim || to.dtype != from.dtype)
        return false;
    return std::equal(to.shape, to.shape + to.ndim, from.shape) &&
           std::equal(to.strides, to.strides + to.ndim, from.strides);
}

} // namespace

attn_status match_arguments(const std::vector<TensorSpec> &tensors, attn_device device, int32_t device_id,
                            const attn_arg *args, size_t count, Arguments *out) noexcept
{
    if (!args && count) return fail(ATTN_ERROR_INVALID, "args = NULL: must point to count = %zu args", count);
    const size_t wanted = tensors.size();
    for (size_t i = 0; i < wanted; ++i) out->view[i] = nullptr;
    size_t next = 0; // args mostly come in the order of the plan, so the search goes on from the last one found
    for (size_t i = 0; i < count; ++i) {
        const attn_arg &arg = args[i];
        size_t t = next, steps = 0;
        while (steps < wanted && (tensors[t].slot != arg.slot || tensors[t].index != arg.index)) {
            if (++t == wanted) t = 0;
            ++steps;
        }
        if (steps == wanted) {
            if (!slot_exists(arg.slot))
                return fail(ATTN_ERROR_INVALID, "args[%zu].slot = 0x%x: not a value of attn_slot", i,
                            static_cast<unsigned>(arg.slot));
            return fail(ATTN_ERROR_INVALID,
                        "args[%zu]: slot %s index %u is not a tensor of this plan; declare it with an attn_bind", i,
                        slot_name(arg.slot), arg.index);
        }
        if (out->view[t])
            return fail(ATTN_ERROR_INVALID, "args[%zu]: slot %s index %u is given twice", i, slot_name(arg.slot),
                        arg.index);
        if (!arg.tensor)
            return fail(ATTN_ERROR_INVALID, "args[%zu].tensor = NULL: slot %s needs a view", i, slot_name(arg.slot));
        if (arg.tensor->ndim < 0 || arg.tensor->ndim > 8)
            return fail(ATTN_ERROR_INVALID, "%s.ndim = %d: must be 0 .. 8", slot_name(arg.slot), arg.tensor->ndim);
        out->view[t] = arg.tensor;
        next = t + 1 == wanted ? 0 : t + 1;
    }

    for (int64_t &extent : out->sizes.extent) extent = kFree;
    const TensorSpec *setter[kAxisCount] = {};
    for (size_t t = 0; t < wanted; ++t) {
        if (!out->view[t])
            return fail(ATTN_ERROR_INVALID, "args: slot %s index %u is missing", slot_name(tensors[t].slot),
                        tensors[t].index);
        if (const attn_status status = check_shape(tensors[t], *out->view[t], &out->sizes, setter)) return status;
    }
    for (size_t t = 0; t < wanted; ++t)
        if (const attn_status status = check_memory(tensors[t], *out->view[t], device, device_id)) return status;
    for (size_t t = 0; t < wanted; ++t) {
        if (!tensors[t].output) continue;
        for (size_t other = 0; other < wanted; ++other) {
            if (other == t || (tensors[other].output && other < t)) continue;
            if (is_updated_in_place(tensors[t], *out->view[t], tensors[other], *out->view[other])) continue;
            if (are_disjoint(*out->view[t], dtype_bytes(tensors[t].dtype), *out->view[other],
                             dtype_bytes(tensors[other].dtype)))
                continue;
            const Label label(tensors[t]), alias(tensors[other]);
            return fail(ATTN_ERROR_INVALID, "%s.data = %p: must not overlap %s, which begins at %p", label.text,
                        out->view[t]->data, alias.text, out->view[other]->data);
        }
    }
    return ATTN_OK;
}

} // namespace attn
