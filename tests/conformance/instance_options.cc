// The options of table_options.cc in one place: what they contain, their tensors, and how a descriptor asks for them.
#include "instance.h"
#include "mask_text.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace conformance {
namespace {

enum Purpose : std::uint64_t {
    bias = 20,
    slopes,
    table,
    lowrank_q,
    lowrank_k,
    sinks,
    q_temperatures,
    v_temperatures,
    gates,
    head_weights
};

template <class Draw>
std::vector<double> draw(std::int64_t count, attn_dtype dtype, Draw &&next)
{
    std::vector<double> x(count);
    for (double &y : x) y = round_to(dtype, next());
    return x;
}

// [ho, tq, tk]. A row is named by where it lies, so that rows of a broadcast axis are the same.
std::vector<double> draw_bias(const Case &c, std::size_t b, const Sequence &s)
{
    const auto repeats = [&](const char *axis) { return c.bias_broadcast.find(axis) != std::string::npos; };
    const attn_dtype dtype = option_dtype(c, c.bias);
    std::vector<double> x;
    x.reserve(s.heads_out() * s.tq * s.tk);
    for (std::int64_t h = 0; h < s.heads_out(); ++h)
        for (std::int64_t i = 0; i < s.tq; ++i) {
            const std::uint64_t row = repeats("queries") ? 0 : i, head = repeats("heads") ? 0 : h;
            // Packed queries are one axis over all sequences.
            const bool shared = repeats("batch") || (c.q_packed() && repeats("queries"));
            const std::uint64_t sequence = shared ? 0 : b;
            Random random(c.seed, bias, row + (head << 32) + (sequence << 48));
            for (std::int64_t j = 0; j < s.tk; ++j) x.push_back(round_to(dtype, 4 * random.uniform() - 2));
        }
    return x;
}

// As near a square, or a brick, as the number of tokens allows.
std::vector<std::int64_t> grid_of(std::int64_t tokens)
{
    std::int64_t rows = static_cast<std::int64_t>(std::sqrt(static_cast<double>(tokens)));
    while (rows > 1 && tokens % rows != 0) --rows;
    if (rows % 3 == 0) return {3, rows / 3, tokens / rows};
    return {rows, tokens / rows};
}

} // namespace

attn_dtype option_dtype(const Case &c, const std::string &name)
{
    return dtype_of(name == "default" ? c.q_dtype : name);
}

std::uint32_t broadcast_flag(bool packed, int axis)
{
    return std::uint32_t{ATTN_BIND_BROADCAST_AXIS0} << (packed ? axis - 1 : axis);
}

BiasTable bias_table_of(const Case &c)
{
    BiasTable t;
    if (c.table_buckets) t.buckets = c.table_buckets;
    if (c.table_distance) t.max_distance = c.table_distance;
    if (c.bias_table == "distance") {
        t.kind = ATTN_TABLE_DISTANCE;
    } else if (c.bias_table == "bucket" || c.bias_table == "bucket_bi") {
        t.kind = ATTN_TABLE_BUCKET, t.bidirectional = c.bias_table == "bucket_bi";
    } else if (c.bias_table == "grid") {
        const std::int64_t page = c.paged() ? c.page_size : 1;
        t.kind = ATTN_TABLE_GRID;
        t.grid = grid_of(std::max<std::int64_t>({c.max_q, (c.max_kv + page - 1) / page * page, 1}));
    } else {
        throw std::invalid_argument("no bias table called " + c.bias_table);
    }
    return t;
}

std::int64_t entries_of(const BiasTable &t)
{
    if (t.kind == ATTN_TABLE_DISTANCE) return 2 * t.max_distance + 1;
    if (t.kind == ATTN_TABLE_BUCKET) return t.buckets;
    std::int64_t entries = 1;
    for (std::int64_t extent : t.grid) entries *= 2 * extent - 1;
    return entries;
}

attn_gate gate_of(const Case &c)
{
    if (c.gate == "none" || c.gate == "sigmoid") return ATTN_GATE_SIGMOID;
    if (c.gate == "linear") return ATTN_GATE_LINEAR;
    if (c.gate == "silu") return ATTN_GATE_SILU;
    throw std::invalid_argument("no gate called " + c.gate);
}

