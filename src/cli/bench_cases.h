// What `attn bench` measures: shapes, dtypes and what bounds them.
#ifndef ATTN_SRC_CLI_BENCH_CASES_H
#define ATTN_SRC_CLI_BENCH_CASES_H

#include <attn/attn.h>

#include <cstdint>
#include <string>
#include <vector>

namespace attn::cli {

enum class Operator { dense, merge, append, linear, conv, scan };

/// What a case is compared with.
enum class Ceiling {
    multiply_add, ///< Of float32 in registers, whatever the dtypes. The rate is FLOP/s.
    read          ///< Of memory. The rate is bytes/s.
};

/// Sizes that are not in use keep their defaults.
struct BenchCase {
    std::string name;
    Operator op = Operator::dense;
    Ceiling ceiling = Ceiling::multiply_add;
    attn_dtype dtype = ATTN_FLOAT32;          ///< Of Q, K, V and OUT.
    attn_dtype cache_dtype = 0;               ///< Append: of the caches; 0: dtype.
    int64_t batch = 1, queries = 0, keys = 0; ///< Longest sequences.
    int64_t heads_q = 0, heads_kv = 0;
    int64_t dim_qk = 0, dim_v = 0;
    attn_align causal = ATTN_ALIGN_NONE;
    int64_t window_left = -1; ///< Below 0: no window.
    int64_t page_size = 0;
    bool packed = false; ///< Sequences of different lengths, see lengths().
    bool v_aliases_k = false;
    bool rope = false;
    attn_decay decay = ATTN_DECAY_NONE; ///< Linear: log decays, given as they are.
    attn_update update = ATTN_UPDATE_ADD;
    bool recurrent = false;
    int64_t width = 0;    ///< Of a convolution.
    int64_t parts = 0;    ///< Of a merge.
    int64_t shortest = 0; ///< Where sequences differ in length: of the first; the last has `keys`.

    /// Length of each sequence: of queries and keys if packed, else of keys. Geometric from the shortest to the
    /// longest.
    std::vector<int64_t> lengths() const;
    /// Multiplications and additions of the products; masked pairs do not count. Linear: those of chunks of 64.
    double flops() const;
    /// Dense: K and V, once, as they are stored. Merge, append, conv and scan: all that is read and written, caches
    /// once. Linear: states, read and written.
    double bytes() const;
};

/// The committed table.
const std::vector<BenchCase> &bench_cases();

/// Those whose name contains the pattern; with `*`, `?` or `[` in it, those whose name is matched by it as file names
/// are by a shell.
std::vector<BenchCase> filter_cases(const std::string &pattern);

} // namespace attn::cli

#endif
