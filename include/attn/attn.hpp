/**
 * @file attn.hpp
 * @brief C++ face of attn.h: owning handles and plans, errors as exceptions, descriptors without designators.
 *
 * Header only, C++11 and later, over the C ABI alone: nothing of the C++ library crosses into libattn, so any compiler
 * and standard library will do. What a field, slot or status means is documented in attn.h; every C function can be
 * mixed in through `get()`.
 *
 * @code
 * attn::Handle handle;
 * attn::Problem problem(ATTN_FLOAT32);
 * problem.heads(8).dims(64).lengths(512);
 * attn::Plan plan(handle, attn::Dense(problem).causal(ATTN_TOP_LEFT));
 * attn::Workspace workspace(plan);
 * plan.execute({attn::arg(ATTN_SLOT_Q, attn::view(q, {1, 512, 8, 64})), ...}, workspace);
 * @endcode
 */
#ifndef ATTN_ATTN_HPP
#define ATTN_ATTN_HPP

#include <attn/attn.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

/** @brief The C++ face of libattn. */
namespace attn {

/**
 * @defgroup cpp C++
 * @brief attn.hpp: owning handles and plans, errors as exceptions, descriptors without designators.
 * @{
 */

/* ---------------------------------------------------------------------------------------------------------------
 * Errors.
 * ------------------------------------------------------------------------------------------------------------- */

/** @brief A failed call. what() is the library's message, which names field, value and rule. */
class Error : public std::runtime_error {
public:
    /** @brief Makes an error. @param status of the call @param message what it said */
    Error(attn_status status, const char *message) : std::runtime_error(message), status_(status) {}
    /** @brief Status of the call. @return never ATTN_OK */
    attn_status status() const noexcept { return status_; }

private:
    attn_status status_;
};

/** @brief Turns a failure into an exception. @param status result of a C call on this thread @throws Error */
inline void check(attn_status status)
{
    if (status != ATTN_OK) {
        const char *message = attn_last_error();
        throw Error(status, *message ? message : attn_status_name(status));
    }
}

/** @brief Version of the loaded library. @return e.g. "0.1.0" */
inline std::string version_text()
{
    const std::uint32_t v = attn_version();
    return std::to_string(v >> 16) + "." + std::to_string(v >> 8 & 255) + "." + std::to_string(v & 255);
}

/** @brief A growable C struct, zeroed, with its `size` set. @tparam T e.g. attn_options @return the struct */
template <class T>
inline T sized()
{
    T value = T();
    value.size = sizeof(T);
    return value;
}

/* ---------------------------------------------------------------------------------------------------------------
 * Tensors.
 * ------------------------------------------------------------------------------------------------------------- */

/**
 * @brief The attn_dtype of a C++ type; `value` is there for the types the language has.
 *
 * Specialise it for your own half or bfloat16:
 * `template <> struct attn::dtype_of<half> : attn::dtype_constant<ATTN_FLOAT16> {};`
 */
template <class T>
struct dtype_of;

/** @brief Base of the specialisations of dtype_of. @tparam D the dtype */
template <attn_dtype D>
struct dtype_constant {
    /** @brief The dtype. */
    static constexpr attn_dtype value = D;
};
/** @cond */
template <class T>
struct dtype_of<const T> : dtype_of<T> {
};
template <>
struct dtype_of<bool> : dtype_constant<ATTN_BOOL> {
};
template <>
struct dtype_of<std::int8_t> : dtype_constant<ATTN_INT8> {
};
template <>
struct dtype_of<std::uint8_t> : dtype_constant<ATTN_UINT8> {
};
template <>
struct dtype_of<std::int32_t> : dtype_constant<ATTN_INT32> {
};
template <>
struct dtype_of<std::int64_t> : dtype_constant<ATTN_INT64> {
};
template <>
struct dtype_of<std::uint64_t> : dtype_constant<ATTN_UINT64> {
};
template <>
struct dtype_of<float> : dtype_constant<ATTN_FLOAT32> {
};
template <>
struct dtype_of<double> : dtype_constant<ATTN_FLOAT64> {
};
/** @endcond */

/**
 * @brief A view of memory on the device of the handle.
 * @param data address of element 0; not owned
 * @param dtype element type
 * @param shape extents, at most 8
 * @param strides steps in elements, one for each axis; empty: row-major
 * @return the view
 * @throws std::length_error more than 8 axes, or strides of another number
 */
inline attn_tensor view(const void *data, attn_dtype dtype, std::initializer_list<std::int64_t> shape,
                        std::initializer_list<std::int64_t> strides = {})
{
    if (shape.size() > 8) throw std::length_error("attn::view: shape has more than 8 axes");
    if (strides.size() != 0 && strides.size() != shape.size())
        throw std::length_error("attn::view: shape and strides differ in length");
    attn_tensor tensor = attn_tensor();
    tensor.data = const_cast<void *>(data);
    tensor.dtype = dtype;
    tensor.ndim = static_cast<std::int32_t>(shape.size());
    for (std::size_t i = 0; i < shape.size(); ++i) tensor.shape[i] = shape.begin()[i];
    std::int64_t step = 1;
    for (std::size_t i = shape.size(); i-- > 0; step *= tensor.shape[i])
        tensor.strides[i] = strides.size() != 0 ? strides.begin()[i] : step;
    return tensor;
}

/**
 * @brief Likewise with the dtype of the pointer.
 * @tparam T a type that dtype_of knows
 * @param data address of element 0; not owned
 * @param shape extents, at most 8
 * @param strides steps in elements; empty: row-major
 * @return the view
 * @throws std::length_error more than 8 axes, or strides of another number
 */
template <class T>
inline attn_tensor view(T *data, std::initializer_list<std::int64_t> shape,
                        std::initializer_list<std::int64_t> strides = {})
{
    return view(static_cast<const void *>(data), dtype_of<T>::value, shape, strides);
}

/**
 * @brief An argument of Plan::execute.
 * @param slot role
 * @param tensor the view; only its address is kept, so it must outlive the call of execute. A temporary written inside
 *        the argument list of execute does
 * @param index which of several with this role
 * @return the argument
 */
inline attn_arg arg(attn_slot slot, const attn_tensor &tensor, std::uint32_t index = 0) noexcept
{
    attn_arg result = attn_arg();
    result.slot = slot;
    result.index = index;
    result.tensor = &tensor;
    return result;
}

/* ---------------------------------------------------------------------------------------------------------------
 * Handle.
 * ------------------------------------------------------------------------------------------------------------- */

/** @brief Counts devices. @param device kind @return 0 if there is none @throws Error driver missing or unusable */
inline std::int32_t device_count(attn_device device)
{
    std::int32_t count = 0;
    check(attn_device_count(device, &count));
    return count;
}

/** @brief Describes a device. @param device kind @param device_id ordinal @return properties @throws Error */
inline attn_device_properties device_info(attn_device device, std::int32_t device_id = 0)
{
    attn_device_properties properties = sized<attn_device_properties>();
    check(attn_device_info(device, device_id, &properties));
    return properties;
}

/** @cond */
namespace detail {
struct Destroy {
    void operator()(attn_handle handle) const noexcept { attn_destroy(handle); }
    void operator()(attn_plan plan) const noexcept { attn_plan_destroy(plan); }
};
} // namespace detail
/** @endcond */

/** @brief Owns an attn_handle. Move-only; const use from any thread. Plans made from it may outlive it. */
class Handle {
public:
    /** @brief The CPU with all cores the process may use. @throws Error */
    Handle() { create(nullptr); }
    /** @brief A device with options, e.g. from sized<attn_options>(). @param options read during the call @throws Error
     */
    explicit Handle(const attn_options &options) { create(&options); }
    /** @brief The C handle. @return still owned by this; NULL once moved from */
    attn_handle get() const noexcept { return handle_.get(); }

private:
    void create(const attn_options *options)
    {
        attn_handle handle = nullptr;
        check(attn_create(options, &handle));
        handle_.reset(handle);
    }

