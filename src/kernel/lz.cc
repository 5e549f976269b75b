#include "lz.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace attn::kernel {
namespace {

constexpr size_t kLeastCopy = 4;
constexpr size_t kMostDistance = 65535;
constexpr size_t kNibble = 15;
constexpr size_t kMostCandidates = 64; ///< Places that the compressor tries; more is slower and hardly smaller.
constexpr uint32_t kNone = UINT32_MAX;

uint32_t hash_at(const char *text)
{
    uint32_t word;
    std::memcpy(&word, text, sizeof word);
    return (word * 2654435761u) >> 16;
}

void add_length(std::string *out, size_t length)
{
    if (length < kNibble) return;
    for (length -= kNibble; length >= 255; length -= 255) *out += static_cast<char>(255);
    *out += static_cast<char>(length);
}

/// A step. Without a copy (`length` 0) it is the last.
void add_step(std::string *out, std::string_view literals, size_t length, size_t distance)
{
    const size_t copied = length ? length - kLeastCopy : 0;
    *out += static_cast<char>(std::min(literals.size(), kNibble) << 4 | std::min(copied, kNibble));
    add_length(out, literals.size());
    if (length) add_length(out, copied);
    out->append(literals);
    if (!length) return;
    *out += static_cast<char>(distance & 255);
    *out += static_cast<char>(distance >> 8);
}

/// Finds copies in a text that is read from its beginning to its end.
class Matcher {
public:
    explicit Matcher(std::string_view text) : text_(text), latest_(65536, kNone), earlier_(text.size(), kNone) {}

    /// Makes known everything before a position.
    void advance(size_t position)
    {
        for (; known_ < position && known_ + kLeastCopy <= text_.size(); ++known_) {
            uint32_t &latest = latest_[hash_at(text_.data() + known_)];
            earlier_[known_] = latest;
            latest = static_cast<uint32_t>(known_);
        }
    }

    /// The longest copy that serves a position, 0 if none; everything before must be known.
    size_t find(size_t position, size_t *distance) const
    {
        size_t best = 0;
        if (position + kLeastCopy > text_.size()) return best;
        uint32_t candidate = latest_[hash_at(text_.data() + position)];
        for (size_t tries = 0; candidate != kNone && position - candidate <= kMostDistance && tries < kMostCandidates;
             ++tries, candidate = earlier_[candidate]) {
            const size_t most = text_.size() - position;
            if (best >= most) break;
            if (text_[candidate + best] != text_[position + best]) continue;
            size_t length = 0;
            while (length < most && text_[candidate + length] == text_[position + length]) ++length;
            if (length <= best || length < kLeastCopy) continue;
            best = length;
            *distance = position - candidate;
        }
        return best;
    }

private:
    std::string_view text_;
    std::vector<uint32_t> latest_, earlier_; ///< Positions by hash, and the one before of the same hash.
    size_t known_ = 0;
};

/// Reads the rest of a length whose nibble is full; false at the end of the input or past `most`.
bool read_length(std::string_view input, size_t *at, size_t most, size_t *length) noexcept
{
    if (*length < kNibble) return true;
    for (uint8_t byte = 255; byte == 255;) {
        if (*at == input.size()) return false;
        byte = static_cast<uint8_t>(input[(*at)++]);
        *length += byte;
        if (*length > most) return false;
    }
    return true;
}

} // namespace

std::string compress(std::string_view text)
{
    std::string out;
    Matcher matcher(text);
    size_t begin = 0; // of the literals that wait
    for (size_t at = 0; at < text.size();) {
        matcher.advance(at);
        size_t distance = 0;
        const size_t length = matcher.find(at, &distance);
        if (length == 0) {
            ++at;
            continue;
        }
        matcher.advance(at + 1);
        size_t next_distance = 0;
        if (matcher.find(at + 1, &next_distance) > length + 1) { // a literal first, then a longer copy
            ++at;
            continue;
        }
        add_step(&out, text.substr(begin, at - begin), length, distance);
        at += length;
        begin = at;
    }
    add_step(&out, text.substr(begin), 0, 0);
    return out;
}

bool decompress(std::string_view input, void *out, size_t bytes) noexcept
{
    char *const result = static_cast<char *>(out);
    size_t at = 0, written = 0;
    while (at < input.size()) {
        const uint8_t token = static_cast<uint8_t>(input[at++]);
        size_t literals = token >> 4, length = token & 15;
        if (!read_length(input, &at, input.size(), &literals)) return false;
        // Where the literals are the rest it is the last step, without a copy: two bytes more would tell its distance.
        const bool is_last = length == 0 && literals == input.size() - at;
        if (!is_last && !read_length(input, &at, bytes, &length)) return false;
        if (literals > input.size() - at || literals > bytes - written) return false;
        if (literals) std::memcpy(result + written, input.data() + at, literals);
        at += literals;
        written += literals;
        if (is_last) return written == bytes;
        if (input.size() - at < 2) return false;
        const size_t distance =
            static_cast<uint8_t>(input[at]) | static_cast<size_t>(static_cast<uint8_t>(input[at + 1])) << 8;
        at += 2;
        length += kLeastCopy;
        if (distance == 0 || distance > written || length > bytes - written) return false;
        if (distance >= length) {
            std::memcpy(result + written, result + written - distance, length);
        } else { // the copy repeats what it writes
            for (size_t i = 0; i < length; ++i) result[written + i] = result[written + i - distance];
        }
        written += length;
    }
    return false; // cut before its last step
}

} // namespace attn::kernel
