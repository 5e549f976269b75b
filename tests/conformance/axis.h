// Axes of a table: named values, each a change of a case.
#pragma once

#include "case.h"
#include "covering.h"
#include "number.h"
#include "table.h"

#include <functional>
#include <string>
#include <vector>

namespace conformance {

struct Value {
    std::string label;
    std::function<void(Case &)> apply;
    bool hollow = false; // nothing is computed
};

struct Axis {
    std::string name;
    std::vector<Value> values;
};

template <class T>
std::string label_of(const T &x)
{
    return std::to_string(x);
}
inline std::string label_of(const std::string &x)
{
    return x;
}
inline std::string label_of(double x)
{
    return std::to_string(x).substr(0, 5);
}

// An axis that sets one field; 0 is hollow where `zero_is_hollow`.
template <class T>
Axis field(const char *name, T Case::*member, std::vector<T> values, bool zero_is_hollow = false)
{
    Axis axis{name, {}};
    for (const T &x : values) {
        const bool hollow = zero_is_hollow && x == T{};
        axis.values.push_back({label_of(x), [member, x](Case &c) { c.*member = x; }, hollow});
    }
    return axis;
}

// Axes that set several fields.
Value dims(std::int64_t qk, std::int64_t v);
Value heads(std::int64_t q, std::int64_t k, std::int64_t v);
Value one_dtype(const std::string &name);                // of Q, K, V and OUT
Value lengths(const char *mode, std::int64_t page_size); // of keys; page_size 0: not paged
Value diagonal(const char *label, const char *causal, const char *align);
Value window(const char *label, std::int64_t left, std::int64_t right);
Value layout(const std::string &name); // of Q, K, V and OUT
Value mask(const char *label, const char *causal, const char *align, std::int64_t left = -1, std::int64_t right = -1,
           std::int64_t sink_tokens = 0);
Value activation(const char *label, const char *name, double bias, std::int64_t length);

// Cases for the rows of a pairwise covering array, and of a random row.
TableCases cover(const std::vector<Axis> &, const std::vector<Exclusion> &, std::uint64_t seed);
Case random_of(const std::vector<Axis> &, const std::vector<Exclusion> &, Random &);

} // namespace conformance
