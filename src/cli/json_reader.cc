#include "json_reader.h"

#include <algorithm>
#include <charconv>
#include <system_error>
#include <unordered_set>

namespace attn::cli {
namespace {

std::invalid_argument error_at(std::size_t line, std::size_t column, const std::string &reason)
{
    return std::invalid_argument(std::to_string(line) + ':' + std::to_string(column) + ": " + reason);
}

const char *name_of(JsonValue::Kind kind)
{
    switch (kind) {
    case JsonValue::Kind::null:
        return "null";
    case JsonValue::Kind::boolean:
        return "true or false";
    case JsonValue::Kind::number:
        return "a number";
    case JsonValue::Kind::string:
        return "a string";
    case JsonValue::Kind::array:
        return "an array";
    case JsonValue::Kind::object:
        return "an object";
    }
    return "";
}

bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/// Reads the whole text as a number of type T.
template <class T>
bool read_number(const std::string &text, T &number)
{
    const std::from_chars_result end = std::from_chars(text.data(), text.data() + text.size(), number);
    return end.ec == std::errc() && end.ptr == text.data() + text.size();
}

/// How many bytes the UTF-8 sequence at `at` has; 0 if it is none (RFC 3629: no overlong forms, no surrogates).
std::size_t utf8_length(std::string_view text, std::size_t at)
{
    const auto byte = [&](std::size_t i) -> unsigned {
        return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0;
    };
    const unsigned lead = byte(0);
    if (lead < 0x80) return 1;
    const std::size_t length = lead >= 0xc2 && lead <= 0xdf   ? 2
                               : lead >= 0xe0 && lead <= 0xef ? 3
                               : lead >= 0xf0 && lead <= 0xf4 ? 4
                                                              : 0;
    if (length == 0) return 0;
    const unsigned lowest = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    const unsigned highest = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (byte(1) < lowest || byte(1) > highest) return 0;
    for (std::size_t i = 2; i < length; ++i)
        if (byte(i) < 0x80 || byte(i) > 0xbf) return 0;
    return length;
}

void append_utf8(std::string &text, unsigned code)
{
    const auto add = [&](unsigned byte) { text += static_cast<char>(byte); };
    if (code < 0x80) {
        add(code);
    } else if (code < 0x800) {
        add(0xc0 | code >> 6), add(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        add(0xe0 | code >> 12), add(0x80 | (code >> 6 & 0x3f)), add(0x80 | (code & 0x3f));
    } else {
        add(0xf0 | code >> 18), add(0x80 | (code >> 12 & 0x3f));
        add(0x80 | (code >> 6 & 0x3f)), add(0x80 | (code & 0x3f));
    }
}

} // namespace

/// Recursive descent; the depth is bounded, so the stack is.
class JsonParser {
public:
    JsonParser(std::string_view text, JsonPlace begin) : text_(text), line_(begin.line), first_column_(begin.column) {}

    JsonValue parse()
    {
        JsonValue value = parse_value(0);
        if (skip_space(); at_ < text_.size()) fail("text after the value");
        return value;
    }

private:
    [[noreturn]] void fail(const std::string &reason) const { throw error_at(line_, column(), reason); }
    std::size_t column() const { return at_ - line_start_ + first_column_; }

    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
    bool take(char c)
    {
        if (at_ >= text_.size() || text_[at_] != c) return false;
        ++at_;
        return true;
    }
    void skip_space()
    {
        for (; at_ < text_.size(); ++at_) {
            const char c = text_[at_];
            if (c != ' ' && c != '\t' && c != '\n' && c != '\r') return;
            if (c == '\n') ++line_, line_start_ = at_ + 1, first_column_ = 1;
        }
    }

    JsonValue parse_value(int depth)
    {
        skip_space();
        JsonValue value;
        value.line_ = line_, value.column_ = column();
        if (at_ >= text_.size()) fail("the text ends where a value should be");
        const char c = text_[at_];
        if (c == '{' || c == '[') {
            if (depth == kMaxJsonDepth) fail("more than " + std::to_string(kMaxJsonDepth) + " levels deep");
            ++at_;
            if (c == '{')
                parse_members(value, depth + 1);
            else
                parse_elements(value, depth + 1);
        } else if (c == '"') {
            value.kind_ = JsonValue::Kind::string;
            value.text_ = parse_string();
        } else if (c == '-' || is_digit(c)) {
            value.kind_ = JsonValue::Kind::number;
            value.text_ = parse_number();
        } else {
            parse_word(value);
        }
        return value;
    }

    void parse_members(JsonValue &value, int depth)
    {
        value.kind_ = JsonValue::Kind::object;
        std::unordered_set<std::string> names;
        if (skip_space(); take('}')) return;
        do {
            skip_space();
            if (peek() != '"') fail("a member begins with its name in quotes");
            const std::size_t begin = at_;
            std::string name = parse_string();
            if (!names.insert(name).second) {
                at_ = begin;
                fail("member \"" + name + "\" is given twice");
            }
            if (skip_space(); !take(':')) fail("expected ':' after the name of a member");
            JsonValue member = parse_value(depth);
            value.members_.emplace_back(std::move(name), std::move(member));
            skip_space();
        } while (take(','));
        if (!take('}')) fail("expected ',' or '}'");
    }

    void parse_elements(JsonValue &value, int depth)
    {
        value.kind_ = JsonValue::Kind::array;
        if (skip_space(); take(']')) return;
        do {
            value.elements_.push_back(parse_value(depth));
            skip_space();
        } while (take(','));
        if (!take(']')) fail("expected ',' or ']'");
    }

