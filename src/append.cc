#include "append.h"

#include "abi.h"
#include "descriptor_parts.h"
#include "names.h"

#include <cmath>
#include <initializer_list>

namespace attn {
namespace {

constexpr double kDefaultRopeBase = 10000;

/// Fields of attn_problem that an append has no use for.
attn_status check_problem(const attn_problem &given, const AppendProblem &p)
{
    const struct {
        const char *field;
        double value;
        const char *mode;
    } unused[] = {
        {"attn_problem.scale", given.scale, "there are scores; an append has none"},
        {"attn_problem.precision", static_cast<double>(given.precision), "there are products; an append has none"},
        {"attn_problem.total_q", p.packed_q ? 0 : static_cast<double>(given.total_q), "slot CU_SEQLENS_Q is bound"},
        {"attn_problem.total_kv", static_cast<double>(given.total_kv),
         "K is packed; max_kv bounds the cache of an append"},
    };
    for (const auto &entry : unused)
        if (const attn_status status = check_unused(entry.field, entry.value, entry.mode)) return status;
    if (given.out_dtype != 0 && !p.writes_q)
        return fail(ATTN_ERROR_INVALID, "attn_problem.out_dtype = %s: must be 0 where slots Q and OUT are not bound",
                    dtype_text(given.out_dtype));
    return ATTN_OK;
}

attn_status read_rope(const attn_rope *given, const AppendProblem &p, Rotation *out)
{
    attn_rope rope;
    if (const attn_status status = read_struct(given, "attn_rope", &rope)) return status;
    if (const attn_status status = no_extensions(rope.next, "attn_rope")) return status;
    if (const attn_status status = check_flags("attn_rope.flags", rope.flags, 0)) return status;
    if (const attn_status status = check_enum("attn_rope.layout", rope.layout, ATTN_ROPE_INTERLEAVED)) return status;
    if (const attn_status status = check_enum("attn_rope.source", rope.source, ATTN_ROPE_TABLE)) return status;
    out->layout = rope.layout;
    out->source = rope.source;
    if (const attn_status status = check_extent("attn_rope.first", rope.first, 0, p.dim_qk - 1)) return status;
    if (const attn_status status = check_extent("attn_rope.dim", rope.dim, 0, p.dim_qk)) return status;
    out->first = rope.first;
    out->dim = rope.dim ? rope.dim : p.dim_qk;
    if (out->dim % 2 != 0)
        return fail(ATTN_ERROR_INVALID, "attn_rope.dim = %lld: must be even%s", static_cast<long long>(out->dim),
                    rope.dim ? "" : "; 0 stands for attn_problem.dim_qk");
    if (out->first + out->dim > p.dim_qk)
        return fail(ATTN_ERROR_INVALID, "attn_rope.first + dim = %lld + %lld: must be at most dim_qk = %lld",
                    static_cast<long long>(out->first), static_cast<long long>(out->dim),
                    static_cast<long long>(p.dim_qk));
    if (rope.source == ATTN_ROPE_TABLE) return check_unused("attn_rope.base", rope.base, "source is ATTN_ROPE_BASE");
    if (!std::isfinite(rope.base) || rope.base < 0)
        return fail(ATTN_ERROR_INVALID, "attn_rope.base = %g: must be finite and > 0, or 0 for %g", rope.base,
                    kDefaultRopeBase);
    out->base = rope.base != 0 ? rope.base : kDefaultRopeBase;
    return ATTN_OK;
}

attn_status read_ring(const attn_append &a, AppendProblem *p)
{
    if (const attn_status status = check_extent("attn_append.ring_rows", a.ring_rows, 0)) return status;
    if (const attn_status status = check_extent("attn_append.sink_tokens", a.sink_tokens, 0)) return status;
    p->ring_rows = a.ring_rows;
    p->sink_tokens = a.sink_tokens;
    if (a.ring_rows == 0)
        return check_unused("attn_append.sink_tokens", static_cast<double>(a.sink_tokens),
                            "ring_rows is set: without a ring nothing is overwritten");
    if (a.sink_tokens >= a.ring_rows)
        return fail(ATTN_ERROR_INVALID, "attn_append.sink_tokens = %lld: must be less than ring_rows = %lld",
                    static_cast<long long>(a.sink_tokens), static_cast<long long>(a.ring_rows));
    if (a.ring_rows > p->max_kv)
        return fail(ATTN_ERROR_INVALID, "attn_append.ring_rows = %lld: must be at most attn_problem.max_kv = %lld",
                    static_cast<long long>(a.ring_rows), static_cast<long long>(p->max_kv));
    return ATTN_OK;
}

/// Builds the list of tensors an append plan takes.
class AppendTensors {
public:
    AppendTensors(Binds *binds, AppendProblem *problem) : binds_(*binds), p_(*problem) {}

