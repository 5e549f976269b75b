// Blocks of host memory that the tensors of tests lie in. They are known by address, so that a call on a GPU can get
// copies of whole blocks: with guards, gaps and poison.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace conformance {

struct Block {
    unsigned char *data = nullptr;
    std::size_t bytes = 0;
    // What is in use, first byte and byte behind the last; empty: all. Behind the rest there may be no memory.
    std::vector<std::pair<std::size_t, std::size_t>> parts;
};

// Thread-safe.
void add_block(const Block &);
void remove_block(const void *data);
// The block that an address is in. Throws std::logic_error if it is in none.
Block block_of(const void *address);

// For vectors whose memory is a block.
template <class T>
struct BlockAllocator {
    using value_type = T;
    BlockAllocator() = default;
    template <class U>
    BlockAllocator(const BlockAllocator<U> &)
    {
    }
    T *allocate(std::size_t count)
    {
        T *memory = static_cast<T *>(::operator new(count * sizeof(T)));
        add_block({reinterpret_cast<unsigned char *>(memory), count * sizeof(T), {}});
        return memory;
    }
    void deallocate(T *memory, std::size_t)
    {
        remove_block(memory);
        ::operator delete(memory);
    }
    bool operator==(const BlockAllocator &) const { return true; }
};
using Bytes = std::vector<unsigned char, BlockAllocator<unsigned char>>;

} // namespace conformance
