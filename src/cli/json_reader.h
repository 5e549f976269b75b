// A strict reader of JSON (RFC 8259): one text, one value tree, every error with its place.
#ifndef ATTN_SRC_CLI_JSON_READER_H
#define ATTN_SRC_CLI_JSON_READER_H

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace attn::cli {

/// A value with the place where it began. The as_ functions throw std::invalid_argument, "line:column: reason", where
/// the value is of another kind or the number does not fit.
class JsonValue {
public:
    enum class Kind { null, boolean, number, string, array, object };
    using Member = std::pair<std::string, JsonValue>;

    Kind kind() const { return kind_; }
    bool is_null() const { return kind_ == Kind::null; }
    bool as_bool() const;
    /// Integers must be written as such: without fraction or exponent. They are exact over their whole range.
    int64_t as_int64() const;
    uint64_t as_uint64() const;
    double as_double() const;
    /// The number as it is written.
    const std::string &as_text() const;
    const std::string &as_string() const;
    const std::vector<JsonValue> &as_array() const;
    /// Members in the order of the text, each name once.
    const std::vector<Member> &as_object() const;

    /// Member of an object; null where there is none. find() takes that, at() throws.
    const JsonValue *find(std::string_view name) const;
    const JsonValue &at(std::string_view name) const;

    /// An error that names the place of this value.
    std::invalid_argument error(const std::string &reason) const;

private:
    friend class JsonParser;

    void require(Kind kind) const;

    Kind kind_ = Kind::null;
    bool boolean_ = false;
    std::size_t line_ = 1, column_ = 1; ///< From 1, in bytes.
    std::string text_;                  ///< Of a string the decoded text, UTF-8; of a number its digits as written.
    std::vector<JsonValue> elements_;
    std::vector<Member> members_;
};

/// Arrays and objects within one another, at most.
constexpr int kMaxJsonDepth = 64;

/// Where a text begins within a larger one, for the messages.
struct JsonPlace {
    std::size_t line = 1, column = 1;
};

/// Reads a text that is one JSON value in UTF-8 and nothing else. Throws std::invalid_argument, "line:column: reason".
JsonValue parse_json(std::string_view text, JsonPlace begin = {});

} // namespace attn::cli

#endif
