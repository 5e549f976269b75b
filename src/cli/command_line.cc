#include "command_line.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <sstream>

namespace attn::cli {
namespace {

/// Levenshtein's: insertions, deletions and replacements that turn one word into the other.
size_t edit_distance(const std::string &a, const std::string &b)
{
    std::vector<size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), 0);
    for (size_t i = 0; i < a.size(); ++i) {
        size_t diagonal = row[0]; // of the row above
        row[0] = i + 1;
        for (size_t j = 0; j < b.size(); ++j) {
            const size_t replaced = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
        }
    }
    return row.back();
}

const Option *find(const Command &command, const std::string &name)
{
    for (const Option &option : command.options)
        if (name == option.name) return &option;
    return nullptr;
}

std::vector<std::string> names_of(const Command &command)
{
    std::vector<std::string> names = {"--help"};
    for (const Option &option : command.options) names.emplace_back(option.name);
    return names;
}

template <class T>
bool read(const std::string &text, T &number)
{
    const std::from_chars_result end = std::from_chars(text.data(), text.data() + text.size(), number);
    return end.ec == std::errc() && end.ptr == text.data() + text.size();
}

} // namespace

std::string suggestion(const std::string &word, const std::vector<std::string> &candidates)
{
    const std::string *nearest = nullptr;
    size_t least = 1 + word.size() / 3; // further away it is no misspelling
    for (const std::string &candidate : candidates) {
        const bool begins = word.size() > 2 && candidate.rfind(word, 0) == 0;
        const size_t distance = begins ? 0 : edit_distance(word, candidate);
        if (distance > least || (nearest && distance == least)) continue;
        least = distance;
        nearest = &candidate;
    }
    return nearest ? "; did you mean `" + *nearest + "`?" : "";
}

Arguments::Arguments(const Command &command, const std::vector<std::string> &words)
{
    bool options_end = false;
    for (size_t i = 0; i < words.size(); ++i) {
        const std::string &word = words[i];
        if (word == "--" && !options_end) {
            options_end = true;
            continue;
        }
        if (options_end || word.size() < 2 || word[0] != '-') { // "-" alone is a file
            if (!command.operand) throw UsageError("unexpected `" + word + "`");
            if (!operand_.empty()) throw UsageError("unexpected `" + word + "` after `" + operand_ + "`");
            operand_ = word;
            continue;
        }
        const size_t equals = word.find('=');
        const std::string name = word.substr(0, equals);
        const Option *option = find(command, name);
        if (!option) throw UsageError("unknown option `" + name + "`" + suggestion(name, names_of(command)));
        if (has(name)) throw UsageError("option `" + name + "` is given twice");
        std::string value;
        if (!option->value) {
            if (equals != std::string::npos) throw UsageError("option `" + name + "` takes no value");
        } else if (equals != std::string::npos) {
            value = word.substr(equals + 1);
        } else {
            if (i + 1 == words.size()) throw UsageError("option `" + name + "` needs a value: " + option->value);
            value = words[++i];
        }
        values_.emplace(name, value);
    }
    if (command.operand && operand_.empty()) throw UsageError(std::string("missing ") + command.operand);
}

std::string Arguments::text(const std::string &option, const std::string &otherwise) const
{
    const auto found = values_.find(option);
    return found == values_.end() ? otherwise : found->second;
}

int64_t Arguments::integer(const std::string &option, int64_t otherwise, int64_t least, int64_t most) const
{
    const auto found = values_.find(option);
    if (found == values_.end()) return otherwise;
    int64_t number = 0;
    if (!read(found->second, number) || number < least || number > most)
        throw UsageError("option `" + option + "` = `" + found->second + "`: must be an integer from " +
                         std::to_string(least) + " to " + std::to_string(most));
    return number;
}

double Arguments::real(const std::string &option, double otherwise) const
{
    const auto found = values_.find(option);
    if (found == values_.end()) return otherwise;
    double number = 0;
    if (!read(found->second, number) || !(number > 0))
        throw UsageError("option `" + option + "` = `" + found->second + "`: must be a number above 0");
    return number;
}

std::string help_of(const Command &command)
{
    const auto left = [](const Option &option) {
        return std::string(option.name) + (option.value ? std::string(" ") + option.value : "");
    };
    size_t width = 0;
    for (const Option &option : command.options) width = std::max(width, left(option).size());
    std::ostringstream text;
    text << "usage: attn " << command.name << " [OPTION...]" << (command.operand ? " " : "")
         << (command.operand ? command.operand : "") << "\n\n"
         << command.summary << "\n\n";
    for (const Option &option : command.options)
        text << "  " << left(option) << std::string(width - left(option).size() + 2, ' ') << option.help << '\n';
    text << '\n' << command.notes;
    return text.str();
}

} // namespace attn::cli
