/**
 * @file attn.h
 * @brief libattn: attention behind one C ABI.
 *
 * This release computes dense and linear forward attention, merges and appends on the CPU, and dense forward attention,
 * merges and appends on NVIDIA GPUs. What the header declares beyond that is part of the contract and refused by name
 * with ::ATTN_ERROR_UNSUPPORTED until a kernel serves it; attn_plan_supports() answers.
 *
 * A **handle** owns a device. A **plan** is made once from a descriptor (bounds, dtypes, options) and then executed any
 * number of times on tensors within those bounds. attn_execute() neither allocates, compiles nor synchronises.
 *
 * @par Axes
 * Strides are free, the order of axes is not:
 * - token tensors are `[batch, token, head, channel]`; packed (CU_SEQLENS_* present) `[token, head, channel]`; paged
 *   `[page, row, head, channel]`. A tensor without channel or head axis drops it.
 * - score tensors are `[batch, head, query, key]` and lose the axis they are reduced over:
 *   LSE is `[batch, head, query]`, COLUMN_MASS `[batch, head, key]`. Packed, they lose `batch`.
 *
 * Another memory order is a matter of strides: see attn_tensor_swap_axes().
 *
 * @par Heads
 * OUT has `Ho = max(heads_q, heads_k, heads_v)` heads. Its head h uses Q head `h * heads_q / Ho`, K head
 * `h * heads_k / Ho`, V head `h * heads_v / Ho`; each count divides Ho.
 *
 * @par Lengths
 * The shapes of the views give the sizes of a call, within the bounds of the plan; length tensors only shorten. Bounds
 * between packed sequences never decrease, start at 0 or above and end within the rows of the view. Paged keys: without
 * SEQLENS_KV a sequence has as many as its listed pages hold; with it, only the pages that its length reaches are read.
 * Sizes and lengths of 0 are valid.
 *
 * @par Which tensors a plan takes
 * Those always needed, those a descriptor field implies (its text says so), and those bound by an ::attn_bind. Each
 * must be passed to every attn_execute(), once; nothing else may be.
 *
 * @par Structs
 * A struct that starts with `size` grows at its end in later versions: zero it, set `size = sizeof` it, set what you
 * need. Zero is the default of every field; where 0 itself is meaningful a flag announces the field. A non-zero field
 * whose flag, slot or mode is not in use is an error, never ignored. Descriptors and
 * everything they point to are read during the call only. Structs without `size` never change.
 *
 * @par Threads and errors
 * Every function may be called from any thread. Nothing throws, prints, exits or sets errno. A function that fails
 * leaves its outputs untouched; attn_last_error() has the message. Where not said otherwise pointers must not be NULL.
 */
#ifndef ATTN_ATTN_H
#define ATTN_ATTN_H

#include <stddef.h>
#include <stdint.h>

/**
 * @defgroup c_types Types and constants
 * @brief Version, linkage, and the sets of constants that fields take. Fields are int32_t, so an unknown value is an
 * error, never undefined; the enum tags only name the sets.
 * @{
 */

/** @brief Version of this header, `major << 16 | minor << 8 | patch`; compare with attn_version(). */
#define ATTN_VERSION 0x000100

/** @brief "No limit" for an integer parameter of a mask term. In an ::attn_table write `INFINITY`. */
#define ATTN_UNBOUNDED 0x7fffffffffffffff

/** @brief Calling convention of every function and callback. */
#if defined(_WIN32) && !defined(_WIN64)
#define ATTN_CALL __cdecl
#else
#define ATTN_CALL
#endif

/** @brief Linkage. Define ATTN_STATIC when linking the static library. */
#if defined(ATTN_STATIC)
#define ATTN_API
#elif defined(_WIN32) && defined(ATTN_BUILDING)
#define ATTN_API __declspec(dllexport)
#elif defined(_WIN32)
#define ATTN_API __declspec(dllimport)
#elif defined(__GNUC__)
#define ATTN_API __attribute__((visibility("default")))
#else
#define ATTN_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** @brief A device with its threads, kernels and caches. Thread-safe. */
typedef struct attn_handle_s *attn_handle;
/** @brief A compiled operation. Immutable: may be executed concurrently, each execute with its own workspace. */
typedef struct attn_plan_s *attn_plan;

/** @brief Result of a call: ::ATTN_OK or a negative error. */
typedef int32_t attn_status;
/** @brief Values of ::attn_status. */
enum attn_status_values {
    ATTN_OK = 0,                 /**< Success. */
    ATTN_ERROR_INVALID = -1,     /**< An argument breaks a rule; the message names field, value and rule. */
    ATTN_ERROR_UNSUPPORTED = -2, /**< Valid, but no kernel of this backend serves it; the message says why for each. */
    ATTN_ERROR_ABI = -3,         /**< A struct is newer than this library and its tail not zero, or unknown ext. */
    ATTN_ERROR_NO_DEVICE = -4,   /**< No such device or driver; the message says what was looked for. */
    ATTN_ERROR_MEMORY = -5,      /**< Out of host or device memory. */
    ATTN_ERROR_WORKSPACE = -6,   /**< Workspace too small or misaligned. */
    ATTN_ERROR_CAPACITY = -7,    /**< A caller's buffer is too small, or an enumeration is past its end. */
    ATTN_ERROR_RUNTIME = -8,     /**< The device runtime failed, now or asynchronously before; message has its text. */
    ATTN_ERROR_COMPILE = -9,     /**< The kernel compiler is missing or failed; the message has its log. */
    ATTN_ERROR_DATA = -10,       /**< A tensor holds a bad length, page or gate; always checked on the CPU. */
    ATTN_ERROR_FORKED = -11,     /**< GPU handle used in a forked child. */
    ATTN_ERROR_INTERNAL = -12    /**< A bug in libattn; please report it. */
};

/** @brief Element type, packed as DLPack's `code | bits << 8 | lanes << 16`. 0 takes the default of its place. */
typedef uint32_t attn_dtype;
/** @brief Values of ::attn_dtype. Sub-byte types keep the element with the lower index in the low bits. */
enum attn_dtype_values {
    ATTN_BOOL = 0x010806,            /**< One byte, 0 or 1. */
    ATTN_INT4 = 0x010400,            /**< Signed, two per byte. */
    ATTN_UINT4 = 0x010401,           /**< Unsigned, two per byte. */
    ATTN_INT8 = 0x010800,            /**< Signed 8 bit. */
    ATTN_UINT8 = 0x010801,           /**< Unsigned 8 bit. */
    ATTN_INT32 = 0x012000,           /**< Signed 32 bit. */
    ATTN_INT64 = 0x014000,           /**< Signed 64 bit. */
    ATTN_UINT64 = 0x014001,          /**< Unsigned 64 bit. */
    ATTN_FLOAT4_E2M1FN = 0x010411,   /**< MXFP4/NVFP4 element, two per byte. */
    ATTN_FLOAT8_E4M3FN = 0x01080a,   /**< OCP e4m3, finite, max 448. */
    ATTN_FLOAT8_E4M3FNUZ = 0x01080b, /**< AMD CDNA3 e4m3, no negative zero, max 240. */
    ATTN_FLOAT8_E5M2 = 0x01080c,     /**< OCP e5m2. */
    ATTN_FLOAT8_E8M0FNU = 0x01080e,  /**< Power-of-two block scale. */
    ATTN_FLOAT16 = 0x011002,         /**< IEEE half. */
    ATTN_BFLOAT16 = 0x011004,        /**< bfloat16. */
    ATTN_FLOAT32 = 0x012002,         /**< IEEE single. */
    ATTN_FLOAT64 = 0x014002          /**< IEEE double. */
};

/** @brief Kind of device or memory, numbered as DLPack's DLDeviceType. */
typedef int32_t attn_device;
/** @brief Values of ::attn_device. */
enum attn_device_values {
    ATTN_DEVICE_DEFAULT = 0,      /**< In ::attn_options the CPU; in a tensor the device of the handle. */
    ATTN_DEVICE_CPU = 1,          /**< Host memory. */
    ATTN_DEVICE_CUDA = 2,         /**< NVIDIA GPU. */
    ATTN_DEVICE_CUDA_HOST = 3,    /**< Pinned host memory; tensors only. */
    ATTN_DEVICE_HIP = 10,         /**< AMD GPU. */
    ATTN_DEVICE_HIP_HOST = 11,    /**< Pinned host memory; tensors only. */
    ATTN_DEVICE_CUDA_MANAGED = 13 /**< Managed memory; tensors only. */
};

/** @brief What a plan computes. */
typedef int32_t attn_direction;
/** @brief Values of ::attn_direction. */
enum attn_direction_values {
    ATTN_FORWARD = 0,  /**< OUT, and what else is bound. */
    ATTN_BACKWARD = 1, /**< Reads Q K V OUT LSE and `GRAD|OUT`; writes `GRAD|` Q, K, V and bound gradients. */
    ATTN_JVP = 2       /**< Forward mode: reads `TANGENT|x` of bound inputs, writes `TANGENT|OUT`. */
};

/** @brief Arithmetic of products of float32 inputs. Accumulation is float32 always. */
typedef int32_t attn_precision;
/** @brief Values of ::attn_precision. */
enum attn_precision_values {
    ATTN_PRECISION_FULL = 0, /**< As accurate as float32 products. */
    ATTN_PRECISION_TF32 = 1  /**< Inputs may be rounded to a 10-bit mantissa. */
};

/** @brief Where the diagonal lies, i.e. which key query i is level with. Tq, Tk: actual lengths of the sequence. */
typedef int32_t attn_align;
/** @brief Values of ::attn_align. */
enum attn_align_values {
    ATTN_ALIGN_NONE = 0,   /**< Not given. */
    ATTN_TOP_LEFT = 1,     /**< Key i (PyTorch SDPA `is_causal`). */
    ATTN_BOTTOM_RIGHT = 2, /**< Key `i + Tk - Tq` (FlashAttention; decoding with a cache). */
    ATTN_BY_POSITION = 3   /**< Keys with POSITIONS_KV equal to POSITIONS_Q of i. Implies both slots. */
};

/** @brief Weight of a key as a function of its score. */
typedef int32_t attn_activation;
/** @brief Values of ::attn_activation. */
enum attn_activation_values {
    ATTN_SOFTMAX = 0, /**< exp(s) / sum; with SINK_LOGITS bound the sink joins the sum. */
    ATTN_SIGMOID = 1, /**< 1 / (1 + exp(-(s + activation_bias))). No LSE; partial results add. */
    ATTN_RELU = 2     /**< max(s, 0) / L, L being activation_length. No LSE; partial results add. */
};

