// Any descriptor: planned, asked about, and executed where its bounds are small.
#include "check.h"
#include "descriptor.h"
#include "handles.h"
#include "tensors.h"

#include <string>

namespace attn::fuzz {
namespace {

constexpr size_t kLargestWorkspace = 1 << 24;

attn_status make_plan(attn_handle handle, const Descriptor &descriptor, attn_plan *plan)
{
    switch (descriptor.kind) {
    case ATTN_KIND_DENSE:
        return attn_plan_dense(handle, static_cast<const attn_dense *>(descriptor.struct_), plan);
    case ATTN_KIND_MERGE:
        return attn_plan_merge(handle, static_cast<const attn_merge *>(descriptor.struct_), plan);
    case ATTN_KIND_LINEAR:
        return attn_plan_linear(handle, static_cast<const attn_linear *>(descriptor.struct_), plan);
    case ATTN_KIND_CONV:
        return attn_plan_conv(handle, static_cast<const attn_conv *>(descriptor.struct_), plan);
    case ATTN_KIND_SCAN:
        return attn_plan_scan(handle, static_cast<const attn_scan *>(descriptor.struct_), plan);
    default:
        return attn_plan_append(handle, static_cast<const attn_append *>(descriptor.struct_), plan);
    }
}

void describe(attn_plan plan, Memory *memory, Input *input)
{
    size_t needed = 0;
    check(check_status(attn_plan_describe(plan, nullptr, 0, &needed)) == ATTN_OK, "a plan tells how long its text is");
    check(needed > 2, "a description is not empty");
    char *text = reinterpret_cast<char *>(memory->take(needed));
    check(check_status(attn_plan_describe(plan, text, needed, nullptr)) == ATTN_OK, "the text fits where it says");
    check(strlen(text) + 1 == needed, "the text is as long as it says");
    const size_t less = static_cast<size_t>(input->integer(1, static_cast<int64_t>(needed) - 1));
    char *cut = reinterpret_cast<char *>(memory->take(less));
    check(check_status(attn_plan_describe(plan, cut, less, nullptr)) == ATTN_ERROR_CAPACITY,
          "a text that does not fit is refused");
}

void execute(attn_plan plan, Memory *memory, Input *input)
{
    Tensors tensors;
    if (!tensors.make(input, memory, plan, input->extent(4) & 63)) return;
    size_t bytes = 0, alignment = 0;
    check(check_status(attn_plan_workspace(plan, &bytes, &alignment)) == ATTN_OK, "a plan tells its workspace");
    check(alignment <= 16 && (alignment & (alignment - 1)) == 0, "malloc() aligns enough for the CPU");
    if (bytes > kLargestWorkspace) return;
    void *workspace = memory->take(bytes);
    const auto before = tensors.outputs();
    const attn_status status =
        check_status(attn_execute(plan, tensors.args.data(), tensors.args.size(), workspace, bytes, nullptr));
    check(status != ATTN_ERROR_WORKSPACE, "the workspace of the bounds suffices");
    check(status != ATTN_ERROR_UNSUPPORTED, "what was planned is served");
    if (status != ATTN_OK) check(tensors.outputs() == before, "a failing execute writes nothing");
}

void run(Input *input)
{
    const auto &all = handles();
    const attn_handle handle = input->one_in(200)
                                   ? nullptr
                                   : all[static_cast<size_t>(input->integer(0, static_cast<int64_t>(all.size()) - 1))];
    Memory memory;
    const Descriptor descriptor = read_descriptor(input, &memory);
    if (input->one_in(100)) {
        const attn_kind unknown = input->one_in(2) ? 0 : ATTN_KIND_APPEND + 1;
        check(check_status(attn_plan_supports(handle, unknown, descriptor.struct_)) == ATTN_ERROR_INVALID,
              "an unknown kind is refused");
    }
    const attn_status supported = check_status(attn_plan_supports(handle, descriptor.kind, descriptor.struct_));
    const std::string reason = supported ? attn_last_error() : "";
    attn_plan plan = nullptr;
    const attn_status planned = check_status(make_plan(handle, descriptor, &plan));
    check(planned == supported, "attn_plan_supports() says what planning does");
    check((planned == ATTN_OK) == (plan != nullptr), "a plan is made on success only");
    // Where the handle is NULL the messages name the two functions.
    if (planned && handle) check(reason == attn_last_error(), "attn_plan_supports() gives the message of planning");
    if (planned == ATTN_OK) {
        describe(plan, &memory, input);
        size_t bound = 0, bytes = 0;
        check(check_status(attn_plan_workspace(plan, &bound, nullptr)) == ATTN_OK, "a plan tells its workspace");
        if (check_status(attn_plan_workspace_for(plan, read_sizes(input, &memory), &bytes)) == ATTN_OK)
            check(bytes <= bound, "fewer rows need no larger workspace");
        execute(plan, &memory, input);
    }
    attn_plan_destroy(plan);
}

} // namespace
} // namespace attn::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    attn::fuzz::Input input(data, size);
    attn::fuzz::run(&input);
    return 0;
}
