#include "append_call.h"

#include "launch.h"
#include "measure.h"
#include "refusal.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <sstream>
#include <utility>

namespace conformance {

std::string text_of(const AppendSpec &s)
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

AppendSpec small_append_spec()
{
    AppendSpec s;
    s.seed = 5, s.batch = 2, s.most_new = 3, s.dim_qk = s.dim_v = 4;
    return s;
}

AppendCall::AppendCall(const AppendSpec &spec) : s(spec), random_(spec.seed, 7)
{
    draw_lengths();
    draw_places();
    draw_rows();
    describe();
}

attn_status AppendCall::plan(attn_handle handle, PlanPointer &out)
{
    attn_plan made = nullptr;
    const attn_status status = attn_plan_append(handle, &append, &made);
    out.reset(made);
    return status;
}

attn_status AppendCall::execute(attn_plan plan)
{
    std::vector<attn_tensor> views;
    std::vector<attn_arg> args;
    views.reserve(tensors.size());
    for (auto &[slot, tensor] : tensors) {
        views.push_back(tensor.view());
        args.push_back({slot, 0, &views.back()});
    }
    return launch(plan, args);
}

void AppendCall::run(const Backend &backend)
{
    PlanPointer made;
    const attn_status status = plan(backend.handle(s.workers), made);
    if (lacks_compiler(status, attn_last_error())) {
        Summary::instance().add_refusal(backend.name(), {"append without a compiler"});
        return;
    }
    ASSERT_EQ(status, ATTN_OK) << attn_last_error();
    std::size_t bytes = 1;
    EXPECT_EQ(attn_plan_workspace(made.get(), &bytes, nullptr), ATTN_OK);
    EXPECT_TRUE(bytes == 0 || on_gpu()) << bytes;
    std::map<attn_slot, Bytes> inputs;
    for (auto &[slot, tensor] : tensors)
        if (slot == ATTN_SLOT_K_CACHE || slot == ATTN_SLOT_V_CACHE || slot == ATTN_SLOT_OUT)
            tensor.poison();
        else
            inputs[slot] = tensor.bytes();
    ASSERT_EQ(execute(made.get()), ATTN_OK) << attn_last_error();
    check();
    for (const auto &[slot, bytes] : inputs)
        EXPECT_EQ(tensors.at(slot).bytes(), bytes) << "slot " << slot << " was written";
}

void AppendCall::check()
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

bool AppendCall::place(std::size_t b, std::int64_t t, std::int64_t &outer, std::int64_t &row) const
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

void AppendCall::draw_lengths()
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

Tensor &AppendCall::integers(attn_slot slot, attn_dtype dtype, std::vector<std::int64_t> shape)
{
    return tensors[slot] = Tensor(dtype, std::move(shape), s.index_layout);
}

void AppendCall::draw_places()
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

void AppendCall::draw_pages()
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

void AppendCall::draw_rows()
{
    const auto rows = [&](attn_slot slot, attn_dtype dtype, std::int64_t heads, std::int64_t channels,
                          const std::string &layout) -> Tensor & {
        return tensors[slot] = Tensor(
                   dtype, s.packed ? std::vector{total_, heads, channels} : std::vector{s.batch, tq_, heads, channels},
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

Index AppendCall::element(std::size_t b, std::int64_t row, std::int64_t h, std::int64_t c, bool packed)
{
    return packed ? Index{row, h, c} : Index{std::int64_t(b), row, h, c};
}

void AppendCall::describe()
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

std::vector<double> AppendCall::row_of(attn_slot slot, std::size_t b, std::int64_t t, std::int64_t h,
                                       std::int64_t channels, bool rotate) const
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

void AppendCall::compare_row(attn_slot from, std::size_t b, std::int64_t t, attn_slot to, std::int64_t outer,
                             std::int64_t row, std::int64_t heads, std::int64_t channels, bool packed, bool rotate)
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

} // namespace conformance