void draw_options(const Case &c, std::size_t b, Sequence &s)
{
    const std::int64_t ho = s.heads_out();
    const attn_dtype fp32 = ATTN_FLOAT32;
    const auto normal = [](Random &random, double mean, double deviation) {
        return [&random, mean, deviation] { return mean + deviation * random.normal(); };
    };
    if (c.v_aliases_k) {
        s.v.clear();
        for (std::int64_t n = 0; n < s.tk * s.heads_k; ++n)
            s.v.insert(s.v.end(), s.k.begin() + n * s.dim_qk, s.k.begin() + n * s.dim_qk + s.dim_v);
    }
    if (c.bias != "none") s.bias = draw_bias(c, b, s);
    if (c.alibi) { // geometric, as the method has it, or nearly
        Random random(c.seed, slopes);
        std::int64_t h = 0;
        s.alibi_slopes = draw(ho, fp32, [&] { return std::exp2(-8.0 * double(++h) / double(ho)) * random.uniform(); });
    }
    if (c.has_table()) {
        Random random(c.seed, table);
        s.bias_table = draw(entries_of(bias_table_of(c)) * ho, fp32, normal(random, 0, 1.5));
    }
    if (c.bias_rank > 0) {
        Random of_q(c.seed, lowrank_q, b), of_k(c.seed, lowrank_k, b);
        const attn_dtype dtype = dtype_of(c.q_dtype);
        s.lowrank_q = draw(s.tq * ho * c.bias_rank, dtype, normal(of_q, 0, 0.8));
        s.lowrank_k = draw(s.tk * ho * c.bias_rank, dtype, normal(of_k, 0, 0.8));
        if (c.lowrank_broadcast == "heads")
            for (std::size_t n = 0; n < s.lowrank_k.size(); ++n)
                if (std::int64_t(n) / c.bias_rank % ho != 0) s.lowrank_k[n] = s.lowrank_k[n - c.bias_rank];
    }
    if (c.sink_logits) {
        Random random(c.seed, sinks);
        s.sink_logits = draw(ho, fp32, normal(random, 1, 2));
    }
    if (c.q_temperature) { // a few rows know no difference between keys, or prefer the unlike
        Random random(c.seed, q_temperatures, b);
        s.q_temperature = draw(s.tq * s.heads_q, fp32, [&] {
            const double x = std::exp(0.5 * random.normal());
            return random.chance(0.9) ? x : random.chance(0.5) ? 0.0 : -x;
        });
    }
    if (c.v_temperature) {
        Random random(c.seed, v_temperatures, b);
        s.v_temperature = draw(s.tk * s.heads_v, fp32, normal(random, 1, 0.5));
    }
    if (c.gate != "none") {
        Random random(c.seed, gates, b);
        s.gate = draw(s.tq * ho * s.dim_v, option_dtype(c, c.gate_dtype), normal(random, 0, 2));
        if (c.gate_broadcast == "channels")
            for (std::size_t n = 0; n < s.gate.size(); ++n) s.gate[n] = s.gate[n - n % s.dim_v];
    }
    if (c.head_weight) { // zeros alone, and zeros of a whole head
        Random random(c.seed, head_weights, b);
        const std::int64_t off = random.integer(-ho, ho - 1); // this head, or none if negative
        std::int64_t n = 0;
        s.head_weight = draw(s.tq * ho, fp32, [&] {
            const double x = (random.chance(0.8) ? 1 : -1) * (0.25 + 2 * random.uniform());
            return n++ % ho == off || random.chance(0.25) ? 0.0 : x;
        });
    }
}

void set_options(const Case &c, Options &o)
{
    o.bias_stage = c.bias_stage == "pre" ? ATTN_BIAS_PRE_SOFTCAP : ATTN_BIAS_POST_SOFTCAP;
    o.activation = activation_of(c.activation);
    o.activation_bias = c.activation_bias, o.activation_length = c.activation_length;
    o.gate = gate_of(c);
    o.bias_rank = c.bias_rank;
    if (c.has_table()) o.bias_table = bias_table_of(c);
    if (c.has_mask()) o.mask = parse_mask(c.mask);
}

