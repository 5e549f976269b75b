// The recurrence of linear attention in fp64, from the equations: what every path of the library has to give.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace linear {

using Row = std::vector<double>;

// One token of one head: rows after their feature map and norm.
struct Token {
    std::vector<Row> q; // of each query head that reads the state
    Row k, v;
    Row log_decay; // a value per row of the state
    Row erase;     // beta for all, or by channel; empty: keys only add
    Row write;     // likewise for the columns
    Row b, c;      // low-rank part of the transition; empty: none
    Row bonus;     // empty: read after the update
};

// A state `[rows][columns]`, with one more column where it has a normaliser.
struct State {
    std::int64_t rows = 0, columns = 0;
    std::vector<double> s;
    double &at(std::int64_t r, std::int64_t c) { return s[std::size_t(r * columns + c)]; }
    double at(std::int64_t r, std::int64_t c) const { return s[std::size_t(r * columns + c)]; }
};

struct Reading {
    double scale = 1;
    bool normalised = false;
    double eps = 0;
};

// What a query gets, and the sum of magnitudes behind each column: rounding is judged against it.
struct Output {
    Row o, magnitude;
};

void update(State &state, const Token &token);
Output read(const State &state, const Row &q, const Token *bonus_of, const Reading &reading);

} // namespace linear
