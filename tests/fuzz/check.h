// Rules that hold for every input. A broken one ends the process, which the fuzzer reports with the input.
#ifndef ATTN_TESTS_FUZZ_CHECK_H
#define ATTN_TESTS_FUZZ_CHECK_H

#include <attn/attn.h>

#include <cstdio>
#include <cstdlib>

namespace attn::fuzz {

inline void check(bool holds, const char *rule)
{
    if (holds) return;
    fprintf(stderr, "broken rule: %s\nlast error: %s\n", rule, attn_last_error());
    abort();
}

/// A status that a caller may see; with a message where it is a failure.
inline attn_status check_status(attn_status status)
{
    check(status <= ATTN_OK && status > ATTN_ERROR_INTERNAL, "a call returns OK or a documented failure, no INTERNAL");
    check(status == ATTN_OK || attn_last_error()[0] != '\0', "a failure has a message");
    return status;
}

} // namespace attn::fuzz

#endif
