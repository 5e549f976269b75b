#include "state.h"

#include "abi.h"
#include "linear.h"
#include "names.h"
#include "overlap.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace attn {
namespace {

static_assert(std::endian::native == std::endian::little, "saved states are little-endian");

constexpr char kMagic[8] = {'a', 't', 't', 'n', 's', 't', 'a', 't'};
constexpr uint32_t kVersion = 1;
constexpr uint64_t kShapingFlags = ATTN_LINEAR_QK_L2NORM | ATTN_LINEAR_NORMALISER | ATTN_LINEAR_BIDIRECTIONAL;

/// The bytes in front of the elements, as attn_state_info documents them.
struct Header {
    char magic[8];
    uint32_t version, header_bytes, dtype, layout;
    int32_t decay, update, read, feature_map;
    uint32_t flags, reserved;
    int64_t states, heads, rows, columns, tokens;
    uint64_t checksum;
};
static_assert(sizeof(Header) == 96);

/// FNV-1a by words of 64 bit; what is left over is filled up with zeros.
uint64_t add_to_checksum(uint64_t sum, const void *data, size_t bytes)
{
    const char *p = static_cast<const char *>(data);
    for (size_t at = 0; at < bytes; at += 8) {
        uint64_t word = 0;
        memcpy(&word, p + at, std::min<size_t>(8, bytes - at));
        sum = (sum ^ word) * 0x100000001b3u;
    }
    return sum;
}

uint64_t checksum_of(Header header, const void *elements, size_t bytes)
{
    header.checksum = 0;
    return add_to_checksum(add_to_checksum(0xcbf29ce484222325u, &header, sizeof header), elements, bytes);
}

bool is_real(attn_dtype dtype)
{
    return dtype == ATTN_FLOAT32 || dtype == ATTN_FLOAT16 || dtype == ATTN_BFLOAT16;
}

attn_status check_view(const char *name, const attn_tensor *view, attn_state_layout layout)
{
    if (!view) return fail(ATTN_ERROR_INVALID, "%s = NULL: must point to a view", name);
    if (layout != ATTN_STATE_KV && layout != ATTN_STATE_VK)
        return fail(ATTN_ERROR_INVALID, "%s: layout = %d: unknown value, must be 0 .. 1", name, layout);
    if (view->ndim != 4) return fail(ATTN_ERROR_INVALID, "%s.ndim = %d: must be 4", name, view->ndim);
    if (!is_real(view->dtype))
        return fail(ATTN_ERROR_INVALID, "%s.dtype = %s: must be float32, float16 or bfloat16", name,
                    dtype_text(view->dtype));
    const bool host = view->device == ATTN_DEVICE_DEFAULT || view->device == ATTN_DEVICE_CPU ||
                      view->device == ATTN_DEVICE_CUDA_HOST || view->device == ATTN_DEVICE_HIP_HOST;
    if (!host) return fail(ATTN_ERROR_INVALID, "%s.device = %d: must be host memory", name, view->device);
    bool empty = false;
    for (int axis = 0; axis < 4; ++axis) {
        if (view->shape[axis] < 0 || view->shape[axis] > kLargestExtent)
            return fail(ATTN_ERROR_INVALID, "%s.shape[%d] = %lld: must be 0 .. %lld", name, axis,
                        static_cast<long long>(view->shape[axis]), static_cast<long long>(kLargestExtent));
        empty |= view->shape[axis] == 0;
    }
    if (empty) return ATTN_OK;
    if (!view->data) return fail(ATTN_ERROR_INVALID, "%s.data = NULL: must point to memory, no extent is 0", name);
    const int64_t bytes = dtype_bytes(view->dtype);
    if ((reinterpret_cast<uintptr_t>(view->data) + view->byte_offset) % static_cast<uintptr_t>(bytes) != 0)
        return fail(ATTN_ERROR_INVALID, "%s.data = %p + %zu: must be a multiple of its %lld-byte elements", name,
                    view->data, view->byte_offset, static_cast<long long>(bytes));
    int64_t first, last;
    if (!view_span(*view, bytes, &first, &last))
        return fail(ATTN_ERROR_INVALID, "%s: shape times strides leaves the address space", name);
    return ATTN_OK;
}

attn_status check_written(const char *name, const attn_tensor &view)
{
    if (has_distinct_elements(view)) return ATTN_OK;
    return fail(ATTN_ERROR_INVALID, "%s.strides: the states overlap themselves", name);
}

/// A view without its checks; strides along axes of one place are not read.
void copy_view(const attn_tensor &from, attn_state_layout from_layout, const attn_tensor &to,
               attn_state_layout to_layout)
{
    const auto step = [](const attn_tensor &view, int axis) {
        return view.shape[axis] > 1 ? view.strides[axis] * dtype_bytes(view.dtype) : 0;
    };
    const int from_row = from_layout == ATTN_STATE_KV ? 2 : 3, to_row = to_layout == ATTN_STATE_KV ? 2 : 3;
    const int from_column = 5 - from_row, to_column = 5 - to_row;
    if (std::find(from.shape, from.shape + 4, 0) != from.shape + 4) return;
    char *source = static_cast<char *>(from.data) + from.byte_offset;
    char *target = static_cast<char *>(to.data) + to.byte_offset;
    for (int64_t s = 0; s < from.shape[0]; ++s)
        for (int64_t h = 0; h < from.shape[1]; ++h)
            for (int64_t r = 0; r < from.shape[from_row]; ++r)
                copy_elements(
                    {source + s * step(from, 0) + h * step(from, 1) + r * step(from, from_row), step(from, from_column),
                     from.dtype},
                    {target + s * step(to, 0) + h * step(to, 1) + r * step(to, to_row), step(to, to_column), to.dtype},
                    from.shape[from_column]);
}

/// The elements of a saved state as a view.
attn_tensor view_of(const Header &header, const void *elements)
{
    const bool key_major = header.layout == ATTN_STATE_KV;
    return attn_tensor_4d(elements, header.dtype, header.states, header.heads, key_major ? header.rows : header.columns,
                          key_major ? header.columns : header.rows);
}

/// Bytes of the elements; false if no memory holds so many.
bool count_bytes(const Header &header, size_t *bytes)
{
    int64_t product = dtype_bytes(header.dtype);
    for (const int64_t extent : {header.states, header.heads, header.rows, header.columns})
        if (extent < 0 || __builtin_mul_overflow(product, extent, &product)) return false;
    if (product > PTRDIFF_MAX - static_cast<int64_t>(sizeof(Header))) return false;
    *bytes = static_cast<size_t>(product);
    return true;
}

/// What a descriptor says of its states, and whether a view is one.
attn_status read_form(const attn_linear *desc, const attn_tensor *state, Header *out)
{
    LinearProblem p;
    if (const attn_status status = read_linear(desc, &p)) return status;
    if (const attn_status status = check_view("state", state, p.state_layout)) return status;
    *out = {};
    memcpy(out->magic, kMagic, sizeof kMagic);
    out->version = kVersion, out->header_bytes = sizeof(Header);
    out->dtype = p.state_dtype, out->layout = static_cast<uint32_t>(p.state_layout);
    out->decay = p.decay, out->update = p.update, out->read = p.read, out->feature_map = p.feature_map;
    out->flags = static_cast<uint32_t>(desc->flags & kShapingFlags);
    out->states = state->shape[0], out->heads = p.heads_v, out->rows = p.dim_k, out->columns = p.state_columns;
    if (state->dtype != p.state_dtype)
        return fail(ATTN_ERROR_INVALID, "state.dtype: must be attn_linear.state_dtype = %s", dtype_text(p.state_dtype));
    const attn_tensor wanted = view_of(*out, nullptr);
    for (int axis = 1; axis < 4; ++axis)
        if (state->shape[axis] != wanted.shape[axis])
            return fail(ATTN_ERROR_INVALID, "state.shape[%d] = %lld: must be %lld", axis,
                        static_cast<long long>(state->shape[axis]), static_cast<long long>(wanted.shape[axis]));
    return ATTN_OK;
}

attn_status read_header(const void *buffer, size_t bytes, Header *out)
{
    if (!buffer) return fail(ATTN_ERROR_INVALID, "buffer = NULL: must point to bytes");
    if (bytes < sizeof(Header))
        return fail(ATTN_ERROR_DATA, "bytes = %zu: a saved state has a header of %zu", bytes, sizeof(Header));
    memcpy(out, buffer, sizeof *out);
    if (memcmp(out->magic, kMagic, sizeof kMagic) != 0)
        return fail(ATTN_ERROR_DATA, "buffer: does not begin with 'attnstat', this is no saved state");
    if (out->version != kVersion || out->header_bytes != sizeof(Header))
        return fail(ATTN_ERROR_DATA, "buffer: version %u with a header of %u bytes; this library reads version %u",
                    out->version, out->header_bytes, kVersion);
    size_t elements = 0;
    if (!is_real(out->dtype) || out->layout > ATTN_STATE_VK || !count_bytes(*out, &elements))
        return fail(ATTN_ERROR_DATA, "buffer: dtype 0x%06x, layout %u or its sizes are none of a state", out->dtype,
                    out->layout);
    if (bytes - sizeof(Header) != elements)
        return fail(ATTN_ERROR_DATA, "bytes = %zu: the header says %zu", bytes, sizeof(Header) + elements);
    if (checksum_of(*out, static_cast<const char *>(buffer) + sizeof(Header), elements) != out->checksum)
        return fail(ATTN_ERROR_DATA, "buffer: the checksum differs, bytes have changed since they were saved");
    return ATTN_OK;
}

} // namespace