/** @brief What multiplies OUT where GATE is bound. */
typedef int32_t attn_gate;
/** @brief Values of ::attn_gate. */
enum attn_gate_values {
    ATTN_GATE_SIGMOID = 0, /**< sigmoid(g). */
    ATTN_GATE_LINEAR = 1,  /**< g. */
    ATTN_GATE_SILU = 2     /**< g * sigmoid(g). */
};

/** @brief Where the bias joins the score. */
typedef int32_t attn_bias_stage;
/** @brief Values of ::attn_bias_stage. */
enum attn_bias_stage_values {
    ATTN_BIAS_POST_SOFTCAP = 0, /**< After softcap (FlashAttention, Gemma 2). */
    ATTN_BIAS_PRE_SOFTCAP = 1   /**< Before softcap. */
};

/** @brief Kind of descriptor, for attn_plan_supports(). */
typedef int32_t attn_kind;
/** @brief Values of ::attn_kind. */
enum attn_kind_values {
    ATTN_KIND_DENSE = 1,  /**< ::attn_dense. */
    ATTN_KIND_MERGE = 2,  /**< ::attn_merge. */
    ATTN_KIND_APPEND = 3, /**< ::attn_append. */
    ATTN_KIND_LINEAR = 5, /**< attn_linear (experimental). */
    ATTN_KIND_CONV = 6,   /**< attn_conv (experimental). */
    ATTN_KIND_SCAN = 7    /**< attn_scan (experimental). */
};

/** @brief Role of a tensor. */
typedef int32_t attn_slot;
/**
 * @brief Values of ::attn_slot.
 *
 * B batch, T tokens (Tq, Tk), H heads (Hq, Hk, Hv; Ho of OUT), D channels. Packed and paged shapes follow the rule at
 * the top of this file. Default dtype: float32 for `f32`, int32 for `i32` (int64 if bound so), otherwise as named.
 */
enum attn_slot_values {
    ATTN_SLOT_Q = 0x01,           /**< In. `[B, Tq, Hq, dim_qk]` q_dtype. */
    ATTN_SLOT_K = 0x02,           /**< In. `[B, Tk, Hk, dim_qk]` k_dtype; append: the new rows. */
    ATTN_SLOT_V = 0x03,           /**< In. `[B, Tk, Hv, dim_v]` v_dtype; append: the new rows. */
    ATTN_SLOT_OUT = 0x04,         /**< Out. `[B, Tq, Ho, dim_v]` out_dtype. */
    ATTN_SLOT_LSE = 0x05,         /**< Out (backward: in). `[B, Ho, Tq]` f32: natural log of the sum, sink included. */
    ATTN_SLOT_PARTIAL_OUT = 0x06, /**< In. Part `index` of a merge, shaped as OUT, f32; bind index 0 for all parts. */
    ATTN_SLOT_PARTIAL_LSE = 0x07, /**< In. Part `index` of a merge, shaped as LSE. */
    ATTN_SLOT_K_CACHE = 0x08,     /**< In/out. Cache that append writes, `[B, rows, Hk, dim_qk]` or pages; k_dtype. */
    ATTN_SLOT_V_CACHE = 0x09,     /**< In/out. Likewise, `[B, rows, Hv, dim_v]` or pages; v_dtype. */

    ATTN_SLOT_CU_SEQLENS_Q = 0x10,  /**< In. `[B + 1]` i32: b owns rows `cu[b] .. cu[b+1]`; Q, OUT are packed. */
    ATTN_SLOT_CU_SEQLENS_KV = 0x11, /**< In. `[B + 1]` i32. K, V are packed. */
    ATTN_SLOT_SEQLENS_Q = 0x12,   /**< In. `[B]` i32: rows in use of each sequence; OUT, LSE are not written beyond. */
    ATTN_SLOT_SEQLENS_KV = 0x13,  /**< In. `[B]` i32: likewise. Append: lengths that include the new rows. */
    ATTN_SLOT_BLOCK_TABLE = 0x14, /**< In. `[B, pages]` i32: pages of each sequence. Implied by page_size. */
    ATTN_SLOT_BLOCK_TABLE_PTR = 0x15, /**< In. `[B + 1]` i32: BLOCK_TABLE is flat, b owns a range of it. */
    ATTN_SLOT_SLOT_MAPPING = 0x16, /**< In. Append: `[B, Tq]` ATTN_INT64 cache row of each new token, -1 to skip it. */

    ATTN_SLOT_BIAS = 0x20,           /**< In. `[B, Ho, Tq, Tk]` q_dtype; added to the score. */
    ATTN_SLOT_BIAS_TABLE = 0x21,     /**< In. `[entries, Ho]` f32. Implied by attn_dense.bias_table. */
    ATTN_SLOT_BIAS_LOWRANK_Q = 0x22, /**< In. `[B, Tq, Ho, bias_rank]` q_dtype. Implied by bias_rank. */
    ATTN_SLOT_BIAS_LOWRANK_K = 0x23, /**< In. `[B, Tk, Ho, bias_rank]` q_dtype. Implied by bias_rank. */
    ATTN_SLOT_ALIBI_SLOPES = 0x24,   /**< In. `[Ho]` f32: adds `-slope * abs(distance from the diagonal)`. */
    ATTN_SLOT_SINK_LOGITS = 0x25,    /**< In. `[Ho]` f32: a logit without value that joins the softmax sum. */
    ATTN_SLOT_Q_TEMPERATURE = 0x26,  /**< In. `[B, Tq, Hq]` f32: multiplies the scale. */
    ATTN_SLOT_V_TEMPERATURE = 0x27,  /**< In. `[B, Tk, Hv]` f32: multiplies V. */
    ATTN_SLOT_GATE = 0x28,           /**< In. `[B, Tq, Ho, dim_v]` q_dtype; per head: broadcast its last axis. */
    ATTN_SLOT_HEAD_WEIGHT = 0x29,    /**< In. `[B, Tq, Ho]` f32: multiplies OUT; 0 skips the work. */

    ATTN_SLOT_IDS_Q = 0x30,        /**< In. `[B, Tq]` i32, pair `index`. Implied by ID terms of a mask. */
    ATTN_SLOT_IDS_KV = 0x31,       /**< In. `[B, Tk]` i32, pair `index`. */
    ATTN_SLOT_POSITIONS_Q = 0x32,  /**< In. `[B, Tq]` i32. */
    ATTN_SLOT_POSITIONS_KV = 0x33, /**< In. `[B, Tk]` i32. */
    ATTN_SLOT_MASK_TABLE = 0x34,   /**< In. `[B, Ho, columns]` i32, table `index`, for ATTN_TERM_DEVICE_TABLE. */
    ATTN_SLOT_MASK = 0x35,         /**< In. `[B, Ho, Tq, Tk]` ATTN_BOOL, 1 visible. Implied by ATTN_MASK_TENSOR. */
    ATTN_SLOT_ROPE_COS = 0x38,     /**< In. `[positions, dim / 2]` f32. Implied by ::ATTN_ROPE_TABLE. */
    ATTN_SLOT_ROPE_SIN = 0x39,     /**< In. `[positions, dim / 2]` f32. */

    /* 0x40 .. 0x4f: the indices of sparse plans. */

    /* Linear plans. Dk: dim_qk, or the features that attn_linear.feature_map makes of it; Dv: dim_v, and one more with
       ATTN_LINEAR_NORMALISER. Gates are f32 unless bound as float16 or bfloat16, and may be broadcast. */
    ATTN_SLOT_DECAY = 0x50,       /**< In. Natural log of the decay (or its raw gate); shape by attn_decay. */
    ATTN_SLOT_BETA = 0x51,        /**< In. `[B, T, Hv]` f32. */
    ATTN_SLOT_ERASE = 0x52,       /**< In. `[B, T, Hv, Dk]` f32. */
    ATTN_SLOT_WRITE = 0x53,       /**< In. `[B, T, Hv, dim_v]` f32. */
    ATTN_SLOT_BONUS = 0x54,       /**< In. `[Hv, Dk]` f32. */
    ATTN_SLOT_DPLR_B = 0x55,      /**< In. `[B, T, Hv, Dk]` q_dtype. */
    ATTN_SLOT_DPLR_C = 0x56,      /**< In. `[B, T, Hv, Dk]` q_dtype. */
    ATTN_SLOT_A_LOG = 0x57,       /**< In. `[Hv]` f32. */
    ATTN_SLOT_DT_BIAS = 0x58,     /**< In. `[Hv]`, or `[Hv, Dk]` for decay per channel; f32. */
    ATTN_SLOT_FEATURE = 0x59,     /**< In. `[H, dim_qk, dim_qk + 1]` f32: the rows of W, each with its entry of b after
                                       it; index 0 for Q (H = Hq), index 1 for K (H = Hk). */
    ATTN_SLOT_STATE_IN = 0x5a,    /**< In. `[states, Hv, Dk, Dv]` state_dtype. Not bound: zero. */
    ATTN_SLOT_STATE_OUT = 0x5b,   /**< Out. Likewise; may be the very view of STATE_IN. */
    ATTN_SLOT_STATE_INDEX = 0x5c, /**< In. `[B]` i32: state of each sequence in a pool, no two alike where STATE_OUT is
                                       bound. Not bound: b. */

    /* Conv and scan plans (experimental). H, C: heads_q, dim_qk. Besides, scans take DECAY and WRITE, both
       `[B, T, H, C]`, states are those of attn_conv and attn_scan. */
    ATTN_SLOT_X = 0x60,           /**< In. `[B, T, H, C]` q_dtype. */
    ATTN_SLOT_CONV_WEIGHT = 0x61, /**< In. `[H, C, width]` f32, the tap of the token itself last. */
    ATTN_SLOT_CONV_BIAS = 0x62,   /**< In. `[H, C]` f32. */
    ATTN_SLOT_RESIDUAL = 0x63,    /**< In. `[B, T, H, C]` q_dtype: added to OUT. X itself may be passed. */

    ATTN_SLOT_COLUMN_MASS = 0x70, /**< Out. `[B, Ho, Tk]` f32: attention each key received, its weights summed over the
                                       queries: sink in the softmax sum, before V_TEMPERATURE, GATE and HEAD_WEIGHT.
                                       0 for a key that no query sees; not written beyond SEQLENS_KV. `[Ho, rows of K]`
                                       with CU_SEQLENS_KV; paged by key, Tk at least the longest sequence. */
    ATTN_SLOT_ROW_MAX = 0x71,     /**< Out. `[B, Ho, Tq]` f32: largest score. */
    ATTN_SLOT_ROW_ENTROPY = 0x72, /**< Out. `[B, Ho, Tq]` f32, in nats. */
    ATTN_SLOT_STATUS = 0x73,      /**< Out. `[4]` i32 of checked mode: status, slot, position, value. */
    ATTN_SLOT_RNG = 0x74,         /**< In. `[2]` ATTN_UINT64: seed and offset of dropout. */

