// One concrete call: the tensors of a case, filled and poisoned, and the descriptor that plans for them.
#pragma once

#include "case.h"
#include "oracle.h"
#include "tensor.h"

#include <cstdint>
#include <deque>
#include <vector>

namespace conformance {

// What a sequence contains, wherever it will lie in memory.
struct Content {
    Sequence used;
    std::int64_t q_rows = 0, k_rows = 0; // rows reserved for it, >= used.tq, used.tk; unlisted for paged keys
};

// Random lengths and numbers of every sequence, rounded to the dtypes of the case.
std::vector<Content> draw_contents(const Case &);
// The settings of the operator that the case stands for.
Options oracle_options(const Case &);

struct Bounds {
    std::int64_t batch = 1, max_q = 1, max_kv = 1, total_q = 0, total_kv = 0;
};

// The descriptor of a case with its binds. Not to be moved: it points into itself.
class Descriptor {
public:
    Descriptor(const Case &, const Bounds &);
    Descriptor(const Descriptor &) = delete;
    Descriptor &operator=(const Descriptor &) = delete;

    attn_problem problem{};
    attn_dense dense{};

private:
    std::vector<attn_bind> binds_;
};

class Instance {
public:
    // `placement` seeds where things lie: the order of pages, rows that no sequence owns.
    Instance(const Case &, std::vector<Content>, std::uint64_t placement);

    const Case &spec() const { return spec_; }
    const std::vector<Content> &contents() const { return contents_; }
    Bounds actual() const; // sizes of this call
    Bounds bounds() const; // of a plan for it: the actual sizes, or larger if the case says so
    std::vector<attn_arg> args();

    void poison_outputs();
    // [tq, ho, dim_v] and [ho, tq] of one sequence.
    std::vector<double> out(std::size_t sequence) const;
    std::vector<double> lse(std::size_t sequence) const;
    bool wrote_elsewhere() const { return out_.wrote_elsewhere() || (spec_.lse && lse_.wrote_elsewhere()); }
    const std::vector<unsigned char> &out_bytes() const { return out_.bytes(); }
    const std::vector<unsigned char> &lse_bytes() const { return lse_.bytes(); }
    std::vector<std::vector<unsigned char>> input_bytes() const;

private:
    Index q_index(std::size_t b, std::int64_t i, std::int64_t h, std::int64_t c) const;
    Index kv_index(std::size_t b, std::int64_t j, std::int64_t h, std::int64_t c) const;
    Index lse_index(std::size_t b, std::int64_t h, std::int64_t i) const;
    void place_rows(Random &);
    void place_pages(Random &);
    void allocate();
    void fill();
    void fill_indices();
    Tensor &add_input(attn_slot slot, attn_dtype dtype, std::vector<std::int64_t> shape,
                      const std::string &layout = "bshd");

    Case spec_;
    std::vector<Content> contents_;
    std::vector<std::int64_t> q_start_, kv_start_; // packed: first row of each sequence, and the end
    std::int64_t q_total_ = 0, kv_total_ = 0;      // packed: rows of the tensors
    std::int64_t q_longest_ = 0, kv_longest_ = 0;
    std::vector<std::vector<std::int64_t>> pages_; // paged: of each sequence, also those not needed
    std::int64_t pool_pages_ = 0;

    struct Input {
        attn_slot slot;
        Tensor tensor;
    };
    std::deque<Input> inputs_; // addresses are stable
    Tensor out_, lse_;
    std::deque<attn_tensor> views_;
};

} // namespace conformance
