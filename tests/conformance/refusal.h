// Options and sizes that a backend may lack: by what name it refuses them, and how a case does without.
#pragma once

#include "backend.h"

#include <string>
#include <vector>

namespace conformance {

struct Option {
    const char *name;       // as in the message of ATTN_ERROR_UNSUPPORTED
    const char *refused_by; // today: a family of backends ("cuda"), or null
    void (*remove)(Case &); // takes it out of a case, or makes it smaller
};
const std::vector<Option> &options();
// What every case has, but not every kernel takes all of.
const std::vector<Option> &limits();
// Resets fields that mean nothing without the option they belong to, which would be an error.
void tidy(Case &);

struct Refusal {
    std::vector<std::string> names; // of the options refused; empty if the case is served
    std::string whole;              // why there is no kernel at all, where one may not be compiled
    std::string broken;             // why planning fails otherwise
    bool served() const { return names.empty() && whole.empty() && broken.empty(); }
};
// Asks attn_plan_supports() and sorts its answer. An option that may not be refused is a failure.
Refusal refusal(const Backend &, const Case &);
// The case without the options named.
Case without(Case, const std::vector<std::string> &names);
// Takes out what the backend refuses, so that the rest of the case can be run all the same. The result has the names
// that were refused; after a `whole` there is nothing to run.
Refusal reduce(const Backend &, Case &);
// Of a failed attempt to plan on a GPU: whether it is only for want of a compiler that this run forbids.
bool lacks_compiler(attn_status, const std::string &message);

} // namespace conformance