    ATTN_SLOT_GRAD = 0x1000,      /**< With `|`: gradient of a slot; its shape, dtype of the slot. */
    ATTN_SLOT_TANGENT = 0x2000,   /**< With `|`: tangent of a slot; its shape and dtype. */
    ATTN_SLOT_SCALE = 0x4000,     /**< With `|`: dequantisation scale, f32; extents by attn_bind.block. */
    ATTN_SLOT_ZERO_POINT = 0x8000 /**< With `|`: shaped as SCALE; `x = scale * (q - zero_point)`. */
};

/** @} */

/**
 * @defgroup c_tensors Tensors and declarations
 * @brief Views, arguments, binds, terms of masks, the head of extensions: structs that never change.
 * @{
 */

/** @brief A view of memory, as DLPack's DLTensor. The library never frees `data`. Strides may be 0 or negative. */
typedef struct attn_tensor {
    void *data;         /**< Base address on `device`; may be NULL if an extent is 0. */
    size_t byte_offset; /**< Added to `data`. */
    attn_device device; /**< Where `data` lives; 0: the device of the handle, and device_id is ignored. */
    int32_t device_id;  /**< Ordinal of the device. */
    int32_t ndim;       /**< Number of axes, 0 .. 8. */
    attn_dtype dtype;   /**< Element type. */
    int64_t shape[8];   /**< Extents, in elements. */
    int64_t strides[8]; /**< Steps, in elements; always given (attn_tensor_4d() fills them). */
} attn_tensor;

/** @brief One tensor of attn_execute(). */
typedef struct attn_arg {
    attn_slot slot;            /**< Role. */
    uint32_t index;            /**< Which of several with this role; else 0. (slot, index) is unique in a call. */
    const attn_tensor *tensor; /**< The view; read during the call only. Its memory must live until the work is done. */
} attn_arg;

/** @brief Bits of attn_bind.flags. Axes count those of the view as it is passed, so packed a head axis is 1, not 2. */
enum attn_bind_flags {
    ATTN_BIND_BROADCAST_AXIS0 = 1 << 0, /**< Axis 0 has extent 1 and is repeated. */
    ATTN_BIND_BROADCAST_AXIS1 = 1 << 1, /**< Likewise axis 1. */
    ATTN_BIND_BROADCAST_AXIS2 = 1 << 2, /**< Likewise axis 2. */
    ATTN_BIND_BROADCAST_AXIS3 = 1 << 3, /**< Likewise axis 3. */
    ATTN_BIND_ALIGNED = 1 << 8,         /**< Promise: address and all strides but the last are multiples of 16 bytes. */
    ATTN_BIND_INNER_CONTIGUOUS = 1 << 9, /**< Promise: the last axis has stride 1. */
    ATTN_BIND_ABSENT = 1 << 10,          /**< Do not take a tensor otherwise taken by default, e.g. `GRAD|V`. */
    ATTN_BIND_ACCUMULATE = 1 << 11,      /**< Add to this output instead of overwriting it. */
    ATTN_BIND_HOST = 1 << 12             /**< The tensor is host memory, read while attn_execute() runs. */
};

/** @brief Declares a tensor of a plan: that it comes, or how it differs from the default. */
typedef struct attn_bind {
    attn_slot slot;       /**< Role. */
    uint32_t index;       /**< Which of several. */
    attn_dtype dtype;     /**< 0: the default of the slot. */
    uint32_t flags;       /**< ATTN_BIND_*. */
    int32_t block[8];     /**< SCALE, ZERO_POINT: elements per scale along each axis of the slot; 0: the whole axis. */
    uint32_t reserved[4]; /**< 0. */
} attn_bind;

/** @brief Bits of attn_term.flags; the low two bits hold an ::attn_align (0: that of the descriptor). */
enum attn_term_flags {
    ATTN_TERM_AXIS_CAUSAL = 1 << 2, /**< GRID_WINDOW: causal along this axis. */
    ATTN_TERM_TRUNCATE = 1 << 3,    /**< GRID_WINDOW: cut the window at borders; else shift it (NATTEN). */
    ATTN_TERM_DEVICE_TABLE = 1 << 4 /**< `table` is 1 + index of slot MASK_TABLE instead of a host table. */
};

/**
 * @brief Operators of a mask program. i: query row, j: key, both counted within their sequence; h: head of OUT;
 * d: j minus the key level with i (by position: difference of positions).
 *
 * A program is postfix: atoms push a set of (h, i, j), operators pop and push; one set remains. It further restricts
 * what causal, window and length let through. An atom that needs a diagonal without one given is an error.
 */
enum attn_mask_op {
    ATTN_OP_AND = 0x001,           /**< Both of the top two. */
    ATTN_OP_OR = 0x002,            /**< Either of the top two. */
    ATTN_OP_NOT = 0x003,           /**< Complement of the top. */
    ATTN_MASK_CAUSAL = 0x100,      /**< d <= 0. */
    ATTN_MASK_BAND = 0x101,        /**< -p[0] <= d <= p[1]. */
    ATTN_MASK_PREFIX = 0x102,      /**< j < p[0]: sink tokens, the prefix of a prefix LM. */
    ATTN_MASK_FIRST_ROWS = 0x103,  /**< i < p[0]: global rows. */
    ATTN_MASK_LAST_ROWS = 0x104,   /**< i >= Tq - p[0]. */
    ATTN_MASK_VERTICAL = 0x105,    /**< (j + p[1]) mod p[0] == 0, in units of p[2] keys. */
    ATTN_MASK_POW2 = 0x106,        /**< -d is 0 or a power of two, in units of p[0] keys. */
    ATTN_MASK_ID_EQ = 0x107,       /**< ids_q[i] == ids_kv[j] of pair `axis`: documents, segments. */
    ATTN_MASK_ID_GE = 0x108,       /**< ids_q[i] >= ids_kv[j]: block causal. */
    ATTN_MASK_ID_GT = 0x109,       /**< ids_q[i] > ids_kv[j]. */
    ATTN_MASK_ID_Q = 0x10a,        /**< ids_q[i] == p[0]. */
    ATTN_MASK_ID_KV = 0x10b,       /**< ids_kv[j] == p[0]. */
    ATTN_MASK_GRID_WINDOW = 0x10c, /**< Grid axis `axis`: kernel p[0], dilation p[1], stride p[2] (0: 1), as NATTEN. */
    ATTN_MASK_SAME_AXIS = 0x10d,   /**< Equal coordinate / p[0] along grid axis `axis`. */
    ATTN_MASK_HEADS = 0x10e,       /**< p[0] <= h < p[1], or a table of 0 and 1. */
    ATTN_MASK_TENSOR = 0x10f       /**< Slot MASK of index `axis`; if narrower than Tk it is of the last keys, the
                                        earlier being in the set: the tree of speculative decoding. */
};

/**
 * @brief One operator of a mask program.
 *
 * A table with one column replaces the first parameter of the operator (p[0], or f where that is its only one), with
 * more columns p[0], p[1], and so on.
 */
typedef struct attn_term {
    uint16_t op;       /**< ATTN_OP_*, ATTN_MASK_*. */
    uint16_t flags;    /**< ATTN_TERM_*. */
    uint32_t axis;     /**< Grid axis, or index of a pair of ids. */
    uint32_t table;    /**< 0: none; n: table n - 1. */
    uint32_t reserved; /**< 0. */
    int64_t p[5];      /**< Integer parameters, in tokens unless said. */
    double f;          /**< Real parameter; mask atoms: p[0] grows by f times the key length. */
} attn_term;

/** @brief Parameters by head: `values[h][c] + slopes[h][c] * Tk`, rounded down where an integer is meant. */
typedef struct attn_table {
    const double *values; /**< `[rows, columns]`, row-major, host memory. */
    const double *slopes; /**< Likewise, or NULL for none. */
    int64_t rows;         /**< Heads of OUT or of K, or 1 for all. */
    int64_t columns;      /**< 1 .. 5. */
} attn_table;

/** @brief Type of an extension struct. */
typedef int32_t attn_ext_type;

/**
 * @brief First member of every extension struct, and the link of a chain: `desc.next = &my_extension.ext`.
 *
 * An unknown type is refused with ::ATTN_ERROR_ABI, a type given twice with ::ATTN_ERROR_INVALID.
 */
typedef struct attn_ext {
    size_t size;                 /**< Size of the whole extension struct. */
    const struct attn_ext *next; /**< Next link or NULL. */
    attn_ext_type type;          /**< Which struct this begins. */
    uint32_t reserved;           /**< 0. */
} attn_ext;

/** @} */

/**
 * @defgroup c_handle Handle
 * @brief A device with its threads; versions, errors and what devices there are.
 * @{
 */

/** @brief One task of a parallel loop. @param arg as given @param task 0 .. count-1 @param worker 0 .. max_workers-1,
 *  never the same for two tasks at a time. */
typedef void(ATTN_CALL *attn_task)(void *arg, int64_t task, int32_t worker);
/** @brief Runs `task(arg, 0 .. count-1, worker)` in any order and returns when all are done. Must not throw.
 *  @param ctx attn_options.parallel_ctx @param count number of tasks @param task function @param arg its argument */
typedef void(ATTN_CALL *attn_parallel_for)(void *ctx, int64_t count, attn_task task, void *arg);
/** @brief Allocates device memory while planning. @param ctx attn_options.alloc_ctx @param bytes size
 *  @return address aligned to 256 bytes, or NULL */
typedef void *(ATTN_CALL *attn_device_alloc)(void *ctx, size_t bytes);
/** @brief Frees what attn_device_alloc returned. @param ctx attn_options.alloc_ctx @param memory address
 *  @param bytes size */
typedef void(ATTN_CALL *attn_device_free)(void *ctx, void *memory, size_t bytes);
/** @brief Receives a log line; any thread. @param ctx attn_options.log_ctx @param level 1 error .. 4 debug
 *  @param text UTF-8, valid during the call */
typedef void(ATTN_CALL *attn_log)(void *ctx, int32_t level, const char *text);

/** @brief Bits of attn_options.flags. */
enum attn_options_flags {
    ATTN_HANDLE_NO_COMPILE = 1 << 0,     /**< Never compile at run time; packs and caches only. */
    ATTN_HANDLE_NO_DISK_CACHE = 1 << 1,  /**< Neither read nor write the disk cache. */
    ATTN_HANDLE_NO_WAIT = 1 << 2,        /**< Take the portable kernel instead of waiting for a compiler. */
    ATTN_HANDLE_CURRENT_CONTEXT = 1 << 3 /**< Use the thread's current GPU context, not the primary one. */
};

