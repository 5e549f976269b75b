// Any argument list of a valid plan: wrong slots, extents, strides, offsets, devices, contents and workspaces. The
// library cannot know how much memory a view has, so a call whose views leave their memory also passes a stream, which
// the CPU refuses before it reads a tensor: such a call must fail and may touch nothing.
#include "check.h"
#include "handles.h"
#include "plans.h"
#include "tensors.h"

#include <algorithm>
#include <utility>

namespace attn::fuzz {
namespace {

__extension__ typedef __int128 Wide;

/// A step that strides are made of.
int64_t read_stride(Input *input, int64_t usual)
{
    static constexpr int64_t kOdd[] = {0, 1, -1, 2, 3, 7, 64, -64};
    static constexpr int64_t kHuge[] = {INT64_MAX,           INT64_MIN,        INT64_MAX / 2,       INT64_MAX / 4 + 1,
                                        INT64_MIN / 2,       int64_t{1} << 61, -(int64_t{1} << 61), int64_t{1} << 32,
                                        -(int64_t{1} << 31), int64_t{1} << 47};
    switch (input->integer(0, 7)) {
    case 0:
    case 1:
        return usual;
    case 2:
        return static_cast<int64_t>(0 - static_cast<uint64_t>(usual));
    case 3:
        return static_cast<int64_t>(static_cast<uint64_t>(usual) * 2);
    case 4:
    case 5:
        return input->pick(kOdd);
    case 6:
        return input->pick(kHuge);
    default:
        return input->raw<int64_t>();
    }
}

/// A call that begins valid and is then changed.
class Call {
public:
    Call(Input *input, attn_plan plan) : input_(*input), plan_(plan)
    {
        valid_ = tensors_.make(input, &memory_, plan, input->integer(3, 8));
    }

    void run()
    {
        if (!valid_) return;
        const int64_t changes = input_.integer(0, 6);
        for (int64_t i = 0; i < changes; ++i) change();
        void *stray = input_.one_in(64) ? &tensors_ : nullptr;
        const bool contained = std::all_of(tensors_.views.begin(), tensors_.views.end(),
                                           [&](const attn_tensor &view) { return stays_inside(view); });
        if (!contained) stray = &tensors_;
        choose_workspace();
        const std::vector<std::vector<unsigned char>> before = copies();
        const bool no_args = input_.one_in(128);
        const attn_status status = check_status(attn_execute(plan_, no_args ? nullptr : tensors_.args.data(),
                                                             tensors_.args.size(), workspace_, bytes_, stray));
        if (stray || no_args) check(status != ATTN_OK, "a stream or missing args are refused on the CPU");
        if (!scarce_) check(status != ATTN_ERROR_WORKSPACE, "the workspace of the bounds suffices");
        check(status != ATTN_ERROR_UNSUPPORTED, "what was planned is served");
        compare(before, status);
    }

private:
    void change()
    {
        const size_t i = static_cast<size_t>(input_.integer(0, static_cast<int64_t>(tensors_.views.size()) - 1));
        attn_tensor &view = tensors_.views[i];
        const int axis = static_cast<int>(input_.integer(0, std::clamp(view.ndim, 1, 8) - 1));
        switch (input_.integer(0, 11)) {
        case 0:
            replace_extent(view.shape[axis]);
            break;
        case 1:
            view.shape[axis] = input_.extent(view.shape[axis]);
            break;
        case 2:
            view.strides[axis] = read_stride(&input_, view.strides[axis]);
            break;
        case 3: // backwards through the same memory
            if (view.shape[axis] < 1 || view.shape[axis] > 1 << 16) break;
            if (view.strides[axis] < -(1 << 20) || view.strides[axis] > 1 << 20) break;
            view.byte_offset +=
                static_cast<size_t>(view.strides[axis] * (view.shape[axis] - 1)) * element_bytes(view.dtype);
            view.strides[axis] = -view.strides[axis];
            break;
        case 4:
            permute(&view, axis, static_cast<int>(input_.integer(0, std::clamp(view.ndim, 1, 8) - 1)));
            break;
        case 5:
            view.byte_offset += input_.one_in(4) ? input_.raw<size_t>() : static_cast<size_t>(input_.integer(1, 64));
            break;
        case 6:
            view.device = input_.one_in(4) ? input_.raw<int32_t>() : static_cast<int32_t>(input_.integer(0, 14));
            view.device_id = static_cast<int32_t>(input_.extent(0));
            break;
        case 7:
            view.ndim = input_.one_in(4) ? input_.raw<int32_t>() : static_cast<int32_t>(input_.integer(-1, 9));
            break;
        case 8:
            view.dtype = input_.one_in(2) ? input_.raw<attn_dtype>() : tensors_.views[0].dtype;
            break;
        case 9: // memory of another tensor, or none
            view.data =
                input_.one_in(3)
                    ? nullptr
                    : tensors_
                          .data[static_cast<size_t>(input_.integer(0, static_cast<int64_t>(tensors_.data.size()) - 1))];
            break;
        default:
            change_arg();
        }
    }

