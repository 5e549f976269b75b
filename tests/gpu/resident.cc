#include "resident.h"

#include <algorithm>
#include <map>
#include <stdexcept>

namespace gpu_test {

bool is_output(attn_slot slot)
{
    constexpr attn_slot outputs[] = {ATTN_SLOT_OUT,         ATTN_SLOT_LSE,     ATTN_SLOT_K_CACHE,     ATTN_SLOT_V_CACHE,
                                     ATTN_SLOT_COLUMN_MASS, ATTN_SLOT_ROW_MAX, ATTN_SLOT_ROW_ENTROPY, ATTN_SLOT_STATUS};
    return std::find(std::begin(outputs), std::end(outputs), slot) != std::end(outputs);
}

std::vector<conformance::Bytes> output_bytes(const std::vector<attn_arg> &args)
{
    std::map<attn_slot, conformance::Bytes> bytes;
    for (const attn_arg &arg : args) {
        if (!is_output(arg.slot) || !arg.tensor->data) continue;
        const conformance::Block block = conformance::block_of(arg.tensor->data);
        bytes[arg.slot].assign(block.data, block.data + block.bytes);
    }
    std::vector<conformance::Bytes> all;
    for (auto &[slot, b] : bytes) all.push_back(std::move(b));
    return all;
}

Resident::Resident(attn_plan plan, const std::vector<attn_arg> &args)
    : views_(args.size()), args_(args), memory_(args.size())
{
    for (std::size_t n = 0; n < args.size(); ++n) {
        views_[n] = *args[n].tensor;
        args_[n].tensor = &views_[n];
        if (!views_[n].data) continue;
        const conformance::Block block = conformance::block_of(views_[n].data);
        memory_[n].emplace(block.bytes, reinterpret_cast<std::uintptr_t>(block.data));
        const auto offset = static_cast<unsigned char *>(views_[n].data) - block.data;
        views_[n].data = static_cast<unsigned char *>(memory_[n]->data()) + offset;
    }
    std::size_t bytes = 0, alignment = 1;
    if (attn_plan_workspace(plan, &bytes, &alignment) != ATTN_OK) throw std::runtime_error(attn_last_error());
    if (bytes) workspace_.emplace(bytes, alignment);
    fill_workspace(0xff);
    write(args);
}

// The argument of a list that stands for the n-th of this call.
const attn_arg &Resident::find(const std::vector<attn_arg> &list, std::size_t n) const
{
    for (const attn_arg &arg : list)
        if (arg.slot == args_[n].slot && arg.index == args_[n].index) return arg;
    throw std::logic_error("the other call has other tensors");
}

void Resident::write(const std::vector<attn_arg> &from)
{
    for (std::size_t n = 0; n < args_.size(); ++n) {
        if (!memory_[n]) continue;
        const conformance::Block block = conformance::block_of(find(from, n).tensor->data);
        if (block.bytes != memory_[n]->bytes()) throw std::logic_error("the other call has other shapes");
        memory_[n]->write(block.data, 0, block.bytes);
    }
    check(driver().stream_synchronize(nullptr), "cuStreamSynchronize");
}

void Resident::read(const std::vector<attn_arg> &to) const
{
    for (std::size_t n = 0; n < args_.size(); ++n) {
        if (!memory_[n]) continue;
        const conformance::Block block = conformance::block_of(find(to, n).tensor->data);
        if (block.bytes != memory_[n]->bytes()) throw std::logic_error("the other call has other shapes");
        memory_[n]->read(block.data, 0, block.bytes);
    }
}

void Resident::fill_workspace(unsigned char value)
{
    if (!workspace_) return;
    const std::vector<unsigned char> bytes(workspace_->bytes(), value);
    workspace_->write(bytes.data(), 0, bytes.size());
}

attn_status Resident::execute(attn_plan plan, Stream stream) const
{
    return attn_execute(plan, args_.data(), args_.size(), workspace(), workspace_bytes(), stream);
}

} // namespace gpu_test
