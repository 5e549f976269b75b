#include "samples.h"

#include <algorithm>
#include <cstring>
#include <random>

namespace attn::hardening {
namespace {

constexpr int64_t kFreeExtent = 9; ///< Pages of the pool, columns of a page table.

bool is_output(attn_slot slot)
{
    switch (slot) {
    case ATTN_SLOT_OUT:
    case ATTN_SLOT_LSE:
    case ATTN_SLOT_ROW_MAX:
    case ATTN_SLOT_ROW_ENTROPY:
    case ATTN_SLOT_K_CACHE:
    case ATTN_SLOT_V_CACHE:
        return true;
    default:
        return false;
    }
}

/// Element `i` of a tensor of integers: lengths as long as there is room, tables and mappings without repetition.
int64_t integer_of(attn_slot slot, const attn_tensor &view, int64_t i)
{
    switch (slot) {
    case ATTN_SLOT_CU_SEQLENS_Q:
    case ATTN_SLOT_CU_SEQLENS_KV:
        return 2 * i;
    case ATTN_SLOT_SEQLENS_Q:
        return 2;
    case ATTN_SLOT_SEQLENS_KV:
        return 4 + i;
    case ATTN_SLOT_BLOCK_TABLE:
        return (i * 4 + 1) % kFreeExtent;
    case ATTN_SLOT_SLOT_MAPPING:
        return i == 1 ? -1 : (i * 5 + 2) % (kFreeExtent * 2);
    default: // positions
        return i % view.shape[view.ndim - 1];
    }
}

template <class T>
T zeroed()
{
    T s;
    memset(&s, 0, sizeof s);
    s.size = sizeof s;
    return s;
}

} // namespace

Sample::Sample(std::string sample_name, attn_kind sample_kind)
    : name(std::move(sample_name)),
      kind(sample_kind),
      problem(zeroed<attn_problem>()),
      dense(zeroed<attn_dense>()),
      merge(zeroed<attn_merge>()),
      append(zeroed<attn_append>()),
      rope(zeroed<attn_rope>()),
      table(zeroed<attn_bias_table>())
{
    dense.problem = merge.problem = append.problem = &problem;
    problem.q_dtype = ATTN_FLOAT32;
    problem.batch = 2, problem.heads_q = 4;
    problem.dim_v = 8, problem.max_q = 4;
    if (kind == ATTN_KIND_MERGE) return;
    problem.heads_k = 2, problem.dim_qk = 16, problem.max_kv = 6;
}

void Sample::bind(attn_slot slot, attn_dtype dtype)
{
    attn_bind bind = {};
    bind.slot = slot, bind.dtype = dtype;
    binds_.push_back(bind);
    problem.binds = binds_.data(), problem.bind_count = binds_.size();
}

const void *Sample::desc() const
{
    return kind == ATTN_KIND_DENSE   ? static_cast<const void *>(&dense)
           : kind == ATTN_KIND_MERGE ? static_cast<const void *>(&merge)
                                     : &append;
}

attn_status Sample::plan(const Functions &library, attn_handle handle, attn_plan *plan) const
{
    if (kind == ATTN_KIND_DENSE) return library.plan_dense(handle, &dense, plan);
    if (kind == ATTN_KIND_MERGE) return library.plan_merge(handle, &merge, plan);
    return library.plan_append(handle, &append, plan);
}

attn_status Sample::supports(const Functions &library, attn_handle handle) const
{
    return library.plan_supports(handle, kind, desc());
}

std::vector<std::unique_ptr<Sample>> make_samples()
{
    std::vector<std::unique_ptr<Sample>> samples;
    const auto add = [&](const char *name, attn_kind kind) -> Sample & {
        samples.push_back(std::make_unique<Sample>(name, kind));
        return *samples.back();
    };
    Sample &batched = add("batched", ATTN_KIND_DENSE);
    batched.dense.causal = ATTN_BOTTOM_RIGHT;
    for (const attn_slot slot : {ATTN_SLOT_LSE, ATTN_SLOT_SEQLENS_Q, ATTN_SLOT_SEQLENS_KV}) batched.bind(slot);

    Sample &packed = add("packed", ATTN_KIND_DENSE);
    packed.problem.q_dtype = ATTN_BFLOAT16;
    packed.problem.total_q = packed.problem.total_kv = 5;
    for (const attn_slot slot : {ATTN_SLOT_CU_SEQLENS_Q, ATTN_SLOT_CU_SEQLENS_KV}) packed.bind(slot);

    Sample &paged = add("paged", ATTN_KIND_DENSE);
    paged.problem.q_dtype = ATTN_FLOAT16, paged.problem.page_size = 2;
    paged.bind(ATTN_SLOT_SEQLENS_KV, ATTN_INT64);

    Sample &options = add("options", ATTN_KIND_DENSE);
    options.table.max_distance = 1000;
    options.dense.bias_table = &options.table;
    options.dense.align = ATTN_BY_POSITION, options.dense.flags = ATTN_WINDOW_LEFT, options.dense.window_left = 3;
    options.dense.softcap = 30, options.dense.bias_rank = 2;
    for (const attn_slot slot :
         {ATTN_SLOT_BIAS, ATTN_SLOT_ALIBI_SLOPES, ATTN_SLOT_SINK_LOGITS, ATTN_SLOT_Q_TEMPERATURE,
          ATTN_SLOT_V_TEMPERATURE, ATTN_SLOT_GATE, ATTN_SLOT_HEAD_WEIGHT, ATTN_SLOT_ROW_MAX, ATTN_SLOT_ROW_ENTROPY})
        options.bind(slot);

    Sample &split = add("split keys", ATTN_KIND_DENSE);
    split.problem.batch = 1, split.problem.max_q = 1, split.problem.max_kv = 5000;

    Sample &merge = add("merge", ATTN_KIND_MERGE);
    merge.merge.parts = 3;
    for (const attn_slot slot : {ATTN_SLOT_LSE, ATTN_SLOT_SINK_LOGITS, ATTN_SLOT_GATE}) merge.bind(slot);

    Sample &ring = add("append to a ring", ATTN_KIND_APPEND);
    ring.append.rope = &ring.rope, ring.append.ring_rows = 6, ring.append.sink_tokens = 1;
    for (const attn_slot slot : {ATTN_SLOT_SEQLENS_KV, ATTN_SLOT_Q, ATTN_SLOT_OUT}) ring.bind(slot);

    Sample &mapped = add("append by a mapping", ATTN_KIND_APPEND);
    mapped.problem.q_dtype = ATTN_BFLOAT16, mapped.problem.page_size = 2;
    mapped.bind(ATTN_SLOT_SLOT_MAPPING);
    mapped.bind(ATTN_SLOT_K, ATTN_FLOAT32);
    return samples;
}

Tensors::Tensors(const Functions &library, attn_plan plan, uint64_t seed) : library_(library), plan_(plan)
{
    std::mt19937_64 random(seed);
    std::uniform_real_distribution<float> real(-1, 1);
    attn_bind bind;
    attn_tensor view;
    for (size_t position = 0; library.plan_slot(plan, position, &bind, &view) == ATTN_OK; ++position) {
        int64_t elements = 1;
        for (int axis = view.ndim; axis-- > 0;) {
            if (view.shape[axis] < 0) view.shape[axis] = kFreeExtent;
            view.strides[axis] = elements;
            elements *= view.shape[axis];
        }
        const size_t size = (view.dtype >> 8 & 0xff) / 8;
        memory_.emplace_back(static_cast<size_t>(elements) * size);
        unsigned char *data = memory_.back().data();
        for (int64_t i = 0; i < elements; ++i) {
            const bool integer = view.dtype == ATTN_INT32 || view.dtype == ATTN_INT64;
            const float value = real(random);
            uint64_t bits = static_cast<uint64_t>(integer ? integer_of(bind.slot, view, i) : 0);
            if (!integer) memcpy(&bits, &value, sizeof value);
            if (view.dtype == ATTN_BFLOAT16) bits >>= 16;
            if (view.dtype == ATTN_FLOAT16) bits = 0x3000 | (random() & 0x8fff); // 0.125 .. 0.25, either sign
            memcpy(data + static_cast<size_t>(i) * size, &bits, size);           // little-endian
        }
        view.data = data;
        views_.push_back(view);
        args_.push_back({bind.slot, bind.index, nullptr});
    }
    for (size_t i = 0; i < args_.size(); ++i) args_[i].tensor = &views_[i];
    first_ = memory_;
    size_t bytes = 0;
    if (library.plan_workspace(plan, &bytes, nullptr) == ATTN_OK) workspace_.resize(bytes);
}

attn_status Tensors::execute()
{
    return library_.execute(plan_, args_.data(), args_.size(), workspace_.data(), workspace_.size(), nullptr);
}

std::vector<unsigned char> Tensors::outputs() const
{
    std::vector<unsigned char> all;
    for (size_t i = 0; i < args_.size(); ++i)
        if (is_output(args_[i].slot)) all.insert(all.end(), memory_[i].begin(), memory_[i].end());
    return all;
}

void Tensors::reset()
{
    for (size_t i = 0; i < args_.size(); ++i)
        if (is_output(args_[i].slot)) std::copy(first_[i].begin(), first_[i].end(), memory_[i].begin());
}

attn_tensor *Tensors::find(attn_slot slot)
{
    for (size_t i = 0; i < args_.size(); ++i)
        if (args_[i].slot == slot) return &views_[i];
    return nullptr;
}

} // namespace attn::hardening
