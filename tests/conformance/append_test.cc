// Append plans against loops in fp64: where every new row goes, what happens to its channels, and that no other byte of
// a cache changes.
#include "property.h"
#include "tensor.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <sstream>

namespace conformance {
namespace {

constexpr attn_dtype kFloats[] = {ATTN_FLOAT32, ATTN_FLOAT16, ATTN_BFLOAT16};

// What a call is like. The contents follow from the seed.
struct Spec {
    std::uint64_t seed = 0;
    std::int64_t workers = 1;
    std::int64_t batch = 1, most_new = 1, heads_q = 1, heads_k = 1, heads_v = 1, dim_qk = 8, dim_v = 8;
    attn_dtype q = ATTN_FLOAT32, out = ATTN_FLOAT32;
    attn_dtype k = ATTN_FLOAT32, k_cache = ATTN_FLOAT32, v = ATTN_FLOAT32, v_cache = ATTN_FLOAT32;
    bool write_k = true, write_v = true, write_q = false;
    bool packed = false, seqlens_q = false, seqlens_kv = false, mapped = false;
    std::int64_t page_size = 0; // 0: contiguous
    bool flat_table = false;
    std::int64_t ring = 0, sinks = 0;
    bool rope = false, interleaved = false, table = false, positions = false;
    std::int64_t rope_dim = 0, rope_first = 0;
    double base = 0;
    attn_dtype index = ATTN_INT32;
    std::string in_layout = "bshd", cache_layout = "bshd", index_layout = "bshd";

    std::int64_t rotated() const { return rope_dim ? rope_dim : dim_qk; }
    bool caches() const { return write_k || write_v; }
};

std::string text_of(const Spec &s)
{
    std::ostringstream o;
    o << "seed " << s.seed << " workers " << s.workers << " batch " << s.batch << " new " << s.most_new << " heads "
      << s.heads_q << '/' << s.heads_k << '/' << s.heads_v << " dims " << s.dim_qk << '/' << s.dim_v << " q "
      << dtype_name(s.q) << '>' << dtype_name(s.out) << " k " << dtype_name(s.k) << '>' << dtype_name(s.k_cache)
      << " v " << dtype_name(s.v) << '>' << dtype_name(s.v_cache) << " writes " << (s.write_k ? "k" : "")
      << (s.write_v ? "v" : "") << (s.write_q ? "q" : "") << (s.packed ? " packed" : "")
      << (s.seqlens_q ? " seqlens_q" : "") << (s.seqlens_kv ? " seqlens_kv" : "") << (s.mapped ? " mapped" : "")
      << " page " << s.page_size << (s.flat_table ? " flat" : "") << " ring " << s.ring << '-' << s.sinks;
    if (s.rope)
        o << " rope " << (s.interleaved ? "interleaved " : "half ") << s.rope_first << '+' << s.rope_dim
          << (s.table ? " table" : "") << (s.positions ? " positions" : "") << " base " << s.base;
    o << ' ' << dtype_name(s.index) << ' ' << s.in_layout << ' ' << s.cache_layout << ' ' << s.index_layout;
    return o.str();
}

// A call with its tensors, drawn from the seed of its spec.
class Call {
public:
    explicit Call(const Spec &spec) : s(spec), random_(spec.seed, 7)
    {
        draw_lengths();
        draw_places();
        draw_rows();
        describe();
    }

    struct Sequence {
        std::int64_t first = 0, reserved = 0, used = 0, start = 0;
    };

    attn_status plan(attn_handle handle, PlanPointer &out)
    {
        attn_plan made = nullptr;
        const attn_status status = attn_plan_append(handle, &append, &made);
        out.reset(made);
        return status;
    }
    attn_status execute(attn_plan plan)
    {
        std::vector<attn_tensor> views;
        std::vector<attn_arg> args;
        views.reserve(tensors.size());
        for (auto &[slot, tensor] : tensors) {
            views.push_back(tensor.view());
            args.push_back({slot, 0, &views.back()});
        }
        return attn_execute(plan, args.data(), args.size(), nullptr, 0, nullptr);
    }
    void run(const Backend &backend)
    {
        PlanPointer made;
        ASSERT_EQ(plan(backend.handle(s.workers), made), ATTN_OK) << attn_last_error();
        std::size_t bytes = 1;
        EXPECT_EQ(attn_plan_workspace(made.get(), &bytes, nullptr), ATTN_OK);
        EXPECT_EQ(bytes, 0u);
        for (auto &[slot, tensor] : tensors)
            if (slot == ATTN_SLOT_K_CACHE || slot == ATTN_SLOT_V_CACHE || slot == ATTN_SLOT_OUT) tensor.poison();
        ASSERT_EQ(execute(made.get()), ATTN_OK) << attn_last_error();
        check();
    }

    // Compares caches and OUT with the loops of the contract.
    void check()
    {
        std::map<std::pair<std::int64_t, std::int64_t>, std::pair<std::size_t, std::int64_t>> last;
        for (std::size_t b = 0; b < sequences.size(); ++b)
            for (std::int64_t t = 0; t < sequences[b].used; ++t) {
                std::int64_t outer = 0, row = 0;
                if (s.caches() && place(b, t, outer, row)) last[{outer, row}] = {b, t};
                if (!s.write_q) continue;
                const Sequence &sequence = sequences[b];
                compare_row(ATTN_SLOT_Q, b, t, ATTN_SLOT_OUT, std::int64_t(b), sequence.first + t, s.heads_q, s.dim_qk,
                            s.packed, s.rope);
            }
        for (const auto &[to, from] : last) {
            if (s.write_k)
                compare_row(ATTN_SLOT_K, from.first, from.second, ATTN_SLOT_K_CACHE, to.first, to.second, s.heads_k,
                            s.dim_qk, false, s.rope);
            if (s.write_v)
                compare_row(ATTN_SLOT_V, from.first, from.second, ATTN_SLOT_V_CACHE, to.first, to.second, s.heads_v,
                            s.dim_v, false, false);
        }
        for (attn_slot slot : {ATTN_SLOT_K_CACHE, ATTN_SLOT_V_CACHE, ATTN_SLOT_OUT})
            if (tensors.count(slot)) {
                EXPECT_FALSE(tensors.at(slot).wrote_elsewhere()) << "slot " << slot;
            }
    }

    // The cache row of new row t of sequence b; false if it has none.
    bool place(std::size_t b, std::int64_t t, std::int64_t &outer, std::int64_t &row) const
    {
        if (s.mapped) {
            const auto at =
                static_cast<std::int64_t>(tensors.at(ATTN_SLOT_SLOT_MAPPING).get(token(b, sequences[b].first + t)));
            if (at < 0) return false;
            outer = s.page_size ? at / s.page_size : std::int64_t(b), row = s.page_size ? at % s.page_size : at;
            return true;
        }
        row = sequences[b].start + t;
        if (s.ring && row >= s.sinks) row = s.sinks + (row - s.sinks) % (s.ring - s.sinks);
        outer = std::int64_t(b);
        if (!s.page_size) return true;
        outer = pages[b][std::size_t(row / s.page_size)], row %= s.page_size;
        return true;
    }

    Spec s;
    std::vector<Sequence> sequences;
    std::vector<std::vector<std::int64_t>> pages; // by sequence
    std::map<attn_slot, Tensor> tensors;
    std::vector<attn_bind> binds;
    attn_rope rope{};
    attn_problem problem{};
    attn_append append{};

private:
    Index token(std::size_t b, std::int64_t row) const { return s.packed ? Index{row} : Index{std::int64_t(b), row}; }

    void draw_lengths()
    {
        sequences.resize(std::size_t(s.batch));
        tq_ = s.most_new;
        std::int64_t end = s.packed ? random_.integer(0, 2) : 0;
        for (Sequence &sequence : sequences) {
            sequence.reserved = s.packed ? random_.integer(0, s.most_new) : tq_;
            sequence.used = s.seqlens_q ? random_.integer(0, sequence.reserved) : sequence.reserved;
            if (s.packed) sequence.first = end, end += sequence.reserved;
            if (s.seqlens_kv) sequence.start = random_.integer(0, 2 * s.most_new + 5);
            longest_ = std::max(longest_, sequence.start + sequence.used);
        }
        total_ = end + random_.integer(0, 2);
        max_kv_ = std::max<std::int64_t>({longest_, s.ring, 1});
        if (s.ring) max_kv_ = s.ring;
        max_kv_ += random_.integer(0, 3);
    }

