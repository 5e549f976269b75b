// Problem: the validated, normalised description that every backend reads, in the parts that all kinds of plans share.
// Defaults, head maps and the set of tensors are resolved when it is made and nowhere else.
#ifndef ATTN_SRC_PROBLEM_H
#define ATTN_SRC_PROBLEM_H

#include "status.h"

#include <string>
#include <vector>

namespace attn {

/// What an extent of a tensor stands for. Extents that share an axis must agree in one attn_execute().
enum class Axis : int32_t {
    fixed,         ///< Exactly the bound: heads, channels.
    batch,         ///< Sequences.
    batch_plus_1,  ///< Boundaries between sequences.
    query,         ///< Tq.
    key,           ///< Tk.
    total_q,       ///< Packed rows of Q.
    total_kv,      ///< Packed rows of K and V.
    k_pages,       ///< Pages of the pool of K.
    v_pages,       ///< Pages of the pool of V.
    table_columns, ///< Pages of a sequence in BLOCK_TABLE.
    table_entries, ///< Entries of a flat BLOCK_TABLE.
    positions,     ///< Rows of ROPE_COS and ROPE_SIN.
    states,        ///< Entries of a pool of states.
    count
};
constexpr int kAxisCount = static_cast<int>(Axis::count);

/// The bound of an extent that may have any size.
constexpr int64_t kFree = -1;

/// Largest extent of anything: products of two stay within 64 bits, and a float has a place for every byte.
constexpr int64_t kLargestExtent = int64_t{1} << 47;

/// A tensor that a plan takes.
struct TensorSpec {
    attn_slot slot = 0;
    uint32_t index = 0;
    attn_dtype dtype = 0;
    uint32_t flags = 0; ///< ATTN_BIND_*: promises of alignment and contiguity, broadcast axes.
    bool output = false;
    int32_t ndim = 0;
    Axis axes[5] = {};
    int64_t bounds[5] = {}; ///< Largest extents; kFree where there is no bound.
};

/// Where keys and values come from.
enum class Storage : int32_t { batched, packed, paged };

/// What attn_problem says, with its defaults, and the tensors of the plan.
struct Problem {
    attn_kind kind = 0;
    attn_device device = ATTN_DEVICE_CPU; ///< Of the handle: what flags imply depends on it.
    attn_direction direction = ATTN_FORWARD;
    uint64_t flags = 0;
    attn_precision precision = ATTN_PRECISION_FULL;
    attn_dtype q_dtype = 0, k_dtype = 0, v_dtype = 0, out_dtype = 0;
    int64_t batch = 0, max_q = 0, max_kv = 0, total_q = 0, total_kv = 0, page_size = 0;
    int64_t heads_q = 0, heads_k = 0, heads_v = 0;
    int64_t heads_out = 0; ///< max of the three.
    int64_t dim_qk = 0, dim_v = 0;
    double scale = 0;
    bool packed_q = false;
    Storage storage = Storage::batched;
    std::vector<TensorSpec> tensors;
    int64_t bounds[kAxisCount] = {};
    /// Options in use that no kernel of this release computes, by name: an implementation that does not serve one
    /// refuses with it.
    std::vector<std::string> unserved;

    Problem() = default;
    virtual ~Problem() = default;
    Problem(const Problem &) = delete;
    Problem &operator=(const Problem &) = delete;

    /// Position of a tensor in `tensors`, -1 if the plan does not take it.
    int find(attn_slot slot, uint32_t index = 0) const noexcept;
    bool has(attn_slot slot) const noexcept { return find(slot) >= 0; }
};

} // namespace attn

#endif
