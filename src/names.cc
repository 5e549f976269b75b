#include "names.h"

#include <cstdio>

namespace attn {
namespace {

template <class Key>
struct Entry {
    Key key;
    const char *name;
};

template <class Key, size_t N>
const char *find(const Entry<Key> (&table)[N], Key key) noexcept
{
    for (const Entry<Key> &entry : table)
        if (entry.key == key) return entry.name;
    return nullptr;
}

constexpr Entry<attn_slot> kSlots[] = {
    {ATTN_SLOT_Q, "Q"},
    {ATTN_SLOT_K, "K"},
    {ATTN_SLOT_V, "V"},
    {ATTN_SLOT_OUT, "OUT"},
    {ATTN_SLOT_LSE, "LSE"},
    {ATTN_SLOT_PARTIAL_OUT, "PARTIAL_OUT"},
    {ATTN_SLOT_PARTIAL_LSE, "PARTIAL_LSE"},
    {ATTN_SLOT_K_CACHE, "K_CACHE"},
    {ATTN_SLOT_V_CACHE, "V_CACHE"},
    {ATTN_SLOT_CU_SEQLENS_Q, "CU_SEQLENS_Q"},
    {ATTN_SLOT_CU_SEQLENS_KV, "CU_SEQLENS_KV"},
    {ATTN_SLOT_SEQLENS_Q, "SEQLENS_Q"},
    {ATTN_SLOT_SEQLENS_KV, "SEQLENS_KV"},
    {ATTN_SLOT_BLOCK_TABLE, "BLOCK_TABLE"},
    {ATTN_SLOT_BLOCK_TABLE_PTR, "BLOCK_TABLE_PTR"},
    {ATTN_SLOT_SLOT_MAPPING, "SLOT_MAPPING"},
    {ATTN_SLOT_BIAS, "BIAS"},
    {ATTN_SLOT_BIAS_TABLE, "BIAS_TABLE"},
    {ATTN_SLOT_BIAS_LOWRANK_Q, "BIAS_LOWRANK_Q"},
    {ATTN_SLOT_BIAS_LOWRANK_K, "BIAS_LOWRANK_K"},
    {ATTN_SLOT_ALIBI_SLOPES, "ALIBI_SLOPES"},
    {ATTN_SLOT_SINK_LOGITS, "SINK_LOGITS"},
    {ATTN_SLOT_Q_TEMPERATURE, "Q_TEMPERATURE"},
    {ATTN_SLOT_V_TEMPERATURE, "V_TEMPERATURE"},
    {ATTN_SLOT_GATE, "GATE"},
    {ATTN_SLOT_HEAD_WEIGHT, "HEAD_WEIGHT"},
    {ATTN_SLOT_IDS_Q, "IDS_Q"},
    {ATTN_SLOT_IDS_KV, "IDS_KV"},
    {ATTN_SLOT_POSITIONS_Q, "POSITIONS_Q"},
    {ATTN_SLOT_POSITIONS_KV, "POSITIONS_KV"},
    {ATTN_SLOT_MASK_TABLE, "MASK_TABLE"},
    {ATTN_SLOT_MASK, "MASK"},
    {ATTN_SLOT_ROPE_COS, "ROPE_COS"},
    {ATTN_SLOT_ROPE_SIN, "ROPE_SIN"},
    {ATTN_SLOT_DECAY, "DECAY"},
    {ATTN_SLOT_BETA, "BETA"},
    {ATTN_SLOT_ERASE, "ERASE"},
    {ATTN_SLOT_WRITE, "WRITE"},
    {ATTN_SLOT_BONUS, "BONUS"},
    {ATTN_SLOT_DPLR_B, "DPLR_B"},
    {ATTN_SLOT_DPLR_C, "DPLR_C"},
    {ATTN_SLOT_A_LOG, "A_LOG"},
    {ATTN_SLOT_DT_BIAS, "DT_BIAS"},
    {ATTN_SLOT_FEATURE, "FEATURE"},
    {ATTN_SLOT_STATE_IN, "STATE_IN"},
    {ATTN_SLOT_STATE_OUT, "STATE_OUT"},
    {ATTN_SLOT_STATE_INDEX, "STATE_INDEX"},
    {ATTN_SLOT_X, "X"},
    {ATTN_SLOT_CONV_WEIGHT, "CONV_WEIGHT"},
    {ATTN_SLOT_CONV_BIAS, "CONV_BIAS"},
    {ATTN_SLOT_RESIDUAL, "RESIDUAL"},
    {ATTN_SLOT_COLUMN_MASS, "COLUMN_MASS"},
    {ATTN_SLOT_ROW_MAX, "ROW_MAX"},
    {ATTN_SLOT_ROW_ENTROPY, "ROW_ENTROPY"},
    {ATTN_SLOT_STATUS, "STATUS"},
    {ATTN_SLOT_RNG, "RNG"},
};

struct Dtype {
    attn_dtype key;
    const char *name;
    int64_t bytes;
};

constexpr Dtype kDtypes[] = {
    {ATTN_BOOL, "bool", 1},
    {ATTN_INT4, "int4", 0},
    {ATTN_UINT4, "uint4", 0},
    {ATTN_INT8, "int8", 1},
    {ATTN_UINT8, "uint8", 1},
    {ATTN_INT32, "int32", 4},
    {ATTN_INT64, "int64", 8},
    {ATTN_UINT64, "uint64", 8},
    {ATTN_FLOAT4_E2M1FN, "float4_e2m1fn", 0},
    {ATTN_FLOAT8_E4M3FN, "float8_e4m3fn", 1},
    {ATTN_FLOAT8_E4M3FNUZ, "float8_e4m3fnuz", 1},
    {ATTN_FLOAT8_E5M2, "float8_e5m2", 1},
    {ATTN_FLOAT8_E8M0FNU, "float8_e8m0fnu", 1},
    {ATTN_FLOAT16, "float16", 2},
    {ATTN_BFLOAT16, "bfloat16", 2},
    {ATTN_FLOAT32, "float32", 4},
    {ATTN_FLOAT64, "float64", 8},
};

constexpr Entry<attn_status> kStatuses[] = {
    {ATTN_OK, "ATTN_OK"},
    {ATTN_ERROR_INVALID, "ATTN_ERROR_INVALID"},
    {ATTN_ERROR_UNSUPPORTED, "ATTN_ERROR_UNSUPPORTED"},
    {ATTN_ERROR_ABI, "ATTN_ERROR_ABI"},
    {ATTN_ERROR_NO_DEVICE, "ATTN_ERROR_NO_DEVICE"},
    {ATTN_ERROR_MEMORY, "ATTN_ERROR_MEMORY"},
    {ATTN_ERROR_WORKSPACE, "ATTN_ERROR_WORKSPACE"},
    {ATTN_ERROR_CAPACITY, "ATTN_ERROR_CAPACITY"},
    {ATTN_ERROR_RUNTIME, "ATTN_ERROR_RUNTIME"},
    {ATTN_ERROR_COMPILE, "ATTN_ERROR_COMPILE"},
    {ATTN_ERROR_DATA, "ATTN_ERROR_DATA"},
    {ATTN_ERROR_FORKED, "ATTN_ERROR_FORKED"},
    {ATTN_ERROR_INTERNAL, "ATTN_ERROR_INTERNAL"},
};

constexpr Entry<attn_kind> kKinds[] = {
    {ATTN_KIND_DENSE, "dense"},   {ATTN_KIND_MERGE, "merge"}, {ATTN_KIND_APPEND, "append"},
    {ATTN_KIND_LINEAR, "linear"}, {ATTN_KIND_CONV, "conv"},   {ATTN_KIND_SCAN, "scan"},
};

constexpr Entry<attn_device> kDevices[] = {
    {ATTN_DEVICE_DEFAULT, "default"},           {ATTN_DEVICE_CPU, "cpu"}, {ATTN_DEVICE_CUDA, "cuda"},
    {ATTN_DEVICE_CUDA_HOST, "cuda_host"},       {ATTN_DEVICE_HIP, "hip"}, {ATTN_DEVICE_HIP_HOST, "hip_host"},
    {ATTN_DEVICE_CUDA_MANAGED, "cuda_managed"},
};

constexpr Entry<attn_align> kAligns[] = {
    {ATTN_ALIGN_NONE, "none"},
    {ATTN_TOP_LEFT, "top_left"},
    {ATTN_BOTTOM_RIGHT, "bottom_right"},
    {ATTN_BY_POSITION, "by_position"},
};

constexpr Entry<attn_activation> kActivations[] = {
    {ATTN_SOFTMAX, "softmax"},
    {ATTN_SIGMOID, "sigmoid"},
    {ATTN_RELU, "relu"},
};

constexpr Entry<attn_direction> kDirections[] = {
    {ATTN_FORWARD, "forward"},
    {ATTN_BACKWARD, "backward"},
    {ATTN_JVP, "jvp"},
};

constexpr Entry<attn_decay> kDecays[] = {
    {ATTN_DECAY_NONE, "none"},
    {ATTN_DECAY_HEAD, "head"},
    {ATTN_DECAY_TOKEN, "token"},
    {ATTN_DECAY_CHANNEL, "channel"},
};

constexpr Entry<attn_update> kUpdates[] = {
    {ATTN_UPDATE_ADD, "add"},
    {ATTN_UPDATE_DELTA, "delta"},
    {ATTN_UPDATE_GATED_DELTA, "gated_delta"},
    {ATTN_UPDATE_DPLR, "dplr"},
};

constexpr Entry<attn_feature_map> kFeatureMaps[] = {
    {ATTN_FEATURE_IDENTITY, "identity"}, {ATTN_FEATURE_ELU1, "elu1"},       {ATTN_FEATURE_RELU, "relu"},
    {ATTN_FEATURE_SILU, "silu"},         {ATTN_FEATURE_SOFTMAX, "softmax"}, {ATTN_FEATURE_TAYLOR2, "taylor2"},
    {ATTN_FEATURE_HEDGEHOG, "hedgehog"},
};

constexpr attn_slot kDerivedBits = ATTN_SLOT_GRAD | ATTN_SLOT_TANGENT | ATTN_SLOT_SCALE | ATTN_SLOT_ZERO_POINT;

thread_local char slot_text[64];
thread_local char dtype_buffer[32];

} // namespace

bool slot_exists(attn_slot slot) noexcept
{
    const attn_slot derived = slot & kDerivedBits;
    return find(kSlots, static_cast<attn_slot>(slot & ~kDerivedBits)) && (derived & (derived - 1)) == 0;
}

const char *slot_name(attn_slot slot) noexcept
{
    const char *base = find(kSlots, static_cast<attn_slot>(slot & ~kDerivedBits));
    const attn_slot derived = slot & kDerivedBits;
    if (!base) return "unknown slot";
    if (!derived) return base;
    const char *prefix = derived == ATTN_SLOT_GRAD         ? "GRAD"
                         : derived == ATTN_SLOT_TANGENT    ? "TANGENT"
                         : derived == ATTN_SLOT_SCALE      ? "SCALE"
                         : derived == ATTN_SLOT_ZERO_POINT ? "ZERO_POINT"
                                                           : nullptr;
    if (!prefix) return "unknown slot";
    snprintf(slot_text, sizeof slot_text, "%s|%s", prefix, base);
    return slot_text;
}

const char *dtype_name(attn_dtype dtype) noexcept
{
    for (const Dtype &entry : kDtypes)
        if (entry.key == dtype) return entry.name;
    return nullptr;
}

const char *dtype_text(attn_dtype dtype) noexcept
{
    if (const char *name = dtype_name(dtype)) return name;
    snprintf(dtype_buffer, sizeof dtype_buffer, "dtype 0x%06x", dtype);
    return dtype_buffer;
}

int64_t dtype_bytes(attn_dtype dtype) noexcept
{
    for (const Dtype &entry : kDtypes)
        if (entry.key == dtype) return entry.bytes;
    return 0;
}

const char *status_name(attn_status status) noexcept
{
    const char *name = find(kStatuses, status);
    return name ? name : "unknown attn_status";
}

const char *kind_name(attn_kind kind) noexcept
{
    const char *name = find(kKinds, kind);
    return name ? name : "plan";
}

const char *device_name(attn_device device) noexcept
{
    return find(kDevices, device);
}

const char *align_name(attn_align align) noexcept
{
    return find(kAligns, align);
}

const char *activation_name(attn_activation activation) noexcept
{
    return find(kActivations, activation);
}

const char *direction_name(attn_direction direction) noexcept
{
    return find(kDirections, direction);
}

const char *decay_name(attn_decay decay) noexcept
{
    return find(kDecays, decay);
}

const char *update_name(attn_update update) noexcept
{
    return find(kUpdates, update);
}

const char *feature_map_name(attn_feature_map map) noexcept
{
    return find(kFeatureMaps, map);
}

} // namespace attn
