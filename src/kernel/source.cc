#include "source.h"

#include <algorithm>

namespace attn::kernel {
namespace {

std::string_view skip_blanks(std::string_view text)
{
    const size_t begin = text.find_first_not_of(" \t");
    return begin == std::string_view::npos ? std::string_view() : text.substr(begin);
}

/// What the line includes, with its quotes or angle brackets; "" if it includes nothing.
std::string_view included(std::string_view line)
{
    line = skip_blanks(line);
    if (line.empty() || line.front() != '#') return {};
    line = skip_blanks(line.substr(1));
    constexpr std::string_view kInclude = "include";
    if (line.substr(0, kInclude.size()) != kInclude) return {};
    line = skip_blanks(line.substr(kInclude.size()));
    const size_t end = line.size() > 1 ? line.find(line.front() == '<' ? '>' : '"', 1) : std::string_view::npos;
    return end == std::string_view::npos ? line : line.substr(0, end + 1);
}

} // namespace

const Source *Sources::find(std::string_view path) const noexcept
{
    const Source *found = std::find_if(begin(), end(), [&](const Source &source) { return source.path == path; });
    return found == end() ? nullptr : found;
}

bool Sources::reach(const std::string &path, std::string_view generated, std::vector<const Source *> *out,
                    std::string *why) const
{
    const Source *first = find(path);
    if (!first) {
        *why = "the library has no source " + path;
        return false;
    }
    out->assign(1, first);
    // Of conditional includes all are followed: a header too many in a key costs nothing.
    const auto scan = [&](std::string_view text, std::string_view name) {
        while (!text.empty()) {
            const size_t end = std::min(text.find('\n'), text.size());
            const std::string_view token = included(text.substr(0, end));
            text.remove_prefix(std::min(end + 1, text.size()));
            if (token.empty()) continue;
            const std::string_view target = token.size() > 2 ? token.substr(1, token.size() - 2) : std::string_view();
            if (token.front() == '"' && target == kGeneratedName) continue;
            const Source *header = token.front() == '"' ? find(target) : nullptr;
            if (!header) {
                *why = std::string(name) + " includes " + std::string(token) + ", which the library does not have";
                return false;
            }
            if (std::find(out->begin(), out->end(), header) == out->end()) out->push_back(header);
        }
        return true;
    };
    if (!scan(generated, kGeneratedName)) return false;
    for (size_t i = 0; i < out->size(); ++i)
        if (!scan((*out)[i]->view(), (*out)[i]->path)) return false;
    std::sort(out->begin() + 1, out->end(),
              [](const Source *a, const Source *b) { return std::string_view(a->path) < std::string_view(b->path); });
    return true;
}

} // namespace attn::kernel
