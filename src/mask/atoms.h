// What the terms of a mask program mean: for one query and key, and for a tile of them. The one definition behind every
// reading of a program, on the host, in the kernels of the CPU and on GPUs, whose compilers have no system headers.
// Everything has internal linkage, since each instruction set has a translation unit of its own.
//
// An atom is a test of a value x, of the key or of the row, against limits that move with a value y of the row:
//
//   y + low <= x <= y + high             with low and high fixed for one head and one sequence
//
// or, for one atom, of whether x is behind y by 0 or a power of two. So a kernel adds once for each row and compares
// for each key, and ranges of x and y tell what a tile can be.
#ifndef ATTN_SRC_MASK_ATOMS_H
#define ATTN_SRC_MASK_ATOMS_H

#if defined(__CUDACC__) || defined(__HIPCC__)
#define ATTN_MASK_INLINE static __device__ __forceinline__
#else
#define ATTN_MASK_INLINE static inline __attribute__((always_inline))
#endif

namespace attn::mask {

using i32 = int;
using u32 = unsigned int;
using i64 = long long;
using u64 = unsigned long long;

constexpr i64 kMost = 0x7fffffffffffffff; ///< As a limit: none. As a parameter: ATTN_UNBOUNDED.
constexpr i64 kLeast = -kMost - 1;        ///< As a limit: none.
constexpr i32 kMostTerms = 256;           ///< Their stack is at most half as deep.

/// What a term does.
enum class Kind : i32 {
    conjunction, ///< Of the top two.
    disjunction, ///< Of the top two.
    complement,  ///< Of the top.
    interval,    ///< y + low <= x <= y + high.
    power        ///< x, in units, is behind y by 0 or a power of two.
};

/// Values of a row and of a key.
enum class Value : i32 {
    zero,
    row_index,    ///< i, which is also the key level with it by the top left corner.
    row_level,    ///< i + Tk - Tq: level by the bottom right corner.
    row_position, ///< POSITIONS_Q.
    row_id,       ///< IDS_Q of a pair.
    head,         ///< Of OUT.
    key_index,    ///< j
    key_position, ///< POSITIONS_KV.
    key_id,       ///< IDS_KV of a pair.
    key_residue   ///< (j / unit) mod period.
};

/// What a limit is made of: parameters of the term, and the number of rows.
enum class Limit : i32 {
    least,
    most,
    zero,
    minus_one,
    first,            ///< p[0]
    before_first,     ///< p[0] - 1
    minus_first,      ///< -p[0]
    rows_minus_first, ///< Tq - p[0]
    second,           ///< p[1]
    before_second,    ///< p[1] - 1
    phase,            ///< -p[1] mod p[0]
    membership        ///< Least if p[0] is not 0, else most: all or nothing.
};

/// One term of the postfix program.
struct Term {
    Kind kind;
    Value x, y;
    Limit low, high;
    i32 pair;            ///< Of ids: which of those that the program uses.
    i32 parameter;       ///< Place of the first parameter of the first row.
    i32 parameter_count; ///< Of each row, at most 3.
    i32 parameter_rows;  ///< Head h has row h * rows / heads.
};

/// integer + floor(value + slope * Tk); the product is rounded before it is added.
struct Parameter {
    i64 integer;
    double value, slope;
};

/// An atom for one head and one sequence.
struct Bound {
    i64 low, high;
    i64 unit, period; ///< At least 1.
};

/// What a program may be on a tile.
enum class Coverage : i32 { skip, partial, full };

// Sums and differences that stop at the ends of 64 bits.
ATTN_MASK_INLINE i64 add(i64 a, i64 b)
{
    const i64 sum = static_cast<i64>(static_cast<u64>(a) + static_cast<u64>(b));
    if (((a ^ sum) & (b ^ sum)) < 0) return b < 0 ? kLeast : kMost;
    return sum;
}
ATTN_MASK_INLINE i64 subtract(i64 a, i64 b)
{
    const i64 difference = static_cast<i64>(static_cast<u64>(a) - static_cast<u64>(b));
    if (((a ^ b) & (a ^ difference)) < 0) return b < 0 ? kMost : kLeast;
    return difference;
}
ATTN_MASK_INLINE i64 least_of(i64 a, i64 b)
{
    return a < b ? a : b;
}
ATTN_MASK_INLINE i64 most_of(i64 a, i64 b)
{
    return a > b ? a : b;
}
ATTN_MASK_INLINE i64 floor_divide(i64 a, i64 b)
{
    if (b == 1) return a;
    return a / b - (a % b != 0 && a < 0 ? 1 : 0);
}

/// Numbers from `least` to `most`; none where that is less.
struct Range {
    i64 least, most;
};

/// What x may be for a y: the limits moved by it, where no limit stays none.
ATTN_MASK_INLINE Range limits_of(i64 low, i64 high, i64 y)
{
    const i64 least = low == kLeast ? kLeast : add(y, low), most = high == kMost ? kMost : add(y, high);
    const bool above = low > 0 && least == kMost && subtract(kMost, low) < y; // beyond every number
    const bool below = high < 0 && most == kLeast && subtract(kLeast, high) > y;
    if (above || below) return {kMost, kLeast};
    return {least, most};
}

ATTN_MASK_INLINE double rounded_product(double a, double b)
{
#if defined(__CUDACC__) || defined(__HIPCC__)
    return __dmul_rn(a, b);
#else
    const volatile double product = a * b; // or compilers may fuse it with the sum
    return product;
#endif
}
ATTN_MASK_INLINE double floor_of(double x)
{
#if defined(__CUDACC__) || defined(__HIPCC__)
    return floor(x);
#else
    return __builtin_floor(x);
#endif
}

ATTN_MASK_INLINE i64 parameter_value(const Parameter &p, i64 tk)
{
    if (p.integer == kMost || (p.value == 0 && p.slope == 0)) return p.integer;
    constexpr double kFar = 4611686018427387904.0; // 2^62
    const double real = p.value + rounded_product(p.slope, static_cast<double>(tk));
    if (!(real < kFar)) return kMost;
    return add(p.integer, static_cast<i64>(floor_of(real < -kFar ? -kFar : real)));
}

ATTN_MASK_INLINE i64 limit_value(Limit limit, i64 first, i64 second, i64 period, i64 tq)
{
    switch (limit) {
    case Limit::least:
        return kLeast;
    case Limit::most:
        return kMost;
    case Limit::minus_one:
        return -1;
    case Limit::first:
        return first;
    case Limit::before_first:
        return first == kMost ? kMost : subtract(first, 1);
    case Limit::minus_first:
        return first == kMost ? kLeast : subtract(0, first);
    case Limit::rows_minus_first:
        return first == kMost ? kLeast : subtract(tq, first);
    case Limit::second:
        return second;
    case Limit::before_second:
        return second == kMost ? kMost : subtract(second, 1);
    case Limit::phase: {
        const i64 rest = second % period;
        return rest == 0 ? 0 : rest < 0 ? -rest : period - rest;
    }
    case Limit::membership:
        return first != 0 ? kLeast : kMost;
    default:
        return 0;
    }
}

/// An atom for a head of `heads` and a sequence of tq queries and tk keys.
ATTN_MASK_INLINE Bound resolve(const Term &term, const Parameter *parameters, i64 heads, i64 head, i64 tq, i64 tk)
{
    const Parameter *row = parameters + term.parameter + head * term.parameter_rows / heads * term.parameter_count;
    const i64 first = term.parameter_count > 0 ? parameter_value(row[0], tk) : 0;
    const i64 second = term.parameter_count > 1 ? parameter_value(row[1], tk) : 0;
    const i64 third = term.parameter_count > 2 ? parameter_value(row[2], tk) : 0;
    Bound bound;
    bound.period = term.x == Value::key_residue ? most_of(first, 1) : 1;
    bound.unit = most_of(term.kind == Kind::power ? first : third, 1);
    bound.low = limit_value(term.low, first, second, bound.period, tq);
    bound.high = limit_value(term.high, first, second, bound.period, tq);
    return bound;
}

/// 0 or a power of two.
ATTN_MASK_INLINE bool is_power(i64 x)
{
    return x >= 0 && (x & (x - 1)) == 0;
}

/// Whether an atom holds of the values that `of(value, pair)` gives.
template <class Values>
ATTN_MASK_INLINE bool holds(const Term &term, const Bound &bound, const Values &values)
{
    const i64 y = values.of(term.y, term.pair);
    if (term.kind == Kind::power)
        return is_power(subtract(floor_divide(y, bound.unit), floor_divide(values.of(term.x, term.pair), bound.unit)));
    const i64 x = term.x == Value::key_residue ? values.of(Value::key_index, 0) / bound.unit % bound.period
                                               : values.of(term.x, term.pair);
    const i64 ahead = subtract(x, y); // a difference beyond 64 bits is within no limit
    return bound.low <= ahead && ahead <= bound.high;
}

ATTN_MASK_INLINE Coverage cover_interval(const Bound &bound, Range x, Range y)
{
    const i64 least = subtract(x.least, y.most), most = subtract(x.most, y.least);
    if (bound.low <= least && most <= bound.high) return Coverage::full;
    return most < bound.low || bound.high < least ? Coverage::skip : Coverage::partial;
}

/// Of residues, from the range of the keys.
ATTN_MASK_INLINE Coverage cover_residue(const Bound &bound, Range keys)
{
    const i64 first = keys.least / bound.unit, steps = keys.most / bound.unit - first;
    const i64 rest = first % bound.period;
    const i64 ahead = bound.low >= rest ? bound.low - rest : bound.period + (bound.low - rest); // to the next member
    if (ahead > steps) return Coverage::skip;
    return bound.period == 1 || steps == 0 ? Coverage::full : Coverage::partial;
}

ATTN_MASK_INLINE Coverage cover_power(const Bound &bound, Range x, Range y)
{
    const i64 least = subtract(floor_divide(y.least, bound.unit), floor_divide(x.most, bound.unit));
    const i64 most = subtract(floor_divide(y.most, bound.unit), floor_divide(x.least, bound.unit));
    if (least >= 0 && (most <= 2 || (least == most && is_power(least)))) return Coverage::full;
    if (most < 0) return Coverage::skip;
    i64 power = 1; // the least one that is not below `least`
    while (power < least && power <= most) power = add(power, power);
    return least > 0 && power > most ? Coverage::skip : Coverage::partial;
}

/// What an atom is where values lie in the ranges that `of(value, pair)` gives, none of them empty.
template <class Ranges>
ATTN_MASK_INLINE Coverage cover(const Term &term, const Bound &bound, const Ranges &ranges)
{
    if (term.x == Value::key_residue) return cover_residue(bound, ranges.of(Value::key_index, 0));
    const Range x = ranges.of(term.x, term.pair), y = ranges.of(term.y, term.pair);
    return term.kind == Kind::power ? cover_power(bound, x, y) : cover_interval(bound, x, y);
}

// What emitted programs are made of: the part of an atom that a row decides, and what is left for each key.

/// A term of which `place` says where its parameters are, and the text of the program the rest.
ATTN_MASK_INLINE Term term_at(const Term &place, Kind kind, Value x, Value y, Limit low, Limit high, i32 pair,
                              i32 parameter_count)
{
    return {kind, x, y, low, high, pair, place.parameter, parameter_count, place.parameter_rows};
}

/// Limits of the index of a key, which fits 32 bits.
struct IndexRange {
    i32 least, most;
};
ATTN_MASK_INLINE i32 narrow(i64 x)
{
    return static_cast<i32>(x < -1 ? -1 : x > 0x7fffffff ? 0x7fffffff : x);
}
ATTN_MASK_INLINE IndexRange index_range(const Bound &bound, i64 y)
{
    const Range limits = limits_of(bound.low, bound.high, y);
    if (limits.least > 0x7fffffff) return {0, -1};
    return {narrow(limits.least), narrow(limits.most)};
}
ATTN_MASK_INLINE bool within(IndexRange range, i64 x)
{
    return static_cast<i32>(x) >= range.least && static_cast<i32>(x) <= range.most;
}
ATTN_MASK_INLINE bool within(Range range, i64 x)
{
    return x >= range.least && x <= range.most;
}

/// Of a power: the units that the row is level with.
struct Level {
    i64 units, unit;
};
ATTN_MASK_INLINE Level level_of(const Bound &bound, i64 y)
{
    return {floor_divide(y, bound.unit), bound.unit};
}
ATTN_MASK_INLINE bool within(const Level &level, i64 x)
{
    return is_power(subtract(level.units, floor_divide(x, level.unit)));
}

/// Of a residue.
struct Residue {
    i64 unit, period, rest;
};
ATTN_MASK_INLINE Residue residue_of(const Bound &bound)
{
    return {bound.unit, bound.period, bound.low};
}
ATTN_MASK_INLINE bool within(const Residue &residue, i64 key)
{
    return key / residue.unit % residue.period == residue.rest;
}

/// A stack of up to 128 bits: what postfix programs need, in registers.
struct Bits {
    u64 top = 0, below = 0;
};
ATTN_MASK_INLINE void push(Bits &bits, bool bit)
{
    bits.below = bits.below << 1 | bits.top >> 63;
    bits.top = bits.top << 1 | (bit ? 1u : 0u);
}
ATTN_MASK_INLINE bool pop(Bits &bits)
{
    const bool bit = (bits.top & 1) != 0;
    bits.top = bits.top >> 1 | bits.below << 63;
    bits.below >>= 1;
    return bit;
}
ATTN_MASK_INLINE void operate(Kind kind, Bits &bits)
{
    const bool b = pop(bits);
    if (kind == Kind::complement) return push(bits, !b);
    const bool a = pop(bits);
    push(bits, kind == Kind::conjunction ? a && b : a || b);
}

ATTN_MASK_INLINE bool is_atom(const Term &term)
{
    return term.kind == Kind::interval || term.kind == Kind::power;
}

/// Whether a program holds of values; `bound(n)` is that of term n.
template <class Bounds, class Values>
ATTN_MASK_INLINE bool evaluate(const Term *terms, i32 count, const Bounds &bound, const Values &values)
{
    Bits bits;
    for (i32 n = 0; n < count; ++n) {
        if (is_atom(terms[n]))
            push(bits, holds(terms[n], bound(n), values));
        else
            operate(terms[n].kind, bits);
    }
    return pop(bits);
}

/// What a program is on a tile: never more than it may be, perhaps `partial` where a closer look would tell.
template <class Bounds, class Ranges>
ATTN_MASK_INLINE Coverage classify(const Term *terms, i32 count, const Bounds &bound, const Ranges &ranges)
{
    Bits some, all; // whether a pair may hold, whether every pair does
    for (i32 n = 0; n < count; ++n) {
        const Kind kind = terms[n].kind;
        if (is_atom(terms[n])) {
            const Coverage coverage = cover(terms[n], bound(n), ranges);
            push(some, coverage != Coverage::skip);
            push(all, coverage == Coverage::full);
        } else if (kind == Kind::complement) {
            const bool may = pop(some), does = pop(all);
            push(some, !does);
            push(all, !may);
        } else {
            operate(kind, some);
            operate(kind, all);
        }
    }
    if (!pop(some)) return Coverage::skip;
    return pop(all) ? Coverage::full : Coverage::partial;
}

} // namespace attn::mask

#endif
