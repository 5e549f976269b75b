// Compares what a call wrote with the recurrence.
#include "linear_call.h"

#include <algorithm>
#include <cmath>
#include <sstream>

namespace linear {
namespace {

// Bounds of DESIGN section 5: the whole output, and for a row its own rounding plus that of float sums.
double whole_bound(attn_dtype dtype)
{
    return dtype == ATTN_FLOAT32 ? 2e-6 : dtype == ATTN_FLOAT16 ? 6e-4 : 4e-3;
}
double row_bound(attn_dtype dtype)
{
    return dtype == ATTN_FLOAT32 ? 0 : dtype == ATTN_FLOAT16 ? 2e-3 : 1e-2;
}
constexpr double kSumBound = 2e-6; // against the magnitudes behind a row
// A row counts in the whole output relative to itself, but to no less than this part of the magnitudes behind it: 1/8
// is where 8 roundings of 2^-24 of them, which no order of float sums avoids, are a fourth of the bound of the whole.
// So no row is left out; one that has cancelled, as where the sum of weights nearly is 0, is held to less than its
// magnitude; and, each row being a share, one that is large for the same reason does not hide the errors of the others.
constexpr double kCancelled = 8;

double state_bound(attn_dtype state)
{
    return state == ATTN_FLOAT32 ? 1e-5 : state == ATTN_FLOAT16 ? 1e-3 : 5e-3;
}

// Squares of an error and of what it is measured against.
struct Squares {
    double error = 0, size = 0;
    void add(double got, double wanted)
    {
        error += (got - wanted) * (got - wanted), size += wanted * wanted;
        if (!std::isfinite(got)) error = HUGE_VAL;
    }
    double relative() const { return error == 0 ? 0 : std::sqrt(error / size); }
};

// Relative errors of rows, as one.
struct Shares {
    double sum = 0;
    std::int64_t rows = 0;
    void add(double share) { sum += share * share, ++rows; }
    double relative() const { return rows == 0 ? 0 : std::sqrt(sum / double(rows)); }
};

} // namespace

Errors Call::compare() const
{
    Errors errors;
    Squares states;
    Shares out;
    conformance::Tensor written = at(ATTN_SLOT_OUT);
    conformance::Tensor kept = s.state_out ? at(ATTN_SLOT_STATE_OUT) : conformance::Tensor();
    std::ostringstream failure;
    const bool full = (m.flags & ATTN_LINEAR_BIDIRECTIONAL) != 0;
    const bool normalised = (m.flags & ATTN_LINEAR_NORMALISER) != 0;
    const Reading reading = {m.scale != 0 ? m.scale : 1 / std::sqrt(double(s.dim_qk)), normalised, m.eps};

    const auto compare_row = [&](std::size_t b, std::int64_t t, std::int64_t head, const Output &wanted) {
        double error = 0, size = 0, magnitude = 0;
        for (std::int64_t c = 0; c < s.dim_v; ++c) {
            const conformance::Index index = token_index(ATTN_SLOT_OUT, b, t, head, c);
            const double got = at(ATTN_SLOT_OUT).get(index), o = wanted.o[std::size_t(c)];
            written.expect_write(index);
            error += std::isfinite(got) ? (got - o) * (got - o) : HUGE_VAL, size += o * o;
            magnitude += wanted.magnitude[std::size_t(c)] * wanted.magnitude[std::size_t(c)];
        }
        if (error != 0)
            out.add(std::sqrt(error) / std::max(std::sqrt(size), std::sqrt(magnitude) / kCancelled));
        else
            out.add(0);
        const double bound = row_bound(s.out) * std::sqrt(size) + kSumBound * std::sqrt(magnitude);
        const double relative = error == 0 ? 0 : std::sqrt(error) / bound;
        if (relative > errors.row) errors.row = relative;
        if (!(relative <= 1) && failure.str().empty())
            failure << "row of sequence " << b << " token " << t << " head " << head << ": " << relative
                    << " of its bound; ";
    };
    const auto compare_state = [&](const State &state, auto index) {
        for (std::int64_t r = 0; r < rows; ++r)
            for (std::int64_t c = 0; c < columns; ++c) {
                const conformance::Index place = index(r, c);
                kept.expect_write(place);
                states.add(at(ATTN_SLOT_STATE_OUT).get(place), state.at(r, c));
            }
    };
    for (std::size_t b = 0; b < sequences.size(); ++b)
        for (std::int64_t head = 0; head < s.heads_v; ++head) {
            State state = initial_state(b, head);
            if (full) {
                for (std::int64_t t = 0; t < sequences[b].key_length; ++t) update(state, token(b, t, head));
                for (std::int64_t t = 0; t < sequences[b].length; ++t)
                    for (std::int64_t r = 0; r < group; ++r) {
                        const std::int64_t h = head * group + r;
                        compare_row(
                            b, t, h,
                            read(state, features(ATTN_SLOT_Q, b, t, h * s.heads_q / heads_out), nullptr, reading));
                    }
            } else {
                for (std::int64_t t = 0; t < sequences[b].length; ++t) {
                    const Token x = token(b, t, head);
                    const bool before = m.read == ATTN_READ_BEFORE;
                    if (!before) update(state, x);
                    for (std::int64_t r = 0; r < group; ++r)
                        compare_row(b, t, head * group + r,
                                    read(state, x.q[std::size_t(r)], before ? &x : nullptr, reading));
                    if (before) update(state, x);
                    if (s.per_token)
                        compare_state(
                            state, [&](std::int64_t r, std::int64_t c) { return token_state_index(b, t, head, r, c); });
                }
            }
            if (s.state_out && !s.per_token)
                compare_state(
                    state, [&](std::int64_t r, std::int64_t c) { return state_index(sequences[b].state, head, r, c); });
        }
    errors.out = out.relative(), errors.state = states.relative();
    if (!(errors.out <= whole_bound(s.out))) failure << "OUT: " << errors.out << "; ";
    if (!(errors.state <= state_bound(s.state))) failure << "STATE_OUT: " << errors.state << "; ";
    if (written.wrote_elsewhere()) failure << "OUT written where no token is; ";
    if (s.state_out && !s.in_place && kept.wrote_elsewhere()) failure << "STATE_OUT written where no state is; ";
    errors.failure = failure.str();
    return errors;
}

} // namespace linear