    Tensor &integers(attn_slot slot, attn_dtype dtype, std::vector<std::int64_t> shape)
    {
        return tensors[slot] = Tensor(dtype, std::move(shape), s.index_layout);
    }

    void draw_places()
    {
        if (s.packed) {
            Tensor &cu = integers(ATTN_SLOT_CU_SEQLENS_Q, s.index, {s.batch + 1});
            for (std::int64_t b = 0; b < s.batch; ++b) cu.set({b}, double(sequences[std::size_t(b)].first));
            const Sequence end = sequences.empty() ? Sequence{} : sequences.back();
            cu.set({s.batch}, double(end.first + end.reserved));
        }
        if (s.seqlens_q) {
            Tensor &lengths = integers(ATTN_SLOT_SEQLENS_Q, s.index, {s.batch});
            for (std::int64_t b = 0; b < s.batch; ++b) lengths.set({b}, double(sequences[std::size_t(b)].used));
        }
        if (s.seqlens_kv) {
            Tensor &lengths = integers(ATTN_SLOT_SEQLENS_KV, s.index, {s.batch});
            for (std::int64_t b = 0; b < s.batch; ++b)
                lengths.set({b}, double(sequences[std::size_t(b)].start + sequences[std::size_t(b)].used));
        }
        const std::vector<std::int64_t> rows = s.packed ? std::vector{total_} : std::vector{s.batch, tq_};
        if (s.page_size) draw_pages();
        if (s.mapped) {
            Tensor &mapping = integers(ATTN_SLOT_SLOT_MAPPING, ATTN_INT64, rows);
            const std::int64_t room = s.page_size ? pool_ * s.page_size : max_kv_;
            for (std::size_t b = 0; b < sequences.size(); ++b)
                for (std::int64_t t = 0; t < sequences[b].used; ++t)
                    mapping.set(token(b, sequences[b].first + t),
                                random_.chance(0.2) ? -1.0 : double(random_.integer(0, room - 1)));
        }
        if (s.positions) {
            Tensor &positions = integers(ATTN_SLOT_POSITIONS_Q, s.index, rows);
            for (std::size_t b = 0; b < sequences.size(); ++b)
                for (std::int64_t t = 0; t < sequences[b].used; ++t)
                    positions.set(token(b, sequences[b].first + t),
                                  double(random_.integer(s.table ? 0 : -70, s.table ? table_rows() - 1 : 40000)));
        }
        if (s.table) {
            Tensor &cosines = tensors[ATTN_SLOT_ROPE_COS] =
                Tensor(ATTN_FLOAT32, {table_rows(), s.rotated() / 2}, s.index_layout);
            Tensor &sines = tensors[ATTN_SLOT_ROPE_SIN] = Tensor(ATTN_FLOAT32, {table_rows(), s.rotated() / 2});
            for (std::int64_t p = 0; p < table_rows(); ++p)
                for (std::int64_t c = 0; c < s.rotated() / 2; ++c) {
                    const double angle = 7 * random_.uniform();
                    cosines.set({p, c}, std::cos(angle)), sines.set({p, c}, std::sin(angle));
                }
        }
    }

    std::int64_t table_rows() const { return std::max<std::int64_t>(longest_, 1) + 2; }

    void draw_pages()
    {
        std::int64_t columns = 0, total = 0;
        pages.resize(sequences.size());
        for (std::size_t b = 0; b < sequences.size(); ++b) {
            std::int64_t rows = sequences[b].start + sequences[b].used;
            if (s.ring) rows = std::min(rows, s.ring);
            pages[b].resize(std::size_t((rows + s.page_size - 1) / s.page_size));
            total += std::int64_t(pages[b].size()), columns = std::max(columns, std::int64_t(pages[b].size()));
        }
        pool_ = total + random_.integer(1, 3);
        std::vector<std::int64_t> all(static_cast<std::size_t>(pool_));
        std::iota(all.begin(), all.end(), 0);
        for (std::size_t n = all.size(); n > 1; --n)
            std::swap(all[n - 1], all[std::size_t(random_.integer(0, std::int64_t(n) - 1))]);
        for (auto &list : pages)
            for (std::int64_t &page : list) page = all.back(), all.pop_back();
        if (s.mapped) return;
        // Entries of pages that no new row reaches keep their poison.
        const auto reached = [&](std::size_t b, std::int64_t i) {
            for (std::int64_t t = 0; t < sequences[b].used; ++t) {
                std::int64_t row = sequences[b].start + t;
                if (s.ring && row >= s.sinks) row = s.sinks + (row - s.sinks) % (s.ring - s.sinks);
                if (row / s.page_size == i) return true;
            }
            return false;
        };
        if (s.flat_table) {
            Tensor &table = integers(ATTN_SLOT_BLOCK_TABLE, s.index, {total + 2});
            Tensor &starts = integers(ATTN_SLOT_BLOCK_TABLE_PTR, s.index, {s.batch + 1});
            std::int64_t at = 1;
            for (std::size_t b = 0; b < pages.size(); ++b) {
                starts.set({std::int64_t(b)}, double(at));
                for (std::size_t i = 0; i < pages[b].size(); ++i, ++at)
                    if (reached(b, std::int64_t(i))) table.set({at}, double(pages[b][i]));
            }
            starts.set({s.batch}, double(at));
            return;
        }
        Tensor &table = integers(ATTN_SLOT_BLOCK_TABLE, s.index, {s.batch, columns + random_.integer(0, 1)});
        for (std::size_t b = 0; b < pages.size(); ++b)
            for (std::size_t i = 0; i < pages[b].size(); ++i)
                if (reached(b, std::int64_t(i))) table.set({std::int64_t(b), std::int64_t(i)}, double(pages[b][i]));
    }

    void draw_rows()
    {
        const auto rows = [&](attn_slot slot, attn_dtype dtype, std::int64_t heads, std::int64_t channels,
                              const std::string &layout) -> Tensor & {
            return tensors[slot] = Tensor(dtype,
                                          s.packed ? std::vector{total_, heads, channels}
                                                   : std::vector{s.batch, tq_, heads, channels},
                                          layout);
        };
        const auto cache = [&](attn_slot slot, attn_dtype dtype, std::int64_t more, std::int64_t heads,
                               std::int64_t channels) {
            tensors[slot] = Tensor(dtype,
                                   s.page_size ? std::vector{pool_ + more, s.page_size, heads, channels}
                                               : std::vector{s.batch, max_kv_, heads, channels},
                                   s.cache_layout);
        };
        const auto fill = [&](Tensor &x, std::int64_t heads, std::int64_t channels) {
            for (std::size_t b = 0; b < sequences.size(); ++b)
                for (std::int64_t t = 0; t < sequences[b].used; ++t)
                    for (std::int64_t h = 0; h < heads; ++h)
                        for (std::int64_t c = 0; c < channels; ++c)
                            x.set(element(b, sequences[b].first + t, h, c, s.packed), random_.normal());
        };
        if (s.write_k) {
            fill(rows(ATTN_SLOT_K, s.k, s.heads_k, s.dim_qk, s.in_layout), s.heads_k, s.dim_qk);
            cache(ATTN_SLOT_K_CACHE, s.k_cache, 0, s.heads_k, s.dim_qk);
        }
        if (s.write_v) {
            fill(rows(ATTN_SLOT_V, s.v, s.heads_v, s.dim_v, s.in_layout), s.heads_v, s.dim_v);
            cache(ATTN_SLOT_V_CACHE, s.v_cache, 1, s.heads_v, s.dim_v);
        }
        if (s.write_q) {
            fill(rows(ATTN_SLOT_Q, s.q, s.heads_q, s.dim_qk, s.in_layout), s.heads_q, s.dim_qk);
            rows(ATTN_SLOT_OUT, s.out, s.heads_q, s.dim_qk, s.cache_layout);
        }
    }

    static Index element(std::size_t b, std::int64_t row, std::int64_t h, std::int64_t c, bool packed)
    {
        return packed ? Index{row, h, c} : Index{std::int64_t(b), row, h, c};
    }

