#include "case.h"

#include "number.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <stdexcept>

namespace conformance {
namespace {

struct Printer {
    std::ostringstream text;
    void name(const char *n) { text << (text.tellp() > 0 ? ", \"" : "{\"") << n << "\": "; }
    void operator()(const char *n, const std::string &x) { name(n), text << '"' << x << '"'; }
    template <class T>
    void operator()(const char *n, const T &x)
    {
        name(n), text << x;
    }
};

// Flat objects only, which is what to_json writes. Fields that are not given keep their defaults.
struct Reader {
    const std::string &line;
    std::size_t known = 0;

    bool value(const char *name, std::string &text)
    {
        const std::string key = std::string("\"") + name + "\":";
        const std::size_t at = line.find(key);
        if (at == std::string::npos) return false;
        const std::size_t first = line.find_first_not_of(' ', at + key.size());
        if (first == std::string::npos) throw std::invalid_argument("no value after " + key);
        const bool quoted = line[first] == '"';
        const std::size_t from = first + quoted, to = line.find_first_of(quoted ? "\"" : ",} ", from);
        if (to == std::string::npos) throw std::invalid_argument("value of " + key + " does not end");
        text = line.substr(from, to - from);
        ++known;
        return true;
    }
    void operator()(const char *n, std::string &x) { value(n, x); }
    void operator()(const char *n, std::uint64_t &x)
    {
        if (std::string text; value(n, text)) x = std::stoull(text);
    }
    void operator()(const char *n, std::int64_t &x)
    {
        if (std::string text; value(n, text)) x = std::stoll(text);
    }
    void operator()(const char *n, double &x)
    {
        if (std::string text; value(n, text)) x = std::stod(text);
    }
};

} // namespace

std::int64_t Case::heads_out() const
{
    return std::max({heads_q, heads_k, heads_v});
}

double Case::scale() const
{
    return (scale_factor == 0 ? 1 : scale_factor) / std::sqrt(static_cast<double>(dim_qk));
}

double Case::products() const
{
    return static_cast<double>(batch * max_q * max_kv) * static_cast<double>(heads_out() * (dim_qk + dim_v));
}

std::string to_json(const Case &c)
{
    Printer printer;
    printer.text.precision(17);
    visit_fields(c, printer);
    return printer.text.str() + "}";
}

Case from_json(const std::string &line)
{
    Case c;
    Reader reader{line};
    visit_fields(c, reader);
    const auto colons = static_cast<std::size_t>(std::count(line.begin(), line.end(), ':'));
    if (reader.known != colons) throw std::invalid_argument("the case has a field that does not exist: " + line);
    return c;
}

attn_dtype dtype_of(const std::string &name)
{
    for (attn_dtype t : {ATTN_FLOAT32, ATTN_FLOAT16, ATTN_BFLOAT16, ATTN_INT32, ATTN_INT64})
        if (name == dtype_name(t)) return t;
    throw std::invalid_argument("no dtype called " + name);
}

attn_align align_of(const std::string &name)
{
    if (name == "none") return ATTN_ALIGN_NONE;
    if (name == "top_left") return ATTN_TOP_LEFT;
    if (name == "bottom_right") return ATTN_BOTTOM_RIGHT;
    if (name == "by_position") return ATTN_BY_POSITION;
    throw std::invalid_argument("no alignment called " + name);
}

attn_activation activation_of(const std::string &name)
{
    if (name == "softmax") return ATTN_SOFTMAX;
    if (name == "sigmoid") return ATTN_SIGMOID;
    if (name == "relu") return ATTN_RELU;
    throw std::invalid_argument("no activation called " + name);
}

} // namespace conformance
