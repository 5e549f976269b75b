// From the description of a dense plan (attn_plan_describe()) to a case of the conformance tests.
#ifndef ATTN_SRC_CLI_DESCRIBED_PLAN_H
#define ATTN_SRC_CLI_DESCRIBED_PLAN_H

#include "json_reader.h"

#include "conformance/instance.h"

#include <cstdint>
#include <string>

namespace attn::cli {

/// What a description determines, and a case that fits in it.
struct DescribedPlan {
    conformance::Bounds bounds; ///< Of the plan. The case has at most these sizes.
    uint64_t flags = 0;
    attn_precision precision = ATTN_PRECISION_FULL;
    double scale = 0;
    conformance::Case spec;
};

/// Reads a description of schema 1. Sizes of the case are the bounds, reduced until the oracle has at most `work`
/// multiplications. Throws std::invalid_argument, "line:column: reason", where the text is no description of a dense
/// plan or names what the oracle does not know.
DescribedPlan read_description(const JsonValue &description, uint64_t seed, double work);

/// Sets what a case has no field for, so that the descriptor asks for the plan that was described.
void complete(const DescribedPlan &plan, conformance::Descriptor *descriptor);

/// Where two descriptions ask for different operations: "dense.softcap is 2, not 3", or nothing. This is how a
/// description that a case cannot express is found out.
std::string difference(const JsonValue &described, const JsonValue &planned);

/// Contents of the case that fit in the bounds, with the case cut to as many sequences, and the placement to use.
struct FittingContents {
    conformance::Case spec;
    std::vector<conformance::Content> contents;
    uint64_t placement = 0;
};
FittingContents draw_fitting(const DescribedPlan &plan);

} // namespace attn::cli

#endif
