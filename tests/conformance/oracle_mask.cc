// Which keys a query sees, and the entries of bias tables: the parts of the oracle about indices.
#include "oracle.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace conformance {
namespace {

std::int64_t floor_div(std::int64_t a, std::int64_t b)
{
    return a / b - (a % b != 0 && (a % b < 0) != (b < 0));
}
std::int64_t floor_mod(std::int64_t a, std::int64_t b)
{
    return a - floor_div(a, b) * b;
}

// Coordinate of a token along one axis of a row-major grid.
std::int64_t coordinate(const std::vector<std::int64_t> &grid, std::int64_t token, std::size_t axis)
{
    for (std::size_t a = grid.size() - 1; a > axis; --a) token /= grid[a];
    return token % grid[axis];
}

// One axis of neighborhood attention (NATTEN): the tokens of one dilation group form a line; queries of one stride
// group share the window of their leader; the window is shifted, or cut, at the ends of the line.
bool in_grid_window(std::int64_t query, std::int64_t key, std::int64_t extent, std::int64_t kernel,
                    std::int64_t dilation, std::int64_t stride, bool causal, bool truncate)
{
    dilation = std::max<std::int64_t>(dilation, 1), stride = std::max<std::int64_t>(stride, 1);
    const std::int64_t group = query % dilation;
    if (key % dilation != group) return false;
    const std::int64_t length = (extent - group + dilation - 1) / dilation; // of the line
    const std::int64_t i = query / dilation, j = key / dilation;
    if (causal) {
        const std::int64_t leader = std::min(i / stride * stride + stride - 1, length - 1);
        return j <= i && j > leader - kernel;
    }
    const std::int64_t leader = std::min(i / stride * stride + stride / 2, length - 1);
    std::int64_t first = leader - kernel / 2;
    if (!truncate) first = std::max<std::int64_t>(0, std::min(first, length - kernel));
    return j >= first && j < first + kernel;
}

// The parameters of a term for head h: its own, or those of its table, plus what grows with the key length.
std::vector<std::int64_t> parameters(const MaskProgram &program, const attn_term &term, const Sequence &s,
                                     std::int64_t h)
{
    const double tk = static_cast<double>(s.tk);
    std::vector<std::int64_t> p(term.p, term.p + 5);
    if (term.table != 0) {
        const HeadTable &table = program.tables.at(term.table - 1);
        const std::int64_t row = h * table.rows / s.heads_out();
        for (std::int64_t c = 0; c < table.columns; ++c) {
            const std::size_t at = row * table.columns + c;
            const double x = table.values[at] + (table.slopes.empty() ? 0.0 : table.slopes[at] * tk);
            p[c] = std::isinf(x) ? ATTN_UNBOUNDED : static_cast<std::int64_t>(std::floor(x));
        }
    } else if (term.f != 0 && p[0] != ATTN_UNBOUNDED) { // no limit stays none
        p[0] += static_cast<std::int64_t>(std::floor(term.f * tk));
    }
    return p;
}

bool atom(const MaskProgram &program, const attn_term &term, const Sequence &s, attn_align diagonal, std::int64_t h,
          std::int64_t i, std::int64_t j)
{
    const attn_align own = term.flags & 3;
    const attn_align align = own ? own : diagonal;
    const std::vector<std::int64_t> p = parameters(program, term, s, h);
    const auto unit = [](std::int64_t x) { return std::max<std::int64_t>(x, 1); };
    switch (term.op) {
    case ATTN_MASK_CAUSAL:
        return distance(s, align, i, j) <= 0;
    case ATTN_MASK_BAND: {
        const std::int64_t d = distance(s, align, i, j);
        return -d <= p[0] && d <= p[1];
    }
    case ATTN_MASK_PREFIX:
        return j < p[0];
    case ATTN_MASK_FIRST_ROWS:
        return i < p[0];
    case ATTN_MASK_LAST_ROWS:
        return i >= s.tq - p[0];
    case ATTN_MASK_VERTICAL:
        return floor_mod(j / unit(p[2]) + p[1], p[0]) == 0;
    case ATTN_MASK_POW2: {
        const std::int64_t level = diagonal_key(s, align, i), key = level + distance(s, align, i, j);
        const std::int64_t back = floor_div(level, unit(p[0])) - floor_div(key, unit(p[0]));
        return back >= 0 && (back & (back - 1)) == 0;
    }
    case ATTN_MASK_ID_EQ:
        return s.ids_q.at(term.axis)[i] == s.ids_kv.at(term.axis)[j];
    case ATTN_MASK_ID_GE:
        return s.ids_q.at(term.axis)[i] >= s.ids_kv.at(term.axis)[j];
    case ATTN_MASK_ID_GT:
        return s.ids_q.at(term.axis)[i] > s.ids_kv.at(term.axis)[j];
    case ATTN_MASK_ID_Q:
        return s.ids_q.at(term.axis)[i] == p[0];
    case ATTN_MASK_ID_KV:
        return s.ids_kv.at(term.axis)[j] == p[0];
    case ATTN_MASK_GRID_WINDOW: {
        const auto &kv = program.grid_kv.empty() ? program.grid_q : program.grid_kv;
        return in_grid_window(coordinate(program.grid_q, i, term.axis), coordinate(kv, j, term.axis), kv[term.axis],
                              p[0], p[1], p[2], term.flags & ATTN_TERM_AXIS_CAUSAL, term.flags & ATTN_TERM_TRUNCATE);
    }
    case ATTN_MASK_SAME_AXIS: {
        const auto &kv = program.grid_kv.empty() ? program.grid_q : program.grid_kv;
        return coordinate(program.grid_q, i, term.axis) / unit(p[0]) == coordinate(kv, j, term.axis) / unit(p[0]);
    }
    case ATTN_MASK_HEADS:
        return term.table != 0 ? p[0] != 0 : p[0] <= h && h < p[1];
    case ATTN_MASK_TENSOR: {
        const std::vector<std::uint8_t> &mask = s.masks.at(term.axis);
        const std::int64_t rows = s.heads_out() * s.tq, width = rows ? std::int64_t(mask.size()) / rows : 0;
        const std::int64_t column = j - (s.tk - width);
        return column < 0 || mask[(h * s.tq + i) * width + column] != 0;
    }
    default:
        throw std::invalid_argument("unknown mask term");
    }
}

} // namespace

