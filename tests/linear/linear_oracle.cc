#include "linear_oracle.h"

#include <cmath>

namespace linear {

void update(State &state, const Token &token)
{
    const std::int64_t rows = state.rows, columns = state.columns;
    State next = state;
    // The transition, a matrix: decay, then what the delta rule or the low-rank part does to it.
    for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < columns; ++c) next.at(r, c) = std::exp(token.log_decay[r]) * state.at(r, c);
    if (!token.b.empty()) {
        for (std::int64_t c = 0; c < columns; ++c) {
            double found = 0;
            for (std::int64_t r = 0; r < rows; ++r) found += token.c[r] * state.at(r, c); // before the decay
            for (std::int64_t r = 0; r < rows; ++r) next.at(r, c) += token.b[r] * found;
        }
    }
    const State decayed = next;
    for (std::int64_t c = 0; c < columns; ++c) {
        const double v = std::size_t(c) < token.v.size() ? token.v[c] : 1;
        double written = token.write.empty() ? v : token.write[c] * v;
        if (!token.erase.empty())
            for (std::int64_t r = 0; r < rows; ++r) written -= token.erase[r] * token.k[r] * decayed.at(r, c);
        for (std::int64_t r = 0; r < rows; ++r) next.at(r, c) += token.k[r] * written;
    }
    state = next;
}

Output read(const State &state, const Row &q, const Token *bonus_of, const Reading &reading)
{
    Output out;
    out.o.assign(std::size_t(state.columns), 0), out.magnitude = out.o;
    for (std::int64_t c = 0; c < state.columns; ++c)
        for (std::int64_t r = 0; r < state.rows; ++r) {
            out.o[c] += reading.scale * q[r] * state.at(r, c);
            out.magnitude[c] += std::abs(reading.scale * q[r] * state.at(r, c));
        }
    if (bonus_of)
        for (std::int64_t c = 0; c < state.columns; ++c) {
            const double v = std::size_t(c) < bonus_of->v.size() ? bonus_of->v[c] : 1;
            for (std::int64_t r = 0; r < state.rows; ++r) {
                const double term = reading.scale * q[r] * bonus_of->bonus[r] * bonus_of->k[r] * v;
                out.o[c] += term, out.magnitude[c] += std::abs(term);
            }
        }
    if (!reading.normalised) return out;
    const std::size_t last = out.o.size() - 1;
    const double sum = out.o[last] + reading.eps;
    const double size = out.magnitude[last];
    for (std::size_t c = 0; c < last; ++c) {
        // A rounding of the sum of weights moves the whole row.
        out.magnitude[c] = sum == 0 ? 0 : (out.magnitude[c] + std::abs(out.o[c] / sum) * size) / std::abs(sum);
        out.o[c] = sum == 0 ? 0 : out.o[c] / sum;
    }
    out.o.pop_back(), out.magnitude.pop_back();
    return out;
}

} // namespace linear
