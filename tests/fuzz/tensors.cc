#include "tensors.h"

#include "check.h"

#include <algorithm>
#include <cmath>

namespace attn::fuzz {
namespace {

constexpr int64_t kLargestTensor = 1 << 14; ///< Elements.
constexpr double kLargestWork = 1 << 21;    ///< Bound of multiplications, roughly.

/// Bits of a real number in a dtype.
uint32_t bits_of(float value, attn_dtype dtype)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (dtype == ATTN_BFLOAT16) return bits >> 16;
    if (dtype != ATTN_FLOAT16) return bits;
    // Cut, which serves as a filler: sign, exponent if it fits, upper mantissa.
    const int exponent = static_cast<int>(bits >> 23 & 0xff) - 127 + 15;
    const uint32_t sign = bits >> 16 & 0x8000;
    if (exponent >= 31) return sign | (std::isnan(value) ? 0x7e00u : 0x7c00u);
    if (exponent <= 0) return sign;
    return sign | static_cast<uint32_t>(exponent) << 10 | (bits >> 13 & 0x3ff);
}

void store(attn_dtype dtype, int64_t index, int64_t integer, float real, unsigned char *memory)
{
    const size_t bytes = element_bytes(dtype);
    uint64_t value = dtype == ATTN_INT32 || dtype == ATTN_INT64 ? static_cast<uint64_t>(integer) : bits_of(real, dtype);
    memcpy(memory + static_cast<size_t>(index) * bytes, &value, bytes); // little-endian
}

} // namespace

size_t element_bytes(attn_dtype dtype)
{
    return (dtype >> 8 & 0xff) / 8;
}

bool is_output(attn_slot slot)
{
    switch (slot) {
    case ATTN_SLOT_OUT:
    case ATTN_SLOT_LSE:
    case ATTN_SLOT_K_CACHE:
    case ATTN_SLOT_V_CACHE:
    case ATTN_SLOT_COLUMN_MASS:
    case ATTN_SLOT_ROW_MAX:
    case ATTN_SLOT_ROW_ENTROPY:
    case ATTN_SLOT_STATE_OUT:
        return true;
    default:
        return false;
    }
}

void fill(Input *input, attn_dtype dtype, bool boundaries, int64_t count, unsigned char *memory)
{
    static constexpr float kOdd[] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-45f, -0.0f, 65504.0f};
    uint64_t state = input->raw<uint8_t>();
    const int64_t most = input->one_in(8) ? input->integer(0, 1 << 16) : input->integer(1, 8);
    const int odd = input->one_in(4) ? 8 : 0;
    int64_t rising = 0;
    for (int64_t i = 0; i < count; ++i) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const uint64_t random = state >> 33;
        float real = static_cast<float>(random % 257) / 64.0f - 2.0f;
        if (odd && random % 64 == 0) real = kOdd[random / 64 % 8];
        const int64_t step = static_cast<int64_t>(random) % (most + 1);
        store(dtype, i, boundaries ? rising : step, real, memory);
        rising += step / 2;
    }
    if (count == 0 || !input->one_in(3)) return;
    static constexpr int64_t kBad[] = {-1, 0, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, 1 << 20};
    const int64_t place = input->integer(0, count - 1);
    store(dtype, place, input->one_in(2) ? input->integer(0, 64) : input->pick(kBad), 1.0f, memory);
}

bool Tensors::make(Input *input, Memory *memory, attn_plan plan, int64_t free)
{
    double work = 1;
    for (size_t position = 0;; ++position) {
        attn_bind bind;
        attn_tensor view;
        const attn_status status = check_status(attn_plan_slot(plan, position, &bind, &view));
        if (status == ATTN_ERROR_CAPACITY) break;
        check(status == ATTN_OK, "attn_plan_slot() lists every position up to the last");
        int64_t elements = 1;
        for (int axis = 0; axis < view.ndim; ++axis) {
            if (view.shape[axis] == -1) view.shape[axis] = free;
            if (view.shape[axis] > kLargestTensor) return false;
            elements *= view.shape[axis];
            if (elements > kLargestTensor) return false;
        }
        int64_t step = 1;
        for (int axis = view.ndim; axis-- > 0;) {
            view.strides[axis] = step;
            step *= std::max<int64_t>(view.shape[axis], 1);
        }
        if (bind.slot == ATTN_SLOT_Q || bind.slot == ATTN_SLOT_K)
            work *= static_cast<double>(std::max<int64_t>(elements, 1));
        const bool boundaries = bind.slot == ATTN_SLOT_CU_SEQLENS_Q || bind.slot == ATTN_SLOT_CU_SEQLENS_KV ||
                                bind.slot == ATTN_SLOT_BLOCK_TABLE_PTR;
        bytes.push_back(static_cast<size_t>(elements) * element_bytes(view.dtype));
        data.push_back(memory->take(bytes.back()));
        view.data = data.back();
        fill(input, view.dtype, boundaries, elements, data.back());
        views.push_back(view);
        args.push_back({bind.slot, bind.index, nullptr});
    }
    for (size_t i = 0; i < args.size(); ++i) args[i].tensor = &views[i];
    return work <= kLargestWork;
}

std::vector<std::vector<unsigned char>> Tensors::outputs() const
{
    std::vector<std::vector<unsigned char>> copies;
    for (size_t i = 0; i < args.size(); ++i)
        if (is_output(args[i].slot)) copies.emplace_back(data[i], data[i] + bytes[i]);
    return copies;
}

} // namespace attn::fuzz