/** @brief Options of attn_create(). Callbacks may be called from any thread that calls the library. */
typedef struct attn_options {
    size_t size;                    /**< `sizeof(attn_options)`. */
    const attn_ext *next;           /**< Extensions or NULL. */
    uint64_t flags;                 /**< ATTN_HANDLE_*. */
    attn_device device;             /**< 0: the CPU. A GPU is used only when named here. */
    int32_t device_id;              /**< Ordinal, from 0. */
    int32_t max_workers;            /**< CPU threads, also of parallel_for. 0: cores the process may use. */
    int32_t log_level;              /**< Most verbose level passed to `log`. 0: errors and warnings. */
    attn_parallel_for parallel_for; /**< NULL: own thread pool. */
    void *parallel_ctx;             /**< Its first argument. */
    attn_device_alloc device_alloc; /**< NULL: the driver's allocator. Give both or neither. */
    attn_device_free device_free;   /**< See device_alloc. */
    void *alloc_ctx;                /**< Their first argument. */
    attn_log log;                   /**< NULL: no log. Level 3: handles; 4: plans with their kernels. */
    void *log_ctx;                  /**< Its first argument. */
    const char *cache_dir;          /**< UTF-8. NULL: ATTN_CACHE_DIR, else the user's cache directory. */
    const char *kernel_path;        /**< Packs, `:`-separated. NULL: ATTN_KERNEL_PATH. */
    const char *compiler_path;      /**< NVRTC or hipRTC library. NULL: search. */
} attn_options;

/** @brief What attn_device_info() fills in. Texts are UTF-8, NUL-terminated. */
typedef struct attn_device_properties {
    size_t size;               /**< `sizeof(attn_device_properties)`; nothing beyond it is written. */
    const attn_ext *next;      /**< NULL. */
    attn_device device;        /**< Kind. */
    int32_t device_id;         /**< Ordinal. */
    int32_t compute_units;     /**< Cores, SMs or CUs usable (MIG, affinity). */
    int32_t driver_version;    /**< As the driver counts; 0 for the CPU. */
    uint64_t memory_bytes;     /**< Total. */
    uint64_t bytes_per_second; /**< Nominal memory bandwidth; 0 if unknown. */
    char name[128];            /**< Marketing name. */
    char arch[64];             /**< `sm_90a`, `gfx942`, `x86-64 avx2 fma`. */
} attn_device_properties;

/** @brief Version of the loaded library, encoded as ::ATTN_VERSION. Never touches a driver. @return version */
ATTN_API uint32_t ATTN_CALL attn_version(void);

/** @brief Name of a status, e.g. "ATTN_ERROR_INVALID". @param status any value @return static text, never NULL */
ATTN_API const char *ATTN_CALL attn_status_name(attn_status status);

/** @brief Message of the last failure on this thread.
 *  @return text valid until the next libattn call on this thread; "" if none */
ATTN_API const char *ATTN_CALL attn_last_error(void);

/** @brief Copies attn_last_error(), for runtimes that move between threads; call it right after the failure.
 *  @param[out] buffer gets the NUL-terminated text, cut to fit; NULL if capacity is 0
 *  @param capacity size of buffer in bytes @return bytes of the whole text with its NUL */
ATTN_API size_t ATTN_CALL attn_last_error_copy(char *buffer, size_t capacity);

/** @brief Counts devices of a kind; loads the driver for a GPU kind.
 *  @param device ATTN_DEVICE_CPU, _CUDA or _HIP @param[out] count 0 if there is none
 *  @return ATTN_OK; ATTN_ERROR_NO_DEVICE if the driver is missing or unusable, with the reason */
ATTN_API attn_status ATTN_CALL attn_device_count(attn_device device, int32_t *count);

/** @brief Describes a device. @param device kind @param device_id ordinal
 *  @param[in,out] properties `size` set by the caller, the rest filled in @return status */
ATTN_API attn_status ATTN_CALL attn_device_info(attn_device device, int32_t device_id,
                                                attn_device_properties *properties);

/** @brief Creates a handle; initialises a GPU driver only if `options` names a GPU.
 *  The CPU backend uses the best instruction set of the processor, or the one that the environment variable
 *  ATTN_CPU_ISA names: `baseline`; `neon`; `avx2` or `avx512`.
 *  A GPU backend takes for each plan the first implementation of its list that serves it, or, where the environment
 *  variable ATTN_GPU_IMPLEMENTATION is `portable`, the first that runs on every GPU.
 *  @param options NULL for defaults: the CPU, all cores @param[out] handle the handle @return status */
ATTN_API attn_status ATTN_CALL attn_create(const attn_options *options, attn_handle *handle);

/** @brief Releases a handle. Plans made from it stay valid. @param handle NULL is allowed */
ATTN_API void ATTN_CALL attn_destroy(attn_handle handle);

/** @} */

/**
 * @defgroup c_descriptors Descriptors
 * @brief What a plan is made from: sizes and dtypes, and the options of each kind of operation.
 * @{
 */

/** @brief Bits of attn_problem.flags. */
enum attn_problem_flags {
    ATTN_ALLOW_NONDETERMINISTIC = 1 << 0, /**< Results may differ in rounding from run to run. */
    ATTN_BATCH_INVARIANT = 1 << 1,        /**< A sequence gives the same bits in whatever batch it is. */
    ATTN_STRICT_NONFINITE = 1 << 2,       /**< A non-finite V never reaches a row that cannot see it. The CPU always. */
    ATTN_CHECKED = 1 << 3,                /**< Validate lengths, indices, gates. On GPUs implies STATUS. */
    ATTN_V_ALIASES_K = 1 << 4             /**< V is the first dim_v channels of K (absorbed MLA). No slot V. */
};

/** @brief Sizes, dtypes and tensors common to all descriptors. Sizes are upper bounds of what execute brings. */
typedef struct attn_problem {
    size_t size;              /**< `sizeof(attn_problem)`. */
    const attn_ext *next;     /**< Extensions or NULL. */
    const attn_bind *binds;   /**< Tensors beyond or other than the default. */
    size_t bind_count;        /**< Their number. */
    uint64_t flags;           /**< ATTN_ALLOW_NONDETERMINISTIC and so on. */
    attn_direction direction; /**< 0: forward. */
    attn_precision precision; /**< 0: full. */
    attn_dtype q_dtype;       /**< Required. */
    attn_dtype k_dtype;       /**< 0: q_dtype. */
    attn_dtype v_dtype;       /**< 0: k_dtype. */
    attn_dtype out_dtype;     /**< 0: q_dtype. */
    int64_t batch;            /**< Sequences. 0: 1. */
    int64_t heads_q;          /**< Required, except for append. */
    int64_t heads_k;          /**< 0: heads_q. */
    int64_t heads_v;          /**< 0: heads_k. */
    int64_t dim_qk;           /**< Channels of Q and K. Required, except for merge. */
    int64_t dim_v;            /**< Channels of V and OUT. 0: dim_qk. */
    int64_t max_q;            /**< Longest query sequence. Required. */
    int64_t max_kv;           /**< Longest key sequence. 0: max_q. */
    int64_t total_q;          /**< Packed rows of Q. 0: batch * max_q. */
    int64_t total_kv;         /**< Packed rows of K. 0: batch * max_kv. */
    int64_t page_size;        /**< Rows of a page; 0: K and V are not paged. Implies BLOCK_TABLE. */
    double scale;             /**< Of the scores. 0: 1 / sqrt(dim_qk). */
} attn_problem;

/** @brief Program of a mask. */
typedef struct attn_program {
    size_t size;              /**< `sizeof(attn_program)`. */
    const attn_ext *next;     /**< Extensions or NULL. */
    const attn_term *terms;   /**< Postfix. */
    size_t term_count;        /**< 1 .. 256. */
    const attn_table *tables; /**< Parameters by head, for attn_term.table. */
    size_t table_count;       /**< Their number. */
    uint64_t flags;           /**< 0. */
    int64_t grid_q[4];        /**< Extents of the token grid, row-major, up to the first 0; their product is Tq. */
    int64_t grid_kv[4];       /**< Likewise for keys. 0: grid_q. */
} attn_program;

/** @brief Pairing of rotated channels. */
typedef int32_t attn_rope_layout;
/** @brief Values of ::attn_rope_layout. */
enum attn_rope_layout_values {
    ATTN_ROPE_HALF = 0,       /**< c with c + dim/2 (GPT-NeoX, Llama in Hugging Face). */
    ATTN_ROPE_INTERLEAVED = 1 /**< 2c with 2c + 1 (GPT-J). */
};

/** @brief Where angles come from. */
typedef int32_t attn_rope_source;
/** @brief Values of ::attn_rope_source. */
enum attn_rope_source_values {
    ATTN_ROPE_BASE = 0, /**< position * base^(-2c/dim). */
    ATTN_ROPE_TABLE = 1 /**< Slots ROPE_COS, ROPE_SIN, row = position (YaRN, Llama 3, M-RoPE). */
};

/** @brief Rotary embedding. Positions: POSITIONS_Q, POSITIONS_KV where bound, else the index in the sequence. */
typedef struct attn_rope {
    size_t size;             /**< `sizeof(attn_rope)`. */
    const attn_ext *next;    /**< Extensions or NULL. */
    uint64_t flags;          /**< 0. */
    attn_rope_layout layout; /**< 0: half. */
    attn_rope_source source; /**< 0: from base. */
    int64_t dim;             /**< Rotated channels, from the first, even. 0: dim_qk. */
    int64_t first;           /**< First rotated channel. */
    double base;             /**< 0: 10000. */
} attn_rope;

/** @brief Kind of a bias table. */
typedef int32_t attn_table_kind;
/** @brief Values of ::attn_table_kind. */
enum attn_table_kind_values {
    ATTN_TABLE_DISTANCE = 0, /**< Entry clamp(distance, -max .. max) + max; 2 max + 1 entries. */
    ATTN_TABLE_BUCKET = 1,   /**< T5: exact, then logarithmic buckets of distance. */
    ATTN_TABLE_GRID = 2      /**< Swin: entry by relative coordinates, prod(2 grid[a] - 1) entries. */
};

/** @brief A bias looked up by relative position in slot BIAS_TABLE. */
typedef struct attn_bias_table {
    size_t size;           /**< `sizeof(attn_bias_table)`. */
    const attn_ext *next;  /**< Extensions or NULL. */
    attn_table_kind kind;  /**< 0: by distance. */
    int32_t bidirectional; /**< Bucket: 1 splits the buckets between past and future. */
    int64_t buckets;       /**< Bucket: 0: 32. */
    int64_t max_distance;  /**< Distance, bucket: 0: 128. */
    int64_t grid[4];       /**< Grid: extents, up to the first 0; token i is the i-th in row-major order. */
} attn_bias_table;

/** @brief Bits of attn_dense.flags. */
enum attn_dense_flags {
    ATTN_WINDOW_LEFT = 1 << 0, /**< window_left applies; without it the past is unlimited. */
    ATTN_WINDOW_RIGHT = 1 << 1 /**< window_right applies; redundant where causal. */
};