    std::unique_ptr<attn_handle_s, detail::Destroy> handle_;
};

/* ---------------------------------------------------------------------------------------------------------------
 * Masks.
 * ------------------------------------------------------------------------------------------------------------- */

/**
 * @brief A mask program as an expression: atoms of attn::mask joined by `&`, `|` and `~`.
 *
 * `attn::mask::id_eq() & (attn::mask::causal() | attn::mask::prefix(4))`
 */
class Mask {
public:
    /** @brief One atom. @param atom all of it, its `table` 0 */
    explicit Mask(const attn_term &atom) : terms_(1, atom) {}

    /** @brief Lets the first parameter of an atom grow. @param factor added for each key of a sequence, then rounded
     *  down @return the atom @throws std::invalid_argument this is no single atom, or has a table */
    Mask growing(double factor) const
    {
        Mask result = atom();
        result.terms_[0].f = factor;
        return result;
    }

    /**
     * @brief Gives an atom its first parameters by head instead.
     * @param values row-major `[heads, columns]`, heads of OUT or of K, or 1 for all; INFINITY: no limit
     * @param columns parameters of a head
     * @param slopes what each grows by for a key of the sequence; empty: nothing
     * @return the atom
     * @throws std::invalid_argument this is no single atom, has a table, or the sizes do not match
     */
    Mask by_head(std::vector<double> values, std::size_t columns = 1, std::vector<double> slopes = {}) const
    {
        Mask result = atom();
        if (columns == 0 || columns > 5 || values.empty() || values.size() % columns != 0 ||
            (!slopes.empty() && slopes.size() != values.size()))
            throw std::invalid_argument("attn::Mask::by_head: must have [heads, columns] values, and as many slopes");
        for (std::size_t i = 0; i < columns; ++i) result.terms_[0].p[i] = 0;
        result.terms_[0].table = 1;
        const std::int64_t rows = static_cast<std::int64_t>(values.size() / columns);
        result.tables_.push_back({std::make_shared<const std::vector<double>>(std::move(values)),
                                  std::make_shared<const std::vector<double>>(std::move(slopes)), rows,
                                  static_cast<std::int64_t>(columns)});
        return result;
    }