void Descriptor::bind_options(const Case &c)
{
    const auto dtype = [](const std::string &name) { return name == "default" ? attn_dtype{0} : dtype_of(name); };
    const auto repeats = [&](const char *axis) { return c.bias_broadcast.find(axis) != std::string::npos; };
    if (c.bias != "none") {
        std::uint32_t flags = 0;
        if (repeats("batch")) flags |= broadcast_flag(false, 0);
        if (repeats("heads")) flags |= broadcast_flag(c.q_packed(), 1);
        if (repeats("queries")) flags |= broadcast_flag(c.q_packed(), 2);
        bind(ATTN_SLOT_BIAS, dtype(c.bias), flags);
    }
    if (c.alibi) bind(ATTN_SLOT_ALIBI_SLOPES);
    if (c.lowrank_broadcast == "heads") bind(ATTN_SLOT_BIAS_LOWRANK_K, 0, broadcast_flag(c.kv_packed(), 2));
    if (c.sink_logits) bind(ATTN_SLOT_SINK_LOGITS);
    if (c.q_temperature) bind(ATTN_SLOT_Q_TEMPERATURE);
    if (c.v_temperature) bind(ATTN_SLOT_V_TEMPERATURE);
    if (c.gate != "none")
        bind(ATTN_SLOT_GATE, dtype(c.gate_dtype), c.gate_broadcast == "channels" ? broadcast_flag(c.q_packed(), 3) : 0);
    if (c.head_weight) bind(ATTN_SLOT_HEAD_WEIGHT);
    if (c.row_max) bind(ATTN_SLOT_ROW_MAX);
    if (c.row_entropy) bind(ATTN_SLOT_ROW_ENTROPY);
    if (c.column_mass) bind(ATTN_SLOT_COLUMN_MASS);
}

void Descriptor::set_options(const Case &c)
{
    if (c.v_aliases_k) problem.flags |= ATTN_V_ALIASES_K;
    dense.bias_stage = c.bias_stage == "pre" ? ATTN_BIAS_PRE_SOFTCAP : ATTN_BIAS_POST_SOFTCAP;
    dense.activation = activation_of(c.activation);
    dense.activation_bias = c.activation_bias, dense.activation_length = c.activation_length;
    dense.gate = gate_of(c);
    dense.bias_rank = c.bias_rank;
    if (!c.has_table()) return;
    const BiasTable t = bias_table_of(c);
    table_.size = sizeof table_;
    table_.kind = t.kind, table_.bidirectional = t.bidirectional;
    table_.buckets = c.table_buckets, table_.max_distance = c.table_distance;
    std::copy(t.grid.begin(), t.grid.end(), table_.grid);
    dense.bias_table = &table_;
}

void Instance::allocate_options()
{
    const Case &c = spec_;
    const std::int64_t ho = c.heads_out();
    const auto repeats = [&](const char *axis) { return c.bias_broadcast.find(axis) != std::string::npos; };
    const auto extent = [](bool repeated, std::int64_t n) { return repeated ? std::int64_t{1} : n; };
    const auto add = [&](attn_slot slot, attn_dtype dtype, std::vector<std::int64_t> shape) {
        add_input(slot, dtype, std::move(shape), c.option_layout);
    };
    if (c.bias != "none") {
        const std::int64_t heads = extent(repeats("heads"), ho);
        std::vector<std::int64_t> shape{heads, extent(repeats("queries"), q_total_), kv_longest_};
        if (!c.q_packed())
            shape = {extent(repeats("batch"), c.batch), heads, extent(repeats("queries"), q_longest_), kv_longest_};
        add(ATTN_SLOT_BIAS, option_dtype(c, c.bias), shape);
    }
    if (c.alibi) add(ATTN_SLOT_ALIBI_SLOPES, ATTN_FLOAT32, {ho});
    if (c.has_table()) add(ATTN_SLOT_BIAS_TABLE, ATTN_FLOAT32, {entries_of(bias_table_of(c)), ho});
    if (c.bias_rank > 0) {
        const std::int64_t heads_k = extent(c.lowrank_broadcast == "heads", ho);
        add(ATTN_SLOT_BIAS_LOWRANK_Q, dtype_of(c.q_dtype), token_shape(true, {ho, c.bias_rank}));
        add(ATTN_SLOT_BIAS_LOWRANK_K, dtype_of(c.q_dtype), token_shape(false, {heads_k, c.bias_rank}));
    }
    if (c.sink_logits) add(ATTN_SLOT_SINK_LOGITS, ATTN_FLOAT32, {ho});
    if (c.q_temperature) add(ATTN_SLOT_Q_TEMPERATURE, ATTN_FLOAT32, token_shape(true, {c.heads_q}));
    if (c.v_temperature) add(ATTN_SLOT_V_TEMPERATURE, ATTN_FLOAT32, token_shape(false, {c.heads_v}));
    if (c.gate != "none") {
        const std::int64_t channels = extent(c.gate_broadcast == "channels", c.dim_v);
        add(ATTN_SLOT_GATE, option_dtype(c, c.gate_dtype), token_shape(true, {ho, channels}));
    }
    if (c.head_weight) add(ATTN_SLOT_HEAD_WEIGHT, ATTN_FLOAT32, token_shape(true, {ho}));
    allocate_ids();
}

