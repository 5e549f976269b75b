// Makes the SimdUnit of the instruction set that the including file is compiled for.
#ifndef ATTN_TESTS_UNIT_CORE_SIMD_BODY_H
#define ATTN_TESTS_UNIT_CORE_SIMD_BODY_H

#include "core_simd.h"

#include "backends/cpu/element_vectors.h"

namespace attn::test {
namespace {

using cpu::kWidth;
using cpu::load;
using cpu::store;

void run_exp2(const float *x, float *y, int64_t count)
{
    for (int64_t i = 0; i < count; i += kWidth) store(y + i, cpu::exp2(load(x + i)));
}

void run_exp(const float *x, float *y, int64_t count)
{
    for (int64_t i = 0; i < count; i += kWidth) store(y + i, cpu::exp(load(x + i)));
}

void run_tanh(const float *x, float *y, int64_t count)
{
    for (int64_t i = 0; i < count; i += kWidth) store(y + i, cpu::tanh(load(x + i)));
}

void run_larger(const float *a, const float *b, float *y)
{
    store(y, cpu::larger(load(a), load(b)));
}

void run_splat(float x, float *y)
{
    store(y, cpu::splat(x));
}

void run_transpose(const float *x, float *y)
{
    cpu::Vec rows[kWidth];
    for (int i = 0; i < kWidth; ++i) rows[i] = load(x + i * kWidth);
    cpu::transpose(rows);
    for (int i = 0; i < kWidth; ++i) store(y + i * kWidth, rows[i]);
}

float run_reduce_max(const float *x)
{
    return cpu::reduce_max(load(x));
}

float run_reduce_add(const float *x)
{
    return cpu::reduce_add(load(x));
}

void run_from_bfloat16(const uint16_t *x, float *y, int64_t count)
{
    for (int64_t i = 0; i < count; i += kWidth) store(y + i, cpu::from_bfloat16(x + i));
}

void run_from_float16(const uint16_t *x, float *y, int64_t count)
{
    for (int64_t i = 0; i < count; i += kWidth) store(y + i, cpu::from_float16(x + i));
}

void run_to_bfloat16(const float *x, uint16_t *y, int64_t count)
{
    for (int64_t i = 0; i < count; ++i) y[i] = cpu::to_bfloat16(x[i]);
}

void run_to_float16(const float *x, uint16_t *y, int64_t count)
{
    for (int64_t i = 0; i < count; ++i) y[i] = cpu::to_float16(x[i]);
}

template <cpu::Element Type>
void run_write(const float *x, uint16_t *y, int64_t count)
{
    for (int64_t i = 0; i < count; i += kWidth) cpu::write_vector(reinterpret_cast<char *>(y + i), Type, load(x + i));
}

constexpr SimdUnit make_unit(const char *isa)
{
    return {isa,
            kWidth,
            run_exp2,
            run_exp,
            run_tanh,
            run_larger,
            run_splat,
            run_transpose,
            run_reduce_max,
            run_reduce_add,
            run_from_bfloat16,
            run_from_float16,
            run_to_bfloat16,
            run_to_float16,
            run_write<cpu::Element::bfloat16>,
            run_write<cpu::Element::float16>};
}

} // namespace
} // namespace attn::test

#endif