    /** @brief Both. @param a set @param b set @return their intersection */
    friend Mask operator&(const Mask &a, const Mask &b) { return join(a, b, ATTN_OP_AND); }
    /** @brief Either. @param a set @param b set @return their union */
    friend Mask operator|(const Mask &a, const Mask &b) { return join(a, b, ATTN_OP_OR); }
    /** @brief What is not in a set. @param a set @return its complement */
    friend Mask operator~(Mask a)
    {
        attn_term term = attn_term();
        term.op = ATTN_OP_NOT;
        a.terms_.push_back(term);
        return a;
    }

    /** @cond */
    struct Program {
        std::vector<attn_term> terms;
        std::vector<attn_table> tables;
        std::vector<std::shared_ptr<const std::vector<double>>> values;
        attn_program program;
    };
    std::shared_ptr<const Program> compile() const
    {
        const std::shared_ptr<Program> result = std::make_shared<Program>();
        result->terms = terms_;
        for (const Table &table : tables_) {
            attn_table value = attn_table();
            value.values = table.values->data();
            value.slopes = table.slopes->empty() ? nullptr : table.slopes->data();
            value.rows = table.rows, value.columns = table.columns;
            result->tables.push_back(value);
            result->values.push_back(table.values);
            result->values.push_back(table.slopes);
        }
        result->program = sized<attn_program>();
        result->program.terms = result->terms.data(), result->program.term_count = result->terms.size();
        result->program.tables = result->tables.empty() ? nullptr : result->tables.data();
        result->program.table_count = result->tables.size();
        return result;
    }
    /** @endcond */

private:
    /** @cond */
    struct Table {
        std::shared_ptr<const std::vector<double>> values, slopes;
        std::int64_t rows, columns;
    };
    /** @endcond */

    Mask atom() const
    {
        if (terms_.size() != 1 || terms_[0].table != 0)
            throw std::invalid_argument("attn::Mask: parameters belong to one atom, without a table");
        return *this;
    }
    static Mask join(Mask a, const Mask &b, std::uint16_t op)
    {
        for (attn_term term : b.terms_) {
            if (term.table != 0) term.table += static_cast<std::uint32_t>(a.tables_.size());
            a.terms_.push_back(term);
        }
        a.tables_.insert(a.tables_.end(), b.tables_.begin(), b.tables_.end());
        attn_term term = attn_term();
        term.op = op;
        a.terms_.push_back(term);
        return a;
    }

