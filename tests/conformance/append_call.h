// A call of an append plan with its tensors, and the loops in fp64 that say what it has to do.
#pragma once

#include "backend.h"
#include "number.h"
#include "tensor.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace conformance {

// What a call is like. The contents follow from the seed.
struct AppendSpec {
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

std::string text_of(const AppendSpec &);
// A spec of few rows and channels, to change.
AppendSpec small_append_spec();

// A call with its tensors, drawn from the seed of its spec.
class AppendCall {
public:
    explicit AppendCall(const AppendSpec &spec);

    struct Sequence {
        std::int64_t first = 0, reserved = 0, used = 0, start = 0;
    };

    attn_status plan(attn_handle handle, PlanPointer &out);
    attn_status execute(attn_plan plan);
    void run(const Backend &backend);

    // Compares caches and OUT with the loops of the contract.
    void check();

    // The cache row of new row t of sequence b; false if it has none.
    bool place(std::size_t b, std::int64_t t, std::int64_t &outer, std::int64_t &row) const;

    AppendSpec s;
    std::vector<Sequence> sequences;
    std::vector<std::vector<std::int64_t>> pages; // by sequence
    std::map<attn_slot, Tensor> tensors;
    std::vector<attn_bind> binds;
    attn_rope rope{};
    attn_problem problem{};
    attn_append append{};

private:
    Index token(std::size_t b, std::int64_t row) const { return s.packed ? Index{row} : Index{std::int64_t(b), row}; }
    void draw_lengths();
    Tensor &integers(attn_slot slot, attn_dtype dtype, std::vector<std::int64_t> shape);
    void draw_places();
    std::int64_t table_rows() const { return std::max<std::int64_t>(longest_, 1) + 2; }
    void draw_pages();
    void draw_rows();
    static Index element(std::size_t b, std::int64_t row, std::int64_t h, std::int64_t c, bool packed);
    void describe();

    // The channels of one head of a new row, rotated in fp64 where asked.
    std::vector<double> row_of(attn_slot slot, std::size_t b, std::int64_t t, std::int64_t h, std::int64_t channels,
                               bool rotate) const;

    void compare_row(attn_slot from, std::size_t b, std::int64_t t, attn_slot to, std::int64_t outer, std::int64_t row,
                     std::int64_t heads, std::int64_t channels, bool packed, bool rotate);

    Random random_;
    std::int64_t tq_ = 0, total_ = 0, longest_ = 0, max_kv_ = 0, pool_ = 0;
};

} // namespace conformance
