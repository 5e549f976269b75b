#include "block.h"

#include <map>
#include <mutex>
#include <stdexcept>

namespace conformance {
namespace {

struct Blocks {
    std::mutex mutex;
    std::map<const unsigned char *, Block> by_address;
};

Blocks &blocks()
{
    static Blocks *all = new Blocks; // outlives every tensor, static ones too
    return *all;
}

} // namespace

void add_block(const Block &block)
{
    Blocks &all = blocks();
    const std::lock_guard lock(all.mutex);
    all.by_address[block.data] = block;
}

void remove_block(const void *data)
{
    Blocks &all = blocks();
    const std::lock_guard lock(all.mutex);
    all.by_address.erase(static_cast<const unsigned char *>(data));
}

Block block_of(const void *address)
{
    const auto *byte = static_cast<const unsigned char *>(address);
    Blocks &all = blocks();
    const std::lock_guard lock(all.mutex);
    auto it = all.by_address.upper_bound(byte);
    if (it == all.by_address.begin() || byte >= (--it)->first + it->second.bytes)
        throw std::logic_error("a test passed memory of which no block is known");
    return it->second;
}

} // namespace conformance