    std::vector<attn_term> terms_;
    std::vector<Table> tables_;
};

/** @brief Atoms of mask programs; see attn_mask_op. A diagonal that is not given is that of the descriptor. */
namespace mask {

/** @cond */
namespace detail {
inline Mask atom(std::uint16_t op, std::int64_t p0 = 0, std::int64_t p1 = 0, std::int64_t p2 = 0,
                 std::uint32_t axis = 0, attn_align align = ATTN_ALIGN_NONE)
{
    attn_term term = attn_term();
    term.op = op, term.flags = static_cast<std::uint16_t>(align), term.axis = axis;
    term.p[0] = p0, term.p[1] = p1, term.p[2] = p2;
    return Mask(term);
}
} // namespace detail
/** @endcond */

/** @brief Keys up to the diagonal. @param align which diagonal @return a set */
inline Mask causal(attn_align align = ATTN_ALIGN_NONE)
{
    return detail::atom(ATTN_MASK_CAUSAL, 0, 0, 0, 0, align);
}
/** @brief Keys around the diagonal. @param left keys before it, or ATTN_UNBOUNDED @param right keys after it
 *  @param align which diagonal @return a set */
inline Mask band(std::int64_t left, std::int64_t right, attn_align align = ATTN_ALIGN_NONE)
{
    return detail::atom(ATTN_MASK_BAND, left, right, 0, 0, align);
}
/** @brief The first keys. @param keys number @return a set */
inline Mask prefix(std::int64_t keys)
{
    return detail::atom(ATTN_MASK_PREFIX, keys);
}
/** @brief The first queries. @param rows number @return a set */
inline Mask first_rows(std::int64_t rows)
{
    return detail::atom(ATTN_MASK_FIRST_ROWS, rows);
}
/** @brief The last queries. @param rows number @return a set */
inline Mask last_rows(std::int64_t rows)
{
    return detail::atom(ATTN_MASK_LAST_ROWS, rows);
}
/** @brief Keys j with `(j / unit + phase) mod period == 0`. @param period in units @param phase in units
 *  @param unit keys @return a set */
inline Mask vertical(std::int64_t period, std::int64_t phase = 0, std::int64_t unit = 1)
{
    return detail::atom(ATTN_MASK_VERTICAL, period, phase, unit);
}
/** @brief Keys 0 or a power of two units before the diagonal. @param unit keys @param align which diagonal
 *  @return a set */
inline Mask pow2(std::int64_t unit = 1, attn_align align = ATTN_ALIGN_NONE)
{
    return detail::atom(ATTN_MASK_POW2, unit, 0, 0, 0, align);
}
/** @brief Keys of the same id. @param pair index of IDS_Q and IDS_KV @return a set */
inline Mask id_eq(std::uint32_t pair = 0)
{
    return detail::atom(ATTN_MASK_ID_EQ, 0, 0, 0, pair);
}
/** @brief Keys of the same or a smaller id. @param pair index of IDS_Q and IDS_KV @return a set */
inline Mask id_ge(std::uint32_t pair = 0)
{
    return detail::atom(ATTN_MASK_ID_GE, 0, 0, 0, pair);
}
/** @brief Keys of a smaller id. @param pair index of IDS_Q and IDS_KV @return a set */
inline Mask id_gt(std::uint32_t pair = 0)
{
    return detail::atom(ATTN_MASK_ID_GT, 0, 0, 0, pair);
}
/** @brief Queries of an id. @param id value @param pair index of IDS_Q @return a set */
inline Mask id_q(std::int64_t id, std::uint32_t pair = 0)
{
    return detail::atom(ATTN_MASK_ID_Q, id, 0, 0, pair);
}
/** @brief Keys of an id. @param id value @param pair index of IDS_KV @return a set */
inline Mask id_kv(std::int64_t id, std::uint32_t pair = 0)
{
    return detail::atom(ATTN_MASK_ID_KV, id, 0, 0, pair);
}
/** @brief Heads of OUT. @param first the first @param end behind the last @return a set */
inline Mask heads(std::int64_t first, std::int64_t end)
{
    return detail::atom(ATTN_MASK_HEADS, first, end);
}
/** @brief Heads of OUT, each said. @param members 1 for a head in the set, 0 for one outside @return a set */
inline Mask heads(std::vector<double> members)
{
    return detail::atom(ATTN_MASK_HEADS).by_head(std::move(members));
}

} // namespace mask

/* ---------------------------------------------------------------------------------------------------------------
 * Descriptors. Each setter returns the object. A descriptor keeps what it is given by value, except an attn_program,
 * rope and bias tables, of which it keeps the address until the plan is made.
 * ------------------------------------------------------------------------------------------------------------- */

/** @brief Builds an attn_problem: bounds, dtypes and the tensors beyond the default. */
class Problem {
public:
    /** @brief Starts with one dtype for Q, K, V and OUT. @param dtype of all */
    explicit Problem(attn_dtype dtype) : desc_(sized<attn_problem>()) { desc_.q_dtype = dtype; }
    /** @brief Dtypes that differ from that of Q; 0 keeps the default. @param k of K @param v of V @param out of OUT
     *  @return this */
    Problem &dtypes(attn_dtype k, attn_dtype v, attn_dtype out)
    {
        desc_.k_dtype = k, desc_.v_dtype = v, desc_.out_dtype = out;
        return *this;
    }
    /** @brief Sequences. @param n at most so many @return this */
    Problem &batch(std::int64_t n)
    {
        desc_.batch = n;
        return *this;
    }
    /** @brief Heads. @param q of Q @param k of K, 0: as Q @param v of V, 0: as K @return this */
    Problem &heads(std::int64_t q, std::int64_t k = 0, std::int64_t v = 0)
    {
        desc_.heads_q = q, desc_.heads_k = k, desc_.heads_v = v;
        return *this;
    }
    /** @brief Channels. @param qk of Q and K @param v of V and OUT, 0: as Q @return this */
    Problem &dims(std::int64_t qk, std::int64_t v = 0)
    {
        desc_.dim_qk = qk, desc_.dim_v = v;
        return *this;
    }
    /** @brief Longest sequences. @param q of queries @param kv of keys, 0: as queries @return this */
    Problem &lengths(std::int64_t q, std::int64_t kv = 0)
    {
        desc_.max_q = q, desc_.max_kv = kv;
        return *this;
    }
    /** @brief Packs queries and keys: binds CU_SEQLENS_Q and CU_SEQLENS_KV. @param total_q rows of Q, 0: batch * max_q
     *  @param total_kv rows of K, 0: batch * max_kv @return this */
    Problem &packed(std::int64_t total_q = 0, std::int64_t total_kv = 0)
    {
        desc_.total_q = total_q, desc_.total_kv = total_kv;
        return bind(ATTN_SLOT_CU_SEQLENS_Q).bind(ATTN_SLOT_CU_SEQLENS_KV);
    }
    /** @brief Keys and values lie in pages; implies slot BLOCK_TABLE. @param rows of a page @return this */
    Problem &page_size(std::int64_t rows)
    {
        desc_.page_size = rows;
        return *this;
    }
    /** @brief Factor of the scores. @param factor 0: 1 / sqrt(dim_qk) @return this */
    Problem &scale(double factor)
    {
        desc_.scale = factor;
        return *this;
    }
    /** @brief What is computed. @param value ATTN_FORWARD and so on @return this */
    Problem &direction(attn_direction value)
    {
        desc_.direction = value;
        return *this;
    }
    /** @brief Arithmetic of float32 products. @param value ATTN_PRECISION_* @return this */
    Problem &precision(attn_precision value)
    {
        desc_.precision = value;
        return *this;
    }
    /** @brief Adds flags. @param bits ATTN_ALLOW_NONDETERMINISTIC and so on @return this */
    Problem &flags(std::uint64_t bits)
    {
        desc_.flags |= bits;
        return *this;
    }
    /** @brief Declares a tensor. @param slot role @param dtype 0: the default of the slot @param flags ATTN_BIND_*
     *  @param index which of several @return this */
    Problem &bind(attn_slot slot, attn_dtype dtype = 0, std::uint32_t flags = 0, std::uint32_t index = 0)
    {
        attn_bind value = attn_bind();
        value.slot = slot, value.index = index, value.dtype = dtype, value.flags = flags;
        return bind(value);
    }
    /** @brief Declares a tensor. @param value all of the bind @return this */
    Problem &bind(const attn_bind &value)
    {
        binds_.push_back(value);
        return *this;
    }
    /** @brief The C struct. @return points into this object: valid until it changes or ends */
    attn_problem get() const noexcept
    {
        attn_problem desc = desc_;
        desc.binds = binds_.empty() ? nullptr : binds_.data();
        desc.bind_count = binds_.size();
        return desc;
    }

private:
    attn_problem desc_;
    std::vector<attn_bind> binds_;
};

/** @brief Builds an attn_dense. */
class Dense {
public:
    /** @brief Dense attention without mask. @param problem sizes and tensors, copied */
    explicit Dense(Problem problem) : problem_(std::move(problem)), desc_(sized<attn_dense>()) {}
    /** @brief Hides the future. @param diagonal ATTN_TOP_LEFT, ATTN_BOTTOM_RIGHT or ATTN_BY_POSITION @return this */
    Dense &causal(attn_align diagonal)
    {
        desc_.causal = diagonal;
        return *this;
    }
    /** @brief Diagonal of windows, ALiBi, tables and mask terms where not causal. @param diagonal as above @return this
     */
    Dense &align(attn_align diagonal)
    {
        desc_.align = diagonal;
        return *this;
    }
    /** @brief Limits the past. @param keys visible before the diagonal key @return this */
    Dense &window_left(std::int64_t keys)
    {
        desc_.flags |= ATTN_WINDOW_LEFT, desc_.window_left = keys;
        return *this;
    }
    /** @brief Limits the future. @param keys visible after the diagonal key @return this */
    Dense &window_right(std::int64_t keys)
    {
        desc_.flags |= ATTN_WINDOW_RIGHT, desc_.window_right = keys;
        return *this;
    }
    /** @brief First keys that stay visible whatever the window. @param keys number @return this */
    Dense &sink_tokens(std::int64_t keys)
    {
        desc_.sink_tokens = keys;
        return *this;
    }
    /** @brief Softcap of the scores. @param cap 0: none @return this */
    Dense &softcap(double cap)
    {
        desc_.softcap = cap;
        return *this;
    }
    /** @brief Further mask. @param program its address is kept until the plan is made @return this */
    Dense &mask(const attn_program &program)
    {
        desc_.mask = &program;
        return *this;
    }
    /** @brief Further mask, copied. @param mask an expression @return this */
    Dense &mask(const Mask &mask)
    {
        mask_ = mask.compile();
        desc_.mask = &mask_->program;
        return *this;
    }
    /** @brief Rotary embedding. @param rope its address is kept until the plan is made @return this */
    Dense &rope(const attn_rope &rope)
    {
        desc_.rope = &rope;
        return *this;
    }
    /** @brief Bias by relative position. @param table its address is kept until the plan is made @return this */
    Dense &bias_table(const attn_bias_table &table)
    {
        desc_.bias_table = &table;
        return *this;
    }
    /** @brief Every other field. @return the C struct, whose `problem` is set when the plan is made */
    attn_dense &fields() noexcept { return desc_; }
    /** @brief Sizes and tensors. @return the problem */
    const Problem &problem() const noexcept { return problem_; }
    /** @brief The C struct. @param problem problem().get(), kept by the caller @return points to it */
    attn_dense get(const attn_problem &problem) const noexcept
    {
        attn_dense desc = desc_;
        desc.problem = &problem;
        return desc;
    }

private:
    Problem problem_;
    attn_dense desc_;
    std::shared_ptr<const Mask::Program> mask_; // what desc_.mask points to; copies share it
};

/** @brief Builds an attn_merge. */
class Merge {
public:
    /** @brief Merge of partial results. @param problem sizes and tensors, copied @param parts number of partial results
     */
    Merge(Problem problem, std::size_t parts) : problem_(std::move(problem)), desc_(sized<attn_merge>())
    {
        desc_.parts = parts;
    }
    /** @brief Every other field. @return the C struct, whose `problem` is set when the plan is made */
    attn_merge &fields() noexcept { return desc_; }
    /** @brief Sizes and tensors. @return the problem */
    const Problem &problem() const noexcept { return problem_; }
    /** @brief The C struct. @param problem problem().get(), kept by the caller @return points to it */
    attn_merge get(const attn_problem &problem) const noexcept
    {
        attn_merge desc = desc_;
        desc.problem = &problem;
        return desc;
    }

private:
    Problem problem_;
    attn_merge desc_;
};

/** @brief Builds an attn_append. */
class Append {
public:
    /** @brief Append of new rows to a cache. @param problem sizes and tensors, copied */
    explicit Append(Problem problem) : problem_(std::move(problem)), desc_(sized<attn_append>()) {}
    /** @brief Every other field. @return the C struct, whose `problem` is set when the plan is made */
    attn_append &fields() noexcept { return desc_; }
    /** @brief Sizes and tensors. @return the problem */
    const Problem &problem() const noexcept { return problem_; }
    /** @brief The C struct. @param problem problem().get(), kept by the caller @return points to it */
    attn_append get(const attn_problem &problem) const noexcept
    {
        attn_append desc = desc_;
        desc.problem = &problem;
        return desc;
    }

private:
    Problem problem_;
    attn_append desc_;
};

#ifdef ATTN_EXPERIMENTAL
/** @brief Builds an attn_linear; experimental. */
class Linear {
public:
    /** @brief Linear attention. @param problem sizes and tensors, copied */
    explicit Linear(Problem problem) : problem_(std::move(problem)), desc_(sized<attn_linear>()) {}
    /** @brief Decay of the state. @param kind ATTN_DECAY_* @param form how DECAY becomes the log decay @return this */
    Linear &decay(attn_decay kind, attn_decay_form form = ATTN_DECAY_LOG)
    {
        desc_.decay = kind, desc_.decay_form = form;
        return *this;
    }
    /** @brief Update of the state. @param rule ATTN_UPDATE_* @return this */
    Linear &update(attn_update rule)
    {
        desc_.update = rule;
        return *this;
    }
    /** @brief Map applied to Q and K. @param map ATTN_FEATURE_* @return this */
    Linear &feature_map(attn_feature_map map)
    {
        desc_.feature_map = map;
        return *this;
    }
    /** @brief Adds flags. @param bits ATTN_LINEAR_* @return this */
    Linear &flags(std::uint64_t bits)
    {
        desc_.flags |= bits;
        return *this;
    }
    /** @brief States that calls bring. @param layout order of their axes @param dtype 0: float32 @return this */
    Linear &state(attn_state_layout layout, attn_dtype dtype = 0)
    {
        desc_.state_layout = layout, desc_.state_dtype = dtype;
        return *this;
    }
    /** @brief Every other field. @return the C struct, whose `problem` is set when the plan is made */
    attn_linear &fields() noexcept { return desc_; }
    /** @brief Sizes and tensors. @return the problem */
    const Problem &problem() const noexcept { return problem_; }
    /** @brief The C struct. @param problem problem().get(), kept by the caller @return points to it */
    attn_linear get(const attn_problem &problem) const noexcept
    {
        attn_linear desc = desc_;
        desc.problem = &problem;
        return desc;
    }

private:
    Problem problem_;
    attn_linear desc_;
};

/** @brief Builds an attn_conv; experimental. */
class Conv {
public:
    /** @brief Causal depthwise convolution. @param problem sizes and tensors, copied @param width taps of a channel */
    Conv(Problem problem, std::size_t width) : problem_(std::move(problem)), desc_(sized<attn_conv>())
    {
        desc_.width = width;
    }
    /** @brief What follows. @param kind ATTN_CONV_* @return this */
    Conv &activation(attn_conv_activation kind)
    {
        desc_.activation = kind;
        return *this;
    }
    /** @brief Every other field. @return the C struct, whose `problem` is set when the plan is made */
    attn_conv &fields() noexcept { return desc_; }
    /** @brief Sizes and tensors. @return the problem */
    const Problem &problem() const noexcept { return problem_; }
    /** @brief The C struct. @param problem problem().get(), kept by the caller @return points to it */
    attn_conv get(const attn_problem &problem) const noexcept
    {
        attn_conv desc = desc_;
        desc.problem = &problem;
        return desc;
    }

private:
    Problem problem_;
    attn_conv desc_;
};

/** @brief Builds an attn_scan; experimental. */
class Scan {
public:
    /** @brief Vector gated scan. @param problem sizes and tensors, copied @param form what DECAY is */
    explicit Scan(Problem problem, attn_scan_form form = ATTN_SCAN_LOG)
        : problem_(std::move(problem)), desc_(sized<attn_scan>())
    {
        desc_.form = form;
    }
    /** @brief Adds flags. @param bits ATTN_SCAN_* @return this */
    Scan &flags(std::uint64_t bits)
    {
        desc_.flags |= bits;
        return *this;
    }
    /** @brief Every other field. @return the C struct, whose `problem` is set when the plan is made */
    attn_scan &fields() noexcept { return desc_; }
    /** @brief Sizes and tensors. @return the problem */
    const Problem &problem() const noexcept { return problem_; }
    /** @brief The C struct. @param problem problem().get(), kept by the caller @return points to it */
    attn_scan get(const attn_problem &problem) const noexcept
    {
        attn_scan desc = desc_;
        desc.problem = &problem;
        return desc;
    }

private:
    Problem problem_;
    attn_scan desc_;
};
#endif

/* ---------------------------------------------------------------------------------------------------------------
 * Plan.
 * ------------------------------------------------------------------------------------------------------------- */

class Workspace;

/** @brief Owns an attn_plan. Move-only; executed from any number of threads at once, each with its own workspace. */
class Plan {
public:
    /** @brief Plans dense attention. @param handle device @param dense descriptor @throws Error */
    Plan(const Handle &handle, const Dense &dense) { make(attn_plan_dense, handle, dense); }
    /** @brief Plans a merge. @param handle device @param merge descriptor @throws Error */
    Plan(const Handle &handle, const Merge &merge) { make(attn_plan_merge, handle, merge); }
    /** @brief Plans an append. @param handle device @param append descriptor @throws Error */
    Plan(const Handle &handle, const Append &append) { make(attn_plan_append, handle, append); }
#ifdef ATTN_EXPERIMENTAL
    /** @brief Plans linear attention. @param handle device @param linear descriptor @throws Error */
    Plan(const Handle &handle, const Linear &linear)
    {
        make(attn_plan_linear, handle, linear);
    }
    /** @brief Plans a convolution. @param handle device @param conv descriptor @throws Error */
    Plan(const Handle &handle, const Conv &conv)
    {
        make(attn_plan_conv, handle, conv);
    }
    /** @brief Plans a scan. @param handle device @param scan descriptor @throws Error */
    Plan(const Handle &handle, const Scan &scan)
    {
        make(attn_plan_scan, handle, scan);
    }
#endif
    /** @brief Takes a plan made through the C functions. @param plan owned from here on */
    explicit Plan(attn_plan plan) noexcept : plan_(plan) {}

