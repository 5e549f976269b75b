// Integers of the test kernel.
#ifndef TEST_TYPES_H
#define TEST_TYPES_H

namespace test {

using i64 = long long;

} // namespace test

#endif
