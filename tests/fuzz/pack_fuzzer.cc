// Packs: any bytes, as a file and as compressed text. The checksum of the table, which would hide what is behind it, is
// written anew before every second reading.
#include "check.h"

#include "src/kernel/lz.h"
#include "src/kernel/pack.h"
#include "src/kernel/sha256.h"

#include <cstring>
#include <memory>
#include <string>

namespace {

using namespace attn::kernel;
using attn::fuzz::check;

/// Memory of exactly that size, so that the sanitizer sees what is read past it.
std::unique_ptr<char[]> copy_of(const char *data, size_t bytes)
{
    std::unique_ptr<char[]> copy(new char[bytes]);
    if (bytes) std::memcpy(copy.get(), data, bytes);
    return copy;
}

void read_pack(const std::string &bytes)
{
    const std::unique_ptr<char[]> memory = copy_of(bytes.data(), bytes.size());
    Pack pack;
    std::string why;
    if (!pack.open(nullptr, memory.get(), bytes.size(), &why)) {
        check(!why.empty(), "a refusal has a reason");
        return;
    }
    uint64_t stored = 0;
    const PackEntry *last = nullptr;
    for (const PackEntry &entry : pack.entries()) {
        check(!last || last->key < entry.key, "entries are sorted");
        check(pack.find(entry.key) == &entry, "an entry is found by its key");
        stored += entry.stored_bytes;
        std::string image;
        if (entry.image_bytes < (1 << 20) && pack.load(entry, &image, &why))
            check(image.size() == entry.image_bytes, "an image has its size");
        last = &entry;
    }
    check(stored <= bytes.size(), "images lie in the file");
}

/// Makes the checksum of the table right, if there is a table.
void repair(std::string *bytes)
{
    if (bytes->size() < 64) return;
    uint32_t count = 0;
    uint64_t labels = 0;
    std::memcpy(&count, bytes->data() + 12, sizeof count);
    std::memcpy(&labels, bytes->data() + 24, sizeof labels);
    const uint64_t table = 64 + uint64_t{count} * 128;
    if (table > bytes->size() || labels > bytes->size() - table) return;
    Sha256 hash;
    hash.add(bytes->data(), 32);
    hash.add(bytes->data() + 64, table + labels - 64);
    const Digest digest = hash.finish();
    std::memcpy(bytes->data() + 32, digest.data(), digest.size());
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    std::string bytes(reinterpret_cast<const char *>(data), size);
    read_pack(bytes);
    repair(&bytes);
    read_pack(bytes);

    // As compressed text of a size that its first two bytes tell; and compressed, which must come back.
    if (size < 2) return 0;
    const size_t wanted = static_cast<size_t>(data[0]) << 4 | data[1];
    const std::unique_ptr<char[]> text = copy_of(bytes.data() + 2, size - 2), out(new char[wanted]);
    static_cast<void>(decompress({text.get(), size - 2}, out.get(), wanted));
    const std::string compressed = compress(bytes);
    std::string again(bytes.size(), '\0');
    check(decompress(compressed, again.data(), again.size()) && again == bytes, "what is compressed comes back");
    return 0;
}
