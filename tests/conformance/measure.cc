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
};

void compare_rows(const Case &c, std::size_t b, const Sequence &s, const Result &r, const std::vector<double> &out,
                  Totals &totals, Errors &e)
{
    const Tolerance allowed = tolerance(dtype_of(c.out_dtype));
    const std::int64_t ho = s.heads_out();
    // |s|max is that of the sequence: the rounding of q.k follows the size of q and k, not which keys a row may see.
    double factor = 1;
    if (c.out_dtype == "fp32" && !r.largest_score.empty())
        factor = std::max(1.0, *std::max_element(r.largest_score.begin(), r.largest_score.end()) / 8);
    for (std::int64_t i = 0; i < s.tq; ++i) {
        for (std::int64_t h = 0; h < ho; ++h) {
            const std::size_t row = i * ho + h;
            double difference = 0, norm = 0;
            bool zero = true;
            for (std::int64_t d = 0; d < s.dim_v; ++d) {
                const double x = out[row * s.dim_v + d], y = r.out[row * s.dim_v + d];
                difference += (x - y) * (x - y), norm += y * y;
                zero = zero && x == 0;
            }
            const double natural = r.natural_size[row] * r.natural_size[row];
            totals.difference += difference, totals.reference += norm, totals.natural += natural;
            if (natural == 0) { // no visible key
                if (!zero && e.broken.empty()) e.broken = exceeds("empty row", b, i, h, std::sqrt(difference), 0);
                continue;
            }
            const double error = std::sqrt(difference / std::max(norm, natural)) / factor;
            raise(e.worst_row, error);
            if (!within(error, allowed.worst_row) && e.broken.empty()) {
                e.broken = exceeds("worst-row", b, i, h, error, allowed.worst_row) + ", allowance factor " +
                           std::to_string(factor) + ", largest score of the row " +
                           std::to_string(r.largest_score[h * s.tq + i]);
            }
        }
    }
}

void compare_lse(std::size_t b, const Sequence &s, const Result &r, const std::vector<double> &lse, double allowed,
                 Errors &e)
{
    for (std::size_t n = 0; n < lse.size(); ++n) {
        const double y = r.lse[n];
        const bool infinite = std::isinf(y);
        const double error = infinite ? (lse[n] == y ? 0 : std::numeric_limits<double>::infinity())
                                      : std::abs(lse[n] - y) / std::max(1.0, std::abs(y));
        raise(e.lse, error);
        if (!within(error, allowed) && e.broken.empty())
            e.broken = exceeds("LSE", b, std::int64_t(n) % s.tq, std::int64_t(n) / s.tq, error, allowed);
    }
}

} // namespace

Tolerance tolerance(attn_dtype out_dtype)
{
    switch (out_dtype) {
    case ATTN_FLOAT16:
        return {6e-4, 2e-3, 2e-5};
    case ATTN_BFLOAT16:
        return {4e-3, 1e-2, 2e-5};
    default:
        return {2e-6, 2e-6, 2e-5};
    }
}

std::vector<Result> reference(const Case &c, const std::vector<Content> &contents)
{
    std::vector<Result> results;
    for (const Content &content : contents) results.push_back(attention(oracle_options(c), content.used));
    return results;
}

Errors compare(const Instance &instance, const std::vector<Result> &references)
{
    const Case &c = instance.spec();
    const Tolerance allowed = tolerance(dtype_of(c.out_dtype));
    Errors e;
    Totals totals;
    for (std::size_t b = 0; b < references.size(); ++b) {
        const Sequence &s = instance.contents()[b].used;
        compare_rows(c, b, s, references[b], instance.out(b), totals, e);
        if (c.lse) compare_lse(b, s, references[b], instance.lse(b), allowed.lse, e);
    }
    const double size = std::max(totals.reference, totals.natural);
    if (size > 0) e.global = std::sqrt(totals.difference / size);
    if (!within(e.global, allowed.global) && e.broken.empty())
        e.broken = exceeds("global", 0, -1, -1, e.global, allowed.global);
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
}

void Summary::print() const
{
    std::printf("\nconformance summary\n");
    for (const std::string &note : notes_) std::printf("  %s\n", note.c_str());
    for (const auto &[name, why] : absent_backends()) std::printf("  absent: %s (%s)\n", name.c_str(), why.c_str());
    std::printf("  %-14s %-5s %7s %9s %18s %18s %18s\n", "backend", "OUT", "cases", "failures", "global (allowed)",
                "worst row (allwd)", "LSE (allowed)");
    std::int64_t cases = 0, failures = 0;
    for (const auto &[key, line] : lines_) {
        const Tolerance allowed = tolerance(dtype_of(key.second));
        std::printf("  %-14s %-5s %7lld %9lld %9.2e (%.0e) %9.2e (%.0e) %9.2e (%.0e)\n", key.first.c_str(),
                    key.second.c_str(), static_cast<long long>(line.cases), static_cast<long long>(line.failures),
                    line.largest.global, allowed.global, line.largest.worst_row, allowed.worst_row, line.largest.lse,
                    allowed.lse);
        cases += line.cases, failures += line.failures;
    }
    std::printf("  total: %lld runs, %lld failures\n", static_cast<long long>(cases), static_cast<long long>(failures));
}

} // namespace conformance