    /** @brief The C plan. @return still owned by this; NULL once moved from */
    attn_plan get() const noexcept
    {
        return plan_.get();
    }

    /** @brief Workspace that suffices for every execute. @return bytes, may be 0 @throws Error */
    std::size_t workspace_bytes() const
    {
        std::size_t bytes = 0;
        check(attn_plan_workspace(get(), &bytes, nullptr));
        return bytes;
    }
    /** @brief Workspace for executes of at most given sizes. @param sizes from sized<attn_sizes>() @return bytes
     *  @throws Error */
    std::size_t workspace_bytes(const attn_sizes &sizes) const
    {
        std::size_t bytes = 0;
        check(attn_plan_workspace_for(get(), &sizes, &bytes));
        return bytes;
    }

    /** @brief Kernel, FLOPs, bytes and refusals. @return JSON @throws Error */
    std::string describe() const
    {
        std::size_t needed = 0;
        const attn_status status = attn_plan_describe(get(), nullptr, 0, &needed);
        if (status != ATTN_ERROR_CAPACITY) check(status);
        std::string text(needed, '\0');
        check(attn_plan_describe(get(), &text[0], text.size(), nullptr));
        text.resize(text.find('\0'));
        return text;
    }

    /**
     * @brief Runs the plan; see attn_execute(). Allocates nothing.
     * @param args tensors, any order
     * @param count their number
     * @param workspace memory of the plan's device, one for each concurrent execute; may be NULL if bytes is 0
     * @param bytes its size
     * @param stream CUstream or hipStream_t; CPU: NULL
     * @throws Error nothing has been written
     */
    void execute(const attn_arg *args, std::size_t count, void *workspace, std::size_t bytes,
                 void *stream = nullptr) const
    {
        check(attn_execute(get(), args, count, workspace, bytes, stream));
    }
    /** @brief Likewise. @param args tensors, see arg() @param workspace memory @param bytes its size
     *  @param stream CUstream or hipStream_t; CPU: NULL @throws Error nothing has been written */
    void execute(std::initializer_list<attn_arg> args, void *workspace, std::size_t bytes, void *stream = nullptr) const
    {
        execute(args.begin(), args.size(), workspace, bytes, stream);
    }
    /** @brief Likewise on the CPU. @param args tensors, see arg() @param workspace of this plan, used by no other
     * thread meanwhile @throws Error nothing has been written */
    inline void execute(std::initializer_list<attn_arg> args, Workspace &workspace) const;

private:
    template <class Function, class Descriptor>
    void make(Function function, const Handle &handle, const Descriptor &descriptor)
    {
        const attn_problem problem = descriptor.problem().get();
        const auto desc = descriptor.get(problem);
        attn_plan plan = nullptr;
        check(function(handle.get(), &desc, &plan));
        plan_.reset(plan);
    }

