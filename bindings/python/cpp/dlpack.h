/**
 * @file dlpack.h
 * @brief The structs of DLPack's C interface, versions before 1.0 and 1.x (https://dmlc.github.io/dlpack/latest/).
 */
#pragma once

#include <cstdint>

namespace attn_python::dlpack {

struct Device {
    int32_t type; /**< kDLCPU = 1, and so on: the values of ::attn_device. */
    int32_t id;
};

struct DataType {
    uint8_t code;
    uint8_t bits;
    uint16_t lanes;
};

struct View {
    void *data;
    Device device;
    int32_t ndim;
    DataType dtype;
    int64_t *shape;
    int64_t *strides; /**< In elements; NULL: compact and row-major. */
    uint64_t byte_offset;
};

/** What a capsule named "dltensor" holds. */
struct Managed {
    View tensor;
    void *context;
    void (*deleter)(Managed *self); /**< May be NULL. */
};

/** What a capsule named "dltensor_versioned" holds. The first three members are those of every version. */
struct ManagedVersioned {
    uint32_t major;
    uint32_t minor;
    void *context;
    void (*deleter)(ManagedVersioned *self); /**< May be NULL. */
    uint64_t flags;
    View tensor;
};

constexpr uint64_t kReadOnly = 1 << 0; /**< Bit of ManagedVersioned::flags. */
constexpr uint64_t kCopied = 1 << 1;   /**< Likewise: the memory is a copy that nobody else sees. */

static_assert(sizeof(void *) != 8 || (sizeof(View) == 48 && sizeof(Managed) == 64 && sizeof(ManagedVersioned) == 80));

} // namespace attn_python::dlpack
