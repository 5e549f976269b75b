#include "far_tensor.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <utility>

namespace conformance {

FarTensor::FarTensor(attn_dtype dtype, std::vector<std::int64_t> shape) : dtype_(dtype), shape_(std::move(shape))
{
    strides_.assign(shape_.size(), 1);
    for (std::size_t axis = shape_.size(); axis-- > 1;) strides_[axis - 1] = strides_[axis] * shape_[axis];
    map({});
}

FarTensor::FarTensor(attn_dtype dtype, std::vector<std::int64_t> shape, std::size_t far, std::int64_t reach)
    : dtype_(dtype), shape_(std::move(shape)), strides_(shape_.size())
{
    std::int64_t step = 1;
    for (std::size_t axis = shape_.size(); axis-- > 0;)
        if (axis != far) strides_[axis] = step, step *= shape_[axis];
    // One more element of the rest than a power of two divides, so that rows are not all aligned alike.
    const std::int64_t gap = std::max(std::abs(reach) / std::max<std::int64_t>(shape_[far] - 1, 1), step) + 1;
    strides_[far] = reach < 0 ? -gap : gap;
    std::vector<std::pair<std::int64_t, std::int64_t>> parts; // in elements
    for (std::int64_t n = 0; n < shape_[far]; ++n) parts.emplace_back(n * gap, n * gap + step);
    map(parts);
}

FarTensor::~FarTensor()
{
    if (!memory_) return;
    remove_block(memory_);
    munmap(memory_, bytes_);
}

FarTensor::FarTensor(FarTensor &&other) noexcept
    : dtype_(other.dtype_),
      shape_(std::move(other.shape_)),
      strides_(std::move(other.strides_)),
      base_(other.base_),
      bytes_(other.bytes_),
      memory_(std::exchange(other.memory_, nullptr))
{
}

void FarTensor::map(const std::vector<std::pair<std::int64_t, std::int64_t>> &parts)
{
    std::int64_t last = 0;
    for (std::size_t axis = 0; axis < shape_.size(); ++axis) {
        const std::int64_t reach = strides_[axis] * (shape_[axis] - 1);
        (reach < 0 ? base_ : last) += std::abs(reach);
    }
    bytes_ = static_cast<std::size_t>(base_ + last + 1) * element_size(dtype_);
    void *memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return;
    // Else each row that is touched would take a page of 2 MiB.
    madvise(memory, bytes_, MADV_NOHUGEPAGE);
    memory_ = static_cast<unsigned char *>(memory);
    Block block{memory_, bytes_, {}};
    for (const auto &[first, last] : parts)
        block.parts.emplace_back(std::size_t(first) * element_size(dtype_), std::size_t(last) * element_size(dtype_));
    add_block(block);
}

unsigned char *FarTensor::element(Index at) const
{
    std::int64_t offset = base_;
    for (std::size_t axis = 0; axis < shape_.size(); ++axis) offset += at[axis] * strides_[axis];
    return memory_ + static_cast<std::size_t>(offset) * element_size(dtype_);
}

attn_tensor FarTensor::view() const
{
    attn_tensor view = {};
    view.data = memory_;
    view.byte_offset = static_cast<std::size_t>(base_) * element_size(dtype_);
    view.ndim = static_cast<std::int32_t>(shape_.size());
    view.dtype = dtype_;
    std::copy(shape_.begin(), shape_.end(), view.shape);
    std::copy(strides_.begin(), strides_.end(), view.strides);
    return view;
}

void FarTensor::copy(const FarTensor &other)
{
    for_each([&](Index at) { std::memcpy(element(at), other.element(at), element_size(dtype_)); });
}

void FarTensor::poison()
{
    for_each([&](Index at) { encode_poison(dtype_, element(at)); });
}

bool FarTensor::same_bits(const FarTensor &other) const
{
    bool same = true;
    for_each([&](Index at) { same &= std::memcmp(element(at), other.element(at), element_size(dtype_)) == 0; });
    return same;
}

double FarTensor::differs_by(const FarTensor &other) const
{
    double largest = 0;
    for_each([&](Index at) {
        const double difference = std::abs(get(at) - other.get(at));
        largest = difference <= largest ? largest : difference;
    });
    return largest;
}

} // namespace conformance