    std::unique_ptr<attn_plan_s, detail::Destroy> plan_;
};

/** @brief Host memory for the executes of a CPU plan, one at a time. Move-only. */
class Workspace {
public:
    /** @brief As much as any execute of the plan needs. @param plan CPU plan @throws Error @throws std::bad_alloc */
    explicit Workspace(const Plan &plan) : Workspace(plan.workspace_bytes()) {}
    /** @brief A given size. @param bytes may be 0 @throws std::bad_alloc */
    explicit Workspace(std::size_t bytes) : memory_(bytes ? ::operator new(bytes) : nullptr), bytes_(bytes) {}
    /** @brief The memory. @return aligned as malloc; NULL if the size is 0 */
    void *data() const noexcept { return memory_.get(); }
    /** @brief Its size. @return bytes */
    std::size_t size() const noexcept { return bytes_; }

private:
    /** @cond */
    struct Free {
        void operator()(void *memory) const noexcept { ::operator delete(memory); }
    };
    /** @endcond */
    std::unique_ptr<void, Free> memory_;
    std::size_t bytes_;
};

inline void Plan::execute(std::initializer_list<attn_arg> args, Workspace &workspace) const
{
    execute(args, workspace.data(), workspace.size());
}

/** @} */

} // namespace attn

#endif /* ATTN_ATTN_HPP */
