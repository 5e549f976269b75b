// Any text: parsed, or refused with a place. What is parsed can be asked for in every way, and written and read again.
#include "src/cli/json_reader.h"

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace {

using attn::cli::JsonValue;

void check(bool holds, const char *rule)
{
    if (holds) return;
    fprintf(stderr, "broken rule: %s\n", rule);
    abort();
}

/// "line:column: reason", both from 1.
void check_message(const std::string &message)
{
    size_t place = 0;
    for (const char end : {':', ':'}) {
        check(place < message.size() && message[place] >= '1' && message[place] <= '9',
              "a message begins with a place");
        while (place < message.size() && message[place] >= '0' && message[place] <= '9') ++place;
        check(place < message.size() && message[place] == end, "a message begins with line:column:");
        ++place;
    }
    check(message.size() > place + 1, "a message gives a reason");
}

/// Calls a reader of a value; true if it did not refuse.
template <class Function>
bool serves(Function function)
{
    try {
        function();
        return true;
    } catch (const std::invalid_argument &error) {
        check_message(error.what());
        return false;
    }
}

std::string quoted(const std::string &text)
{
    std::string result = "\"";
    for (const char c : text) {
        char escape[8];
        snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned char>(c));
        const bool plain = c != '"' && c != '\\' && static_cast<unsigned char>(c) >= 0x20;
        result += plain ? std::string(1, c) : std::string(escape);
    }
    return result + "\"";
}

/// The value as a text that reads as the same value.
std::string write(const JsonValue &value, int depth)
{
    check(depth <= attn::cli::kMaxJsonDepth, "values nest no deeper than allowed");
    const bool is_bool = serves([&] { static_cast<void>(value.as_bool()); });
    const bool is_string = serves([&] { static_cast<void>(value.as_string()); });
    const bool is_array = serves([&] { static_cast<void>(value.as_array()); });
    const bool is_object = serves([&] { static_cast<void>(value.as_object()); });
    const bool is_integer = serves([&] { static_cast<void>(value.as_int64()); });
    const bool is_unsigned = serves([&] { static_cast<void>(value.as_uint64()); });
    const bool is_real = serves([&] { static_cast<void>(value.as_double()); });
    check(is_bool == (value.kind() == JsonValue::Kind::boolean), "as_bool() serves booleans");
    check(is_string == (value.kind() == JsonValue::Kind::string), "as_string() serves strings");
    check(is_array == (value.kind() == JsonValue::Kind::array), "as_array() serves arrays");
    check(is_object == (value.kind() == JsonValue::Kind::object), "as_object() serves objects");
    const bool number = value.kind() == JsonValue::Kind::number;
    check(number || (!is_integer && !is_unsigned && !is_real), "numbers come of numbers");
    if (is_integer && is_unsigned)
        check(static_cast<uint64_t>(value.as_int64()) == value.as_uint64(), "an integer has one value");
    switch (value.kind()) {
    case JsonValue::Kind::null:
        check(value.is_null(), "null is null");
        return "null";
    case JsonValue::Kind::boolean:
        return value.as_bool() ? "true" : "false";
    case JsonValue::Kind::number: {
        if (is_integer) return std::to_string(value.as_int64());
        if (is_unsigned) return std::to_string(value.as_uint64());
        if (!is_real) return "0"; // too large for a double
        char text[40];
        snprintf(text, sizeof text, "%.17e", value.as_double());
        return text;
    }
    case JsonValue::Kind::string:
        return quoted(value.as_string());
    case JsonValue::Kind::array: {
        std::string text = "[";
        for (const JsonValue &element : value.as_array())
            text += (text.size() > 1 ? "," : "") + write(element, depth + 1);
        return text + "]";
    }
    case JsonValue::Kind::object: {
        std::string text = "{";
        for (const auto &[name, member] : value.as_object()) {
            check(value.find(name) == &member, "a member is found by its name, which is there once");
            text += (text.size() > 1 ? "," : "") + quoted(name) + ":" + write(member, depth + 1);
        }
        return text + "}";
    }
    }
    check(false, "a value is of a known kind");
    return "";
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const std::string text(reinterpret_cast<const char *>(data), size);
    JsonValue value;
    if (!serves([&] { value = attn::cli::parse_json(text); })) return 0;
    const std::string written = write(value, 0);
    JsonValue again;
    check(serves([&] { again = attn::cli::parse_json(written); }), "a written value can be read");
    check(write(again, 0) == written, "a value survives being written and read");
    return 0;
}
