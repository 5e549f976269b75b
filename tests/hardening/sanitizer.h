// Whether the C library is itself, and its functions can be replaced: a sanitizer has already put its own in front.
#ifndef ATTN_TESTS_HARDENING_SANITIZER_H
#define ATTN_TESTS_HARDENING_SANITIZER_H

#include <cstdlib> // defines __GLIBC__

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
#define ATTN_TEST_CAN_INTERPOSE 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define ATTN_TEST_CAN_INTERPOSE 0
#endif
#endif
#if !defined(ATTN_TEST_CAN_INTERPOSE)
#define ATTN_TEST_CAN_INTERPOSE 1
#endif

#endif
