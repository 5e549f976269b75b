// The fuzzer's bytes as choices. Bytes that have run out choose what is usual, so that the empty input is a valid call
// and every byte makes it odder.
#ifndef ATTN_TESTS_FUZZ_INPUT_H
#define ATTN_TESTS_FUZZ_INPUT_H

#include <attn/attn.h>

#include <cstddef>
#include <cstdint>
#include <fuzzer/FuzzedDataProvider.h>
#include <limits>

namespace attn::fuzz {

class Input {
public:
    Input(const uint8_t *data, size_t size) : bytes_(data, size) {}

    /// True about once in `n` times, false once the bytes have run out.
    bool one_in(int n) { return bytes_.ConsumeIntegralInRange<int>(0, n - 1) == n - 1 && n > 1; }
    /// low once the bytes have run out.
    int64_t integer(int64_t low, int64_t high) { return bytes_.ConsumeIntegralInRange<int64_t>(low, high); }
    template <class T>
    T raw()
    {
        return bytes_.ConsumeIntegral<T>();
    }
    /// One of a list, the first once the bytes have run out.
    template <class T, size_t N>
    T pick(const T (&list)[N])
    {
        return list[bytes_.ConsumeIntegralInRange<size_t>(0, N - 1)];
    }

    /// An extent or count: mostly `usual` or small, at times at a border, at times anything.
    int64_t extent(int64_t usual)
    {
        static constexpr int64_t kBorders[] = {-1,
                                               0,
                                               1025,
                                               (int64_t{1} << 20) + 1,
                                               int64_t{1} << 31,
                                               int64_t{1} << 32,
                                               int64_t{1} << 46,
                                               int64_t{1} << 47,
                                               (int64_t{1} << 47) + 1,
                                               int64_t{1} << 62,
                                               std::numeric_limits<int64_t>::max() - 1,
                                               std::numeric_limits<int64_t>::max(),
                                               std::numeric_limits<int64_t>::min() + 1,
                                               std::numeric_limits<int64_t>::min()};
        const int64_t choice = integer(0, 31);
        if (choice < 16) return usual;
        if (choice < 28) return integer(0, 17);
        return choice < 31 ? pick(kBorders) : raw<int64_t>();
    }

    /// A real number: mostly `usual`, at times tiny, huge or none.
    double real(double usual)
    {
        static constexpr double kOdd[] = {1.0,
                                          -1.0,
                                          0.0,
                                          0.5,
                                          1e-31,
                                          1e-300,
                                          std::numeric_limits<double>::denorm_min(),
                                          1e31,
                                          1e300,
                                          std::numeric_limits<double>::infinity(),
                                          -std::numeric_limits<double>::infinity(),
                                          std::numeric_limits<double>::quiet_NaN()};
        if (!one_in(3)) return usual;
        return one_in(3) ? pick(kOdd) : bytes_.ConsumeFloatingPointInRange<double>(0, 100);
    }

    /// Flags: mostly none, at times some of the known, at times any.
    template <class T>
    T flags(T known)
    {
        if (!one_in(2)) return 0;
        const T bits = raw<T>();
        return one_in(16) ? bits : static_cast<T>(bits & known);
    }

    /// An enumerator 0 .. last, at times another number.
    int32_t enumerator(int32_t last)
    {
        if (!one_in(2)) return 0;
        return one_in(16) ? raw<int32_t>() : static_cast<int32_t>(integer(0, last));
    }

private:
    FuzzedDataProvider bytes_;
};

} // namespace attn::fuzz

#endif
