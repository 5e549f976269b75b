#include "tensor.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace conformance {
namespace {

constexpr std::int64_t guard = 64; // elements on each side

struct Plan {
    std::vector<std::int64_t> order; // axes from the outermost to the innermost in memory
    std::int64_t channel_step = 1;   // stride of the innermost axis
    std::int64_t padding = 0;        // elements added to the extent of every axis but the outermost
    std::vector<bool> reversed;      // negative stride
    std::vector<bool> repeated;      // stride 0; inputs only
};

// bshd      axes in order, dense
// bhsd      tokens and heads exchanged in memory
// gaps      padded at every level, base not aligned, byte_offset in use
// reversed  tokens and heads run backwards
// strided   channels not adjacent
// repeated  one head stands for all (stride 0)
Plan make_plan(const std::string &layout, std::size_t rank)
{
    Plan plan;
    plan.reversed.assign(rank, false), plan.repeated.assign(rank, false);
    for (std::size_t a = 0; a < rank; ++a) plan.order.push_back(std::int64_t(a));
    const std::size_t head = rank >= 2 ? rank - 2 : 0, token = rank >= 3 ? rank - 3 : 0;
    if (layout == "bhsd") {
        std::swap(plan.order[token], plan.order[head]);
    } else if (layout == "gaps") {
        plan.padding = 3;
    } else if (layout == "reversed") {
        plan.reversed[token] = plan.reversed[head] = true;
    } else if (layout == "strided") {
        plan.channel_step = 2;
    } else if (layout == "repeated") {
        plan.repeated[head] = true;
    } else if (layout != "bshd") {
        throw std::invalid_argument("no layout called " + layout);
    }
    return plan;
}

} // namespace

Tensor::Tensor(attn_dtype dtype, std::vector<std::int64_t> shape, const std::string &layout)
    : dtype_(dtype), size_(element_size(dtype)), shape_(std::move(shape)), use_byte_offset_(layout == "gaps")
{
    const Plan plan = make_plan(layout, shape_.size());
    strides_.assign(shape_.size(), 0);
    std::int64_t step = plan.channel_step, lowest = 0, highest = 0;
    for (auto it = plan.order.rbegin(); it != plan.order.rend(); ++it) {
        const std::int64_t axis = *it;
        if (plan.repeated[axis]) continue;
        strides_[axis] = plan.reversed[axis] ? -step : step;
        const std::int64_t reach = std::max<std::int64_t>(shape_[axis] - 1, 0) * step;
        (plan.reversed[axis] ? lowest : highest) += plan.reversed[axis] ? -reach : reach;
        step *= std::max<std::int64_t>(shape_[axis], 1) + plan.padding;
    }
    base_ = guard - lowest + (layout == "gaps" ? 1 : 0);
    bytes_.resize((base_ + highest + 1 + guard) * size_);
    poison();
}

attn_tensor Tensor::view()
{
    attn_tensor t{};
    t.ndim = static_cast<std::int32_t>(shape_.size());
    t.dtype = dtype_;
    std::copy(shape_.begin(), shape_.end(), t.shape);
    std::copy(strides_.begin(), strides_.end(), t.strides);
    const bool empty = std::find(shape_.begin(), shape_.end(), 0) != shape_.end();
    const std::size_t start = static_cast<std::size_t>(base_) * size_;
    if (use_byte_offset_) {
        t.data = bytes_.data(), t.byte_offset = start;
    } else if (!empty) { // an empty tensor may come without memory
        t.data = bytes_.data() + start;
    }
    return t;
}

void Tensor::poison()
{
    for (std::size_t at = 0; at < bytes_.size(); at += size_) encode_poison(dtype_, bytes_.data() + at);
    expected_.assign(bytes_.size() / size_, false);
}

void Tensor::expect_write(Index at)
{
    expected_[offset(at)] = true;
}

bool Tensor::wrote_elsewhere() const
{
    unsigned char poison[8];
    encode_poison(dtype_, poison);
    for (std::size_t n = 0; n < expected_.size(); ++n)
        if (!expected_[n] && std::memcmp(bytes_.data() + n * size_, poison, size_) != 0) return true;
    return false;
}

} // namespace conformance