    /// What is written, from where: everything that decides which tensors come.
    attn_status read_modes()
    {
        const bool aliased = (p_.flags & ATTN_V_ALIASES_K) != 0;
        if (const attn_status status = read_pair(ATTN_SLOT_K, ATTN_SLOT_K_CACHE, false, &p_.writes_k)) return status;
        if (const attn_status status = read_pair(ATTN_SLOT_V, ATTN_SLOT_V_CACHE, aliased, &p_.writes_v)) return status;
        p_.writes_q = binds_.take(ATTN_SLOT_Q) != nullptr;
        const bool out = binds_.take(ATTN_SLOT_OUT) != nullptr;
        if (p_.writes_q != out)
            return fail(ATTN_ERROR_INVALID, "attn_problem.binds: slot %s is bound, so slot %s must be too",
                        out ? "OUT" : "Q", out ? "Q" : "OUT");
        if (!p_.writes_cache() && !p_.writes_q)
            return fail(ATTN_ERROR_INVALID, "attn_problem.binds: K and V are ABSENT and Q is not bound: nothing to do");
        p_.packed_q = binds_.take(ATTN_SLOT_CU_SEQLENS_Q) != nullptr;
        p_.mapped = binds_.take(ATTN_SLOT_SLOT_MAPPING) != nullptr;
        p_.storage = p_.page_size ? Storage::paged : Storage::batched;
        return ATTN_OK;
    }

    attn_status build()
    {
        set_bounds();
        if (const attn_status status = check_modes()) return status;
        const Axis row = p_.packed_q ? Axis::total_q : Axis::query;
        const auto token = [&](attn_slot slot, attn_dtype dtype, bool output, int64_t heads, int64_t channels) {
            if (p_.packed_q) return add(slot, dtype, output, {row}, heads, channels);
            return add(slot, dtype, output, {Axis::batch, row}, heads, channels);
        };
        const auto cache = [&](attn_slot slot, attn_dtype dtype, Axis pages, int64_t heads, int64_t channels) {
            if (p_.page_size) return add(slot, dtype, true, {pages, Axis::fixed}, heads, channels);
            return add(slot, dtype, true, {Axis::batch, Axis::key}, heads, channels);
        };
        if (p_.writes_k) token(ATTN_SLOT_K, rows_dtype(ATTN_SLOT_K, p_.k_dtype), false, p_.heads_k, p_.dim_qk);
        if (p_.writes_v) token(ATTN_SLOT_V, rows_dtype(ATTN_SLOT_V, p_.v_dtype), false, p_.heads_v, p_.dim_v);
        if (p_.writes_k) cache(ATTN_SLOT_K_CACHE, p_.k_dtype, Axis::k_pages, p_.heads_k, p_.dim_qk);
        if (p_.writes_v) cache(ATTN_SLOT_V_CACHE, p_.v_dtype, Axis::v_pages, p_.heads_v, p_.dim_v);
        if (p_.writes_q) {
            token(ATTN_SLOT_Q, p_.q_dtype, false, p_.heads_q, p_.dim_qk);
            token(ATTN_SLOT_OUT, p_.out_dtype, true, p_.heads_q, p_.dim_qk);
        }
        if (p_.packed_q) add(ATTN_SLOT_CU_SEQLENS_Q, ATTN_INT32, false, {Axis::batch_plus_1});
        if (binds_.take(ATTN_SLOT_SEQLENS_Q)) add(ATTN_SLOT_SEQLENS_Q, ATTN_INT32, false, {Axis::batch});
        if (binds_.has(ATTN_SLOT_SEQLENS_KV)) add(ATTN_SLOT_SEQLENS_KV, ATTN_INT32, false, {Axis::batch});
        if (p_.page_size && !p_.mapped) {
            if (binds_.has(ATTN_SLOT_BLOCK_TABLE_PTR)) {
                add(ATTN_SLOT_BLOCK_TABLE, ATTN_INT32, false, {Axis::table_entries});
                add(ATTN_SLOT_BLOCK_TABLE_PTR, ATTN_INT32, false, {Axis::batch_plus_1});
            } else {
                add(ATTN_SLOT_BLOCK_TABLE, ATTN_INT32, false, {Axis::batch, Axis::table_columns});
            }
        }
        if (p_.mapped) token(ATTN_SLOT_SLOT_MAPPING, ATTN_INT64, false, 0, 0);
        if (binds_.has(ATTN_SLOT_POSITIONS_Q)) token(ATTN_SLOT_POSITIONS_Q, ATTN_INT32, false, 0, 0);
        if (p_.rope.dim && p_.rope.source == ATTN_ROPE_TABLE) {
            add(ATTN_SLOT_ROPE_COS, ATTN_FLOAT32, false, {Axis::positions}, 0, p_.rope.dim / 2);
            add(ATTN_SLOT_ROPE_SIN, ATTN_FLOAT32, false, {Axis::positions}, 0, p_.rope.dim / 2);
        }
        if (!status_) status_ = add_status(&binds_, &p_);
        binds_.for_each_left([&](size_t i, const attn_bind &bind) {
            if (!status_) status_ = leftover(i, bind);
        });
        return status_;
    }

private:
    /// New rows and their cache come together; ABSENT on either leaves both out.
    attn_status read_pair(attn_slot rows, attn_slot cache, bool aliased, bool *present)
    {
        bool absent = aliased;
        const char *declared = nullptr;
        for (const attn_slot slot : {rows, cache}) {
            const attn_bind *bind = binds_.take(slot);
            if (!bind) continue;
            if (!(bind->flags & ATTN_BIND_ABSENT)) {
                declared = slot_name(slot);
                continue;
            }
            absent = true;
            if (bind->flags != ATTN_BIND_ABSENT || bind->dtype != 0)
                return fail(ATTN_ERROR_INVALID,
                            "attn_bind of slot %s: flags = 0x%x, dtype = 0x%06x: ABSENT goes with no other flag and no "
                            "dtype",
                            slot_name(slot), bind->flags, bind->dtype);
        }
        if (absent && declared)
            return fail(ATTN_ERROR_INVALID, "attn_problem.binds: slot %s is bound though %s", declared,
                        aliased ? "the flag ATTN_V_ALIASES_K is set: V is in K_CACHE" : "its pair is ABSENT");
        *present = !absent;
        return ATTN_OK;
    }

