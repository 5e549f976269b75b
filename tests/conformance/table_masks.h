// Mask programs for tables of cases: named ones, built for the heads of a case, and random ones.
#pragma once

#include "axis.h"

#include <string>
#include <vector>

namespace conformance {

// "program": none, and one value for every kind of atom and use. To stand behind the axis of heads.
Axis mask_programs();
// Those of its values that go by the diagonal of the descriptor.
std::vector<std::string> programs_by_diagonal();

// A random program for the heads of the case, that goes by the diagonal of the descriptor only if there is one.
std::string random_mask(const Case &, Random &);

} // namespace conformance
