// Makes every driver call of a scenario fail, one at a time.
#ifndef ATTN_TESTS_CUDA_SWEEP_H
#define ATTN_TESTS_CUDA_SWEEP_H

#include "status.h"

#include <functional>
#include <map>
#include <string>

namespace attn::cuda::test {

/// Opens, plans, executes, and destroys what it made; stops at what fails. To be called at the end: before anything is
/// destroyed.
using Scenario = std::function<attn_status(const std::function<void()> &ending)>;

/// What a sweep did.
struct Sweep {
    std::map<std::string, int64_t> faults; ///< By entry point.
    int64_t total = 0, told = 0;           ///< The rest gives something back: nobody is told, and all goes on.
};

/// For each call of each entry point: the status, the message, nothing launched afterwards, nothing left behind, and
/// the scenario works again. Reports to GoogleTest.
Sweep fail_every_call(const Scenario &scenario);

} // namespace attn::cuda::test

#endif
