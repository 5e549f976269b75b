// A plan of every kind as a caller writes it, and tensors for any plan, filled so that every execute is valid.
#ifndef ATTN_TESTS_HARDENING_SAMPLES_H
#define ATTN_TESTS_HARDENING_SAMPLES_H

#include <attn/attn.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace attn::hardening {

/// The functions of the library that plans need: of the one linked here, or of one that dlopen() brought.
struct Functions {
    decltype(&attn_create) create;
    decltype(&attn_destroy) destroy;
    decltype(&attn_plan_dense) plan_dense;
    decltype(&attn_plan_merge) plan_merge;
    decltype(&attn_plan_append) plan_append;
    decltype(&attn_plan_supports) plan_supports;
    decltype(&attn_plan_workspace) plan_workspace;
    decltype(&attn_plan_slot) plan_slot;
    decltype(&attn_plan_describe) plan_describe;
    decltype(&attn_plan_destroy) plan_destroy;
    decltype(&attn_execute) execute;
    decltype(&attn_last_error) last_error;
};

/// A descriptor with all that it points to. Planning it allocates nothing outside the library.
class Sample {
public:
    Sample(std::string name, attn_kind kind);
    Sample(const Sample &) = delete;
    Sample &operator=(const Sample &) = delete;

    void bind(attn_slot slot, attn_dtype dtype = 0);
    attn_status plan(const Functions &library, attn_handle handle, attn_plan *plan) const;
    attn_status supports(const Functions &library, attn_handle handle) const;

    const std::string name;
    const attn_kind kind;
    attn_problem problem;
    attn_dense dense;
    attn_merge merge;
    attn_append append;
    attn_rope rope;
    attn_bias_table table;

private:
    const void *desc() const;

    std::vector<attn_bind> binds_;
};

/// Dense (batched, packed, paged, with many options, with split keys), merge and append.
std::vector<std::unique_ptr<Sample>> make_samples();

/// Tensors and workspace of a plan, at its bounds. Inputs are random, of a seed.
class Tensors {
public:
    Tensors(const Functions &library, attn_plan plan, uint64_t seed);
    Tensors(const Tensors &) = delete;
    Tensors &operator=(const Tensors &) = delete;

    attn_status execute();
    /// What the execute has written, as bytes. Caches begin with the contents of their seed.
    std::vector<unsigned char> outputs() const;
    /// Brings outputs back to what they were before the first execute.
    void reset();
    /// The view of a slot, to break it.
    attn_tensor *find(attn_slot slot);

private:
    const Functions library_;
    attn_plan plan_;
    std::vector<attn_arg> args_;
    std::vector<attn_tensor> views_;
    std::vector<std::vector<unsigned char>> memory_, first_;
    std::vector<unsigned char> workspace_;
};

} // namespace attn::hardening

#endif
