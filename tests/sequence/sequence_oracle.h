// A convolution and a scan of one channel in fp64, from the equations, each value with a bound of what rounding of
// float arithmetic may do to it.
#pragma once

#include <cstdint>
#include <vector>

namespace sequence {

struct Value {
    double x = 0;
    double error = 0; // in units of the rounding of a float, 2^-24
};

// Everything by token. `past` are the width - 1 tokens before the first, the oldest first.
struct Convolution {
    std::vector<double> taps, past, x, residual;
    double bias = 0;
    bool silu = false;
};
std::vector<Value> convolve(const Convolution &c);

struct Scan {
    std::vector<double> x, gate, write; // write empty: 1
    double state = 0;
    bool log = true, lerp = false;
};
std::vector<Value> scan(const Scan &s);

} // namespace sequence