    void describe()
    {
        const auto bind = [&](attn_slot slot, attn_dtype dtype = 0, std::uint32_t flags = 0) {
            attn_bind b{};
            b.slot = slot, b.dtype = dtype, b.flags = flags;
            binds.push_back(b);
        };
        if (!s.write_k) bind(ATTN_SLOT_K, 0, ATTN_BIND_ABSENT);
        if (!s.write_v) bind(ATTN_SLOT_V_CACHE, 0, ATTN_BIND_ABSENT);
        if (s.write_k && s.k != s.k_cache) bind(ATTN_SLOT_K, s.k);
        if (s.write_v && s.v != s.v_cache) bind(ATTN_SLOT_V, s.v);
        if (s.write_q) bind(ATTN_SLOT_Q), bind(ATTN_SLOT_OUT);
        for (attn_slot slot : {ATTN_SLOT_CU_SEQLENS_Q, ATTN_SLOT_SEQLENS_Q, ATTN_SLOT_SEQLENS_KV, ATTN_SLOT_BLOCK_TABLE,
                               ATTN_SLOT_BLOCK_TABLE_PTR, ATTN_SLOT_POSITIONS_Q})
            if (tensors.count(slot)) bind(slot, s.index);
        if (s.mapped) bind(ATTN_SLOT_SLOT_MAPPING);
        problem.size = sizeof problem;
        problem.binds = binds.data(), problem.bind_count = binds.size();
        problem.q_dtype = s.q, problem.k_dtype = s.k_cache, problem.v_dtype = s.v_cache;
        if (s.write_q) problem.out_dtype = s.out;
        problem.batch = std::max<std::int64_t>(s.batch, 1);
        problem.heads_q = s.heads_q, problem.heads_k = s.heads_k, problem.heads_v = s.heads_v;
        problem.dim_qk = s.dim_qk, problem.dim_v = s.dim_v;
        problem.max_q = std::max<std::int64_t>(s.most_new, 1), problem.max_kv = max_kv_;
        if (s.packed) problem.total_q = std::max<std::int64_t>(total_, 1);
        if (s.caches()) problem.page_size = s.page_size;
        rope.size = sizeof rope;
        rope.layout = s.interleaved ? ATTN_ROPE_INTERLEAVED : ATTN_ROPE_HALF;
        rope.source = s.table ? ATTN_ROPE_TABLE : ATTN_ROPE_BASE;
        rope.dim = s.rope_dim, rope.first = s.rope_first, rope.base = s.base;
        append.size = sizeof append;
        append.problem = &problem;
        append.rope = s.rope ? &rope : nullptr;
        append.ring_rows = s.ring, append.sink_tokens = s.sinks;
    }

    // The channels of one head of a new row, rotated in fp64 where asked.
    std::vector<double> row_of(attn_slot slot, std::size_t b, std::int64_t t, std::int64_t h, std::int64_t channels,
                               bool rotate) const
    {
        const std::int64_t row = sequences[b].first + t;
        std::vector<double> x(static_cast<std::size_t>(channels));
        for (std::int64_t c = 0; c < channels; ++c)
            x[std::size_t(c)] = tensors.at(slot).get(element(b, row, h, c, s.packed));
        if (!rotate) return x;
        const double position =
            s.positions ? tensors.at(ATTN_SLOT_POSITIONS_Q).get(token(b, row)) : double(sequences[b].start + t);
        const std::int64_t dim = s.rotated();
        for (std::int64_t c = 0; c < dim / 2; ++c) {
            const double angle = position * std::pow(s.base != 0 ? s.base : 10000.0, -2.0 * double(c) / double(dim));
            double cosine = std::cos(angle), sine = std::sin(angle);
            if (s.table) {
                cosine = tensors.at(ATTN_SLOT_ROPE_COS).get({std::int64_t(position), c});
                sine = tensors.at(ATTN_SLOT_ROPE_SIN).get({std::int64_t(position), c});
            }
            double &a = x[std::size_t(s.rope_first + (s.interleaved ? 2 * c : c))];
            double &z = x[std::size_t(s.rope_first + (s.interleaved ? 2 * c + 1 : c + dim / 2))];
            const double turned = a * cosine - z * sine;
            z = z * cosine + a * sine;
            a = turned;
        }
        return x;
    }

    void compare_row(attn_slot from, std::size_t b, std::int64_t t, attn_slot to, std::int64_t outer, std::int64_t row,
                     std::int64_t heads, std::int64_t channels, bool packed, bool rotate)
    {
        Tensor &result = tensors.at(to);
        const double tolerated = result.dtype() == ATTN_FLOAT32 ? 1e-6 : result.dtype() == ATTN_FLOAT16 ? 6e-4 : 4e-3;
        for (std::int64_t h = 0; h < heads; ++h) {
            const std::vector<double> expected = row_of(from, b, t, h, channels, rotate);
            double error = 0, norm = 0;
            for (std::int64_t c = 0; c < channels; ++c) {
                const Index at = element(std::size_t(outer), row, h, c, packed);
                const double got = result.get(at), wanted = expected[std::size_t(c)];
                result.expect_write(at);
                const bool turned = rotate && c >= s.rope_first && c < s.rope_first + s.rotated();
                if (!turned) { // converted: the nearest number of the format
                    EXPECT_EQ(got, round_to(result.dtype(), wanted))
                        << "sequence " << b << " row " << t << " channel " << c;
                } else {
                    error += (got - wanted) * (got - wanted), norm += wanted * wanted;
                }
            }
            EXPECT_FALSE(std::isnan(error)) << "sequence " << b << " row " << t;
            EXPECT_LE(std::sqrt(error), tolerated * std::sqrt(norm))
                << "slot " << to << " sequence " << b << " row " << t << " head " << h;
        }
    }