/**
 * @brief Dense attention.
 *
 * `s = scale * temperature * (q.k) + low-rank bias`, softcap, `+ bias`, mask, activation, weighted sum of V, gate, head
 * weight. A key is visible if it lies within the sequence's length, on or before the diagonal (causal), in the window
 * or among the sink tokens, and in the mask. A row that sees no key gives OUT 0 and LSE -inf (with SINK_LOGITS: the
 * sink).
 *
 * Backward takes the same descriptor with `direction = ATTN_BACKWARD`, plus OUT and LSE as inputs.
 */
typedef struct attn_dense {
    size_t size;                       /**< `sizeof(attn_dense)`. */
    const attn_ext *next;              /**< Extensions or NULL. */
    const attn_problem *problem;       /**< Required. */
    const attn_program *mask;          /**< Further mask or NULL. */
    const attn_rope *rope;             /**< Rotates Q and K as they are read; NULL: they come rotated. */
    const attn_bias_table *bias_table; /**< NULL: none. */
    uint64_t flags;                    /**< ATTN_WINDOW_*. */
    attn_align causal;                 /**< 0: not causal; else causal with this diagonal. */
    attn_align align;           /**< Diagonal for windows, ALiBi, tables, mask terms. Where causal: 0 or the same. */
    int64_t window_left;        /**< Keys visible before the diagonal key (a window of w keys: w - 1). */
    int64_t window_right;       /**< Keys visible after the diagonal key. */
    int64_t sink_tokens;        /**< First keys of a sequence, visible whatever the window. 0 without window. */
    double softcap;             /**< softcap * tanh(s / softcap). 0: none. */
    attn_activation activation; /**< 0: softmax. */
    attn_bias_stage bias_stage; /**< 0: after softcap. */
    attn_gate gate;             /**< Used where GATE is bound. */
    int32_t reserved;           /**< 0. */
    double activation_bias;     /**< Sigmoid: added to the score. */
    int64_t activation_length;  /**< ReLU: L. 0: key length of the sequence; set it when keys are split. */
    int64_t bias_rank;          /**< Channels of the low-rank bias. 0: none. */
} attn_dense;

/** @brief Merge of partial results over disjoint keys. Problem: batch, heads, dim_v, max_q, total_q, dtypes.
 *  SINK_LOGITS, GATE, HEAD_WEIGHT, LSE may be bound: give them here, not to the parts. */
typedef struct attn_merge {
    size_t size;                 /**< `sizeof(attn_merge)`. */
    const attn_ext *next;        /**< Extensions or NULL. */
    const attn_problem *problem; /**< Required. */
    size_t parts;                /**< 1 .. 1024: slots PARTIAL_OUT, PARTIAL_LSE of index 0 .. parts-1. Required. */
    uint64_t flags;              /**< 0. */
    attn_activation activation;  /**< Of the parts. Softmax weighs by LSE, the others add (no PARTIAL_LSE). */
    attn_gate gate;              /**< Used where GATE is bound. */
} attn_merge;

/**
 * @brief Append of new rows K, V to K_CACHE, V_CACHE.
 *
 * Row t of the Tq new rows of sequence b goes to cache row `SEQLENS_KV[b] - Tq + t` (not bound: t): lengths count the
 * new rows, so one array serves append and the attention after it. SLOT_MAPPING names the rows instead: of the cache of
 * the sequence, or of all pages, `page * page_size + row`, then without BLOCK_TABLE; -1 skips a row. Where several new
 * rows go to one place the last stays, in the order of sequences and rows; rows that no new one goes to keep every bit.
 *
 * Problem: max_q bounds Tq, max_kv the cache (with a ring, the ring; sequences may be longer). CU_SEQLENS_Q packs the
 * new rows, SEQLENS_Q shortens them. Caches have k_dtype and v_dtype; so have K and V, unless bound with another.
 * Conversions round to nearest even. With Q and OUT bound Q is rotated too, into OUT `[B, Tq, Hq, dim_qk]`, or copied
 * without rope. K or V not meant to be written: ::ATTN_BIND_ABSENT, its cache does not come either;
 * ::ATTN_V_ALIASES_K says so of V. Scale, precision and total_kv mean nothing here and must be 0.
 */
typedef struct attn_append {
    size_t size;                 /**< `sizeof(attn_append)`. */
    const attn_ext *next;        /**< Extensions or NULL. */
    const attn_problem *problem; /**< Required. */
    const attn_rope *rope;       /**< Rotates K (and Q) at POSITIONS_Q (required with SLOT_MAPPING), else at the cache
                                      row before a ring wraps it; NULL: not. */
    uint64_t flags;              /**< 0. */
    int64_t ring_rows;           /**< Row r >= sink_tokens wraps around within this many rows. 0: no ring. */
    int64_t sink_tokens;         /**< First rows of a ring that are never overwritten. */
} attn_append;

/** @brief Actual sizes for attn_plan_workspace_for(). 0: the bound of the plan. */
typedef struct attn_sizes {
    size_t size;          /**< `sizeof(attn_sizes)`. */
    const attn_ext *next; /**< Extensions or NULL. */
    int64_t batch;        /**< Sequences. */
    int64_t max_q;        /**< Longest query sequence. */
    int64_t max_kv;       /**< Longest key sequence. */
    int64_t total_q;      /**< Packed rows of Q. */
    int64_t total_kv;     /**< Packed rows of K. */
} attn_sizes;

/** @} */

/**
 * @defgroup c_plans Plans
 * @brief Planning, asking and executing.
 * @{
 */

/** @brief Plans dense attention. May allocate and compile; 100 us or less once the kernel is cached.
 *  @param handle device @param desc descriptor, with everything it points to read during the call only
 *  @param[out] plan destroy with attn_plan_destroy() @return status */
ATTN_API attn_status ATTN_CALL attn_plan_dense(attn_handle handle, const attn_dense *desc, attn_plan *plan);

/** @brief Plans a merge. @param handle device @param desc descriptor @param[out] plan the plan @return status */
ATTN_API attn_status ATTN_CALL attn_plan_merge(attn_handle handle, const attn_merge *desc, attn_plan *plan);

/** @brief Plans an append. @param handle device @param desc descriptor @param[out] plan the plan @return status */
ATTN_API attn_status ATTN_CALL attn_plan_append(attn_handle handle, const attn_append *desc, attn_plan *plan);

/** @brief Says whether planning would succeed, without compiling. @param handle device @param kind type of `desc`
 *  @param desc descriptor @return ATTN_OK, or the status and message that planning would give */
ATTN_API attn_status ATTN_CALL attn_plan_supports(attn_handle handle, attn_kind kind, const void *desc);

/** @brief Workspace that suffices for every execute within the bounds.
 *  @param plan the plan @param[out] bytes size, may be 0 @param[out] alignment of its
 *  address in bytes, or NULL: at most 256; on the CPU at most 16, so that malloc serves @return status */
ATTN_API attn_status ATTN_CALL attn_plan_workspace(attn_plan plan, size_t *bytes, size_t *alignment);

/** @brief Workspace for executes of at most the given sizes. @param plan the plan @param sizes actual sizes
 *  @param[out] bytes size, at most the bound. The sizes mean lengths: max_q and max_kv the longest sequence of the
 * call, as its length tensors say; on a GPU, which keeps those to itself, they make no difference @return status */
ATTN_API attn_status ATTN_CALL attn_plan_workspace_for(attn_plan plan, const attn_sizes *sizes, size_t *bytes);

/** @brief Lists the tensors that attn_execute() takes. @param plan the plan @param position 0, 1, ...
 *  @param[out] bind slot, index, resolved dtype and flags @param[out] bounds rank, dtype and largest shape, data NULL;
 *  an extent of -1 is free; may be NULL @return ATTN_ERROR_CAPACITY once position is past the last */
ATTN_API attn_status ATTN_CALL attn_plan_slot(attn_plan plan, size_t position, attn_bind *bind, attn_tensor *bounds);

/** @brief Describes a plan as JSON: kernel, FLOPs, bytes, workspace, tensors, refusals; also what `attn pack` reads.
 *  @param plan the plan @param[out] buffer gets the NUL-terminated text; NULL if capacity is 0
 *  @param capacity of buffer in bytes @param[out] needed bytes with the NUL, or NULL
 *  @return ATTN_ERROR_CAPACITY if it does not fit; ATTN_OK if capacity is 0 and only `needed` is asked for */
ATTN_API attn_status ATTN_CALL attn_plan_describe(attn_plan plan, char *buffer, size_t capacity, size_t *needed);

/**
 * @brief Runs a plan.
 *
 * On the CPU the work is done on return. On a GPU it is enqueued on `stream`; the call can be captured in a graph,
 * whose nodes depend on the plan and the shapes of `args` only.
 * Outputs may not overlap inputs, each other or themselves; only STATE_OUT may be the very view of STATE_IN.
 *
 * @param plan the plan
 * @param args its tensors, any order; shapes within the bounds
 * @param count number of args
 * @param workspace memory of the plan's device, contents undefined; may be NULL if bytes is 0; not shared by
 *        concurrent executes
 * @param bytes its size
 * @param stream CUstream or hipStream_t, NULL the default stream; CPU: NULL
 * @return status; on failure nothing has been written or enqueued
 */
ATTN_API attn_status ATTN_CALL attn_execute(attn_plan plan, const attn_arg *args, size_t count, void *workspace,
                                            size_t bytes, void *stream);

/** @brief Releases a plan; its enqueued work must have completed. @param plan NULL is allowed */
ATTN_API void ATTN_CALL attn_plan_destroy(attn_plan plan);

/** @} */

/**
 * @defgroup c_views View helpers
 * @brief Inline functions that fill an ::attn_tensor: not part of the ABI.
 * @{
 */

/** @brief Row-major view of four axes on the device of the handle. @param data address @param dtype element type
 *  @param n0 extent @param n1 extent @param n2 extent @param n3 extent @return view */
static inline attn_tensor attn_tensor_4d(const void *data, attn_dtype dtype, int64_t n0, int64_t n1, int64_t n2,
                                         int64_t n3)
{
    attn_tensor t;
    int i;
    for (i = 0; i < 8; ++i) t.shape[i] = t.strides[i] = 0;
#ifdef __cplusplus
    t.data = const_cast<void *>(data);
#else
    t.data = (void *)(uintptr_t)data;
#endif
    t.byte_offset = 0;
    t.device = ATTN_DEVICE_DEFAULT;
    t.device_id = 0;
    t.ndim = 4;
    t.dtype = dtype;
    t.shape[0] = n0, t.shape[1] = n1, t.shape[2] = n2, t.shape[3] = n3;
    t.strides[0] = n1 * n2 * n3, t.strides[1] = n2 * n3, t.strides[2] = n3, t.strides[3] = 1;
    return t;
}

