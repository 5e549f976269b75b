// A tensor whose elements lie far apart: a few of them in terabytes of address space that no memory stands behind until
// it is touched. And the same tensor without gaps.
#pragma once

#include "number.h"
#include "tensor.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace conformance {

class FarTensor {
public:
    // Axis `far` is the outermost in memory, the last of its elements at least `reach` elements from the first; below 0
    // they lie backwards. The other axes are without gaps, in their order.
    FarTensor(attn_dtype dtype, std::vector<std::int64_t> shape, std::size_t far, std::int64_t reach);
    // Without gaps.
    FarTensor(attn_dtype dtype, std::vector<std::int64_t> shape);
    ~FarTensor();
    FarTensor(FarTensor &&other) noexcept;
    FarTensor(const FarTensor &) = delete;
    FarTensor &operator=(const FarTensor &) = delete;
    FarTensor &operator=(FarTensor &&) = delete;

    // Whether the system gave the address space.
    bool exists() const { return memory_ != nullptr; }
    attn_tensor view() const;
    const std::vector<std::int64_t> &shape() const { return shape_; }
    attn_dtype dtype() const { return dtype_; }

    void set(Index at, double value) { encode(dtype_, value, element(at)); }
    double get(Index at) const { return decode(dtype_, element(at)); }
    // Sets every element to what `other`, of the same shape, has there.
    void copy(const FarTensor &other);
    void poison();
    // Every element has the bits that it has in `other`, which has the same shape.
    bool same_bits(const FarTensor &other) const;
    // Largest difference from the elements of `other`, or NaN.
    double differs_by(const FarTensor &other) const;

    template <class Function>
    void for_each(Function function) const
    {
        Index n = {1, 1, 1, 1};
        for (std::size_t axis = 0; axis < shape_.size(); ++axis) n[axis] = shape_[axis];
        for (std::int64_t a = 0; a < n[0]; ++a)
            for (std::int64_t b = 0; b < n[1]; ++b)
                for (std::int64_t c = 0; c < n[2]; ++c)
                    for (std::int64_t d = 0; d < n[3]; ++d) function(Index{a, b, c, d});
    }

private:
    // `parts`: see Block.
    void map(const std::vector<std::pair<std::int64_t, std::int64_t>> &parts);
    unsigned char *element(Index at) const;

    attn_dtype dtype_;
    std::vector<std::int64_t> shape_, strides_;
    std::int64_t base_ = 0; // element of index 0, 0, ..
    std::size_t bytes_ = 0;
    unsigned char *memory_ = nullptr;
};

} // namespace conformance
