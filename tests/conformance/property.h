// What the property tests share: running a call, and comparing outputs bit by bit.
#pragma once

#include "backend.h"
#include "measure.h"
#include "session.h"
#include "table.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

namespace conformance {

struct Output {
    std::vector<std::vector<double>> out, lse, mass; // by sequence, as Instance gives them; empty where not asked for
};

Output output_of(const Instance &);
// Poisons the outputs, executes and reads; failures are added to the test.
Output run(attn_plan, Instance &);
// A plan for the case with the bounds of the instance. Null and a failure if it is refused.
PlanPointer plan_for(attn_handle, const Instance &);
PlanPointer plan_for(attn_handle, const Case &, const Bounds &);
// Plans, runs once on a handle with the case's workers.
Output run_alone(const Backend &, Instance &);

// Equal bits (NaN equals NaN of the same bits). Values come from one dtype, so doubles tell them apart.
bool same_bits(const std::vector<double> &, const std::vector<double> &);
bool same_bits(const Output &, const Output &);

// Random descriptors that pass the filter after the change and that all backends serve. Half of them have COLUMN_MASS,
// unless changed.
std::vector<Case> sample(std::uint64_t purpose, int count, const std::function<void(Case &)> &change,
                         const std::function<bool(const Case &)> &keep = {});

// Calls body(backend) for every backend, with its name in the messages.
void for_each_backend(const std::function<void(const Backend &)> &body);

} // namespace conformance

// In a test: names the case in every failure below.
#define ATTN_TRACE_CASE(c) SCOPED_TRACE("FAILED-CASE " + ::conformance::to_json(c))