/** @brief Likewise, three axes. @param data address @param dtype element type @param n0 extent @param n1 extent
 *  @param n2 extent @return view */
static inline attn_tensor attn_tensor_3d(const void *data, attn_dtype dtype, int64_t n0, int64_t n1, int64_t n2)
{
    attn_tensor t = attn_tensor_4d(data, dtype, n0, n1, n2, 1);
    t.ndim = 3;
    t.shape[3] = t.strides[3] = 0;
    return t;
}

/** @brief Likewise, two axes. @param data address @param dtype element type @param n0 extent @param n1 extent
 *  @return view */
static inline attn_tensor attn_tensor_2d(const void *data, attn_dtype dtype, int64_t n0, int64_t n1)
{
    attn_tensor t = attn_tensor_3d(data, dtype, n0, n1, 1);
    t.ndim = 2;
    t.shape[2] = t.strides[2] = 0;
    return t;
}

/** @brief Likewise, one axis. @param data address @param dtype element type @param n0 extent @return view */
static inline attn_tensor attn_tensor_1d(const void *data, attn_dtype dtype, int64_t n0)
{
    attn_tensor t = attn_tensor_2d(data, dtype, n0, 1);
    t.ndim = 1;
    t.shape[1] = t.strides[1] = 0;
    return t;
}

/** @brief The same memory with two axes exchanged: `attn_tensor_swap_axes(attn_tensor_4d(p, t, b, h, s, d), 1, 2)`
 *  views BHSD memory as the BSHD that slots want. @param t view @param a axis @param b axis @return view */
static inline attn_tensor attn_tensor_swap_axes(attn_tensor t, int32_t a, int32_t b)
{
    int64_t n = t.shape[a], s = t.strides[a];
    t.shape[a] = t.shape[b], t.strides[a] = t.strides[b];
    t.shape[b] = n, t.strides[b] = s;
    return t;
}

/** @} */

/**
 * @defgroup c_experimental Experimental
 * @brief May change in any release. Define ATTN_EXPERIMENTAL to use it.
 * @{
 */
#ifdef ATTN_EXPERIMENTAL

/** @brief Decay of the state. */
typedef int32_t attn_decay;
/** @brief Values of ::attn_decay; all but NONE imply DECAY. */
enum attn_decay_values {
    ATTN_DECAY_NONE = 0,   /**< No decay. */
    ATTN_DECAY_HEAD = 1,   /**< Constant, DECAY `[Hv]` (RetNet, Lightning). */
    ATTN_DECAY_TOKEN = 2,  /**< DECAY `[B, T, Hv]` (Mamba-2, Gated DeltaNet). */
    ATTN_DECAY_CHANNEL = 3 /**< DECAY `[B, T, Hv, Dk]` (GLA, KDA, RWKV). */
};

/** @brief How raw DECAY x becomes the log decay; per token or channel. */
typedef int32_t attn_decay_form;
/** @brief Values of ::attn_decay_form. */
enum attn_decay_form_values {
    ATTN_DECAY_LOG = 0,        /**< x. */
    ATTN_DECAY_SOFTPLUS = 1,   /**< -exp(A_LOG) * softplus(x + DT_BIAS). Implies both slots. */
    ATTN_DECAY_SIGMOID = 2,    /**< decay_lower_bound * sigmoid(exp(A_LOG) * (x + DT_BIAS)). Implies both slots. */
    ATTN_DECAY_LOG_SIGMOID = 3 /**< decay_scale * log(sigmoid(x)). */
};

/** @brief Update of the state S `[Dk, Dv]` after decay to S'. */
typedef int32_t attn_update;
/** @brief Values of ::attn_update. */
enum attn_update_values {
    ATTN_UPDATE_ADD = 0,         /**< S' + k v^T. */
    ATTN_UPDATE_DELTA = 1,       /**< S' + beta k (v - S'^T k)^T. Implies BETA. */
    ATTN_UPDATE_GATED_DELTA = 2, /**< S' - k (S'^T (erase * k))^T + k (write * v)^T. Implies ERASE, WRITE. */
    ATTN_UPDATE_DPLR = 3         /**< S' + b (c^T S)^T + k v^T with S before decay. Implies DPLR_B, DPLR_C. */
};

/** @brief Which state a query reads. Other than after: update ATTN_UPDATE_ADD only. */
typedef int32_t attn_read;
/** @brief Values of ::attn_read. */
enum attn_read_values {
    ATTN_READ_AFTER = 0, /**< After the update with its own key. */
    ATTN_READ_BEFORE = 1 /**< Before, plus `(q . (BONUS * k)) v`. Implies BONUS (RWKV-6). */
};

/** @brief Map applied to the rows of Q and K, before ATTN_LINEAR_QK_L2NORM. Where the number of channels changes, gates
 *  and states have that of the features. */
typedef int32_t attn_feature_map;
/** @brief Values of ::attn_feature_map. */
enum attn_feature_map_values {
    ATTN_FEATURE_IDENTITY = 0, /**< x. */
    ATTN_FEATURE_ELU1 = 1,     /**< elu(x) + 1. */
    ATTN_FEATURE_RELU = 2,     /**< max(x, 0). */
    ATTN_FEATURE_SILU = 3,     /**< x * sigmoid(x). */
    ATTN_FEATURE_SOFTMAX = 4,  /**< Softmax over channels. */
    ATTN_FEATURE_TAYLOR2 = 5,  /**< Second order Taylor of `exp(q.k / sqrt(d))`, d = dim_qk (Based): 1, `x_i d^(-1/4)`,
                                    and for i <= j `x_i x_j / sqrt(d)`, over sqrt(2) where i = j: d(d+3)/2 + 1. */
    ATTN_FEATURE_HEDGEHOG = 6  /**< Softmax of (2(Wx+b), -2(Wx+b)), 2 dim_qk features. Implies FEATURE, twice. */
};

/** @brief Order of the last two axes of the views of states. */
typedef int32_t attn_state_layout;
/** @brief Values of ::attn_state_layout. */
enum attn_state_layout_values {
    ATTN_STATE_KV = 0, /**< Key-major: `[states, Hv, Dk, Dv]`. */
    ATTN_STATE_VK = 1  /**< Value-major: `[states, Hv, Dv, Dk]`. */
};

/** @brief Which states STATE_OUT receives. */
typedef int32_t attn_state_keep;
/** @brief Values of ::attn_state_keep. */
enum attn_state_keep_values {
    ATTN_STATE_FINAL = 0,    /**< That after the last token. */
    ATTN_STATE_PER_TOKEN = 1 /**< One per token, `[B, T, Hv, Dk, Dv]`, packed `[T, Hv, Dk, Dv]`, for rollback. */
};

/** @brief Bits of attn_linear.flags. */
enum attn_linear_flags {
    ATTN_LINEAR_BIDIRECTIONAL = 1 << 0, /**< Every query reads all keys. No decay, update add. */
    ATTN_LINEAR_QK_L2NORM = 1 << 1,     /**< Q and K rows are normalised, eps 1e-6 inside the root. */
    ATTN_LINEAR_NORMALISER = 1 << 2,    /**< Divide by the sum of weights, 0 where that is 0. Update add; the state has
                                             one more column, the sum of the keys, as if V ended with a 1. */
    ATTN_LINEAR_RECURRENT = 1 << 3      /**< Token by token in double precision, the reference: never in chunks. */
};

/**
 * @brief Linear attention: `S_t = update(decay_t * S_{t-1}, k_t, v_t)`, `o_t = scale * S_t^T q_t`.
 *
 * There is a state for each of the heads_v heads; heads_k divides heads_v, and heads_q may be more or fewer. Head h of
 * OUT reads state `h * heads_v / Ho`. Q, K, V, OUT and the gates have one length, T, at most max_q, and are packed
 * together by CU_SEQLENS_Q; SEQLENS_Q shortens them. Only bidirectional plans have keys of their own length: at most
 * max_kv, packed by CU_SEQLENS_KV, shortened by SEQLENS_KV. A sequence without tokens leaves its state as it was.
 *
 * Log decays should be <= 0, and the delta rules need keys with `beta |k|^2 <= 2` (normalise them, beta <= 2), or the
 * state grows without bound. ::ATTN_CHECKED refuses other values with ::ATTN_ERROR_DATA, naming their place. A token
 * never changes a bit of the outputs before it.
 *
 * Rollback: keep the state before the tokens (STATE_OUT other than STATE_IN) and run the accepted ones again, or keep
 * that after each (::ATTN_STATE_PER_TOKEN). Both give the bits of a run that never saw the rejected ones.
 */
typedef struct attn_linear {
    size_t size;                    /**< `sizeof(attn_linear)`. */
    const attn_ext *next;           /**< Extensions or NULL. */
    const attn_problem *problem;    /**< Required. max_q bounds T. */
    const attn_rope *rope;          /**< Rotates Q and K; NULL: not. */
    uint64_t flags;                 /**< ATTN_LINEAR_*. */
    attn_decay decay;               /**< 0: none. */
    attn_decay_form decay_form;     /**< 0: DECAY is the natural log. */
    attn_update update;             /**< 0: add. */
    attn_read read;                 /**< 0: after. */
    attn_feature_map feature_map;   /**< 0: identity. */
    attn_state_layout state_layout; /**< 0: key-major. */
    attn_state_keep state_keep;     /**< 0: final. */
    attn_dtype state_dtype;         /**< 0: float32. */
    int64_t chunk;                  /**< Tokens of a chunk, at most 256. 0: chosen. */
    double decay_lower_bound;       /**< Promise: log decay >= this, < 0. 0: none given. */
    double decay_scale;             /**< ATTN_DECAY_LOG_SIGMOID. 0: 1. */
    double normaliser_eps;          /**< Added to the sum of weights. */
} attn_linear;

/** @brief Plans linear attention. @param handle device @param desc descriptor @param[out] plan the plan
 *  @return status */
ATTN_API attn_status ATTN_CALL attn_plan_linear(attn_handle handle, const attn_linear *desc, attn_plan *plan);

/**
 * @brief What a saved state says of itself; attn_state_inspect() fills it in.
 *
 * A saved state is 96 bytes of header, then the elements, row-major, of `[states, heads, rows, columns]` or in layout
 * ATTN_STATE_VK `[states, heads, columns, rows]`. Little-endian throughout. The header: the 8 bytes `attnstat`; version
 * 1, size of the header 96, dtype, layout, decay, update, read, feature_map, flags (ATTN_LINEAR_* that shape a state:
 * QK_L2NORM, NORMALISER, BIDIRECTIONAL), 0, each 32 bit; states, heads, rows, columns, tokens, each 64 bit; a checksum
 * of 64 bit: FNV-1a by words of 64 bit, over the header with 0 in its place and the elements, filled up with zeros.
 */
