// Options that a backend may lack: by what name it refuses them, and how a case does without.
#pragma once

#include "backend.h"

#include <string>
#include <vector>

namespace conformance {

struct Option {
    const char *name;       // as in the message of ATTN_ERROR_UNSUPPORTED
    bool may_be_refused;    // today; false once every backend serves it
    void (*remove)(Case &); // takes it out of a case
};
const std::vector<Option> &options();
// Resets fields that mean nothing without the option they belong to, which would be an error.
void tidy(Case &);

struct Refusal {
    std::vector<std::string> names; // of the options refused; empty if the case is served
    std::string broken;             // why planning fails otherwise
};
// Asks attn_plan_supports() and sorts its answer. An option that may not be refused is a failure.
Refusal refusal(const Backend &, const Case &);
// The case without the options named.
Case without(Case, const std::vector<std::string> &names);

} // namespace conformance