    Random random_;
    std::int64_t tq_ = 0, total_ = 0, longest_ = 0, max_kv_ = 0, pool_ = 0;
};

Spec random_spec(std::uint64_t seed)
{
    Random r(seed, 3);
    Spec s;
    s.seed = seed;
    const auto pick_float = [&] { return kFloats[r.integer(0, 2)]; };
    s.workers = r.integer(1, 3);
    s.batch = r.chance(0.05) ? 0 : r.integer(1, 4);
    s.most_new = r.chance(0.05) ? 0 : r.chance(0.3) ? 1 : r.integer(1, 40);
    s.heads_k = r.integer(1, 3);
    s.heads_v = r.chance(0.7) ? s.heads_k : s.heads_k * r.integer(1, 2);
    s.heads_q = s.heads_v * r.integer(1, 2);
    s.dim_qk = r.chance(0.1) ? 2 * r.integer(257, 330) : 2 * r.integer(1, 40);
    s.dim_v = r.integer(1, 70);
    s.k_cache = pick_float(), s.v_cache = pick_float(), s.q = pick_float(), s.out = pick_float();
    s.k = r.chance(0.5) ? s.k_cache : pick_float(), s.v = r.chance(0.5) ? s.v_cache : pick_float();
    s.write_q = r.chance(0.5);
    if (r.chance(0.2)) s.write_k = false;
    if (r.chance(0.2)) s.write_v = false;
    if (!s.caches()) s.write_q = true;
    s.packed = r.chance(0.3), s.seqlens_q = r.chance(0.4);
    s.seqlens_kv = r.chance(0.6);
    if (s.caches()) {
        if (r.chance(0.5)) s.page_size = r.integer(1, 20);
        s.mapped = r.chance(0.25);
        s.flat_table = s.page_size && !s.mapped && r.chance(0.4);
        if (!s.mapped && r.chance(0.3))
            s.ring = r.integer(1, 24), s.sinks = r.integer(0, std::min<std::int64_t>(s.ring - 1, 5));
    }
    s.rope = (s.write_k || s.write_q) && r.chance(0.7);
    if (s.rope) {
        s.interleaved = r.chance(0.5), s.table = r.chance(0.4), s.positions = s.mapped || r.chance(0.4);
        if (r.chance(0.5)) {
            s.rope_dim = 2 * r.integer(1, s.dim_qk / 2);
            s.rope_first = r.integer(0, s.dim_qk - s.rope_dim);
        }
        if (!s.table && r.chance(0.5)) s.base = r.chance(0.5) ? 500000 : 1 + 100 * r.uniform();
    }
    if (s.mapped || (!s.caches() && (!s.rope || s.positions))) s.seqlens_kv = false;
    // Without lengths a row is its own number, so the cache of a ring still holds everything.
    s.index = r.chance(0.5) ? ATTN_INT64 : ATTN_INT32;
    const char *layouts[] = {"bshd", "bhsd", "gaps", "reversed", "strided", "repeated"};
    s.in_layout = layouts[r.integer(0, 5)], s.cache_layout = layouts[r.integer(0, 4)];
    const char *index_layouts[] = {"bshd", "gaps", "strided", "reversed"};
    s.index_layout = index_layouts[r.integer(0, 3)];
    return s;
}

TEST(Append, RandomCallsAgreeWithTheLoops)
{
    Random seeds(session().seed, 900);
    for (std::int64_t n = 0; n < session().random_cases; ++n) {
        const Spec spec = random_spec(seeds.next());
        SCOPED_TRACE(text_of(spec));
        for_each_backend([&](const Backend &backend) { Call(spec).run(backend); });
        if (testing::Test::HasFailure()) return; // the first is enough
    }
}

TEST(Append, EveryPairOfDtypesConverts)
{
    std::uint64_t seed = Random(session().seed, 901).next();
    for (attn_dtype from : kFloats)
        for (attn_dtype to : kFloats)
            for (bool rope : {false, true})
                for (const char *layout : {"bshd", "strided"}) {
                    Spec s;
                    s.seed = ++seed, s.batch = 2, s.most_new = 5, s.heads_q = s.heads_k = s.heads_v = 2, s.dim_qk = 38;
                    s.dim_v = 300, s.k = from, s.v = to, s.q = from, s.k_cache = to, s.v_cache = from, s.out = to;
                    s.write_q = s.rope = rope, s.in_layout = s.cache_layout = layout;
                    SCOPED_TRACE(text_of(s));
                    for_each_backend([&](const Backend &backend) { Call(s).run(backend); });
                }
}

// Numbers that rounding treats specially: ties, subnormals, overflow, infinities, NaN; and NaNs copied bit by bit.
TEST(Append, ConversionsRoundLikeTheFormats)
{
    const double numbers[] = {
        0.0,      -0.0,      1 + 0x1p-11, 1 + 3 * 0x1p-11,   1 + 0x1p-8, 65519.0, 65520.0,  -70000.0,
        0x1p-24,  0x1p-25,   0x1.8p-25,   0x1p-14 - 0x1p-25, 3.3e38,     -1e-40,  0x1p-133, 0x1.fffffep127,
        INFINITY, -INFINITY, NAN,         0x1.ffcp15,        0x1.ffep15, 1e-7,    6.1e-5,   0.1};
    const std::int64_t count = std::size(numbers);
    for (attn_dtype from : kFloats)
        for (attn_dtype to : kFloats)
            for_each_backend([&](const Backend &backend) {
                Spec s;
                s.dim_qk = s.dim_v = count + count % 2, s.k = s.v = from, s.k_cache = s.v_cache = to;
                Call call(s);
                for (attn_slot slot : {ATTN_SLOT_K, ATTN_SLOT_V})
                    for (std::int64_t c = 0; c < count; ++c) call.tensors.at(slot).set({0, 0, 0, c}, numbers[c]);
                PlanPointer plan;
                ASSERT_EQ(call.plan(backend.handle(1), plan), ATTN_OK) << attn_last_error();
                ASSERT_EQ(call.execute(plan.get()), ATTN_OK) << attn_last_error();
                for (std::int64_t c = 0; c < count; ++c) {
                    const double x = call.tensors.at(ATTN_SLOT_K).get({0, 0, 0, c});
                    const double got = call.tensors.at(ATTN_SLOT_K_CACHE).get({0, 0, 0, c}), wanted = round_to(to, x);
                    if (std::isnan(wanted)) {
                        EXPECT_TRUE(std::isnan(got)) << x;
                    } else {
                        EXPECT_EQ(got, wanted) << x << ' ' << dtype_name(from) << " to " << dtype_name(to);
                        EXPECT_EQ(std::signbit(got), std::signbit(wanted)) << x;
                    }
                }
            });
    Spec s; // rows of poison: a NaN with payload
    s.most_new = 3, s.seqlens_q = false;
    Call call(s);
    call.tensors.at(ATTN_SLOT_K).poison();
    PlanPointer plan;
    ASSERT_EQ(call.plan(backends()[0]->handle(1), plan), ATTN_OK);
    ASSERT_EQ(call.execute(plan.get()), ATTN_OK) << attn_last_error();
    EXPECT_FALSE(call.tensors.at(ATTN_SLOT_K_CACHE).wrote_elsewhere());
}

// Rows carry their own number, so that the cache shows who went where.
std::vector<double> ring_after(const Backend &backend, std::int64_t ring, std::int64_t sinks,
                               const std::vector<std::int64_t> &chunks, std::int64_t page_size)
{
    const std::int64_t rows = 12;
    Tensor k_cache(ATTN_FLOAT32, page_size ? std::vector{rows / page_size, page_size, std::int64_t{1}, std::int64_t{1}}
                                           : std::vector{std::int64_t{1}, rows, std::int64_t{1}, std::int64_t{1}});
    for (std::int64_t r = 0; r < rows; ++r)
        k_cache.set(page_size ? Index{r / page_size, r % page_size, 0, 0} : Index{0, r, 0, 0}, -1);
    attn_bind binds[2] = {};
    binds[0].slot = ATTN_SLOT_SEQLENS_KV, binds[1].slot = ATTN_SLOT_V, binds[1].flags = ATTN_BIND_ABSENT;
    attn_problem problem{};
    problem.size = sizeof problem, problem.binds = binds, problem.bind_count = 2, problem.q_dtype = ATTN_FLOAT32;
    problem.heads_k = 1, problem.dim_qk = 1, problem.max_q = 100, problem.max_kv = rows, problem.page_size = page_size;
    attn_append append{};
    append.size = sizeof append, append.problem = &problem, append.ring_rows = ring, append.sink_tokens = sinks;
    attn_plan made = nullptr;
    EXPECT_EQ(attn_plan_append(backend.handle(2), &append, &made), ATTN_OK) << attn_last_error();
    const PlanPointer plan(made);
    std::int64_t length = 0;
    for (std::int64_t chunk : chunks) {
        Tensor k(ATTN_FLOAT32, {1, chunk, 1, 1}), lengths(ATTN_INT32, {1}), table(ATTN_INT32, {1, rows});
        for (std::int64_t t = 0; t < chunk; ++t) k.set({0, t, 0, 0}, double(length + t));
        length += chunk;
        lengths.set({0}, double(length));
        if (page_size)
            for (std::int64_t i = 0; i < rows / page_size; ++i) table.set({0, i}, double(i));
        const attn_tensor views[] = {k.view(), k_cache.view(), lengths.view(), table.view()};
        const attn_arg args[] = {{ATTN_SLOT_K, 0, &views[0]},
                                 {ATTN_SLOT_K_CACHE, 0, &views[1]},
                                 {ATTN_SLOT_SEQLENS_KV, 0, &views[2]},
                                 {ATTN_SLOT_BLOCK_TABLE, 0, &views[3]}};
        EXPECT_EQ(attn_execute(made, args, page_size ? 4 : 3, nullptr, 0, nullptr), ATTN_OK) << attn_last_error();
    }
    std::vector<double> cache;
    for (std::int64_t r = 0; r < rows; ++r)
        cache.push_back(k_cache.get(page_size ? Index{r / page_size, r % page_size, 0, 0} : Index{0, r, 0, 0}));
    return cache;
}

TEST(Append, RingsKeepTheSinksAndTheLastRows)
{
    for_each_backend([&](const Backend &backend) {
        for (std::int64_t page_size : {0, 3}) {
            using V = std::vector<double>;
            EXPECT_EQ(ring_after(backend, 6, 0, {8}, page_size), (V{6, 7, 2, 3, 4, 5, -1, -1, -1, -1, -1, -1}));
            EXPECT_EQ(ring_after(backend, 6, 2, {8}, page_size), (V{0, 1, 6, 7, 4, 5, -1, -1, -1, -1, -1, -1}));
            EXPECT_EQ(ring_after(backend, 6, 5, {9}, page_size), (V{0, 1, 2, 3, 4, 8, -1, -1, -1, -1, -1, -1}));
            EXPECT_EQ(ring_after(backend, 12, 4, {5}, page_size), (V{0, 1, 2, 3, 4, -1, -1, -1, -1, -1, -1, -1}));
            const V all{0, 1, 98, 99, 92, 93, 94, 95, 96, 97, -1, -1};
            EXPECT_EQ(ring_after(backend, 10, 2, {100}, page_size), all);
            EXPECT_EQ(ring_after(backend, 10, 2, {3, 1, 0, 50, 45, 1}, page_size), all);
        }
    });
}

// Several new rows for one place: the last in the order of sequences and rows stays, for any number of workers.
TEST(Append, OfSeveralRowsForOnePlaceTheLastStays)
{
    const std::uint64_t seed = Random(session().seed, 902).next();
    for (std::int64_t workers : {1, 2, 5})
        for (std::int64_t page_size : {0, 4}) {
            Spec s;
            s.seed = seed, s.workers = workers, s.batch = 3, s.most_new = session().subset ? 40 : 300, s.heads_k = 4;
            s.heads_q = s.heads_v = 4, s.dim_qk = s.dim_v = 128, s.mapped = true, s.page_size = page_size;
            SCOPED_TRACE(text_of(s));
            for_each_backend([&](const Backend &backend) { Call(s).run(backend); });
        }
}

TEST(Append, ManyRowsOnManyWorkers)
{
    std::uint64_t seed = Random(session().seed, 903).next();
    for (std::int64_t page_size : {0, 16})
        for (std::int64_t workers : {1, 4}) {
            Spec s;
            s.seed = ++seed, s.workers = workers, s.batch = 2, s.most_new = session().subset ? 50 : 400, s.heads_q = 8;
            s.heads_k = s.heads_v = 2, s.dim_qk = s.dim_v = 64, s.page_size = page_size, s.write_q = s.rope = true;
            s.seqlens_kv = true, s.q = s.k = s.v = s.k_cache = s.v_cache = s.out = ATTN_BFLOAT16;
            SCOPED_TRACE(text_of(s));
            for_each_backend([&](const Backend &backend) { Call(s).run(backend); });
        }
}

// A table of the rounded cosines and sines gives the bits that the base gives.
TEST(Append, TableOfTheSameAnglesGivesTheSameBits)
{
    for_each_backend([&](const Backend &backend) {
        for (bool interleaved : {false, true}) {
            Spec s;
            s.seed = Random(session().seed, 904).next(), s.batch = 2, s.most_new = 9, s.dim_qk = s.dim_v = 24;
            s.write_q = s.rope = s.seqlens_kv = true, s.interleaved = interleaved;
            Call by_base(s);
            by_base.run(backend);
            Call by_table(s);
            const std::int64_t rows = 64;
            Tensor cosines(ATTN_FLOAT32, {rows, s.dim_qk / 2}), sines(ATTN_FLOAT32, {rows, s.dim_qk / 2});
            for (std::int64_t p = 0; p < rows; ++p)
                for (std::int64_t c = 0; c < s.dim_qk / 2; ++c) {
                    const double angle = double(p) * std::pow(10000.0, -2.0 * double(c) / double(s.dim_qk));
                    cosines.set({p, c}, std::cos(angle)), sines.set({p, c}, std::sin(angle));
                }
            by_table.tensors[ATTN_SLOT_ROPE_COS] = cosines, by_table.tensors[ATTN_SLOT_ROPE_SIN] = sines;
            by_table.rope.source = ATTN_ROPE_TABLE;
            by_table.s.table = true;
            by_table.run(backend);
            EXPECT_EQ(by_base.tensors.at(ATTN_SLOT_K_CACHE).bytes(), by_table.tensors.at(ATTN_SLOT_K_CACHE).bytes());
            EXPECT_EQ(by_base.tensors.at(ATTN_SLOT_OUT).bytes(), by_table.tensors.at(ATTN_SLOT_OUT).bytes());
        }
    });
}

// Dense attention on a cache that was appended to in chunks, and on the rows as they came, all at once.
void append_then_attend(const Backend &backend, std::uint64_t seed, std::int64_t page_size, std::int64_t heads_k,
                        attn_dtype dtype)
{
    const std::int64_t batch = 2, tk = 37, heads_q = 4, dim = 16, rows = 48, tq = 5;
    Random random(seed, 11);
    Tensor q(dtype, {batch, tq, heads_q, dim}), k(dtype, {batch, tk, heads_k, dim}),
        v(dtype, {batch, tk, heads_k, dim});
    for (std::int64_t b = 0; b < batch; ++b)
        for (std::int64_t t = 0; t < tk; ++t)
            for (std::int64_t c = 0; c < dim; ++c) {
                for (std::int64_t h = 0; h < heads_k; ++h)
                    k.set({b, t, h, c}, random.normal()), v.set({b, t, h, c}, random.normal());
                if (t < tq)
                    for (std::int64_t h = 0; h < heads_q; ++h) q.set({b, t, h, c}, random.normal());
            }
    const std::int64_t per = page_size ? rows / page_size : 0, pool = batch * per;
    const std::vector<std::int64_t> shape =
        page_size ? std::vector{pool, page_size, heads_k, dim} : std::vector{batch, rows, heads_k, dim};
    Tensor k_cache(dtype, shape), v_cache(dtype, shape), table(ATTN_INT32, {batch, per}), lengths(ATTN_INT32, {batch});
    for (std::int64_t i = 0; i < pool; ++i) table.set({i % batch, i / batch}, double((i * 5 + 3) % pool));

    attn_bind bind{};
    bind.slot = ATTN_SLOT_SEQLENS_KV;
    attn_problem problem{};
    problem.size = sizeof problem, problem.binds = &bind, problem.bind_count = 1, problem.q_dtype = dtype;
    problem.batch = batch, problem.heads_q = heads_q, problem.heads_k = heads_k, problem.dim_qk = dim;
    problem.max_q = 40, problem.max_kv = rows, problem.page_size = page_size;
    attn_append append{};
    append.size = sizeof append, append.problem = &problem;
    attn_plan made = nullptr;
    ASSERT_EQ(attn_plan_append(backend.handle(2), &append, &made), ATTN_OK) << attn_last_error();
    const PlanPointer appends(made);
    const auto with_table = [&](std::vector<attn_arg> args, const attn_tensor *view) {
        if (page_size) args.push_back({ATTN_SLOT_BLOCK_TABLE, 0, view});
        return args;
    };
    const attn_tensor views[] = {k_cache.view(), v_cache.view(), lengths.view(), table.view(), q.view()};
    for (std::int64_t done = 0; done < tk;) {
        const std::int64_t count = std::min(random.integer(1, 12), tk - done);
        attn_tensor new_k = k.view(), new_v = v.view();
        new_k.shape[1] = new_v.shape[1] = count;
        const std::size_t skipped = std::size_t(done * new_k.strides[1]) * element_size(dtype);
        new_k.byte_offset += skipped, new_v.byte_offset += skipped;
        done += count;
        for (std::int64_t b = 0; b < batch; ++b) lengths.set({b}, double(done));
        const auto args = with_table({{ATTN_SLOT_K, 0, &new_k},
                                      {ATTN_SLOT_V, 0, &new_v},
                                      {ATTN_SLOT_K_CACHE, 0, &views[0]},
                                      {ATTN_SLOT_V_CACHE, 0, &views[1]},
                                      {ATTN_SLOT_SEQLENS_KV, 0, &views[2]}},
                                     &views[3]);
        ASSERT_EQ(attn_execute(made, args.data(), args.size(), nullptr, 0, nullptr), ATTN_OK) << attn_last_error();
    }

    const auto attend = [&](bool cached, Tensor &out) {
        attn_problem p = problem;
        p.bind_count = cached ? 1 : 0, p.page_size = cached ? page_size : 0, p.max_q = tq;
        p.out_dtype = ATTN_FLOAT32;
        attn_dense dense{};
        dense.size = sizeof dense, dense.problem = &p, dense.causal = ATTN_BOTTOM_RIGHT;
        attn_plan dense_plan = nullptr;
        ASSERT_EQ(attn_plan_dense(backend.handle(2), &dense, &dense_plan), ATTN_OK) << attn_last_error();
        const PlanPointer owner(dense_plan);
        std::size_t bytes = 0;
        ASSERT_EQ(attn_plan_workspace(dense_plan, &bytes, nullptr), ATTN_OK);
        std::vector<char> workspace(bytes + 64);
        const attn_tensor whole_k = k.view(), whole_v = v.view(), out_view = out.view();
        std::vector<attn_arg> args{{ATTN_SLOT_Q, 0, &views[4]}, {ATTN_SLOT_OUT, 0, &out_view}};
        args.push_back({ATTN_SLOT_K, 0, cached ? &views[0] : &whole_k});
        args.push_back({ATTN_SLOT_V, 0, cached ? &views[1] : &whole_v});
        if (cached) args.push_back({ATTN_SLOT_SEQLENS_KV, 0, &views[2]}), args = with_table(args, &views[3]);
        void *aligned = workspace.data() + (64 - reinterpret_cast<std::uintptr_t>(workspace.data()) % 64);
        ASSERT_EQ(attn_execute(dense_plan, args.data(), args.size(), aligned, bytes, nullptr), ATTN_OK)
            << attn_last_error();
    };
    Tensor from_cache(ATTN_FLOAT32, {batch, tq, heads_q, dim}), from_rows(ATTN_FLOAT32, {batch, tq, heads_q, dim});
    attend(true, from_cache);
    attend(false, from_rows);
    double error = 0, norm = 0;
    for (std::int64_t b = 0; b < batch; ++b)
        for (std::int64_t t = 0; t < tq; ++t)
            for (std::int64_t h = 0; h < heads_q; ++h)
                for (std::int64_t c = 0; c < dim; ++c) {
                    const double x = from_cache.get({b, t, h, c}), y = from_rows.get({b, t, h, c});
                    error += (x - y) * (x - y), norm += y * y;
                }
    EXPECT_LE(std::sqrt(error / norm), tolerance(ATTN_FLOAT32).global); // NaN fails too
}

TEST(Append, AttentionOnTheCacheIsAttentionOnTheRows)
{
    std::uint64_t seed = Random(session().seed, 905).next();
    for_each_backend([&](const Backend &backend) {
        for (std::int64_t page_size : {0, 8})
            for (std::int64_t heads_k : {4, 1})
                for (attn_dtype dtype : kFloats) append_then_attend(backend, ++seed, page_size, heads_k, dtype);
    });
}

struct Fault {
    const char *name;
    void (*change)(Spec &);
    void (*spoil)(Call &);
    attn_status status;
    std::vector<const char *> parts; // of the message
};

Spec small_spec()
{
    Spec s;
    s.seed = 5, s.batch = 2, s.most_new = 3, s.dim_qk = s.dim_v = 4;
    return s;
}

void expect_message(const Fault &fault)
{
    for (const char *part : fault.parts)
        EXPECT_NE(std::string(attn_last_error()).find(part), std::string::npos)
            << part << " is not in: " << attn_last_error();
}

TEST(Append, BadInputsAreFoundBeforeAnythingIsWritten)
{
    const auto lengths = [](Spec &s) { s.seqlens_kv = true; };
    const auto paged = [](Spec &s) { s.seqlens_kv = true, s.page_size = 2; };
    const auto flat = [](Spec &s) { s.seqlens_kv = s.flat_table = true, s.page_size = 2; };
    const auto mapped = [](Spec &s) { s.mapped = true; };
    const auto mapped_pages = [](Spec &s) { s.mapped = true, s.page_size = 2; };
    const auto packed = [](Spec &s) { s.packed = true; };
    const auto table = [](Spec &s) { s.rope = s.table = true; };
    const auto positions = [](Spec &s) { s.rope = s.table = s.positions = true; };
    const auto ring = [](Spec &s) { s.ring = 4, s.seqlens_kv = true; };
    constexpr attn_status data = ATTN_ERROR_DATA;
    const Fault faults[] = {
        {"short",
         lengths,
         [](Call &c) { c.tensors.at(ATTN_SLOT_SEQLENS_KV).set({1}, 2); },
         data,
         {"SEQLENS_KV[1] = 2", "must be 3 .. "}},
        {"negative",
         lengths,
         [](Call &c) { c.tensors.at(ATTN_SLOT_SEQLENS_KV).set({0}, -1); },
         data,
         {"SEQLENS_KV[0] = -1"}},
        {"wild",
         [](Spec &s) { s.seqlens_kv = true, s.index = ATTN_INT64; },
         [](Call &c) { c.tensors.at(ATTN_SLOT_SEQLENS_KV).set({0}, -0x1p63); },
         data,
         {"SEQLENS_KV[0] = -9223372036854775808"}},
        {"wild mapping",
         mapped_pages,
         [](Call &c) {
             c.tensors.at(ATTN_SLOT_SLOT_MAPPING).set({0, 1}, -0x1p63);
         },
         data,
         {"SLOT_MAPPING[0][1] = -9223372036854775808"}},
        {"few pages for the ring",
         [](Spec &s) { s.ring = 4, s.seqlens_kv = true, s.page_size = 2; },
         [](Call &c) {
             Tensor &table = c.tensors[ATTN_SLOT_BLOCK_TABLE] = Tensor(ATTN_INT32, {2, 1});
             table.set({0, 0}, 0), table.set({1, 0}, 1);
         },
         data,
         {"BLOCK_TABLE", "pages for 2 rows", "of the ring"}},
        {"long",
         lengths,
         [](Call &c) { c.tensors.at(ATTN_SLOT_SEQLENS_KV).set({1}, 1000); },
         data,
         {"SEQLENS_KV[1] = 1000"}},
        {"more pages than listed",
         paged,
         [](Call &c) { c.tensors.at(ATTN_SLOT_SEQLENS_KV).set({1}, 1000); },
         data,
         {"SEQLENS_KV[1] = 1000"}},
        {"page",
         paged,
         [](Call &c) {
             Tensor &t = c.tensors.at(ATTN_SLOT_BLOCK_TABLE);
             const double pool = double(c.tensors.at(ATTN_SLOT_K_CACHE).shape()[0]);
             for (std::int64_t i = 0; i < t.shape()[1]; ++i) t.set({1, i}, pool);
         },
         data,
         {"BLOCK_TABLE", "sequence 1", "must be 0 .. "}},
        {"negative page",
         flat,
         [](Call &c) {
             Tensor &t = c.tensors.at(ATTN_SLOT_BLOCK_TABLE);
             for (std::int64_t i = 0; i < t.shape()[0]; ++i) t.set({i}, -2);
         },
         data,
         {"BLOCK_TABLE", "sequence 0", "= -2"}},
        {"table range",
         flat,
         [](Call &c) { c.tensors.at(ATTN_SLOT_BLOCK_TABLE_PTR).set({2}, 999); },
         data,
         {"BLOCK_TABLE_PTR[2] = 999"}},
        {"table order",
         flat,
         [](Call &c) { c.tensors.at(ATTN_SLOT_BLOCK_TABLE_PTR).set({0}, 999); },
         data,
         {"BLOCK_TABLE_PTR[1]"}},
        {"mapping",
         mapped,
         [](Call &c) {
             c.tensors.at(ATTN_SLOT_SLOT_MAPPING).set({1, 2}, double(c.tensors.at(ATTN_SLOT_K_CACHE).shape()[1]));
         },
         data,
         {"SLOT_MAPPING[1][2] = ", "must be -1 .. "}},
        {"mapping below",
         mapped,
         [](Call &c) {
             c.tensors.at(ATTN_SLOT_SLOT_MAPPING).set({0, 1}, -2);
         },
         data,
         {"SLOT_MAPPING[0][1] = -2"}},
        {"mapping to pages",
         mapped_pages,
         [](Call &c) {
             c.tensors.at(ATTN_SLOT_SLOT_MAPPING).set({1, 2}, double(2 * c.tensors.at(ATTN_SLOT_K_CACHE).shape()[0]));
         },
         data,
         {"SLOT_MAPPING[1][2] = ", "pages of 2 rows"}},
        {"packed mapping",
         [](Spec &s) { s.mapped = s.packed = true, s.seed = 9; },
         [](Call &c) {
             for (std::int64_t i = 0; i < c.tensors.at(ATTN_SLOT_SLOT_MAPPING).shape()[0]; ++i)
                 c.tensors.at(ATTN_SLOT_SLOT_MAPPING).set({i}, 77);
         },
         data,
         {"SLOT_MAPPING[", "] = 77"}},
        {"boundaries",
         packed,
         [](Call &c) { c.tensors.at(ATTN_SLOT_CU_SEQLENS_Q).set({2}, 50); },
         data,
         {"CU_SEQLENS_Q[2] = 50"}},
        {"first boundary",
         packed,
         [](Call &c) { c.tensors.at(ATTN_SLOT_CU_SEQLENS_Q).set({0}, -1); },
         data,
         {"CU_SEQLENS_Q[0] = -1"}},
        {"used",
         [](Spec &s) { s.seqlens_q = true; },
         [](Call &c) { c.tensors.at(ATTN_SLOT_SEQLENS_Q).set({1}, 4); },
         data,
         {"SEQLENS_Q[1] = 4", "0 .. 3"}},
        {"position",
         positions,
         [](Call &c) {
             c.tensors.at(ATTN_SLOT_POSITIONS_Q).set({1, 0}, double(c.tensors.at(ATTN_SLOT_ROPE_COS).shape()[0]));
         },
         data,
         {"POSITIONS_Q[1][0] = ", "ROPE_COS"}},
        {"negative position",
         positions,
         [](Call &c) {
             c.tensors.at(ATTN_SLOT_POSITIONS_Q).set({0, 2}, -1);
         },
         data,
         {"POSITIONS_Q[0][2] = -1"}},
        {"row beyond the table",
         table,
         [](Call &c) {
             c.tensors[ATTN_SLOT_ROPE_COS] = Tensor(ATTN_FLOAT32, {2, 2});
             c.tensors[ATTN_SLOT_ROPE_SIN] = Tensor(ATTN_FLOAT32, {2, 2});
         },
         data,
         {"ROPE_COS", "row 2 of sequence 0"}},
        {"small ring",
         ring,
         [](Call &c) {
             c.tensors[ATTN_SLOT_K_CACHE] = Tensor(ATTN_FLOAT32, {2, 3, 1, 4});
             c.tensors[ATTN_SLOT_V_CACHE] = Tensor(ATTN_FLOAT32, {2, 3, 1, 4});
         },
         ATTN_ERROR_INVALID,
         {"K_CACHE.shape[1] = 3", "ring_rows = 4"}},
        {"too many rows",
         [](Spec &) {},
         [](Call &c) {
             c.tensors[ATTN_SLOT_K_CACHE] = Tensor(ATTN_FLOAT32, {2, 2, 1, 4});
             c.tensors[ATTN_SLOT_V_CACHE] = Tensor(ATTN_FLOAT32, {2, 2, 1, 4});
         },
         data,
         {"sequence 0 has 3 new rows", "2 rows"}},
        {"tables differ",
         table,
         [](Call &c) {
             c.tensors[ATTN_SLOT_ROPE_SIN] = Tensor(ATTN_FLOAT32, {9, 2});
         },
         ATTN_ERROR_INVALID,
         {"ROPE_SIN.shape[0] = 9", "positions"}},
        {"caches differ",
         [](Spec &) {},
         [](Call &c) {
             c.tensors[ATTN_SLOT_V_CACHE] = Tensor(ATTN_FLOAT32, {2, 2, 1, 4});
         },
         ATTN_ERROR_INVALID,
         {"V_CACHE.shape[1] = 2"}},
        {"dtype",
         [](Spec &) {},
         [](Call &c) {
             c.tensors[ATTN_SLOT_K] = Tensor(ATTN_FLOAT16, {2, 3, 1, 4});
         },
         ATTN_ERROR_INVALID,
         {"K.dtype = float16", "float32"}},
    };
    for (const Fault &fault : faults) {
        SCOPED_TRACE(fault.name);
        for_each_backend([&](const Backend &backend) {
            Spec spec = small_spec();
            fault.change(spec);
            Call call(spec);
            fault.spoil(call);
            PlanPointer plan;
            ASSERT_EQ(call.plan(backend.handle(1), plan), ATTN_OK) << attn_last_error();
            EXPECT_EQ(call.execute(plan.get()), fault.status) << attn_last_error();
            expect_message(fault);
            for (attn_slot slot : {ATTN_SLOT_K_CACHE, ATTN_SLOT_V_CACHE})
                EXPECT_FALSE(call.tensors.at(slot).wrote_elsewhere());
        });
    }
}

TEST(Append, CachesMayNotOverlapTheNewRows)
{
    Call call(small_spec());
    PlanPointer plan;
    ASSERT_EQ(call.plan(backends()[0]->handle(1), plan), ATTN_OK) << attn_last_error();
    attn_tensor k_cache = call.tensors.at(ATTN_SLOT_K_CACHE).view(),
                v_cache = call.tensors.at(ATTN_SLOT_V_CACHE).view();
    attn_tensor k = k_cache, v = call.tensors.at(ATTN_SLOT_V).view();
    k.shape[1] = 3, k.strides[0] = 0;
    const attn_arg args[] = {
        {ATTN_SLOT_K, 0, &k}, {ATTN_SLOT_V, 0, &v}, {ATTN_SLOT_K_CACHE, 0, &k_cache}, {ATTN_SLOT_V_CACHE, 0, &v_cache}};
    EXPECT_EQ(attn_execute(plan.get(), args, 4, nullptr, 0, nullptr), ATTN_ERROR_INVALID);
    EXPECT_NE(std::string(attn_last_error()).find("overlap"), std::string::npos) << attn_last_error();
}

void add_bind(Call &c, attn_slot slot, attn_dtype dtype = 0, std::uint32_t flags = 0)
{
    attn_bind bind{};
    bind.slot = slot, bind.dtype = dtype, bind.flags = flags;
    c.binds.push_back(bind);
    c.problem.binds = c.binds.data(), c.problem.bind_count = c.binds.size();
}

TEST(Append, DescriptorsThatBreakARuleAreNamed)
{
    const auto plain = [](Spec &) {};
    const auto rope = [](Spec &s) { s.rope = true; };
    constexpr attn_status invalid = ATTN_ERROR_INVALID, unsupported = ATTN_ERROR_UNSUPPORTED;
    const Fault faults[] = {
        {"odd", rope, [](Call &c) { c.rope.dim = 3; }, invalid, {"attn_rope.dim = 3", "even"}},
        {"wide", rope, [](Call &c) { c.rope.dim = 4, c.rope.first = 1; }, invalid, {"attn_rope.first + dim = 1 + 4"}},
        {"first", rope, [](Call &c) { c.rope.first = 4; }, invalid, {"attn_rope.first = 4"}},
        {"negative first", rope, [](Call &c) { c.rope.first = -1; }, invalid, {"attn_rope.first = -1"}},
        {"base", rope, [](Call &c) { c.rope.base = -1; }, invalid, {"attn_rope.base = -1"}},
        {"infinite base", rope, [](Call &c) { c.rope.base = INFINITY; }, invalid, {"attn_rope.base = inf"}},
        {"base of a table",
         rope,
         [](Call &c) { c.rope.base = 7, c.rope.source = ATTN_ROPE_TABLE; },
         invalid,
         {"attn_rope.base = 7", "ATTN_ROPE_BASE"}},
        {"rope flags", rope, [](Call &c) { c.rope.flags = 8; }, invalid, {"attn_rope.flags = 0x8"}},
        {"layout", rope, [](Call &c) { c.rope.layout = 2; }, invalid, {"attn_rope.layout = 2"}},
        {"source", rope, [](Call &c) { c.rope.source = -1; }, invalid, {"attn_rope.source = -1"}},
        {"nothing to rotate",
         plain,
         [](Call &c) {
             static attn_rope rotation;
             rotation.size = sizeof rotation;
             c.append.rope = &rotation;
             add_bind(c, ATTN_SLOT_K, 0, ATTN_BIND_ABSENT);
         },
         invalid,
         {"attn_append.rope", "NULL"}},
        {"sinks",
         plain,
         [](Call &c) { c.append.sink_tokens = 4; },
         invalid,
         {"attn_append.sink_tokens = 4", "ring_rows"}},
        {"sinks fill the ring",
         plain,
         [](Call &c) { c.append.sink_tokens = c.append.ring_rows = 2; },
         invalid,
         {"attn_append.sink_tokens = 2", "ring_rows = 2"}},
        {"ring",
         plain,
         [](Call &c) { c.append.ring_rows = 1000; },
         invalid,
         {"attn_append.ring_rows = 1000", "max_kv"}},
        {"flags", plain, [](Call &c) { c.append.flags = 1; }, invalid, {"attn_append.flags = 0x1"}},
        {"scale", plain, [](Call &c) { c.problem.scale = 2; }, invalid, {"attn_problem.scale = 2"}},
        {"precision",
         plain,
         [](Call &c) { c.problem.precision = ATTN_PRECISION_TF32; },
         invalid,
         {"attn_problem.precision = 1"}},
        {"total_q",
         plain,
         [](Call &c) { c.problem.total_q = 6; },
         invalid,
         {"attn_problem.total_q = 6", "CU_SEQLENS_Q"}},
        {"total_kv", plain, [](Call &c) { c.problem.total_kv = 6; }, invalid, {"attn_problem.total_kv = 6"}},
        {"out_dtype",
         plain,
         [](Call &c) { c.problem.out_dtype = ATTN_FLOAT16; },
         invalid,
         {"attn_problem.out_dtype = float16"}},
        {"Q alone", plain, [](Call &c) { add_bind(c, ATTN_SLOT_Q); }, invalid, {"slot Q is bound", "OUT"}},
        {"OUT alone", plain, [](Call &c) { add_bind(c, ATTN_SLOT_OUT); }, invalid, {"slot OUT is bound", "Q"}},
        {"nothing",
         plain,
         [](Call &c) { add_bind(c, ATTN_SLOT_K, 0, ATTN_BIND_ABSENT), add_bind(c, ATTN_SLOT_V, 0, ATTN_BIND_ABSENT); },
         invalid,
         {"ABSENT", "nothing to do"}},
        {"half absent",
         plain,
         [](Call &c) { add_bind(c, ATTN_SLOT_K, 0, ATTN_BIND_ABSENT), add_bind(c, ATTN_SLOT_K_CACHE); },
         invalid,
         {"slot K_CACHE is bound", "ABSENT"}},
        {"absent with dtype",
         plain,
         [](Call &c) { add_bind(c, ATTN_SLOT_K, ATTN_FLOAT16, ATTN_BIND_ABSENT); },
         invalid,
         {"slot K", "ABSENT"}},
        {"absent elsewhere",
         plain,
         [](Call &c) { add_bind(c, ATTN_SLOT_SEQLENS_Q, 0, ATTN_BIND_ABSENT); },
         invalid,
         {"SEQLENS_Q", "ABSENT"}},
        {"positions", plain, [](Call &c) { add_bind(c, ATTN_SLOT_POSITIONS_Q); }, invalid, {"POSITIONS_Q", "rope"}},
        {"positions of keys",
         rope,
         [](Call &c) { add_bind(c, ATTN_SLOT_POSITIONS_KV); },
         invalid,
         {"POSITIONS_KV", "POSITIONS_Q"}},
        {"tables", rope, [](Call &c) { add_bind(c, ATTN_SLOT_ROPE_COS); }, invalid, {"ROPE_COS", "ATTN_ROPE_TABLE"}},
        {"block table",
         plain,
         [](Call &c) { add_bind(c, ATTN_SLOT_BLOCK_TABLE); },
         invalid,
         {"BLOCK_TABLE", "page_size"}},
        {"block table and mapping",
         [](Spec &s) { s.mapped = true, s.page_size = 2; },
         [](Call &c) { add_bind(c, ATTN_SLOT_BLOCK_TABLE_PTR); },
         invalid,
         {"BLOCK_TABLE_PTR", "SLOT_MAPPING"}},
        {"lengths and mapping",
         [](Spec &s) { s.mapped = true; },
         [](Call &c) { add_bind(c, ATTN_SLOT_SEQLENS_KV); },
         invalid,
         {"SEQLENS_KV"}},
        {"ring and mapping",
         [](Spec &s) { s.mapped = true; },
         [](Call &c) { c.append.ring_rows = 2; },
         invalid,
         {"attn_append.ring_rows = 2", "SLOT_MAPPING"}},
        {"rope and mapping",
         [](Spec &s) { s.mapped = s.rope = true; },
         [](Call &) {},
         invalid,
         {"attn_append.rope", "POSITIONS_Q"}},
        {"narrow mapping",
         [](Spec &s) { s.mapped = true; },
         [](Call &c) { c.binds.back().dtype = ATTN_INT32; },
         invalid,
         {"int32", "SLOT_MAPPING", "int64"}},
        {"packed keys", plain, [](Call &c) { add_bind(c, ATTN_SLOT_CU_SEQLENS_KV); }, invalid, {"CU_SEQLENS_KV"}},
        {"dense slots", plain, [](Call &c) { add_bind(c, ATTN_SLOT_LSE); }, invalid, {"LSE", "append"}},
        {"pages of nothing",
         plain,
         [](Call &c) {
             add_bind(c, ATTN_SLOT_K, 0, ATTN_BIND_ABSENT), add_bind(c, ATTN_SLOT_V, 0, ATTN_BIND_ABSENT);
             add_bind(c, ATTN_SLOT_Q), add_bind(c, ATTN_SLOT_OUT), c.problem.page_size = 4;
         },
         invalid,
         {"attn_problem.page_size = 4"}},
        {"aliased V",
         plain,
         [](Call &c) { c.problem.flags = ATTN_V_ALIASES_K, add_bind(c, ATTN_SLOT_V_CACHE); },
         invalid,
         {"V_CACHE", "ATTN_V_ALIASES_K"}},
        {"cache dtype",
         plain,
         [](Call &c) { add_bind(c, ATTN_SLOT_K_CACHE, ATTN_FLOAT16); },
         invalid,
         {"float16", "K_CACHE", "float32"}},
        {"quantised cache",
         plain,
         [](Call &c) { c.problem.k_dtype = ATTN_FLOAT8_E4M3FN; },
         unsupported,
         {"attn_append", "K", "float8_e4m3fn"}},
        {"quantised rows",
         plain,
         [](Call &c) { add_bind(c, ATTN_SLOT_V, ATTN_INT8); },
         unsupported,
         {"slot V", "int8"}},
        {"scales",
         plain,
         [](Call &c) { add_bind(c, ATTN_SLOT_SCALE | ATTN_SLOT_K_CACHE); },
         unsupported,
         {"SCALE|K_CACHE"}},
        {"backward",
         plain,
         [](Call &c) { c.problem.direction = ATTN_BACKWARD; },
         unsupported,
         {"attn_problem.direction = backward"}},
    };
    for (const Fault &fault : faults) {
        SCOPED_TRACE(fault.name);
        for_each_backend([&](const Backend &backend) {
            Spec spec = small_spec();
            fault.change(spec);
            Call call(spec);
            fault.spoil(call);
            PlanPointer plan;
            EXPECT_EQ(call.plan(backend.handle(1), plan), fault.status) << attn_last_error();
            expect_message(fault);
            EXPECT_EQ(attn_plan_supports(backend.handle(1), ATTN_KIND_APPEND, &call.append), fault.status);
        });
    }
}

// Absorbed MLA: one latent cache, its rotary channels at the end.
TEST(Append, AliasedValuesNeedNoCacheOfTheirOwn)
{
    Spec s = small_spec();
    s.write_v = false, s.rope = s.seqlens_kv = true, s.dim_qk = 24, s.rope_dim = 8, s.rope_first = 16;
    Call call(s);
    std::erase_if(call.binds, [](const attn_bind &bind) { return bind.slot == ATTN_SLOT_V_CACHE; });
    call.problem.bind_count = call.binds.size();
    call.problem.flags = ATTN_V_ALIASES_K, call.problem.dim_v = 16;
    for_each_backend([&](const Backend &backend) { call.run(backend); });
}

TEST(Append, DescriptionNamesTheKernelAndTheOptions)
{
    Spec s = small_spec();
    s.rope = s.interleaved = true, s.ring = 4, s.sinks = 1;
    Call call(s);
    PlanPointer plan;
    ASSERT_EQ(call.plan(backends()[0]->handle(1), plan), ATTN_OK) << attn_last_error();
    std::size_t needed = 0;
    ASSERT_EQ(attn_plan_describe(plan.get(), nullptr, 0, &needed), ATTN_OK);
    std::string json(needed, '\0');
    ASSERT_EQ(attn_plan_describe(plan.get(), json.data(), json.size(), nullptr), ATTN_OK);
    for (const char *part :
         {"\"kind\":\"append\"", "\"kernel\":\"cpu.append\"", "\"workspace_bytes\":0", "\"append\":{",
          "\"ring_rows\":4", "\"sink_tokens\":1", "\"layout\":\"interleaved\"", "\"slot\":\"K_CACHE\""})
        EXPECT_NE(json.find(part), std::string::npos) << part << " is not in " << json;
    attn_bind bind{};
    attn_tensor bounds{};
    ASSERT_EQ(attn_plan_slot(plan.get(), 2, &bind, &bounds), ATTN_OK);
    EXPECT_EQ(bind.slot, ATTN_SLOT_K_CACHE);
    EXPECT_EQ(bounds.ndim, 4);
}

} // namespace
} // namespace conformance