typedef struct attn_state_info {
    size_t size;                  /**< `sizeof(attn_state_info)`; nothing beyond it is written. */
    const attn_ext *next;         /**< NULL. */
    uint64_t flags;               /**< ATTN_LINEAR_* of the descriptor that shape a state. */
    attn_decay decay;             /**< Of the descriptor, as the rest up to `feature_map`. */
    attn_update update;           /**< What writes. */
    attn_read read;               /**< What a query reads. */
    attn_feature_map feature_map; /**< What makes rows of keys. */
    attn_state_layout layout;     /**< Order of the elements. */
    attn_dtype dtype;             /**< Their type. */
    int64_t states;               /**< Sequences. */
    int64_t heads;                /**< Heads of V. */
    int64_t rows;                 /**< Features of K. */
    int64_t columns;              /**< Channels of V, and one more with a normaliser. */
    int64_t tokens;               /**< What the caller said. */
} attn_state_info;

/** @brief Saves states in the portable form of ::attn_state_info. Host memory.
 *  @param desc the linear descriptor; its layout and dtype are those of `state` @param state `[states, Hv, Dk, Dv]`
 *  @param tokens that the states have seen, or what the caller wants to find again
 *  @param[out] buffer NULL if capacity is 0 @param capacity its size in bytes @param[out] needed bytes, or NULL
 *  @return ATTN_ERROR_CAPACITY if it does not fit; ATTN_OK if capacity is 0 and only `needed` is asked for */
ATTN_API attn_status ATTN_CALL attn_state_save(const attn_linear *desc, const attn_tensor *state, int64_t tokens,
                                               void *buffer, size_t capacity, size_t *needed);

/** @brief Reads the header of a saved state and verifies the checksum. @param buffer the bytes @param bytes their
 * number
 *  @param[in,out] info `size` set by the caller, the rest filled in @return ATTN_ERROR_DATA if they are no saved state,
 *  of a later version, cut off or changed */
ATTN_API attn_status ATTN_CALL attn_state_inspect(const void *buffer, size_t bytes, attn_state_info *info);

/** @brief Loads saved states into memory of the layout and dtype of a descriptor, converted where they differ. What was
 *  saved of another method or size is refused. Host memory.
 *  @param desc the linear descriptor @param buffer the bytes @param bytes their number
 *  @param state `[states, Hv, Dk, Dv]`, written @param[out] tokens as saved, or NULL @return status */
ATTN_API attn_status ATTN_CALL attn_state_load(const attn_linear *desc, const void *buffer, size_t bytes,
                                               const attn_tensor *state, int64_t *tokens);

/** @brief Copies states between views, converted in layout and dtype: to fork, to move between pools, to go back to
 * that after a token (a view of ATTN_STATE_PER_TOKEN). float32, float16, bfloat16; host memory.
 *  @param from `[states, Hv, Dk, Dv]` @param from_layout its order of axes @param to likewise, not overlapping
 *  @param to_layout its order of axes @return status */
ATTN_API attn_status ATTN_CALL attn_state_copy(const attn_tensor *from, attn_state_layout from_layout,
                                               const attn_tensor *to, attn_state_layout to_layout);

/** @brief What follows a convolution. */
typedef int32_t attn_conv_activation;
/** @brief Values of ::attn_conv_activation. */
enum attn_conv_activation_values {
    ATTN_CONV_IDENTITY = 0, /**< Nothing. */
    ATTN_CONV_SILU = 1      /**< y * sigmoid(y). */
};

/**
 * @brief Causal depthwise convolution, which linear layers have before their recurrence:
 * `OUT_t = act(CONV_BIAS + sum_i CONV_WEIGHT_i * X_(t - width + 1 + i)) + RESIDUAL_t`, by channel.
 *
 * Tokens before the first come from STATE_IN `[states, width - 1, Hq, dim_qk]`, the oldest first, and are 0 where it is
 * not bound; STATE_OUT gets the last width - 1 tokens. Pools and STATE_INDEX as in linear plans. A step is a call with
 * few tokens. Outputs depend on the last `width` tokens alone: bits are the same however a sequence is split into
 * calls, where the state has the dtype of X or a wider one.
 *
 * Problem: batch, heads_q, dim_qk, max_q, total_q, q_dtype (X), out_dtype; CU_SEQLENS_Q, SEQLENS_Q. The rest is 0.
 */
typedef struct attn_conv {
    size_t size;                     /**< `sizeof(attn_conv)`. */
    const attn_ext *next;            /**< Extensions or NULL. */
    const attn_problem *problem;     /**< Required. */
    size_t width;                    /**< Taps of a channel, 1 .. 8. Required. */
    uint64_t flags;                  /**< 0. */
    attn_conv_activation activation; /**< 0: none. */
    attn_dtype state_dtype;          /**< 0: that of X. */
} attn_conv;

/** @brief Plans a convolution. @param handle device @param desc descriptor @param[out] plan the plan @return status */
ATTN_API attn_status ATTN_CALL attn_plan_conv(attn_handle handle, const attn_conv *desc, attn_plan *plan);

/** @brief What DECAY of a scan is. */
typedef int32_t attn_scan_form;
/** @brief Values of ::attn_scan_form. */
enum attn_scan_form_values {
    ATTN_SCAN_LOG = 0,   /**< The natural log of the decay, <= 0. */
    ATTN_SCAN_FACTOR = 1 /**< The decay itself, 0 .. 1. */
};

/** @brief Bits of attn_scan.flags. */
enum attn_scan_flags {
    ATTN_SCAN_LERP = 1 << 0 /**< X is weighed by 1 - decay (HGRN, RAT, minGRU), computed as
                                 `h + (1 - decay) * (X - h)`. Without WRITE. */
};

/**
 * @brief Vector gated scan: `h_t = decay_t * h_(t-1) + WRITE_t * X_t`, by channel; OUT gets every h_t.
 *
 * WRITE counts as 1 where it is not bound. h_0 is STATE_IN `[states, Hq, dim_qk]`, 0 where it is not bound; STATE_OUT
 * gets the last h_t. Pools and STATE_INDEX as in linear plans. States are float32 within: OUT of another dtype is
 * rounded from them. A token never changes a bit of the outputs before it, and the number of workers no bit at all.
 * ::ATTN_CHECKED refuses decays that are none with ::ATTN_ERROR_DATA, naming their place. To begin anew every L tokens,
 * pack them as sequences of L tokens.
 *
 * Problem: batch, heads_q, dim_qk, max_q, total_q, q_dtype (X), out_dtype; CU_SEQLENS_Q, SEQLENS_Q. The rest is 0.
 */
typedef struct attn_scan {
    size_t size;                 /**< `sizeof(attn_scan)`. */
    const attn_ext *next;        /**< Extensions or NULL. */
    const attn_problem *problem; /**< Required. */
    size_t reserved;             /**< 0. */
    uint64_t flags;              /**< ATTN_SCAN_*. */
    attn_scan_form form;         /**< 0: DECAY is the natural log. */
    attn_dtype state_dtype;      /**< 0: float32. */
} attn_scan;

/** @brief Plans a scan. @param handle device @param desc descriptor @param[out] plan the plan @return status */
ATTN_API attn_status ATTN_CALL attn_plan_scan(attn_handle handle, const attn_scan *desc, attn_plan *plan);

/** @brief Values of ::attn_ext_type. */
enum attn_ext_type_values {
    ATTN_EXT_DROPOUT = 1 /**< ::attn_dropout on ::attn_dense. */
};

/** @brief Dropout of attention weights. Implies RNG. */
typedef struct attn_dropout {
    attn_ext ext;       /**< `type = ATTN_EXT_DROPOUT`. */
    double probability; /**< Of dropping, in (0, 1). */
} attn_dropout;
#endif /* ATTN_EXPERIMENTAL */
/** @} */

#ifdef __cplusplus
}
#endif

