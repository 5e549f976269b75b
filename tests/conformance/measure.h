// How far a result may be from the oracle, and how far it was.
#pragma once

#include "instance.h"

#include <map>
#include <string>
#include <vector>

namespace conformance {

struct Tolerance {
    double global;    // |out - ref| / |ref| over the whole output; or what its largest row alone may add to that
    double worst_row; // the same of the worst row; float32: times max(1, |s|max / 8), see largest_score in oracle.h
    double lse;       // |lse - ref| / max(1, |ref|)
    // The same of the other statistics. ROW_ENTROPY, COLUMN_MASS: times max(1, |s|max of the sequence / 32),
    // because they hold scores and weights where LSE holds the score itself.
    double statistic;
};
Tolerance tolerance(attn_dtype out_dtype);

// Norms of references are not taken smaller than their natural size (see Result): a row that happens to cancel to
// almost nothing would otherwise turn correct rounding into a large relative error. Nor are they taken smaller than
// what the dtype of OUT can hold with all its digits: a sink or a gate may leave next to nothing of a row.
struct Errors {
    double global = 0, worst_row = 0, lse = 0; // all but lse: divided by their factors of the tolerance
    double row_max = 0, row_entropy = 0, column_mass = 0;
    std::string broken; // the first rule that does not hold, or empty
};

// Compares what the last execute left in the outputs with the references, one per sequence; also that empty rows are
// exact and that nothing else was written. `slack` multiplies what is allowed, for references that carry rounding.
Errors compare(const Instance &, const std::vector<Result> &, double slack = 1);
std::vector<Result> reference(const Case &, const std::vector<Content> &);

// The largest errors of the process by backend and dtype of OUT.
class Summary {
public:
    static Summary &instance();
    void add(const std::string &backend, const std::string &out_dtype, const Errors &);
    void note(const std::string &line) { notes_.push_back(line); }
    // A case that a kernel serves, by its name.
    void add_kernel(const std::string &kernel) { ++kernels_[kernel]; }
    // A case that the backend does not serve, and the options it named.
    void add_refusal(const std::string &backend, const std::vector<std::string> &names);
    void print() const;

private:
    struct Line {
        std::int64_t cases = 0, failures = 0;
        Errors largest;
    };
    std::map<std::pair<std::string, std::string>, Line> lines_;
    std::vector<std::string> notes_;
    std::map<std::string, std::int64_t> kernels_;
    struct Refused {
        std::int64_t cases = 0;
        std::map<std::string, std::int64_t> names;
    };
    std::map<std::string, Refused> refused_; // by backend
};

} // namespace conformance