attn_status save_states(const attn_linear *desc, const attn_tensor *state, int64_t tokens, void *buffer,
                        size_t capacity, size_t *needed)
{
    Header header = {};
    if (const attn_status status = read_form(desc, state, &header)) return status;
    if (tokens < 0) return fail(ATTN_ERROR_INVALID, "tokens = %lld: must be >= 0", static_cast<long long>(tokens));
    header.tokens = tokens;
    size_t elements = 0;
    if (!count_bytes(header, &elements))
        return fail(ATTN_ERROR_INVALID, "state.shape[0] = %lld: no memory holds so many states",
                    static_cast<long long>(state->shape[0]));
    const size_t total = sizeof header + elements;
    const bool size_only = capacity == 0 && needed;
    if (!size_only) {
        if (capacity < total)
            return fail(ATTN_ERROR_CAPACITY, "capacity = %zu: the states need %zu bytes", capacity, total);
        if (!buffer) return fail(ATTN_ERROR_INVALID, "buffer = NULL: must point to capacity = %zu bytes", capacity);
        char *payload = static_cast<char *>(buffer) + sizeof header;
        copy_view(*state, static_cast<attn_state_layout>(header.layout), view_of(header, payload),
                  static_cast<attn_state_layout>(header.layout));
        header.checksum = checksum_of(header, payload, elements);
        memcpy(buffer, &header, sizeof header);
    }
    if (needed) *needed = total;
    return ATTN_OK;
}

