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
// Of sequence b: the tensors of the options of table_options.cc. Called by draw_contents.
void draw_options(const Case &, std::size_t b, Sequence &);
// Likewise the ids that the mask reads, of mask_options.cc.
void draw_ids(const Case &, std::size_t b, Sequence &);
// The settings of the operator that the case stands for.
Options oracle_options(const Case &);
void set_options(const Case &, Options &); // the part of table_options.cc

// The table of the case by relative position; the grid of ATTN_TABLE_GRID has a place for every token.
BiasTable bias_table_of(const Case &);
std::int64_t entries_of(const BiasTable &);
attn_gate gate_of(const Case &);

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
    void bind(attn_slot, attn_dtype = 0, std::uint32_t flags = 0, std::uint32_t index = 0);
    void bind_options(const Case &);
    void set_mask(const Case &);
    void set_options(const Case &);

    std::vector<attn_bind> binds_;
    attn_bias_table table_{};
    attn_program program_{};
    MaskProgram mask_;
    std::vector<attn_table> mask_tables_;
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
    // [tq, ho, dim_v] of one sequence.
    std::vector<double> out(std::size_t sequence) const;
    // LSE, ROW_MAX, ROW_ENTROPY: [ho, tq] of one sequence; COLUMN_MASS: [ho, tk].
    std::vector<double> statistic(attn_slot, std::size_t sequence) const;
    std::vector<double> lse(std::size_t sequence) const { return statistic(ATTN_SLOT_LSE, sequence); }
    bool wrote_elsewhere() const;
    std::vector<Bytes> input_bytes() const;
    // Elements of BIAS for pairs that see each other nowhere are poison; this gives them a value instead.
    void set_hidden_bias(double value) { fill_bias(true, value); }

private:
    Index q_index(std::size_t b, std::int64_t i, std::int64_t h, std::int64_t c) const;
    Index kv_index(std::size_t b, std::int64_t j, std::int64_t h, std::int64_t c) const;
    // Of [ho, query] and [ho, key] tensors.
    Index lse_index(std::size_t b, std::int64_t h, std::int64_t i) const;
    Index mass_index(std::size_t b, std::int64_t h, std::int64_t j) const;
    void place_rows(Random &);
    void place_pages(Random &);
    void allocate();
    void fill();
    void fill_indices();
    void allocate_options();
    void allocate_ids();
    void fill_options();
    void fill_ids();
    void fill_bias(bool hidden, double value);
    // Calls visit(index) for every element of a statistic of sequence b, row-major.
    template <class Visitor>
    void visit_statistic(attn_slot, std::size_t b, Visitor &&) const;
    // Sets a token tensor, of queries or of keys, from a row-major array that `of` finds in a sequence. An axis of
    // extent 1 takes every index.
    template <class T>
    void fill_tokens(attn_slot, bool queries, std::int64_t heads, std::int64_t channels, std::vector<T> Sequence::*of);
    Tensor &add_input(attn_slot slot, attn_dtype dtype, std::vector<std::int64_t> shape,
                      const std::string &layout = "bshd", std::uint32_t index = 0);
    Tensor &input(attn_slot, std::uint32_t index = 0);
    std::vector<std::int64_t> token_shape(bool queries, std::initializer_list<std::int64_t> more = {}) const;

    Case spec_;
    std::vector<Content> contents_;
    std::vector<std::int64_t> q_start_, kv_start_; // packed: first row of each sequence, and the end
    std::int64_t q_total_ = 0, kv_total_ = 0;      // packed: rows of the tensors
    std::int64_t q_longest_ = 0, kv_longest_ = 0;
    std::vector<std::vector<std::int64_t>> pages_; // paged: of each sequence, also those not needed
    std::int64_t pool_pages_ = 0;

    struct Slot {
        attn_slot slot;
        Tensor tensor;
        std::uint32_t index = 0;
    };
    std::deque<Slot> inputs_; // addresses are stable
    Tensor out_;
    std::deque<Slot> statistics_; // LSE, ROW_MAX, ROW_ENTROPY, COLUMN_MASS, those in use
    std::deque<attn_tensor> views_;
};

// The dtype of a tensor of an option whose field says `name`.
attn_dtype option_dtype(const Case &, const std::string &name);
// Flags of a bind for axes of [B, Ho, Tq, Tk], or of [B, token, head, channel], without the first where packed.
std::uint32_t broadcast_flag(bool packed, int axis);

template <class T>
void Instance::fill_tokens(attn_slot slot, bool queries, std::int64_t heads, std::int64_t channels,
                           std::vector<T> Sequence::*of)
{
    Tensor &t = input(slot);
    for (std::size_t b = 0; b < contents_.size(); ++b) {
        const Sequence &s = contents_[b].used;
        const T *x = (s.*of).data();
        for (std::int64_t token = 0; token < (queries ? s.tq : s.tk); ++token)
            for (std::int64_t h = 0; h < heads; ++h) {
                const Index at = t.folded(queries ? q_index(b, token, h, 0) : kv_index(b, token, h, 0));
                t.set_row(at, x, t.shape().back() == 1 ? 1 : channels); // one for all where it is broadcast
                x += channels;
            }
    }
}

} // namespace conformance
