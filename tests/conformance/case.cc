#include "case.h"

#include "mask_text.h"
#include "number.h"

#include "src/cli/json_reader.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>
#include <vector>

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

// What the fields with names may hold. Whether names go together is for the library to judge.
const std::vector<std::string> &names_of(const std::string &field)
{
    using Names = std::vector<std::string>;
    static const Names dtypes{"fp32", "fp16", "bf16"}, diagonals{"none", "top_left", "bottom_right", "by_position"};
    static const Names layouts{"bshd", "bhsd", "gaps", "reversed", "strided"};
    static const std::map<std::string, Names> all{
        {"q_dtype", dtypes},
        {"k_dtype", dtypes},
        {"v_dtype", dtypes},
        {"out_dtype", dtypes},
        {"q_layout", layouts},
        {"kv_layout", {"bshd", "bhsd", "gaps", "reversed", "strided", "repeated"}},
        {"out_layout", layouts},
        {"option_layout", layouts},
        {"q_lengths", {"dense", "cu", "seqlens", "cu+seqlens"}},
        {"kv_lengths",
         {"dense", "cu", "seqlens", "cu+seqlens", "paged", "paged+seqlens", "paged+ptr", "paged+ptr+seqlens"}},
        {"index_dtype", {"int32", "int64"}},
        {"causal", diagonals},
        {"align", diagonals},
        {"bounds", {"exact", "loose"}},
        {"bias", {"none", "default", "fp32", "fp16", "bf16"}},
        {"bias_broadcast", {"none", "batch", "heads", "queries", "batch+heads"}},
        {"bias_stage", {"post", "pre"}},
        {"bias_table", {"none", "distance", "bucket", "bucket_bi", "grid"}},
        {"lowrank_broadcast", {"none", "heads"}},
        {"gate", {"none", "sigmoid", "linear", "silu"}},
        {"gate_dtype", {"default", "fp32", "fp16", "bf16"}},
        {"gate_broadcast", {"none", "channels"}},
        {"activation", {"softmax", "sigmoid", "relu"}},
    };
    return all.at(field);
}

// The fields that size the test's own tensors; the others are the library's to refuse.
bool in_range(const std::string &field, std::int64_t x)
{
    constexpr std::int64_t most = std::int64_t{1} << 31;
    if (field == "workers") return x >= 0 && x <= 1024;
    // 0 takes the default of another field in the library, which the oracle does not know of.
    for (const char *name : {"page_size", "dim_qk", "dim_v", "heads_q", "heads_k", "heads_v"})
        if (field == name) return x >= 1 && x <= most;
    if (field == "batch" || field == "max_q" || field == "max_kv") return x >= 0 && x <= most;
    return true;
}

// Takes the fields from an object, and remembers which of its members it has met.
struct Reader {
    const attn::cli::JsonValue &object;
    std::set<std::string> known{};

    const attn::cli::JsonValue *member(const char *name)
    {
        known.insert(name);
        return object.find(name);
    }
    void operator()(const char *name, std::string &x)
    {
        const attn::cli::JsonValue *value = member(name);
        if (!value) return;
        x = value->as_string();
        if (std::string(name) == "mask") return check_mask(*value);
        const std::vector<std::string> &names = names_of(name);
        if (std::find(names.begin(), names.end(), x) != names.end()) return;
        std::string all;
        for (const std::string &known_name : names) all += (all.empty() ? "" : ", ") + known_name;
        throw value->error('"' + x + "\" is none of those " + name + " may be: " + all);
    }
    static void check_mask(const attn::cli::JsonValue &value)
    {
        try {
            parse_mask(value.as_string());
        } catch (const std::invalid_argument &error) {
            throw value.error(error.what());
        }
    }
    void operator()(const char *name, std::uint64_t &x)
    {
        if (const attn::cli::JsonValue *value = member(name)) x = value->as_uint64();
    }
    void operator()(const char *name, std::int64_t &x)
    {
        const attn::cli::JsonValue *value = member(name);
        if (!value) return;
        x = value->as_int64();
        if (!in_range(name, x)) throw value->error(std::string(name) + " cannot be " + std::to_string(x));
    }
    void operator()(const char *name, double &x)
    {
        const attn::cli::JsonValue *value = member(name);
        if (!value) return;
        x = value->as_double();
        if (std::string(name) == "magnitude" && !(x >= 0 && x <= 1e4)) // scores would not be finite
            throw value->error("magnitude is from 0 to 10000");
    }
};

} // namespace

std::int64_t Case::heads_out() const
{
    return std::max({heads_q, heads_k, heads_v});
}

bool Case::by_position() const
{
    return causal == "by_position" || align == "by_position" || needs_positions(parse_mask(mask));
}

double Case::scale() const
{
    return (scale_factor == 0 ? 1 : scale_factor) / std::sqrt(static_cast<double>(dim_qk));
}

double Case::products() const
{
    const auto real = [](std::int64_t x) { return static_cast<double>(x); };
    return real(batch) * real(max_q) * real(max_kv) * real(heads_out()) * (real(dim_qk) + real(dim_v));
}

std::string to_json(const Case &c)
{
    Printer printer;
    printer.text.precision(17);
    visit_fields(c, printer);
    return printer.text.str() + "}";
}

Case from_json(const attn::cli::JsonValue &object)
{
    Case c;
    Reader reader{object};
    visit_fields(c, reader);
    for (const auto &[name, value] : object.as_object())
        if (reader.known.count(name) == 0) throw value.error("a case has no field \"" + name + '"');
    return c;
}

Case from_json(const std::string &line)
{
    return from_json(attn::cli::parse_json(line));
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
