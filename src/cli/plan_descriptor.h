// From the description of a plan (attn_plan_describe()) back to a descriptor that asks for the same plan.
#ifndef ATTN_SRC_CLI_PLAN_DESCRIPTOR_H
#define ATTN_SRC_CLI_PLAN_DESCRIPTOR_H

#include "json_reader.h"
#include "mask_descriptor.h"

#include <attn/attn.h>

#include <vector>

namespace attn::cli {

/// A descriptor with what it points to. Not to be moved: it points into itself.
class PlanDescriptor {
public:
    /// Reads a description of schema 1, of any kind of plan. Throws std::invalid_argument, "line:column: reason", where
    /// the text is none.
    explicit PlanDescriptor(const JsonValue &description);
    ~PlanDescriptor() = default;
    PlanDescriptor(const PlanDescriptor &) = delete;
    PlanDescriptor &operator=(const PlanDescriptor &) = delete;

    /// Plans it.
    attn_status plan(attn_handle handle, attn_plan *out) const;

private:
    void read_problem(const JsonValue &problem);
    void read_binds(const JsonValue &tensors);
    void read_dense(const JsonValue &dense);
    void read_merge(const JsonValue &merge);
    void read_append(const JsonValue &append);
    void bind_problem(const attn_problem **out);
    bool is_bound(attn_slot slot) const;

    attn_kind kind_ = 0;
    std::vector<attn_bind> binds_;
    attn_problem problem_ = {};
    attn_bias_table table_ = {};
    attn_rope rope_ = {};
    MaskDescriptor mask_;
    attn_dense dense_ = {};
    attn_merge merge_ = {};
    attn_append append_ = {};
};

} // namespace attn::cli

#endif
