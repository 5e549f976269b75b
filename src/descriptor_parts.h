// What the readers of descriptors share: checks of single fields, attn_problem, and the binds as a set.
#ifndef ATTN_SRC_DESCRIPTOR_PARTS_H
#define ATTN_SRC_DESCRIPTOR_PARTS_H

#include "problem.h"

#include <algorithm>
#include <cstdint>

namespace attn {

constexpr int64_t kLargestHeadDim = int64_t{1} << 20;

// Each says in the message which field breaks which rule.
[[nodiscard]] attn_status check_extent(const char *field, int64_t value, int64_t least, int64_t most = kLargestExtent);
[[nodiscard]] attn_status check_flags(const char *field, uint64_t value, uint64_t known);
[[nodiscard]] attn_status check_enum(const char *field, int32_t value, int32_t last);
[[nodiscard]] attn_status check_unused(const char *field, double value, const char *mode);

/// Reads sizes and dtypes with their defaults: everything that attn_problem alone decides.
[[nodiscard]] attn_status read_problem(const attn_problem *given, Problem *out);

/// The binds, looked at as a set: what is present, and how it differs from the default.
class Binds {
public:
    /// Copies and checks the binds of a problem.
    [[nodiscard]] attn_status read(const attn_problem &problem);

    /// The bind of a slot, marked as understood; NULL if there is none.
    const attn_bind *take(attn_slot slot, uint32_t index = 0)
    {
        for (size_t i = 0; i < binds_.size(); ++i)
            if (binds_[i].slot == slot && binds_[i].index == index) {
                taken_[i] = true;
                return &binds_[i];
            }
        return nullptr;
    }

    bool has(attn_slot slot) const
    {
        return std::any_of(binds_.begin(), binds_.end(), [&](const attn_bind &bind) { return bind.slot == slot; });
    }

    /// Whether a slot is bound with its axis `axis` broadcast.
    bool broadcasts(attn_slot slot, int axis) const
    {
        return std::any_of(binds_.begin(), binds_.end(),
                           [&](const attn_bind &bind) { return bind.slot == slot && (bind.flags >> axis & 1); });
    }

    template <class Function>
    void for_each_left(Function function) const
    {
        for (size_t i = 0; i < binds_.size(); ++i)
            if (!taken_[i]) function(i, binds_[i]);
    }

private:
    [[nodiscard]] attn_status check(size_t i) const;

    std::vector<attn_bind> binds_;
    std::vector<bool> taken_;
};

/// Dtypes that a bind may choose for a tensor.
enum class DtypeChoice { fixed, integer, real };

/// Applies a bind to the tensor it declares: dtype, promises, and axes to broadcast where `broadcast` allows them.
[[nodiscard]] attn_status apply_bind(const attn_bind &bind, DtypeChoice choice, bool broadcast, TensorSpec *spec);

/// Adds slot STATUS to a problem where checked mode reports in it: on a GPU, where nothing is read by the host.
[[nodiscard]] attn_status add_status(Binds *binds, Problem *problem);

} // namespace attn

#endif
