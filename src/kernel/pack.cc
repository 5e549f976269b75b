#include "pack.h"

#include "lz.h"

#include <algorithm>
#include <cstring>

namespace attn::kernel {
namespace {

constexpr std::string_view kMagic = "ATTNPACK";
constexpr uint32_t kFormat = 1;
constexpr size_t kHeaderBytes = 64, kEntryBytes = 128, kTargetBytes = 16;
constexpr size_t kHashed = 32; ///< Bytes of the header that its checksum covers.
constexpr uint32_t kMostEntries = 65536;
constexpr uint64_t kMostLabelBytes = 65536; ///< Of one label.
constexpr uint64_t kMostExpansion = 256;    ///< A byte of compressed text stands for 255 at most.
enum Flags : uint32_t { kPtx = 1, kCompressed = 2 };

/// Offsets in an entry of the table.
enum Field : size_t {
    kKey = 0,
    kChecksum = 32,
    kTarget = 64,
    kCompiler = 80,
    kFlags = 84,
    kOffset = 88,
    kStored = 96,
    kImage = 104,
    kLabel = 112,
    kLabelBytes = 116,
    kZero = 120
};

template <class T>
T read_number(std::string_view bytes, size_t at)
{
    T number = 0;
    for (size_t i = 0; i < sizeof(T); ++i)
        number |= static_cast<T>(static_cast<T>(static_cast<uint8_t>(bytes[at + i])) << (8 * i));
    return number;
}

template <class T>
void write_number(std::string *bytes, size_t at, T number)
{
    for (size_t i = 0; i < sizeof(T); ++i) (*bytes)[at + i] = static_cast<char>(number >> (8 * i));
}

Digest read_digest(std::string_view bytes, size_t at)
{
    Digest digest;
    std::memcpy(digest.data(), bytes.data() + at, digest.size());
    return digest;
}

void write_digest(std::string *bytes, size_t at, const Digest &digest)
{
    std::memcpy(bytes->data() + at, digest.data(), digest.size());
}

/// The checksum of what is before the images.
Digest checksum_of_front(std::string_view bytes, size_t front)
{
    Sha256 hash;
    hash.add(bytes.data(), kHashed);
    hash.add(bytes.data() + kHeaderBytes, front - kHeaderBytes);
    return hash.finish();
}

} // namespace

std::string write_pack(std::vector<PackImage> images)
{
    std::stable_sort(images.begin(), images.end(),
                     [](const PackImage &a, const PackImage &b) { return a.entry.key < b.entry.key; });
    images.erase(std::unique(images.begin(), images.end(),
                             [](const PackImage &a, const PackImage &b) { return a.entry.key == b.entry.key; }),
                 images.end());
    std::string labels, stored, table(images.size() * kEntryBytes, '\0');
    std::vector<uint64_t> offsets;
    for (size_t i = 0; i < images.size(); ++i) {
        const PackEntry &entry = images[i].entry;
        const size_t at = i * kEntryBytes;
        std::string bytes = compress(images[i].image);
        const bool is_smaller = bytes.size() < images[i].image.size();
        if (!is_smaller) bytes = images[i].image;
        write_digest(&table, at + kKey, entry.key);
        write_digest(&table, at + kChecksum, sha256(bytes.data(), bytes.size()));
        std::memcpy(table.data() + at + kTarget, entry.target.data(), std::min(entry.target.size(), kTargetBytes - 1));
        write_number(&table, at + kCompiler, static_cast<uint32_t>(entry.compiler));
        write_number(&table, at + kFlags, (entry.is_ptx ? kPtx : 0u) | (is_smaller ? kCompressed : 0u));
        write_number(&table, at + kStored, uint64_t{bytes.size()});
        write_number(&table, at + kImage, uint64_t{images[i].image.size()});
        const std::string label = entry.label.substr(0, kMostLabelBytes);
        write_number(&table, at + kLabel, static_cast<uint32_t>(labels.size()));
        write_number(&table, at + kLabelBytes, static_cast<uint32_t>(label.size()));
        labels += label;
        offsets.push_back(stored.size());
        stored += bytes;
    }
    const size_t front = kHeaderBytes + table.size() + labels.size();
    for (size_t i = 0; i < images.size(); ++i) write_number(&table, i * kEntryBytes + kOffset, front + offsets[i]);
    std::string pack(kHeaderBytes, '\0');
    std::memcpy(pack.data(), kMagic.data(), kMagic.size());
    write_number(&pack, 8, kFormat);
    write_number(&pack, 12, static_cast<uint32_t>(images.size()));
    write_number(&pack, 16, uint64_t{front + stored.size()});
    write_number(&pack, 24, uint64_t{labels.size()});
    pack += table;
    pack += labels;
    write_digest(&pack, kHashed, checksum_of_front(pack, front));
    return pack + stored;
}

bool Pack::open(std::shared_ptr<const void> owner, const void *data, size_t bytes, std::string *why)
{
    owner_ = std::move(owner);
    bytes_ = std::string_view(static_cast<const char *>(data), bytes);
    if (bytes < kHeaderBytes || bytes_.substr(0, kMagic.size()) != kMagic) {
        *why = "is no pack of libattn";
        return false;
    }
    const uint32_t format = read_number<uint32_t>(bytes_, 8);
    const uint32_t count = read_number<uint32_t>(bytes_, 12);
    labels_bytes_ = read_number<uint64_t>(bytes_, 24);
    labels_ = kHeaderBytes + uint64_t{count} * kEntryBytes;
    if (format != kFormat) {
        *why = "is a pack of format " + std::to_string(format) + ": must be " + std::to_string(kFormat);
        return false;
    }
    if (count > kMostEntries || read_number<uint64_t>(bytes_, 16) != bytes || labels_ > bytes ||
        labels_bytes_ > bytes - labels_) {
        *why = "is a damaged pack: its sizes do not agree";
        return false;
    }
    const size_t front = labels_ + labels_bytes_;
    if (read_digest(bytes_, kHashed) != checksum_of_front(bytes_, front)) {
        *why = "is a damaged pack: the checksum of its table is wrong";
        return false;
    }
    uint64_t end = front;
    entries_.reserve(count);
    for (size_t i = 0; i < count; ++i) {
        if (read_entry(i, &end, why)) continue;
        *why = "is a damaged pack: entry " + std::to_string(i) + ' ' + *why;
        return false;
    }
    if (end != bytes) {
        *why = "is a damaged pack: " + std::to_string(bytes - end) + " bytes belong to no entry";
        return false;
    }
    return true;
}

/// Reads an entry whose stored bytes must begin at `end`, and sets that to where they end.
bool Pack::read_entry(size_t number, uint64_t *end, std::string *why)
{
    const std::string_view record = bytes_.substr(kHeaderBytes + number * kEntryBytes, kEntryBytes);
    PackEntry entry;
    entry.key = read_digest(record, kKey);
    const std::string_view target = record.substr(kTarget, kTargetBytes);
    entry.target = target.substr(0, target.find('\0'));
    const uint32_t compiler = read_number<uint32_t>(record, kCompiler);
    const uint32_t flags = read_number<uint32_t>(record, kFlags);
    const uint64_t offset = read_number<uint64_t>(record, kOffset);
    entry.compiler = static_cast<int32_t>(compiler);
    entry.is_ptx = flags & kPtx;
    entry.stored_bytes = read_number<uint64_t>(record, kStored);
    entry.image_bytes = read_number<uint64_t>(record, kImage);
    const uint32_t label = read_number<uint32_t>(record, kLabel);
    const uint32_t label_bytes = read_number<uint32_t>(record, kLabelBytes);
    if (number > 0 && !(entries_.back().key < entry.key)) {
        *why = "is not after the entry before it";
    } else if (entry.target.empty() || target.substr(entry.target.size()).find_first_not_of('\0') != target.npos ||
               entry.target.size() == kTargetBytes || compiler > INT32_MAX || flags & ~(kPtx | kCompressed) ||
               read_number<uint64_t>(record, kZero) != 0) {
        *why = "has a field that no writer sets so";
    } else if (offset != *end || entry.stored_bytes > bytes_.size() - *end) {
        *why = "lies outside";
    } else if (entry.image_bytes == 0 || entry.image_bytes > kMostImageBytes ||
               entry.image_bytes / kMostExpansion > entry.stored_bytes ||
               (!(flags & kCompressed) && entry.image_bytes != entry.stored_bytes)) {
        *why = "has an image of " + std::to_string(entry.image_bytes) + " bytes";
    } else if (label_bytes > kMostLabelBytes || label > labels_bytes_ || label_bytes > labels_bytes_ - label) {
        *why = "has a label that lies outside";
    } else {
        entry.label = bytes_.substr(labels_ + label, label_bytes);
        *end += entry.stored_bytes;
        offsets_.push_back(offset);
        if (std::find(targets_.begin(), targets_.end(), entry.target) == targets_.end())
            targets_.push_back(entry.target);
        entries_.push_back(std::move(entry));
        return true;
    }
    return false;
}

const PackEntry *Pack::find(const Digest &key) const noexcept
{
    const auto found =
        std::lower_bound(entries_.begin(), entries_.end(), key,
                         [](const PackEntry &entry, const Digest &wanted) { return entry.key < wanted; });
    return found == entries_.end() || found->key != key ? nullptr : &*found;
}

bool Pack::load(const PackEntry &entry, std::string *image, std::string *why) const
{
    const size_t number = static_cast<size_t>(&entry - entries_.data());
    const std::string_view record = bytes_.substr(kHeaderBytes + number * kEntryBytes, kEntryBytes);
    const std::string_view stored = bytes_.substr(offsets_[number], entry.stored_bytes);
    if (sha256(stored.data(), stored.size()) != read_digest(record, kChecksum)) {
        *why = "the checksum of " + entry.label + " is wrong";
        return false;
    }
    if (!(read_number<uint32_t>(record, kFlags) & kCompressed)) {
        image->assign(stored);
        return true;
    }
    image->resize(entry.image_bytes);
    if (decompress(stored, image->data(), image->size())) return true;
    *why = entry.label + " cannot be decoded";
    return false;
}

} // namespace attn::kernel