    /// Tensors and fields that mean nothing in the chosen modes.
    attn_status check_modes() const
    {
        const auto refuse_slot = [](const char *slot, const char *why) {
            return fail(ATTN_ERROR_INVALID, "attn_problem.binds: slot %s: an append plan takes it only %s", slot, why);
        };
        if (!p_.writes_cache()) {
            if (p_.page_size)
                return fail(ATTN_ERROR_INVALID, "attn_problem.page_size = %lld: must be 0 where no cache is written",
                            static_cast<long long>(p_.page_size));
            if (p_.ring_rows)
                return fail(ATTN_ERROR_INVALID, "attn_append.ring_rows = %lld: must be 0 where no cache is written",
                            static_cast<long long>(p_.ring_rows));
            if (p_.mapped) return refuse_slot("SLOT_MAPPING", "where a cache is written");
        }
        if (p_.rope.dim && !p_.writes_k && !p_.writes_q)
            return fail(ATTN_ERROR_INVALID, "attn_append.rope: must be NULL where neither K nor Q is written");
        const bool positions = binds_.has(ATTN_SLOT_POSITIONS_Q);
        if (positions && !p_.rope.dim) return refuse_slot("POSITIONS_Q", "where attn_append.rope is set");
        if (p_.mapped) {
            if (p_.ring_rows)
                return fail(ATTN_ERROR_INVALID, "attn_append.ring_rows = %lld: must be 0 where SLOT_MAPPING is bound",
                            static_cast<long long>(p_.ring_rows));
            if (p_.rope.dim && !positions)
                return fail(ATTN_ERROR_INVALID, "attn_append.rope: with SLOT_MAPPING bound it needs POSITIONS_Q, "
                                                "rows of a cache being no positions then");
        }
        for (const attn_slot slot : {ATTN_SLOT_BLOCK_TABLE, ATTN_SLOT_BLOCK_TABLE_PTR})
            if (binds_.has(slot) && (!p_.page_size || p_.mapped))
                return refuse_slot(slot_name(slot), "where page_size is set and SLOT_MAPPING is not bound");
        const bool rows_matter = (p_.writes_cache() && !p_.mapped) || (p_.rope.dim && !positions);
        if (binds_.has(ATTN_SLOT_SEQLENS_KV) && !rows_matter)
            return refuse_slot("SEQLENS_KV", "where it decides the rows of a cache or the positions of RoPE");
        return ATTN_OK;
    }