    void parse_word(JsonValue &value)
    {
        const std::string_view rest = text_.substr(at_);
        for (const std::string_view word : {"null", "true", "false"}) {
            if (rest.substr(0, word.size()) != word) continue;
            at_ += word.size();
            value.kind_ = word == "null" ? JsonValue::Kind::null : JsonValue::Kind::boolean;
            value.boolean_ = word == "true";
            return;
        }
        fail("no JSON value begins like this");
    }

    std::string parse_number()
    {
        const std::size_t begin = at_;
        take('-');
        if (take('0')) {
            if (is_digit(peek())) fail("a number has no leading zeros");
        } else {
            take_digits("a digit");
        }
        if (take('.')) take_digits("a digit after the point");
        if (take('e') || take('E')) {
            if (!take('+')) take('-');
            take_digits("a digit in the exponent");
        }
        return std::string(text_.substr(begin, at_ - begin));
    }
    void take_digits(const char *what)
    {
        if (!is_digit(peek())) fail(std::string("expected ") + what);
        while (is_digit(peek())) ++at_;
    }

    std::string parse_string()
    {
        std::string text;
        ++at_; // the quote
        for (;;) {
            if (at_ >= text_.size()) fail("the text ends within a string");
            const char c = text_[at_];
            if (c == '"') break;
            if (static_cast<unsigned char>(c) < 0x20) fail("a control character in a string must be escaped");
            if (c == '\\') {
                parse_escape(text);
                continue;
            }
            const std::size_t length = utf8_length(text_, at_);
            if (length == 0) fail("not UTF-8");
            text += text_.substr(at_, length);
            at_ += length;
        }
        ++at_;
        return text;
    }

    void parse_escape(std::string &text)
    {
        static constexpr std::string_view kNames = "\"\\/bfnrt", kCharacters = "\"\\/\b\f\n\r\t";
        const std::size_t begin = at_++;
        const char c = peek();
        if (c == 'u') {
            append_utf8(text, parse_code_point(begin));
            return;
        }
        const std::size_t which = at_ < text_.size() ? kNames.find(c) : std::string_view::npos;
        if (which == std::string_view::npos) {
            at_ = begin;
            fail("no such escape");
        }
        text += kCharacters[which];
        ++at_;
    }

    /// At the 'u' of an escape that began at `begin`. Beyond the basic plane it is two, UTF-16's surrogates.
    unsigned parse_code_point(std::size_t begin)
    {
        const unsigned first = parse_code_unit(begin);
        if (first < 0xd800 || first > 0xdfff) return first;
        const bool high = first < 0xdc00;
        if (high && text_.substr(at_, 2) == "\\u") {
            ++at_;
            const unsigned second = parse_code_unit(at_ - 1);
            if (second >= 0xdc00 && second <= 0xdfff) return 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        }
        at_ = begin;
        fail("half a pair of UTF-16 surrogates");
    }
    unsigned parse_code_unit(std::size_t begin)
    {
        const std::string digits(text_.substr(std::min(at_ + 1, text_.size()), 4));
        unsigned unit = 0;
        const std::from_chars_result end = std::from_chars(digits.data(), digits.data() + digits.size(), unit, 16);
        if (end.ec != std::errc() || end.ptr != digits.data() + 4) {
            at_ = begin;
            fail("\\u is followed by four hexadecimal digits");
        }
        at_ += 5;
        return unit;
    }

    std::string_view text_;
    std::size_t at_ = 0, line_start_ = 0;
    std::size_t line_, first_column_; ///< first_column_: the number of the first byte of this line.
};

JsonValue parse_json(std::string_view text, JsonPlace begin)
{
    return JsonParser(text, begin).parse();
}

std::invalid_argument JsonValue::error(const std::string &reason) const
{
    return error_at(line_, column_, reason);
}

void JsonValue::require(Kind kind) const
{
    if (kind_ != kind) throw error(std::string("must be ") + name_of(kind) + ", is " + name_of(kind_));
}

bool JsonValue::as_bool() const
{
    require(Kind::boolean);
    return boolean_;
}

int64_t JsonValue::as_int64() const
{
    require(Kind::number);
    int64_t number = 0;
    if (!read_number(text_, number)) throw error(text_ + " is no integer of 64 bits");
    return number;
}

uint64_t JsonValue::as_uint64() const
{
    require(Kind::number);
    uint64_t number = 0;
    if (!read_number(text_, number)) throw error(text_ + " is no unsigned integer of 64 bits");
    return number;
}

double JsonValue::as_double() const
{
    require(Kind::number);
    double number = 0;
    if (!read_number(text_, number)) throw error(text_ + " is beyond the range of a double");
    return number;
}

const std::string &JsonValue::as_text() const
{
    require(Kind::number);
    return text_;
}

const std::string &JsonValue::as_string() const
{
    require(Kind::string);
    return text_;
}

const std::vector<JsonValue> &JsonValue::as_array() const
{
    require(Kind::array);
    return elements_;
}

const std::vector<JsonValue::Member> &JsonValue::as_object() const
{
    require(Kind::object);
    return members_;
}

const JsonValue *JsonValue::find(std::string_view name) const
{
    const std::vector<Member> &members = as_object();
    const auto found =
        std::find_if(members.begin(), members.end(), [&](const Member &member) { return member.first == name; });
    return found == members.end() ? nullptr : &found->second;
}

const JsonValue &JsonValue::at(std::string_view name) const
{
    const JsonValue *member = find(name);
    if (!member) throw error("has no member \"" + std::string(name) + '"');
    return *member;
}

} // namespace attn::cli
