// A tensor in memory of its own: any layout, guard elements on both sides, and everything poisoned until it is set.
#pragma once

#include "block.h"
#include "number.h"

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace conformance {

using Index = std::array<std::int64_t, 5>; // unused axes 0

class Tensor {
public:
    Tensor() = default;
    // `layout`: see the list in tensor.cc.
    Tensor(attn_dtype dtype, std::vector<std::int64_t> shape, const std::string &layout = "bshd");

    void set(Index at, double value) { encode(dtype_, value, element(at)); }
    // Likewise `count` elements along the last axis from `at` on.
    template <class T>
    void set_row(Index at, const T *values, std::int64_t count)
    {
        const std::size_t last = shape_.size() - 1;
        if (count < 1) return;
        const std::int64_t first = offset(at);
        at[last] += count - 1;
        offset(at); // is in the tensor
        for (std::int64_t n = 0; n < count; ++n)
            encode(dtype_, static_cast<double>(values[n]),
                   bytes_.data() + (first + n * strides_[last]) * std::int64_t(size_));
    }
    double get(Index at) const { return decode(dtype_, element(at)); }
    const std::vector<std::int64_t> &shape() const { return shape_; }
    // The index with 0 for every axis of extent 1.
    Index folded(Index at) const
    {
        for (std::size_t a = 0; a < shape_.size(); ++a)
            if (shape_[a] == 1) at[a] = 0;
        return at;
    }
    attn_dtype dtype() const { return dtype_; }
    attn_tensor view();

    // Fills everything, guards and gaps too.
    void poison();
    // For outputs: announces an element that the call should write ...
    void expect_write(Index at);
    // ... so that this can tell whether any other byte changed since poison().
    bool wrote_elsewhere() const;
    const Bytes &bytes() const { return bytes_; }

private:
    std::int64_t offset(const Index &at) const // in elements
    {
        std::int64_t offset = base_;
        for (std::size_t a = 0; a < shape_.size(); ++a) {
            if (at[a] < 0 || at[a] >= shape_[a]) throw std::out_of_range("a test reached outside its own tensor");
            offset += at[a] * strides_[a];
        }
        return offset;
    }
    unsigned char *element(Index at) { return bytes_.data() + offset(at) * std::int64_t(size_); }
    const unsigned char *element(Index at) const { return bytes_.data() + offset(at) * std::int64_t(size_); }

    attn_dtype dtype_ = 0;
    std::size_t size_ = 0;
    std::vector<std::int64_t> shape_, strides_;
    std::int64_t base_ = 0; // element of index 0, 0, ..
    bool use_byte_offset_ = false;
    Bytes bytes_;
    std::vector<bool> expected_;
};

} // namespace conformance
