#include "plan.h"

#include <pybind11/stl.h>

#include <cstdlib>
#include <new>
#include <string_view>

namespace attn_python {

namespace {

/**
 * @brief Scratch memory of the calling thread: grown when needed and kept for the next call, up to a limit.
 *
 * Nothing that runs between get() and the end of attn_execute() calls back into Python, so one per thread is enough.
 */
class Workspace {
public:
    void *get(size_t bytes)
    {
        if (bytes > size_) {
            memory_.reset();
            size_ = 0;
            const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
            memory_.reset(std::aligned_alloc(kAlignment, rounded));
            if (!memory_) throw std::bad_alloc();
            size_ = rounded;
        }
        return memory_.get();
    }
    void trim()
    {
        if (size_ > kKeep) memory_.reset(), size_ = 0;
    }

private:
    static constexpr size_t kAlignment = 256;         /* the most that attn_plan_workspace() asks for */
    static constexpr size_t kKeep = size_t{64} << 20; /* bytes */
    struct Free {
        void operator()(void *memory) const { std::free(memory); }
    };
    std::unique_ptr<void, Free> memory_;
    size_t size_ = 0;
};

/** The problem, pointing to its binds. */
attn_problem view(const Problem &problem)
{
    attn_problem p = problem.fields;
    p.binds = problem.binds.data();
    p.bind_count = problem.binds.size();
    return p;
}

} // namespace

template <class Create>
void Plan::create(Create create)
{
    attn_plan plan = nullptr;
    check([&] { return create(&plan); });
    plan_.reset(plan);
    check([&] { return attn_plan_workspace(plan, &workspace_bytes_, nullptr); });
}

Plan::Plan(const Handle &handle, const Problem &problem, const Dense &dense)
{
    const attn_problem p = view(problem);
    attn_dense d = dense.fields;
    d.problem = &p;
    d.bias_table = dense.table ? &*dense.table : nullptr;
    attn_program program{};
    std::vector<attn_table> tables;
    if (dense.mask) {
        for (const Program::Table &table : dense.mask->tables)
            tables.push_back(
                {table.values.data(), table.slopes.empty() ? nullptr : table.slopes.data(), table.rows, table.columns});
        program.size = sizeof program;
        program.terms = dense.mask->terms.data();
        program.term_count = dense.mask->terms.size();
        program.tables = tables.data();
        program.table_count = tables.size();
        d.mask = &program;
    }
    create([&](attn_plan *plan) { return attn_plan_dense(handle.get(), &d, plan); });
}

Plan::Plan(const Handle &handle, const Problem &problem, const Merge &merge)
{
    const attn_problem p = view(problem);
    attn_merge m = merge.fields;
    m.problem = &p;
    create([&](attn_plan *plan) { return attn_plan_merge(handle.get(), &m, plan); });
}

Plan::Plan(const Handle &handle, const Problem &problem, const Append &append)
{
    const attn_problem p = view(problem);
    attn_append a = append.fields;
    a.problem = &p;
    a.rope = append.rope ? &*append.rope : nullptr;
    create([&](attn_plan *plan) { return attn_plan_append(handle.get(), &a, plan); });
}

Plan::Plan(const Handle &handle, const Problem &problem, const Linear &linear)
{
    const attn_problem p = view(problem);
    attn_linear l = linear.fields;
    l.problem = &p;
    create([&](attn_plan *plan) { return attn_plan_linear(handle.get(), &l, plan); });
}

Plan::Plan(const Handle &handle, const Problem &problem, const Conv &conv)
{
    const attn_problem p = view(problem);
    attn_conv c = conv.fields;
    c.problem = &p;
    create([&](attn_plan *plan) { return attn_plan_conv(handle.get(), &c, plan); });
}

Plan::Plan(const Handle &handle, const Problem &problem, const Scan &scan)
{
    const attn_problem p = view(problem);
    attn_scan s = scan.fields;
    s.problem = &p;
    create([&](attn_plan *plan) { return attn_plan_scan(handle.get(), &s, plan); });
}

std::string Plan::describe() const
{
    size_t needed = 0;
    std::string text;
    check([&] {
        const attn_status status = attn_plan_describe(plan_.get(), nullptr, 0, &needed);
        if (status != ATTN_OK && status != ATTN_ERROR_CAPACITY) return status;
        text.resize(needed);
        return attn_plan_describe(plan_.get(), text.data(), text.size(), &needed);
    });
    text.resize(text.empty() ? 0 : text.size() - 1); /* its NUL */
    return text;
}

py::dict Plan::slots() const
{
    py::dict slots;
    for (size_t position = 0;; ++position) {
        attn_bind bind{};
        attn_tensor bounds{};
        const attn_status status = attn_plan_slot(plan_.get(), position, &bind, &bounds);
        if (status == ATTN_ERROR_CAPACITY) return slots;
        if (status != ATTN_OK) raise_error(status, attn_last_error());
        if (bind.index == 0)
            slots[py::int_(bind.slot)] =
                py::make_tuple(bounds.dtype, std::vector<int64_t>(bounds.shape, bounds.shape + bounds.ndim));
    }
}

namespace {

/** Views as arguments of attn_execute(); they point into the tensors. */
std::vector<attn_arg> arguments_of(const std::vector<Plan::Argument> &tensors)
{
    std::vector<attn_arg> args;
    args.reserve(tensors.size());
    for (const auto &[slot, index, tensor] : tensors) {
        if (!tensor) throw py::type_error("a tensor is None");
        args.push_back({slot, index, &tensor->view()});
    }
    return args;
}

} // namespace

size_t Plan::workspace_for(const std::optional<std::array<int64_t, 5>> &sizes) const
{
    if (!sizes || !workspace_bytes_) return workspace_bytes_;
    attn_sizes actual{};
    actual.size = sizeof actual;
    actual.batch = (*sizes)[0];
    actual.max_q = (*sizes)[1];
    actual.max_kv = (*sizes)[2];
    actual.total_q = (*sizes)[3];
    actual.total_kv = (*sizes)[4];
    size_t bytes = 0;
    check([&] { return attn_plan_workspace_for(plan_.get(), &actual, &bytes); });
    return bytes;
}

void Plan::execute(const std::vector<Argument> &tensors, const std::optional<std::array<int64_t, 5>> &sizes) const
{
    thread_local Workspace workspace;
    const std::vector<attn_arg> args = arguments_of(tensors);
    const size_t bytes = workspace_for(sizes);
    check([&] {
        const attn_status status =
            attn_execute(plan_.get(), args.data(), args.size(), bytes ? workspace.get(bytes) : nullptr, bytes, nullptr);
        workspace.trim();
        return status;
    });
}

void Plan::launch(const std::vector<Argument> &tensors, cuda::Stream stream, std::uintptr_t workspace,
                  size_t bytes) const
{
    const std::vector<attn_arg> args = arguments_of(tensors);
    check([&] {
        return attn_execute(plan_.get(), args.data(), args.size(), reinterpret_cast<void *>(workspace), bytes,
                            reinterpret_cast<void *>(stream));
    });
}

py::bytes save_states(const Problem &problem, const Linear &linear, const Tensor &state, int64_t tokens)
{
    const attn_problem p = view(problem);
    attn_linear l = linear.fields;
    l.problem = &p;
    std::string bytes;
    check([&] {
        size_t needed = 0;
        const attn_status status = attn_state_save(&l, &state.view(), tokens, nullptr, 0, &needed);
        if (status != ATTN_OK) return status;
        bytes.resize(needed);
        return attn_state_save(&l, &state.view(), tokens, bytes.data(), bytes.size(), nullptr);
    });
    return bytes;
}

int64_t load_states(const Problem &problem, const Linear &linear, const py::bytes &saved, const Tensor &state)
{
    const attn_problem p = view(problem);
    attn_linear l = linear.fields;
    l.problem = &p;
    const std::string_view bytes = saved;
    int64_t tokens = 0;
    check([&] { return attn_state_load(&l, bytes.data(), bytes.size(), &state.view(), &tokens); });
    return tokens;
}

void copy_states(const Tensor &from, attn_state_layout from_layout, const Tensor &to, attn_state_layout to_layout)
{
    check([&] { return attn_state_copy(&from.view(), from_layout, &to.view(), to_layout); });
}

py::dict inspect_states(const py::bytes &saved)
{
    const std::string_view bytes = saved;
    attn_state_info info{};
    info.size = sizeof info;
    check([&] { return attn_state_inspect(bytes.data(), bytes.size(), &info); });
    py::dict entry;
    entry["decay"] = info.decay;
    entry["update"] = info.update;
    entry["read"] = info.read;
    entry["feature_map"] = info.feature_map;
    entry["flags"] = info.flags;
    entry["layout"] = info.layout;
    entry["dtype"] = info.dtype;
    entry["states"] = info.states;
    entry["heads"] = info.heads;
    entry["rows"] = info.rows;
    entry["columns"] = info.columns;
    entry["tokens"] = info.tokens;
    return entry;
}

} // namespace attn_python