// Elements for which some pair of a query and a key has a use, or all the others.
void Instance::fill_bias(bool hidden, double value)
{
    Tensor &t = input(ATTN_SLOT_BIAS);
    const Options o = oracle_options(spec_);
    const auto each_pair = [&](const auto &visit) {
        for (std::size_t b = 0; b < contents_.size(); ++b) {
            const Sequence &s = contents_[b].used;
            for (std::int64_t h = 0; h < s.heads_out(); ++h)
                for (std::int64_t i = 0; i < s.tq; ++i)
                    for (std::int64_t j = 0; j < s.tk; ++j) {
                        Index at{static_cast<std::int64_t>(b), h, i, j};
                        if (spec_.q_packed()) at = {h, q_start_[b] + i, j, 0};
                        visit(t.folded(at), s, h, i, j);
                    }
        }
    };
    if (hidden) // everything that a pair has a place for, in use or not; then again what is in use
        each_pair(
            [&](const Index &at, const Sequence &, std::int64_t, std::int64_t, std::int64_t) { t.set(at, value); });
    each_pair([&](const Index &at, const Sequence &s, std::int64_t h, std::int64_t i, std::int64_t j) {
        if (visible(o, s, h, i, j)) t.set(at, s.bias[(h * s.tq + i) * s.tk + j]);
    });
}

void Instance::fill_options()
{
    const Case &c = spec_;
    const std::int64_t ho = c.heads_out();
    const auto fill_heads = [&](attn_slot slot, std::vector<double> Sequence::*of) { // [n, ho] or [ho]
        Tensor &t = input(slot);
        for (const Content &content : contents_) {
            const std::vector<double> &x = content.used.*of;
            for (std::int64_t n = 0; n < std::int64_t(x.size()); ++n)
                t.set(t.shape().size() == 2 ? Index{n / ho, n % ho, 0, 0} : Index{n, 0, 0, 0}, x[n]);
        }
    };
    if (c.bias != "none") fill_bias(false, 0);
    if (c.alibi) fill_heads(ATTN_SLOT_ALIBI_SLOPES, &Sequence::alibi_slopes);
    if (c.has_table()) fill_heads(ATTN_SLOT_BIAS_TABLE, &Sequence::bias_table);
    if (c.bias_rank > 0) {
        fill_tokens(ATTN_SLOT_BIAS_LOWRANK_Q, true, ho, c.bias_rank, &Sequence::lowrank_q);
        fill_tokens(ATTN_SLOT_BIAS_LOWRANK_K, false, ho, c.bias_rank, &Sequence::lowrank_k);
    }
    if (c.sink_logits) fill_heads(ATTN_SLOT_SINK_LOGITS, &Sequence::sink_logits);
    if (c.q_temperature) fill_tokens(ATTN_SLOT_Q_TEMPERATURE, true, c.heads_q, 1, &Sequence::q_temperature);
    if (c.v_temperature) fill_tokens(ATTN_SLOT_V_TEMPERATURE, false, c.heads_v, 1, &Sequence::v_temperature);
    if (c.gate != "none") fill_tokens(ATTN_SLOT_GATE, true, ho, c.dim_v, &Sequence::gate);
    if (c.head_weight) fill_tokens(ATTN_SLOT_HEAD_WEIGHT, true, ho, 1, &Sequence::head_weight);
    fill_ids();
}

} // namespace conformance