    void set_bounds()
    {
        for (int64_t &bound : p_.bounds) bound = kFree;
        const auto at = [&](Axis axis) -> int64_t & { return p_.bounds[static_cast<int>(axis)]; };
        at(Axis::batch) = p_.batch;
        at(Axis::batch_plus_1) = p_.batch + 1;
        at(Axis::query) = p_.max_q;
        at(Axis::key) = p_.max_kv;
        at(Axis::total_q) = p_.total_q;
        at(Axis::total_kv) = p_.total_kv;
    }

    /// dtype of the new rows: that of the cache, or the one they are bound with.
    attn_dtype rows_dtype(attn_slot slot, attn_dtype cache)
    {
        const attn_bind *bind = binds_.take(slot);
        return bind && bind->dtype ? bind->dtype : cache;
    }

    /// A fixed axis among `axes` is the rows of a page; heads and channels come after, where not 0.
    void add(attn_slot slot, attn_dtype dtype, bool output, std::initializer_list<Axis> axes, int64_t heads = 0,
             int64_t channels = 0)
    {
        if (status_) return;
        TensorSpec spec;
        spec.slot = slot;
        spec.dtype = dtype;
        spec.output = output;
        const auto push = [&](Axis axis, int64_t bound) {
            spec.axes[spec.ndim] = axis;
            spec.bounds[spec.ndim++] = bound;
        };
        for (const Axis axis : axes) push(axis, axis == Axis::fixed ? p_.page_size : p_.bounds[static_cast<int>(axis)]);
        if (heads) push(Axis::fixed, heads);
        if (channels) push(Axis::fixed, channels);
        if (const attn_bind *bind = binds_.take(slot))
            status_ =
                apply_bind(*bind, spec.dtype == ATTN_INT32 ? DtypeChoice::integer : DtypeChoice::fixed, false, &spec);
        if (!status_) p_.tensors.push_back(spec);
    }

    /// A bind that none of the tensors above asked for: known but not computed, or misplaced.
    attn_status leftover(size_t i, const attn_bind &bind)
    {
        const bool derived =
            (bind.slot & (ATTN_SLOT_GRAD | ATTN_SLOT_TANGENT | ATTN_SLOT_SCALE | ATTN_SLOT_ZERO_POINT)) != 0;
        if (derived || bind.slot == ATTN_SLOT_STATUS) {
            p_.unserved.push_back(std::string("slot ") + slot_name(bind.slot));
            return ATTN_OK;
        }
        if (bind.index != 0)
            return fail(ATTN_ERROR_INVALID, "attn_problem.binds[%zu].index = %u: slot %s has index 0 only", i,
                        bind.index, slot_name(bind.slot));
        const bool table = bind.slot == ATTN_SLOT_ROPE_COS || bind.slot == ATTN_SLOT_ROPE_SIN;
        const bool packed = bind.slot == ATTN_SLOT_CU_SEQLENS_KV;
        const bool position = bind.slot == ATTN_SLOT_POSITIONS_KV;
        return fail(ATTN_ERROR_INVALID, "attn_problem.binds[%zu].slot = %s: an append plan %s", i, slot_name(bind.slot),
                    table      ? "takes it only where attn_rope.source is ATTN_ROPE_TABLE"
                    : packed   ? "does not take it, CU_SEQLENS_Q packs the new rows"
                    : position ? "does not take it, POSITIONS_Q are those of the new rows"
                               : "does not take it");
    }

    Binds &binds_;
    AppendProblem &p_;
    attn_status status_ = ATTN_OK; ///< The first failure.
};

} // namespace

attn_status read_append(const attn_append *given, AppendProblem *out)
{
    attn_append append;
    if (const attn_status status = read_struct(given, "attn_append", &append)) return status;
    if (const attn_status status = no_extensions(append.next, "attn_append")) return status;
    if (!append.problem) return fail(ATTN_ERROR_INVALID, "attn_append.problem = NULL: required");
    out->kind = ATTN_KIND_APPEND;
    if (const attn_status status = read_problem(append.problem, out)) return status;
    if (const attn_status status = check_flags("attn_append.flags", append.flags, 0)) return status;
    if (const attn_status status = read_ring(append, out)) return status;
    if (append.rope)
        if (const attn_status status = read_rope(append.rope, *out, &out->rope)) return status;
    Binds binds;
    if (const attn_status status = binds.read(*append.problem)) return status;
    AppendTensors tensors(&binds, out);
    if (const attn_status status = tensors.read_modes()) return status;
    attn_problem problem;
    if (const attn_status status = read_struct(append.problem, "attn_problem", &problem)) return status;
    if (const attn_status status = check_problem(problem, *out)) return status;
    return tensors.build();
}

} // namespace attn
