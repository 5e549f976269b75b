// Which element a thread has.
#ifndef TEST_INDEX_H
#define TEST_INDEX_H

#include "test/types.h"

namespace test {

constexpr i64 index(unsigned block, unsigned threads, unsigned thread)
{
    return i64{block} * threads + thread;
}

} // namespace test

#endif
