#include "descriptor.h"

#include <algorithm>
#include <cstdint>

namespace attn::fuzz {
namespace {

constexpr attn_dtype kRealDtypes[] = {ATTN_FLOAT32, ATTN_FLOAT16, ATTN_BFLOAT16};
constexpr attn_dtype kOtherDtypes[] = {0,
                                       ATTN_INT32,
                                       ATTN_INT64,
                                       ATTN_BOOL,
                                       ATTN_INT4,
                                       ATTN_UINT4,
                                       ATTN_INT8,
                                       ATTN_UINT8,
                                       ATTN_UINT64,
                                       ATTN_FLOAT4_E2M1FN,
                                       ATTN_FLOAT8_E4M3FN,
                                       ATTN_FLOAT8_E5M2,
                                       ATTN_FLOAT8_E8M0FNU,
                                       ATTN_FLOAT64};
constexpr attn_slot kSlots[] = {ATTN_SLOT_LSE,
                                ATTN_SLOT_CU_SEQLENS_Q,
                                ATTN_SLOT_CU_SEQLENS_KV,
                                ATTN_SLOT_SEQLENS_Q,
                                ATTN_SLOT_SEQLENS_KV,
                                ATTN_SLOT_BLOCK_TABLE,
                                ATTN_SLOT_BLOCK_TABLE_PTR,
                                ATTN_SLOT_SLOT_MAPPING,
                                ATTN_SLOT_BIAS,
                                ATTN_SLOT_BIAS_TABLE,
                                ATTN_SLOT_BIAS_LOWRANK_Q,
                                ATTN_SLOT_BIAS_LOWRANK_K,
                                ATTN_SLOT_ALIBI_SLOPES,
                                ATTN_SLOT_SINK_LOGITS,
                                ATTN_SLOT_Q_TEMPERATURE,
                                ATTN_SLOT_V_TEMPERATURE,
                                ATTN_SLOT_GATE,
                                ATTN_SLOT_HEAD_WEIGHT,
                                ATTN_SLOT_POSITIONS_Q,
                                ATTN_SLOT_POSITIONS_KV,
                                ATTN_SLOT_ROW_MAX,
                                ATTN_SLOT_ROW_ENTROPY,
                                ATTN_SLOT_Q,
                                ATTN_SLOT_K,
                                ATTN_SLOT_V,
                                ATTN_SLOT_OUT,
                                ATTN_SLOT_K_CACHE,
                                ATTN_SLOT_V_CACHE,
                                ATTN_SLOT_PARTIAL_OUT,
                                ATTN_SLOT_PARTIAL_LSE,
                                ATTN_SLOT_COLUMN_MASS,
                                ATTN_SLOT_IDS_Q,
                                ATTN_SLOT_IDS_KV,
                                ATTN_SLOT_MASK_TABLE,
                                ATTN_SLOT_MASK,
                                ATTN_SLOT_ROPE_COS,
                                ATTN_SLOT_ROPE_SIN,
                                ATTN_SLOT_STATUS,
                                ATTN_SLOT_RNG,
                                ATTN_SLOT_DECAY,
                                ATTN_SLOT_WRITE,
                                ATTN_SLOT_STATE_IN,
                                ATTN_SLOT_STATE_OUT,
                                ATTN_SLOT_STATE_INDEX,
                                ATTN_SLOT_X,
                                ATTN_SLOT_CONV_WEIGHT,
                                ATTN_SLOT_CONV_BIAS,
                                ATTN_SLOT_RESIDUAL};

attn_dtype read_dtype(Input *input, attn_dtype usual)
{
    if (!input->one_in(2)) return usual;
    if (!input->one_in(4)) return input->pick(kRealDtypes);
    return input->one_in(4) ? input->raw<attn_dtype>() : input->pick(kOtherDtypes);
}

/// The struct in a block of the size it claims: mostly its own, at times that of an older or a newer caller.
template <class T>
T *grown(Input *input, Memory *memory, T value)
{
    size_t claimed = sizeof(T), allocated = sizeof(T);
    bool tail = false;
    if (input->one_in(12)) {
        switch (input->integer(0, 4)) {
        case 0: // newer, its new fields not in use
            claimed = allocated = sizeof(T) + static_cast<size_t>(input->integer(1, 64));
            break;
        case 1: // newer, with one in use
            claimed = allocated = sizeof(T) + static_cast<size_t>(input->integer(1, 64));
            tail = true;
            break;
        case 2: // older; the field itself is always there
            claimed = static_cast<size_t>(input->integer(0, sizeof(T) - 1));
            allocated = std::max(claimed, sizeof(size_t));
            break;
        case 3: // at the border of what the library reads at all
            claimed = allocated = static_cast<size_t>(input->integer(65535, 65537));
            break;
        default: // a size that no struct has: refused unread
            claimed = SIZE_MAX - static_cast<size_t>(input->integer(0, 8));
        }
    }
    value.size = claimed;
    unsigned char *block = memory->take(allocated);
    memcpy(block, &value, std::min(allocated, sizeof(T)));
    if (tail) block[static_cast<size_t>(input->integer(sizeof(T), static_cast<int64_t>(allocated) - 1))] = 1;
    return reinterpret_cast<T *>(block);
}

/// A chain of up to three extensions, at times a cycle.
const attn_ext *read_extensions(Input *input, Memory *memory)
{
    if (!input->one_in(24)) return nullptr;
    attn_ext *first = nullptr, *last = nullptr;
    const int64_t links = input->integer(1, 3);
    for (int64_t i = 0; i < links; ++i) {
        static constexpr size_t kSizes[] = {sizeof(attn_dropout), sizeof(attn_ext), 0, 8, 31, 40};
        attn_dropout link = {};
        link.ext.size = input->pick(kSizes);
        link.ext.type = input->one_in(4) ? input->raw<int32_t>() : ATTN_EXT_DROPOUT;
        link.ext.reserved = input->flags<uint32_t>(0);
        link.probability = input->real(0.5);
        const size_t bytes = std::max(link.ext.size, sizeof(attn_ext)); // the link itself is always there
        unsigned char *block = memory->take(bytes);
        memcpy(block, &link, std::min(bytes, sizeof link));
        attn_ext *ext = reinterpret_cast<attn_ext *>(block);
        if (last) last->next = ext;
        last = ext;
        if (!first) first = ext;
    }
    if (input->one_in(4)) last->next = first;
    return first;
}

attn_slot read_slot(Input *input)
{
    static constexpr attn_slot kDerived[] = {ATTN_SLOT_GRAD, ATTN_SLOT_TANGENT, ATTN_SLOT_SCALE, ATTN_SLOT_ZERO_POINT};
    if (input->one_in(48)) return input->raw<attn_slot>();
    const attn_slot slot = input->pick(kSlots);
    return input->one_in(24) ? slot | input->pick(kDerived) : slot;
}

attn_bind read_bind(Input *input)
{
    static constexpr attn_dtype kBound[] = {0, ATTN_INT64, ATTN_FLOAT32, ATTN_FLOAT16, ATTN_BFLOAT16, ATTN_INT32};
    attn_bind bind = {};
    bind.slot = read_slot(input);
    if (input->one_in(8)) bind.index = static_cast<uint32_t>(input->integer(0, 4));
    if (input->one_in(3)) bind.dtype = input->one_in(8) ? read_dtype(input, 0) : input->pick(kBound);
    bind.flags = input->flags<uint32_t>(0x1f0f);
    if (input->one_in(32)) bind.block[input->integer(0, 7)] = input->raw<int32_t>();
    if (input->one_in(48)) bind.reserved[input->integer(0, 3)] = input->raw<uint32_t>();
    return bind;
}

const attn_problem *read_problem(Input *input, Memory *memory, attn_kind kind)
{
    if (input->one_in(200)) return nullptr;
    const bool keyless = kind == ATTN_KIND_MERGE || kind == ATTN_KIND_CONV || kind == ATTN_KIND_SCAN;
    attn_problem p = {};
    p.next = read_extensions(input, memory);
    p.flags = input->flags<uint64_t>(0x1f);
    if (input->one_in(48)) p.direction = input->enumerator(2);
    if (input->one_in(16)) p.precision = input->enumerator(1);
    p.q_dtype = read_dtype(input, ATTN_FLOAT32);
    if (input->one_in(4)) p.k_dtype = read_dtype(input, 0);
    if (input->one_in(4)) p.v_dtype = read_dtype(input, 0);
    if (input->one_in(4)) p.out_dtype = read_dtype(input, 0);
    p.batch = input->extent(2);
    p.heads_q = input->extent(2);
    p.heads_k = input->extent(0);
    p.heads_v = input->extent(0);
    p.dim_qk = input->extent(kind == ATTN_KIND_MERGE ? 0 : 4);
    p.dim_v = input->extent(kind == ATTN_KIND_MERGE ? 4 : 0);
    p.max_q = input->extent(3);
    p.max_kv = input->extent(keyless ? 0 : 5);
    p.total_q = input->extent(0);
    p.total_kv = input->extent(0);
    p.page_size = input->extent(0);
    p.scale = input->real(0);
    attn_bind binds[257];
    size_t count = static_cast<size_t>(input->integer(0, 7));
    if (count == 7 && input->one_in(16)) count = 257; // more than there may be
    for (size_t i = 0; i < count; ++i) binds[i] = i < 16 ? read_bind(input) : attn_bind{};
    p.binds = memory->copy(binds, count);
    p.bind_count = count;
    if (input->one_in(100)) p.binds = nullptr;
    return grown(input, memory, p);
}

const attn_table *read_tables(Input *input, Memory *memory, size_t count)
{
    attn_table tables[3];
    for (size_t i = 0; i < count; ++i) {
        // Values are as many as the table claims, where it claims a table at all.
        tables[i] = {};
        tables[i].rows = input->one_in(2) ? input->integer(1, 4) : input->extent(1);
        tables[i].columns = input->integer(1, 3);
        if (input->one_in(16)) tables[i].columns = input->extent(1);
        // More rows than the library reads, or columns that no table has: refused unread.
        const bool small =
            tables[i].rows >= 0 && tables[i].rows <= 1 << 16 && tables[i].columns >= 0 && tables[i].columns <= 5;
        const size_t values = small ? static_cast<size_t>(tables[i].rows * tables[i].columns) : 0;
        tables[i].values = reinterpret_cast<double *>(memory->take(values * sizeof(double)));
        if (input->one_in(2)) tables[i].slopes = reinterpret_cast<double *>(memory->take(values * sizeof(double)));
        if (!small && input->one_in(2)) tables[i].values = nullptr;
    }
    return memory->copy(tables, count);
}

const attn_program *read_program(Input *input, Memory *memory)
{
    attn_program program = {};
    program.next = read_extensions(input, memory);
    program.flags = input->flags<uint64_t>(0);
    program.table_count = static_cast<size_t>(input->integer(0, 3));
    program.tables = read_tables(input, memory, program.table_count);
    size_t count = static_cast<size_t>(input->integer(1, 8));
    if (input->one_in(32)) count = input->one_in(2) ? 0 : 257;
    attn_term terms[257] = {};
    for (size_t i = 0; i < std::min<size_t>(count, 8); ++i) {
        attn_term &term = terms[i];
        term.op = static_cast<uint16_t>(input->one_in(3) ? input->integer(ATTN_OP_AND, ATTN_OP_NOT)
                                                         : input->integer(ATTN_MASK_CAUSAL, ATTN_MASK_TENSOR));
        if (input->one_in(32)) term.op = input->raw<uint16_t>();
        term.flags = input->flags<uint16_t>(0x1f);
        const bool random = input->one_in(2); // else as its operator has it, mostly
        term.axis = random ? static_cast<uint32_t>(input->extent(0)) : 0;
        if (input->one_in(3)) term.table = static_cast<uint32_t>(random ? input->extent(1) : i + 1);
        term.reserved = input->flags<uint32_t>(0);
        const int64_t parameters = term.op < ATTN_MASK_CAUSAL ? 0 : input->integer(0, random ? 5 : 2);
        for (int64_t p = 0; p < parameters && (random || term.table == 0); ++p) term.p[p] = input->extent(1);
        if (random) term.f = input->real(0);
    }
    if (count > 0 && count < 257 && !input->one_in(4)) { // postfix: operators find their sets, and one remains
        size_t sets = 0;
        for (size_t i = 0; i < count; ++i) {
            const size_t operands = terms[i].op == ATTN_OP_NOT ? 1 : terms[i].op < ATTN_MASK_CAUSAL ? 2 : 0;
            if (sets < operands) terms[i].op = ATTN_MASK_PREFIX;
            sets = sets < operands ? sets + 1 : sets - operands + 1;
        }
        for (; sets > 1; --sets) terms[count++].op = ATTN_OP_OR;
    }
    program.terms = input->one_in(64) ? nullptr : memory->copy(terms, count);
    program.term_count = count;
    if (input->one_in(4))
        for (int64_t &extent : program.grid_q) extent = input->extent(0);
    if (input->one_in(4))
        for (int64_t &extent : program.grid_kv) extent = input->extent(0);
    return grown(input, memory, program);
}

const attn_rope *read_rope(Input *input, Memory *memory)
{
    attn_rope rope = {};
    rope.next = read_extensions(input, memory);
    rope.flags = input->flags<uint64_t>(0);
    rope.layout = input->enumerator(ATTN_ROPE_INTERLEAVED);
    rope.source = input->enumerator(ATTN_ROPE_TABLE);
    rope.dim = input->extent(0);
    rope.first = input->extent(0);
    rope.base = input->real(0);
    return grown(input, memory, rope);
}

const attn_bias_table *read_bias_table(Input *input, Memory *memory)
{
    attn_bias_table table = {};
    table.next = read_extensions(input, memory);
    table.kind = input->enumerator(ATTN_TABLE_GRID);
    table.bidirectional = input->enumerator(1);
    table.buckets = input->extent(0);
    table.max_distance = input->extent(0);
    if (table.kind == ATTN_TABLE_GRID) table.grid[0] = 2, table.grid[1] = 3;
    if (input->one_in(2))
        for (int64_t &extent : table.grid) extent = input->extent(0);
    return grown(input, memory, table);
}

const attn_dense *read_dense(Input *input, Memory *memory)
{
    attn_dense d = {};
    d.problem = read_problem(input, memory, ATTN_KIND_DENSE);
    d.next = read_extensions(input, memory);
    d.flags = input->flags<uint64_t>(ATTN_WINDOW_LEFT | ATTN_WINDOW_RIGHT);
    d.causal = input->enumerator(ATTN_BY_POSITION);
    d.align = d.flags ? input->enumerator(ATTN_BY_POSITION) : 0;
    if (d.flags || input->one_in(16)) {
        d.window_left = d.flags & ATTN_WINDOW_LEFT ? input->extent(1) : 0;
        d.window_right = d.flags & ATTN_WINDOW_RIGHT ? input->extent(1) : 0;
        d.sink_tokens = input->extent(0);
    }
    d.softcap = input->real(0);
    d.activation = input->enumerator(ATTN_RELU);
    if (input->one_in(8)) d.bias_stage = input->enumerator(1);
    if (input->one_in(8)) d.gate = input->enumerator(ATTN_GATE_SILU);
    if (input->one_in(64)) d.reserved = input->raw<int32_t>();
    if (d.activation == ATTN_SIGMOID || input->one_in(16)) d.activation_bias = input->real(0);
    if (d.activation == ATTN_RELU || input->one_in(16)) d.activation_length = input->extent(0);
    if (input->one_in(6)) d.bias_rank = input->extent(2);
    if (input->one_in(6)) d.bias_table = read_bias_table(input, memory);
    if (input->one_in(8)) d.mask = read_program(input, memory);
    if (input->one_in(24)) d.rope = read_rope(input, memory);
    return grown(input, memory, d);
}

const attn_merge *read_merge(Input *input, Memory *memory)
{
    attn_merge m = {};
    m.problem = read_problem(input, memory, ATTN_KIND_MERGE);
    m.next = read_extensions(input, memory);
    m.parts = static_cast<size_t>(input->extent(3));
    m.flags = input->flags<uint64_t>(0);
    m.activation = input->enumerator(ATTN_RELU);
    if (input->one_in(8)) m.gate = input->enumerator(ATTN_GATE_SILU);
    return grown(input, memory, m);
}

const attn_append *read_append(Input *input, Memory *memory)
{
    attn_append a = {};
    a.problem = read_problem(input, memory, ATTN_KIND_APPEND);
    a.next = read_extensions(input, memory);
    a.flags = input->flags<uint64_t>(0);
    if (input->one_in(2)) a.rope = read_rope(input, memory);
    if (input->one_in(4)) a.ring_rows = input->extent(4), a.sink_tokens = input->extent(0);
    return grown(input, memory, a);
}

const attn_linear *read_linear(Input *input, Memory *memory)
{
    attn_linear l = {};
    l.problem = read_problem(input, memory, ATTN_KIND_LINEAR);
    l.next = read_extensions(input, memory);
    l.flags = input->flags<uint64_t>(ATTN_LINEAR_BIDIRECTIONAL | ATTN_LINEAR_QK_L2NORM | ATTN_LINEAR_NORMALISER |
                                     ATTN_LINEAR_RECURRENT);
    if (input->one_in(2)) l.decay = input->enumerator(ATTN_DECAY_CHANNEL);
    if (input->one_in(4)) l.decay_form = input->enumerator(ATTN_DECAY_LOG_SIGMOID);
    if (input->one_in(2)) l.update = input->enumerator(ATTN_UPDATE_DPLR);
    if (input->one_in(8)) l.read = input->enumerator(ATTN_READ_BEFORE);
    if (input->one_in(2)) l.feature_map = input->enumerator(ATTN_FEATURE_HEDGEHOG);
    if (input->one_in(4)) l.state_layout = input->enumerator(ATTN_STATE_VK);
    if (input->one_in(8)) l.state_keep = input->enumerator(ATTN_STATE_PER_TOKEN);
    if (input->one_in(8)) l.state_dtype = ATTN_BFLOAT16;
    if (input->one_in(4)) l.chunk = input->extent(0);
    if (input->one_in(4)) l.decay_lower_bound = -input->real(0);
    if (input->one_in(8)) l.decay_scale = input->real(0);
    if (input->one_in(4)) l.normaliser_eps = input->real(0);
    if (input->one_in(24)) l.rope = read_rope(input, memory);
    return grown(input, memory, l);
}

const attn_conv *read_conv(Input *input, Memory *memory)
{
    attn_conv c = {};
    c.problem = read_problem(input, memory, ATTN_KIND_CONV);
    c.next = read_extensions(input, memory);
    c.width = static_cast<size_t>(input->one_in(8) ? input->extent(0) : input->integer(1, 8));
    c.flags = input->flags<uint64_t>(0);
    if (input->one_in(2)) c.activation = input->enumerator(ATTN_CONV_SILU);
    if (input->one_in(8)) c.state_dtype = ATTN_BFLOAT16;
    return grown(input, memory, c);
}

const attn_scan *read_scan(Input *input, Memory *memory)
{
    attn_scan s = {};
    s.problem = read_problem(input, memory, ATTN_KIND_SCAN);
    s.next = read_extensions(input, memory);
    if (input->one_in(64)) s.reserved = input->raw<size_t>();
    s.flags = input->flags<uint64_t>(ATTN_SCAN_LERP);
    if (input->one_in(2)) s.form = input->enumerator(ATTN_SCAN_FACTOR);
    if (input->one_in(8)) s.state_dtype = ATTN_BFLOAT16;
    return grown(input, memory, s);
}

} // namespace

Descriptor read_descriptor(Input *input, Memory *memory)
{
    Descriptor descriptor;
    static constexpr attn_kind kKinds[] = {ATTN_KIND_DENSE,  ATTN_KIND_DENSE, ATTN_KIND_MERGE, ATTN_KIND_APPEND,
                                           ATTN_KIND_LINEAR, ATTN_KIND_CONV,  ATTN_KIND_SCAN};
    descriptor.kind = input->pick(kKinds);
    switch (descriptor.kind) {
    case ATTN_KIND_DENSE:
        descriptor.struct_ = read_dense(input, memory);
        break;
    case ATTN_KIND_MERGE:
        descriptor.struct_ = read_merge(input, memory);
        break;
    case ATTN_KIND_LINEAR:
        descriptor.struct_ = read_linear(input, memory);
        break;
    case ATTN_KIND_CONV:
        descriptor.struct_ = read_conv(input, memory);
        break;
    case ATTN_KIND_SCAN:
        descriptor.struct_ = read_scan(input, memory);
        break;
    default:
        descriptor.struct_ = read_append(input, memory);
    }
    if (input->one_in(200)) descriptor.struct_ = nullptr;
    return descriptor;
}

const attn_sizes *read_sizes(Input *input, Memory *memory)
{
    attn_sizes sizes = {};
    sizes.next = read_extensions(input, memory);
    sizes.batch = input->extent(0);
    sizes.max_q = input->extent(0);
    sizes.max_kv = input->extent(0);
    sizes.total_q = input->extent(0);
    sizes.total_kv = input->extent(0);
    return grown(input, memory, sizes);
}

} // namespace attn::fuzz