attn_status inspect_states(const void *buffer, size_t bytes, attn_state_info *info)
{
    attn_state_info filled;
    if (const attn_status status = read_struct(info, "attn_state_info", &filled)) return status;
    if (const attn_status status = no_extensions(filled.next, "attn_state_info")) return status;
    Header header = {};
    if (const attn_status status = read_header(buffer, bytes, &header)) return status;
    const size_t size = info->size;
    filled.size = size;
    filled.flags = header.flags;
    filled.decay = header.decay, filled.update = header.update, filled.read = header.read;
    filled.feature_map = header.feature_map;
    filled.layout = static_cast<attn_state_layout>(header.layout), filled.dtype = header.dtype;
    filled.states = header.states, filled.heads = header.heads;
    filled.rows = header.rows, filled.columns = header.columns, filled.tokens = header.tokens;
    memcpy(info, &filled, std::min(size, sizeof filled));
    return ATTN_OK;
}

attn_status load_states(const attn_linear *desc, const void *buffer, size_t bytes, const attn_tensor *state,
                        int64_t *tokens)
{
    Header wanted = {}, header = {};
    if (const attn_status status = read_form(desc, state, &wanted)) return status;
    if (const attn_status status = check_written("state", *state)) return status;
    if (const attn_status status = read_header(buffer, bytes, &header)) return status;
    const struct {
        const char *field;
        int64_t saved, wanted;
    } fields[] = {{"decay", header.decay, wanted.decay},      {"update", header.update, wanted.update},
                  {"read", header.read, wanted.read},         {"feature_map", header.feature_map, wanted.feature_map},
                  {"flags", header.flags, wanted.flags},      {"states", header.states, wanted.states},
                  {"heads", header.heads, wanted.heads},      {"rows", header.rows, wanted.rows},
                  {"columns", header.columns, wanted.columns}};
    for (const auto &field : fields)
        if (field.saved != field.wanted)
            return fail(ATTN_ERROR_DATA, "buffer: %s = %lld as saved, but %lld of the descriptor and the view",
                        field.field, static_cast<long long>(field.saved), static_cast<long long>(field.wanted));
    copy_view(view_of(header, static_cast<const char *>(buffer) + sizeof header),
              static_cast<attn_state_layout>(header.layout), *state, static_cast<attn_state_layout>(wanted.layout));
    if (tokens) *tokens = header.tokens;
    return ATTN_OK;
}

attn_status copy_states(const attn_tensor *from, attn_state_layout from_layout, const attn_tensor *to,
                        attn_state_layout to_layout)
{
    if (const attn_status status = check_view("from", from, from_layout)) return status;
    if (const attn_status status = check_view("to", to, to_layout)) return status;
    if (const attn_status status = check_written("to", *to)) return status;
    const bool crossed = from_layout != to_layout;
    for (int axis = 0; axis < 4; ++axis) {
        const int other = axis >= 2 && crossed ? 5 - axis : axis;
        if (to->shape[axis] != from->shape[other])
            return fail(ATTN_ERROR_INVALID, "to.shape[%d] = %lld: must be %lld as in from.shape[%d]", axis,
                        static_cast<long long>(to->shape[axis]), static_cast<long long>(from->shape[other]), other);
    }
    if (!are_disjoint(*to, dtype_bytes(to->dtype), *from, dtype_bytes(from->dtype)))
        return fail(ATTN_ERROR_INVALID, "to.data = %p: must not overlap from, which begins at %p", to->data,
                    from->data);
    copy_view(*from, from_layout, *to, to_layout);
    return ATTN_OK;
}

} // namespace attn