std::int64_t diagonal_key(const Sequence &s, attn_align align, std::int64_t i)
{
    switch (align) {
    case ATTN_TOP_LEFT:
        return i;
    case ATTN_BOTTOM_RIGHT:
        return i + s.tk - s.tq;
    case ATTN_BY_POSITION:
        return s.positions_q[i];
    default:
        throw std::invalid_argument("no diagonal given");
    }
}

std::int64_t distance(const Sequence &s, attn_align align, std::int64_t i, std::int64_t j)
{
    return (align == ATTN_BY_POSITION ? s.positions_kv[j] : j) - diagonal_key(s, align, i);
}

bool in_program(const MaskProgram &program, const Sequence &s, attn_align diagonal, std::int64_t h, std::int64_t i,
                std::int64_t j)
{
    std::vector<bool> stack;
    for (const attn_term &term : program.terms) {
        if (term.op == ATTN_OP_NOT) {
            stack.back() = !stack.back();
        } else if (term.op == ATTN_OP_AND || term.op == ATTN_OP_OR) {
            const bool b = stack.back();
            stack.pop_back();
            const bool a = stack.back();
            stack.back() = term.op == ATTN_OP_AND ? (a && b) : (a || b);
        } else {
            stack.push_back(atom(program, term, s, diagonal, h, i, j));
        }
    }
    if (stack.size() != 1) throw std::invalid_argument("a mask program must leave one set");
    return stack.back();
}

bool visible(const Options &o, const Sequence &s, std::int64_t h, std::int64_t i, std::int64_t j)
{
    if (j < 0 || j >= s.tk) return false;
    if (o.causal != ATTN_ALIGN_NONE && distance(s, o.causal, i, j) > 0) return false;
    if (o.window_left || o.window_right) {
        const std::int64_t d = distance(s, o.diagonal(), i, j);
        const bool in_window = (!o.window_left || -d <= *o.window_left) && (!o.window_right || d <= *o.window_right);
        if (!in_window && j >= o.sink_tokens) return false;
    }
    return !o.mask || in_program(*o.mask, s, o.diagonal(), h, i, j);
}

std::int64_t table_entry(const BiasTable &table, const Sequence &s, attn_align diagonal, std::int64_t i, std::int64_t j)
{
    if (table.kind == ATTN_TABLE_GRID) { // Swin: query minus key, per axis
        std::int64_t entry = 0;
        for (std::size_t a = 0; a < table.grid.size(); ++a) {
            const std::int64_t difference = coordinate(table.grid, i, a) - coordinate(table.grid, j, a);
            entry = entry * (2 * table.grid[a] - 1) + difference + table.grid[a] - 1;
        }
        return entry;
    }
    const std::int64_t d = distance(s, diagonal, i, j);
    if (table.kind == ATTN_TABLE_DISTANCE)
        return std::clamp(d, -table.max_distance, table.max_distance) + table.max_distance;

    // T5: half of the buckets are exact, the others grow logarithmically up to max_distance.
    std::int64_t buckets = table.buckets, entry = 0, back = std::max<std::int64_t>(-d, 0);
    if (table.bidirectional) {
        buckets /= 2;
        if (d > 0) entry = buckets;
        back = std::abs(d);
    }
    const std::int64_t exact = buckets / 2;
    if (back < exact) return entry + back;
    const double ratio = std::log(double(back) / double(exact)) / std::log(double(table.max_distance) / double(exact));
    const auto large = exact + static_cast<std::int64_t>(ratio * double(buckets - exact));
    return entry + std::min(large, buckets - 1);
}

} // namespace conformance