    /// One size of the call, in all tensors that have it.
    void replace_extent(int64_t old)
    {
        const int64_t now = input_.integer(0, std::clamp<int64_t>(old, 0, 64));
        for (attn_tensor &view : tensors_.views)
            for (int axis = 0; axis < std::clamp(view.ndim, 0, 8); ++axis) {
                if (view.shape[axis] == old) view.shape[axis] = now;
                if (view.ndim == 1 && old < 64 && view.shape[axis] == old + 1) view.shape[axis] = now + 1; // boundaries
            }
    }

    /// Another order of axes in the same memory.
    static void permute(attn_tensor *view, int a, int b)
    {
        if (view->ndim < 1 || view->ndim > 8) return;
        int order[8];
        for (int axis = 0; axis < view->ndim; ++axis) order[axis] = axis;
        std::swap(order[a], order[b]);
        int64_t step = 1;
        for (int i = view->ndim; i-- > 0;) {
            view->strides[order[i]] = step;
            if (view->shape[order[i]] < 0 || view->shape[order[i]] > 1 << 14) return;
            step *= std::max<int64_t>(view->shape[order[i]], 1);
        }
    }

    void change_arg()
    {
        std::vector<attn_arg> &args = tensors_.args;
        if (args.empty()) return;
        const auto any = [&] { return static_cast<size_t>(input_.integer(0, static_cast<int64_t>(args.size()) - 1)); };
        attn_arg &arg = args[any()];
        switch (input_.integer(0, 6)) {
        case 0:
            arg.slot = input_.one_in(2) ? input_.raw<attn_slot>() : args[any()].slot;
            break;
        case 1:
            arg.index = static_cast<uint32_t>(input_.extent(1));
            break;
        case 2:
            arg.tensor = nullptr;
            break;
        case 3:
            args.pop_back();
            break;
        case 4: {
            const attn_arg again = arg;
            args.push_back(again);
            break;
        }
        case 5:
            arg.tensor = args[any()].tensor;
            break;
        default:
            std::swap(arg, args[any()]);
        }
    }

    /// Whether all that the view reaches lies in the block that its address begins. A view that the library refuses by
    /// itself may count as either.
    bool stays_inside(const attn_tensor &view) const
    {
        if (!view.data) return true;
        if (view.ndim < 0 || view.ndim > 8) return false;
        const size_t block = static_cast<size_t>(
            std::find(tensors_.data.begin(), tensors_.data.end(), static_cast<unsigned char *>(view.data)) -
            tensors_.data.begin());
        const Wide element = static_cast<Wide>(element_bytes(view.dtype));
        Wide low = static_cast<Wide>(view.byte_offset), high = low + element;
        for (int axis = 0; axis < view.ndim; ++axis) {
            if (view.shape[axis] < 0 || view.shape[axis] > int64_t{1} << 47) return false; // refused
            if (view.shape[axis] == 0) return true;
            const Wide reach = static_cast<Wide>(view.strides[axis]) * element * (view.shape[axis] - 1);
            (reach < 0 ? low : high) += reach;
        }
        return low >= 0 && high <= static_cast<Wide>(tensors_.bytes[block]);
    }

    void choose_workspace()
    {
        size_t alignment = 0;
        check(check_status(attn_plan_workspace(plan_, &bytes_, &alignment)) == ATTN_OK, "a plan tells its workspace");
        scarce_ = input_.one_in(6);
        if (!scarce_) {
            workspace_ = memory_.take(bytes_);
            return;
        }
        const size_t shift = static_cast<size_t>(input_.integer(0, 15));
        if (input_.one_in(2)) bytes_ = static_cast<size_t>(input_.integer(0, static_cast<int64_t>(bytes_)));
        workspace_ = memory_.take(bytes_ + shift) + shift;
        if (input_.one_in(4)) workspace_ = nullptr;
    }

    std::vector<std::vector<unsigned char>> copies() const
    {
        std::vector<std::vector<unsigned char>> all;
        for (size_t i = 0; i < tensors_.data.size(); ++i)
            all.emplace_back(tensors_.data[i], tensors_.data[i] + tensors_.bytes[i]);
        return all;
    }

    /// Nothing is written on failure. Args may have changed their places; a block is written if an output lies in it.
    void compare(const std::vector<std::vector<unsigned char>> &before, attn_status status) const
    {
        for (size_t i = 0; i < before.size(); ++i) {
            const bool may_change =
                status == ATTN_OK && std::any_of(tensors_.args.begin(), tensors_.args.end(), [&](const attn_arg &arg) {
                    return is_output(arg.slot) && arg.tensor->data == tensors_.data[i];
                });
            if (may_change) continue;
            check(std::equal(before[i].begin(), before[i].end(), tensors_.data[i]),
                  "inputs are never written, outputs not by a failing execute");
        }
    }

    Input &input_;
    attn_plan plan_;
    Memory memory_;
    Tensors tensors_;
    bool valid_ = false, scarce_ = false;
    unsigned char *workspace_ = nullptr;
    size_t bytes_ = 0;
};

} // namespace
} // namespace attn::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    attn::fuzz::Input input(data, size);
    const std::vector<attn_plan> &plans = attn::fuzz::plans();
    const attn_plan plan = plans[static_cast<size_t>(input.integer(0, static_cast<int64_t>(plans.size()) - 1))];
    attn::fuzz::Call(&input, plan).run();
    return 0;
}