/* clang-format off */
/** @cond layout: the byte offset of every field, with 64-bit and with 32-bit pointers */
#if defined(__cplusplus)
#define ATTN_ASSERT(condition, tag) static_assert(condition, #tag);
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define ATTN_ASSERT(condition, tag) _Static_assert(condition, #tag);
#else
#define ATTN_ASSERT(condition, tag) typedef char attn_assert_##tag[(condition) ? 1 : -1];
#endif
#define ATTN_AT(type, field, at64, at32) \
    ATTN_ASSERT(offsetof(type, field) == (sizeof(void *) == 8 ? at64 : at32), type##_##field)
#define ATTN_IS(type, size64, size32) ATTN_ASSERT(sizeof(type) == (sizeof(void *) == 8 ? size64 : size32), type)
ATTN_AT(attn_tensor, data, 0, 0) ATTN_AT(attn_tensor, byte_offset, 8, 4) ATTN_AT(attn_tensor, device, 16, 8)
ATTN_AT(attn_tensor, device_id, 20, 12) ATTN_AT(attn_tensor, ndim, 24, 16) ATTN_AT(attn_tensor, dtype, 28, 20)
ATTN_AT(attn_tensor, shape, 32, 24) ATTN_AT(attn_tensor, strides, 96, 88) ATTN_IS(attn_tensor, 160, 152)
ATTN_AT(attn_arg, slot, 0, 0) ATTN_AT(attn_arg, index, 4, 4) ATTN_AT(attn_arg, tensor, 8, 8)
ATTN_IS(attn_arg, 16, 12)
ATTN_AT(attn_bind, slot, 0, 0) ATTN_AT(attn_bind, index, 4, 4) ATTN_AT(attn_bind, dtype, 8, 8)
ATTN_AT(attn_bind, flags, 12, 12) ATTN_AT(attn_bind, block, 16, 16) ATTN_AT(attn_bind, reserved, 48, 48)
ATTN_IS(attn_bind, 64, 64)
ATTN_AT(attn_term, op, 0, 0) ATTN_AT(attn_term, flags, 2, 2) ATTN_AT(attn_term, axis, 4, 4)
ATTN_AT(attn_term, table, 8, 8) ATTN_AT(attn_term, reserved, 12, 12) ATTN_AT(attn_term, p, 16, 16)
ATTN_AT(attn_term, f, 56, 56) ATTN_IS(attn_term, 64, 64)
ATTN_AT(attn_table, values, 0, 0) ATTN_AT(attn_table, slopes, 8, 4) ATTN_AT(attn_table, rows, 16, 8)
ATTN_AT(attn_table, columns, 24, 16) ATTN_IS(attn_table, 32, 24)
ATTN_AT(attn_ext, size, 0, 0) ATTN_AT(attn_ext, next, 8, 4) ATTN_AT(attn_ext, type, 16, 8)
ATTN_AT(attn_ext, reserved, 20, 12) ATTN_IS(attn_ext, 24, 16)
ATTN_AT(attn_options, size, 0, 0) ATTN_AT(attn_options, next, 8, 4) ATTN_AT(attn_options, flags, 16, 8)
ATTN_AT(attn_options, device, 24, 16) ATTN_AT(attn_options, device_id, 28, 20)
ATTN_AT(attn_options, max_workers, 32, 24) ATTN_AT(attn_options, log_level, 36, 28)
ATTN_AT(attn_options, parallel_for, 40, 32) ATTN_AT(attn_options, parallel_ctx, 48, 36)
ATTN_AT(attn_options, device_alloc, 56, 40) ATTN_AT(attn_options, device_free, 64, 44)
ATTN_AT(attn_options, alloc_ctx, 72, 48) ATTN_AT(attn_options, log, 80, 52) ATTN_AT(attn_options, log_ctx, 88, 56)
ATTN_AT(attn_options, cache_dir, 96, 60) ATTN_AT(attn_options, kernel_path, 104, 64)
ATTN_AT(attn_options, compiler_path, 112, 68) ATTN_IS(attn_options, 120, 72)
ATTN_AT(attn_device_properties, size, 0, 0) ATTN_AT(attn_device_properties, next, 8, 4)
ATTN_AT(attn_device_properties, device, 16, 8) ATTN_AT(attn_device_properties, device_id, 20, 12)
ATTN_AT(attn_device_properties, compute_units, 24, 16) ATTN_AT(attn_device_properties, driver_version, 28, 20)
ATTN_AT(attn_device_properties, memory_bytes, 32, 24) ATTN_AT(attn_device_properties, bytes_per_second, 40, 32)
ATTN_AT(attn_device_properties, name, 48, 40) ATTN_AT(attn_device_properties, arch, 176, 168)
ATTN_IS(attn_device_properties, 240, 232)
ATTN_AT(attn_problem, size, 0, 0) ATTN_AT(attn_problem, next, 8, 4) ATTN_AT(attn_problem, binds, 16, 8)
ATTN_AT(attn_problem, bind_count, 24, 12) ATTN_AT(attn_problem, flags, 32, 16)
ATTN_AT(attn_problem, direction, 40, 24) ATTN_AT(attn_problem, precision, 44, 28)
ATTN_AT(attn_problem, q_dtype, 48, 32) ATTN_AT(attn_problem, k_dtype, 52, 36) ATTN_AT(attn_problem, v_dtype, 56, 40)
ATTN_AT(attn_problem, out_dtype, 60, 44) ATTN_AT(attn_problem, batch, 64, 48) ATTN_AT(attn_problem, heads_q, 72, 56)
ATTN_AT(attn_problem, heads_k, 80, 64) ATTN_AT(attn_problem, heads_v, 88, 72) ATTN_AT(attn_problem, dim_qk, 96, 80)
ATTN_AT(attn_problem, dim_v, 104, 88) ATTN_AT(attn_problem, max_q, 112, 96) ATTN_AT(attn_problem, max_kv, 120, 104)
ATTN_AT(attn_problem, total_q, 128, 112) ATTN_AT(attn_problem, total_kv, 136, 120)
ATTN_AT(attn_problem, page_size, 144, 128) ATTN_AT(attn_problem, scale, 152, 136) ATTN_IS(attn_problem, 160, 144)
ATTN_AT(attn_program, size, 0, 0) ATTN_AT(attn_program, next, 8, 4) ATTN_AT(attn_program, terms, 16, 8)
ATTN_AT(attn_program, term_count, 24, 12) ATTN_AT(attn_program, tables, 32, 16)
ATTN_AT(attn_program, table_count, 40, 20) ATTN_AT(attn_program, flags, 48, 24) ATTN_AT(attn_program, grid_q, 56, 32)
ATTN_AT(attn_program, grid_kv, 88, 64) ATTN_IS(attn_program, 120, 96)
ATTN_AT(attn_rope, size, 0, 0) ATTN_AT(attn_rope, next, 8, 4) ATTN_AT(attn_rope, flags, 16, 8)
ATTN_AT(attn_rope, layout, 24, 16) ATTN_AT(attn_rope, source, 28, 20) ATTN_AT(attn_rope, dim, 32, 24)
ATTN_AT(attn_rope, first, 40, 32) ATTN_AT(attn_rope, base, 48, 40) ATTN_IS(attn_rope, 56, 48)
ATTN_AT(attn_bias_table, size, 0, 0) ATTN_AT(attn_bias_table, next, 8, 4) ATTN_AT(attn_bias_table, kind, 16, 8)
ATTN_AT(attn_bias_table, bidirectional, 20, 12) ATTN_AT(attn_bias_table, buckets, 24, 16)
ATTN_AT(attn_bias_table, max_distance, 32, 24) ATTN_AT(attn_bias_table, grid, 40, 32)
ATTN_IS(attn_bias_table, 72, 64)
ATTN_AT(attn_dense, size, 0, 0) ATTN_AT(attn_dense, next, 8, 4) ATTN_AT(attn_dense, problem, 16, 8)
ATTN_AT(attn_dense, mask, 24, 12) ATTN_AT(attn_dense, rope, 32, 16) ATTN_AT(attn_dense, bias_table, 40, 20)
ATTN_AT(attn_dense, flags, 48, 24) ATTN_AT(attn_dense, causal, 56, 32) ATTN_AT(attn_dense, align, 60, 36)
ATTN_AT(attn_dense, window_left, 64, 40) ATTN_AT(attn_dense, window_right, 72, 48)
ATTN_AT(attn_dense, sink_tokens, 80, 56) ATTN_AT(attn_dense, softcap, 88, 64) ATTN_AT(attn_dense, activation, 96, 72)
ATTN_AT(attn_dense, bias_stage, 100, 76) ATTN_AT(attn_dense, gate, 104, 80) ATTN_AT(attn_dense, reserved, 108, 84)
ATTN_AT(attn_dense, activation_bias, 112, 88) ATTN_AT(attn_dense, activation_length, 120, 96)
ATTN_AT(attn_dense, bias_rank, 128, 104) ATTN_IS(attn_dense, 136, 112)
ATTN_AT(attn_merge, size, 0, 0) ATTN_AT(attn_merge, next, 8, 4) ATTN_AT(attn_merge, problem, 16, 8)
ATTN_AT(attn_merge, parts, 24, 12) ATTN_AT(attn_merge, flags, 32, 16) ATTN_AT(attn_merge, activation, 40, 24)
ATTN_AT(attn_merge, gate, 44, 28) ATTN_IS(attn_merge, 48, 32)
ATTN_AT(attn_append, size, 0, 0) ATTN_AT(attn_append, next, 8, 4) ATTN_AT(attn_append, problem, 16, 8)
ATTN_AT(attn_append, rope, 24, 12) ATTN_AT(attn_append, flags, 32, 16) ATTN_AT(attn_append, ring_rows, 40, 24)
ATTN_AT(attn_append, sink_tokens, 48, 32) ATTN_IS(attn_append, 56, 40)
ATTN_AT(attn_sizes, size, 0, 0) ATTN_AT(attn_sizes, next, 8, 4) ATTN_AT(attn_sizes, batch, 16, 8)
ATTN_AT(attn_sizes, max_q, 24, 16) ATTN_AT(attn_sizes, max_kv, 32, 24) ATTN_AT(attn_sizes, total_q, 40, 32)
ATTN_AT(attn_sizes, total_kv, 48, 40) ATTN_IS(attn_sizes, 56, 48)
#ifdef ATTN_EXPERIMENTAL
ATTN_AT(attn_linear, size, 0, 0) ATTN_AT(attn_linear, next, 8, 4) ATTN_AT(attn_linear, problem, 16, 8)
ATTN_AT(attn_linear, rope, 24, 12) ATTN_AT(attn_linear, flags, 32, 16) ATTN_AT(attn_linear, decay, 40, 24)
ATTN_AT(attn_linear, decay_form, 44, 28) ATTN_AT(attn_linear, update, 48, 32) ATTN_AT(attn_linear, read, 52, 36)
ATTN_AT(attn_linear, feature_map, 56, 40) ATTN_AT(attn_linear, state_layout, 60, 44)
ATTN_AT(attn_linear, state_keep, 64, 48) ATTN_AT(attn_linear, state_dtype, 68, 52)
ATTN_AT(attn_linear, chunk, 72, 56) ATTN_AT(attn_linear, decay_lower_bound, 80, 64)
ATTN_AT(attn_linear, decay_scale, 88, 72) ATTN_AT(attn_linear, normaliser_eps, 96, 80) ATTN_IS(attn_linear, 104, 88)
ATTN_AT(attn_state_info, size, 0, 0) ATTN_AT(attn_state_info, next, 8, 4) ATTN_AT(attn_state_info, flags, 16, 8)
ATTN_AT(attn_state_info, decay, 24, 16) ATTN_AT(attn_state_info, update, 28, 20) ATTN_AT(attn_state_info, read, 32, 24)
ATTN_AT(attn_state_info, feature_map, 36, 28) ATTN_AT(attn_state_info, layout, 40, 32)
ATTN_AT(attn_state_info, dtype, 44, 36) ATTN_AT(attn_state_info, states, 48, 40) ATTN_AT(attn_state_info, heads, 56, 48)
ATTN_AT(attn_state_info, rows, 64, 56) ATTN_AT(attn_state_info, columns, 72, 64)
ATTN_AT(attn_state_info, tokens, 80, 72) ATTN_IS(attn_state_info, 88, 80)
ATTN_AT(attn_conv, size, 0, 0) ATTN_AT(attn_conv, next, 8, 4) ATTN_AT(attn_conv, problem, 16, 8)
ATTN_AT(attn_conv, width, 24, 12) ATTN_AT(attn_conv, flags, 32, 16) ATTN_AT(attn_conv, activation, 40, 24)
ATTN_AT(attn_conv, state_dtype, 44, 28) ATTN_IS(attn_conv, 48, 32)
ATTN_AT(attn_scan, size, 0, 0) ATTN_AT(attn_scan, next, 8, 4) ATTN_AT(attn_scan, problem, 16, 8)
ATTN_AT(attn_scan, reserved, 24, 12) ATTN_AT(attn_scan, flags, 32, 16) ATTN_AT(attn_scan, form, 40, 24)
ATTN_AT(attn_scan, state_dtype, 44, 28) ATTN_IS(attn_scan, 48, 32)
ATTN_AT(attn_dropout, ext, 0, 0) ATTN_AT(attn_dropout, probability, 24, 16) ATTN_IS(attn_dropout, 32, 24)
#endif
#undef ATTN_IS
#undef ATTN_AT
#undef ATTN_ASSERT
/** @endcond */
/* clang-format on */

#endif /* ATTN_ATTN_H */
