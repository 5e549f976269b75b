#include "measure.h"

#include "backend.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <sstream>

namespace conformance {
namespace {

std::string exceeds(const char *what, std::size_t sequence, std::int64_t row, std::int64_t head, double error,
                    double allowed)
{
    std::ostringstream text;
    text << what << " error " << error << " > " << allowed << " (sequence " << sequence;
    if (row >= 0) text << ", row " << row << ", head " << head;
    text << ")";
    return text.str();
}

// NaN compares as too large.
bool within(double error, double allowed)
{
    return error <= allowed;
}
void raise(double &largest, double error)
{
    largest = error <= largest ? largest : error;
}

struct Totals {
    double difference = 0, reference = 0, natural = 0; // squares
    double row_allowed = 0;                            // likewise the largest difference that a single row may have
};

double largest_score(const Result &r)
{
    return r.largest_score.empty() ? 0 : *std::max_element(r.largest_score.begin(), r.largest_score.end());
}

// Below this size the elements of a row lose digits, or all of them: the end of the normal numbers of half; well before
// that of the others, because weights run out of range sooner than their sums.
double smallest_element(attn_dtype out_dtype)
{
    return out_dtype == ATTN_FLOAT16 ? 0x1p-14 : 0x1p-100;
}

void compare_rows(const Case &c, std::size_t b, const Sequence &s, const Result &r, const std::vector<double> &out,
                  double slack, Totals &totals, Errors &e)
{
    // Rows of few channels spread: one channel's error, a sum of roundings of weights, is beyond five standard
    // deviations in one of millions of rows, the mean of many channels never.
    const double spread = std::sqrt(1 + 1 / static_cast<double>(std::max<std::int64_t>(1, s.dim_v)));
    const double allowed = slack * spread * tolerance(dtype_of(c.out_dtype)).worst_row;
    const double smallest = smallest_element(dtype_of(c.out_dtype));
    const std::int64_t ho = s.heads_out();
    // |s|max, the size of what scores add up, is that of the sequence for q.k, whose rounding follows the size of q and
    // k and not which keys a row may see. A bias adds its own size row by row.
    const double largest = largest_score(r);
    for (std::int64_t i = 0; i < s.tq; ++i) {
        for (std::int64_t h = 0; h < ho; ++h) {
            const std::size_t row = i * ho + h;
            double factor = 1;
            if (c.out_dtype == "fp32") factor = std::max({1.0, largest / 8, r.largest_biased[h * s.tq + i] / 8});
            double difference = 0, norm = 0;
            bool zero = true;
            for (std::int64_t d = 0; d < s.dim_v; ++d) {
                const double x = out[row * s.dim_v + d], y = r.out[row * s.dim_v + d];
                difference += (x - y) * (x - y), norm += y * y;
                zero = zero && x == 0;
            }
            double natural = r.natural_size[row] * r.natural_size[row];
            const bool must_be_zero = natural == 0;
            if (!must_be_zero) natural = std::max(natural, static_cast<double>(s.dim_v) * smallest * smallest);
            totals.difference += difference, totals.reference += norm, totals.natural += natural;
            if (must_be_zero) { // no visible key, or a head weight of 0
                if (!zero && e.broken.empty())
                    e.broken = exceeds("row that must be 0", b, i, h, std::sqrt(difference), 0);
                continue;
            }
            const double size = std::max(norm, natural);
            totals.row_allowed = std::max(totals.row_allowed, allowed * allowed * factor * factor * size);
            const double error = std::sqrt(difference / size) / factor;
            raise(e.worst_row, error);
            if (!within(error, allowed) && e.broken.empty()) {
                e.broken = exceeds("worst-row", b, i, h, error, allowed) + ", allowance factor " +
                           std::to_string(factor) + ", largest score of the row " +
                           std::to_string(r.largest_score[h * s.tq + i]);
            }
        }
    }
}

// A statistic of every (head, query) or (head, key); infinities must be exact.
void compare_statistic(const char *name, std::size_t b, const std::vector<double> &got,
                       const std::vector<double> &expected, double factor, double allowed, double &largest, Errors &e)
{
    const std::size_t columns = expected.size();
    for (std::size_t n = 0; n < columns; ++n) {
        const double y = expected[n];
        const double error = std::isinf(y) ? (got[n] == y ? 0 : std::numeric_limits<double>::infinity())
                                           : std::abs(got[n] - y) / std::max(1.0, std::abs(y)) / factor;
        raise(largest, error);
        if (within(error, allowed) || !e.broken.empty()) continue;
        std::ostringstream text;
        text << exceeds(name, b, -1, -1, error, allowed) << ", element " << n << " of " << columns << ": " << got[n]
             << " instead of " << y << ", allowance factor " << factor;
        e.broken = text.str();
    }
}

void compare_statistics(const Instance &instance, std::size_t b, const Result &r, double slack, Errors &e)
{
    const Case &c = instance.spec();
    const Tolerance allowed = tolerance(dtype_of(c.out_dtype));
    double largest = largest_score(r);
    for (double x : r.largest_biased) largest = std::max(largest, x);
    const double factor = std::max(1.0, largest / 32), other = slack * allowed.statistic;
    if (c.lse) compare_statistic("LSE", b, instance.lse(b), r.lse, 1, slack * allowed.lse, e.lse, e);
    if (c.row_max)
        compare_statistic("ROW_MAX", b, instance.statistic(ATTN_SLOT_ROW_MAX, b), r.row_max, 1, other, e.row_max, e);
    if (c.row_entropy)
        compare_statistic("ROW_ENTROPY", b, instance.statistic(ATTN_SLOT_ROW_ENTROPY, b), r.row_entropy, factor, other,
                          e.row_entropy, e);
    if (c.column_mass)
        compare_statistic("COLUMN_MASS", b, instance.statistic(ATTN_SLOT_COLUMN_MASS, b), r.column_mass, factor, other,
                          e.column_mass, e);
}

} // namespace

Tolerance tolerance(attn_dtype out_dtype)
{
    switch (out_dtype) {
    case ATTN_FLOAT16:
        return {6e-4, 2e-3, 2e-5, 2e-5};
    case ATTN_BFLOAT16:
        return {4e-3, 1e-2, 2e-5, 2e-5};
    default:
        return {2e-6, 2e-6, 2e-5, 2e-5};
    }
}

std::vector<Result> reference(const Case &c, const std::vector<Content> &contents)
{
    std::vector<Result> results;
    for (const Content &content : contents) results.push_back(attention(oracle_options(c), content.used));
    return results;
}

Errors compare(const Instance &instance, const std::vector<Result> &references, double slack)
{
    const Case &c = instance.spec();
    const double allowed = slack * tolerance(dtype_of(c.out_dtype)).global;
    Errors e;
    Totals totals;
    std::int64_t keys = 1; // of the longest sequence
    for (std::size_t b = 0; b < references.size(); ++b) {
        const Sequence &s = instance.contents()[b].used;
        keys = std::max(keys, s.tk);
        compare_rows(c, b, s, references[b], instance.out(b), slack, totals, e);
        compare_statistics(instance, b, references[b], slack, e);
    }
    const double size = std::max(totals.reference, totals.natural);
    if (size > 0) {
        // The whole is judged as an average, which few rows are not: one alone may be as wrong as a row may be.
        // Nor are few keys: what the weight of one lost by rounding may be the same in all rows and channels.
        const double shared = std::sqrt(1 + 1 / static_cast<double>(keys));
        const double factor = std::max(shared, std::sqrt(totals.row_allowed / size) / allowed);
        e.global = std::sqrt(totals.difference / size) / factor;
    }
    if (!within(e.global, allowed) && e.broken.empty()) e.broken = exceeds("global", 0, -1, -1, e.global, allowed);
    if (instance.wrote_elsewhere() && e.broken.empty()) e.broken = "memory outside the output was written";
    return e;
}

Summary &Summary::instance()
{
    static Summary summary;
    return summary;
}

void Summary::add(const std::string &backend, const std::string &out_dtype, const Errors &e)
{
    Line &line = lines_[{backend, out_dtype}];
    ++line.cases, line.failures += !e.broken.empty();
    raise(line.largest.global, e.global), raise(line.largest.worst_row, e.worst_row), raise(line.largest.lse, e.lse);
    raise(line.largest.row_max, e.row_max), raise(line.largest.row_entropy, e.row_entropy);
    raise(line.largest.column_mass, e.column_mass);
}

void Summary::add_refusal(const std::string &backend, const std::vector<std::string> &names)
{
    Refused &refused = refused_[backend];
    ++refused.cases;
    for (const std::string &name : names) ++refused.names[name];
}

void Summary::print() const
{
    if (lines_.empty() && refused_.empty()) return; // a group of tests that the table has no part in
    std::printf("\nconformance summary\n");
    for (const std::string &note : notes_) std::printf("  %s\n", note.c_str());
    for (const auto &[kernel, cases] : kernels_)
        std::printf("  served by %s: %lld cases\n", kernel.c_str(), static_cast<long long>(cases));
    for (const auto &[name, why] : absent_backends()) std::printf("  absent: %s (%s)\n", name.c_str(), why.c_str());
    for (const auto &[name, refused] : refused_) {
        std::printf("  refused by %s: %lld cases;", name.c_str(), static_cast<long long>(refused.cases));
        const char *separator = " ";
        for (const auto &[option, count] : refused.names) {
            std::printf("%s%s: %lld", separator, option.c_str(), static_cast<long long>(count));
            separator = ", ";
        }
        std::printf("\n");
    }
    std::printf("  %-14s %-5s %7s %9s %18s %18s %18s %9s %9s %9s\n", "backend", "OUT", "cases", "failures",
                "global (allowed)", "worst row (allwd)", "LSE (allowed)", "row max", "entropy", "col. mass");
    std::int64_t cases = 0, failures = 0;
    for (const auto &[key, line] : lines_) {
        const Tolerance allowed = tolerance(dtype_of(key.second));
        std::printf("  %-14s %-5s %7lld %9lld %9.2e (%.0e) %9.2e (%.0e) %9.2e (%.0e) %9.2e %9.2e %9.2e\n",
                    key.first.c_str(), key.second.c_str(), static_cast<long long>(line.cases),
                    static_cast<long long>(line.failures), line.largest.global, allowed.global, line.largest.worst_row,
                    allowed.worst_row, line.largest.lse, allowed.lse, line.largest.row_max, line.largest.row_entropy,
                    line.largest.column_mass);
        cases += line.cases, failures += line.failures;
    }
    std::printf("  total: %lld runs, %lld failures\n", static_cast<long long>(cases), static_cast<long long>(failures));
}

} // namespace conformance
