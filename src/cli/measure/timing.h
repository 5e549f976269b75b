// Times calls against each other, in turns.
#ifndef ATTN_SRC_CLI_MEASURE_TIMING_H
#define ATTN_SRC_CLI_MEASURE_TIMING_H

#include <functional>
#include <vector>

namespace attn::perf {

/// Seconds of one call.
struct Times {
    double median, min, max;
    double processors; ///< Time of all threads over time that passed: less than the threads where others interfere.
};

/// Things to time against each other.
using Contenders = std::vector<std::function<void()>>;

/// Times them in turns, `repetitions` rounds. A sample follows a rest, in which threads that still spin go to sleep,
/// and a call that is not counted; it lasts at least 20 ms.
std::vector<Times> race(const Contenders &contenders, int repetitions);

/// Time of one call over that of another, from pairs of adjacent samples.
struct Ratio {
    double lower, median, upper; ///< Of the time of all threads: quartiles, which other load hardly touches.
    double passed;               ///< Of the time that passed: median.
    double seconds;              ///< Time of all threads of the first call: median.
};

/// Times two calls in turns, `repetitions` pairs after one that is not counted.
Ratio compare(const std::function<void()> &call, const std::function<void()> &other, int repetitions);

} // namespace attn::perf

#endif
