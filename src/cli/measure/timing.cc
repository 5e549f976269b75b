#include "timing.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <ctime>
#include <thread>

namespace attn::perf {
namespace {

constexpr double kSampleSeconds = 0.02;
constexpr double kLongCallSeconds = 0.25;             ///< From here on a call warms itself up.
constexpr auto kRest = std::chrono::milliseconds(30); ///< OpenBLAS threads spin for 2^26 cycles after a call.

struct Sample {
    double seconds, processor_seconds;
};

Sample sample(const std::function<void()> &call, int64_t calls)
{
    const auto start = std::chrono::steady_clock::now();
    const std::clock_t used = std::clock();
    for (int64_t i = 0; i < calls; ++i) call();
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    const auto n = static_cast<double>(calls);
    return {passed.count() / n, static_cast<double>(std::clock() - used) / CLOCKS_PER_SEC / n};
}

Times summarise(std::vector<Sample> samples)
{
    double passed = 0, used = 0;
    for (const Sample &s : samples) passed += s.seconds, used += s.processor_seconds;
    std::sort(samples.begin(), samples.end(), [](const Sample &a, const Sample &b) { return a.seconds < b.seconds; });
    const size_t n = samples.size();
    return {(samples[(n - 1) / 2].seconds + samples[n / 2].seconds) / 2, samples.front().seconds,
            samples.back().seconds, used / passed};
}

} // namespace

std::vector<Times> race(const Contenders &contenders, int repetitions)
{
    std::vector<std::vector<Sample>> samples(contenders.size());
    std::vector<double> estimate;
    estimate.reserve(contenders.size());
    for (const auto &call : contenders) {
        const double first = sample(call, 1).seconds;
        estimate.push_back(first < kLongCallSeconds ? sample(call, 1).seconds : first);
    }
    for (int repetition = 0; repetition < repetitions; ++repetition) {
        for (size_t i = 0; i < contenders.size(); ++i) {
            std::this_thread::sleep_for(kRest);
            if (estimate[i] < kLongCallSeconds) contenders[i]();
            samples[i].push_back(sample(contenders[i], static_cast<int64_t>(std::ceil(kSampleSeconds / estimate[i]))));
        }
    }
    std::vector<Times> times;
    times.reserve(samples.size());
    for (const auto &of_one : samples) times.push_back(summarise(of_one));
    return times;
}

Ratio compare(const std::function<void()> &call, const std::function<void()> &other, int repetitions)
{
    call();
    other();
    std::vector<double> used, passed, seconds;
    for (int repetition = 0; repetition < repetitions; ++repetition) {
        const Sample one = sample(call, 1), two = sample(other, 1);
        used.push_back(one.processor_seconds / two.processor_seconds);
        passed.push_back(one.seconds / two.seconds);
        seconds.push_back(one.processor_seconds);
    }
    const auto quantile = [](std::vector<double> &values, double part) {
        const auto at = values.begin() + std::lround(part * static_cast<double>(values.size() - 1));
        std::nth_element(values.begin(), at, values.end());
        return *at;
    };
    return {quantile(used, 0.25), quantile(used, 0.5), quantile(used, 0.75), quantile(passed, 0.5),
            quantile(seconds, 0.5)};
}

} // namespace attn::perf
