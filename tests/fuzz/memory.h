// Memory of one input: blocks of exactly the bytes asked for, so that AddressSanitizer sees the first byte beyond.
#ifndef ATTN_TESTS_FUZZ_MEMORY_H
#define ATTN_TESTS_FUZZ_MEMORY_H

#include <cstddef>
#include <cstring>
#include <memory>
#include <vector>

namespace attn::fuzz {

class Memory {
public:
    /// Aligned as operator new aligns.
    unsigned char *take(size_t bytes)
    {
        blocks_.push_back(std::make_unique<unsigned char[]>(bytes));
        return blocks_.back().get();
    }

    /// A block with a copy of `count` objects; NULL for none.
    template <class T>
    T *copy(const T *objects, size_t count)
    {
        if (count == 0) return nullptr;
        unsigned char *block = take(count * sizeof(T));
        memcpy(block, objects, count * sizeof(T));
        return reinterpret_cast<T *>(block);
    }

private:
    std::vector<std::unique_ptr<unsigned char[]>> blocks_;
};

} // namespace attn::fuzz

#endif
