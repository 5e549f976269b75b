#include "axis.h"

namespace conformance {
namespace {

std::vector<AxisShape> shapes(const std::vector<Axis> &axes)
{
    std::vector<AxisShape> shapes;
    for (const Axis &axis : axes) {
        AxisShape shape{axis.name, {}, {}};
        for (const Value &value : axis.values)
            shape.values.push_back(value.label), shape.hollow.push_back(value.hollow);
        shapes.push_back(shape);
    }
    return shapes;
}

Case case_of(const std::vector<Axis> &axes, const std::vector<int> &row, std::uint64_t seed)
{
    Case c;
    c.seed = seed;
    for (std::size_t x = 0; x < row.size(); ++x) axes[x].values[row[x]].apply(c);
    return c;
}

} // namespace

Value dims(std::int64_t qk, std::int64_t v)
{
    return {std::to_string(qk) + "/" + std::to_string(v), [=](Case &c) { c.dim_qk = qk, c.dim_v = v; }};
}

Value heads(std::int64_t q, std::int64_t k, std::int64_t v)
{
    return {std::to_string(q) + "/" + std::to_string(k) + "/" + std::to_string(v),
            [=](Case &c) { c.heads_q = q, c.heads_k = k, c.heads_v = v; }};
}

Value one_dtype(const std::string &name)
{
    return {name, [=](Case &c) { c.q_dtype = c.k_dtype = c.v_dtype = c.out_dtype = name; }};
}

Value lengths(const char *mode, std::int64_t page_size)
{
    std::string label = mode;
    if (page_size) label.append(1, ':').append(std::to_string(page_size));
    return {label, [=](Case &c) {
                c.kv_lengths = mode;
                if (page_size) c.page_size = page_size;
            }};
}

Value diagonal(const char *label, const char *causal, const char *align)
{
    return {label, [=](Case &c) { c.causal = causal, c.align = align; }};
}

Value window(const char *label, std::int64_t left, std::int64_t right)
{
    return {label, [=](Case &c) { c.window_left = left, c.window_right = right; }};
}

Value layout(const std::string &name)
{
    return {name, [=](Case &c) { c.q_layout = c.kv_layout = c.out_layout = name; }};
}

Value mask(const char *label, const char *causal, const char *align, std::int64_t left, std::int64_t right,
           std::int64_t sink_tokens)
{
    return {label, [=](Case &c) {
                c.causal = causal, c.align = align;
                c.window_left = left, c.window_right = right, c.sink_tokens = sink_tokens;
            }};
}

Value activation(const char *label, const char *name, double bias, std::int64_t length)
{
    return {label, [=](Case &c) { c.activation = name, c.activation_bias = bias, c.activation_length = length; }};
}

TableCases cover(const std::vector<Axis> &axes, const std::vector<Exclusion> &exclusions, std::uint64_t seed)
{
    const CoveringArray array = cover_pairs(shapes(axes), exclusions, seed);
    TableCases table{{}, array.pairs_possible, array.pairs_covered, array.missing};
    Random random(seed, 8);
    for (const auto &row : array.rows) table.cases.push_back(case_of(axes, row, random.next()));
    return table;
}

Case random_of(const std::vector<Axis> &axes, const std::vector<Exclusion> &exclusions, Random &random)
{
    const std::uint64_t seed = random.next(), row = random.next();
    return case_of(axes, random_row(shapes(axes), exclusions, row), seed);
}

} // namespace conformance
