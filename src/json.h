// A small writer of JSON: objects, arrays and scalars, in order.
#ifndef ATTN_SRC_JSON_H
#define ATTN_SRC_JSON_H

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>

namespace attn {

/// Appends to a text. Keys are plain identifiers; string values are escaped.
class JsonWriter {
public:
    void open(const char *key = nullptr) { begin(key, '{'); }
    void close() { end('}'); }
    void open_array(const char *key) { begin(key, '['); }
    void close_array() { end(']'); }

    void add(const char *key, const char *value)
    {
        separate(key);
        append_string(value);
    }
    void add(const char *key, const std::string &value) { add(key, value.c_str()); }
    void add(const char *key, bool value)
    {
        separate(key);
        text_ += value ? "true" : "false";
    }
    void add(const char *key, int64_t value)
    {
        separate(key);
        text_ += std::to_string(value);
    }
    void add(const char *key, double value)
    {
        separate(key);
        char number[40]; // to_chars: the shortest text that reads back the same, in any locale
        const std::to_chars_result end = std::to_chars(number, number + sizeof number, value);
        text_ += std::isfinite(value) ? std::string(number, end.ptr) : "null";
    }

    const std::string &text() const { return text_; }

private:
    void separate(const char *key)
    {
        if (!first_) text_ += ',';
        first_ = false;
        if (key) {
            append_string(key);
            text_ += ':';
        }
    }
    void begin(const char *key, char bracket)
    {
        separate(key);
        text_ += bracket;
        first_ = true;
    }
    void end(char bracket)
    {
        text_ += bracket;
        first_ = false;
    }
    void append_string(const char *value)
    {
        text_ += '"';
        for (const char *c = value; *c; ++c) {
            if (*c == '"' || *c == '\\') {
                text_ += '\\';
                text_ += *c;
            } else if (static_cast<unsigned char>(*c) < 0x20) {
                char escape[8];
                snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(*c));
                text_ += escape;
            } else {
                text_ += *c;
            }
        }
        text_ += '"';
    }

    std::string text_;
    bool first_ = true;
};

} // namespace attn

#endif
