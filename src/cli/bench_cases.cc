#include "bench_cases.h"

#include <algorithm>
#include <cmath>
#include <fnmatch.h>

namespace attn::cli {
namespace {

double bytes_of(attn_dtype dtype)
{
    return static_cast<double>(dtype >> 8 & 0xff) / 8;
}

BenchCase dense(const char *name, attn_dtype dtype, int64_t queries, int64_t keys, int64_t heads_q, int64_t heads_kv,
                int64_t dim)
{
    BenchCase c;
    c.name = name;
    c.dtype = dtype;
    c.queries = queries, c.keys = keys;
    c.heads_q = heads_q, c.heads_kv = heads_kv;
    c.dim_qk = c.dim_v = dim;
    return c;
}

BenchCase prefill(const char *name, attn_dtype dtype, int64_t tokens, int64_t heads_q, int64_t heads_kv, int64_t dim,
                  attn_align causal = ATTN_ALIGN_NONE)
{
    BenchCase c = dense(name, dtype, tokens, tokens, heads_q, heads_kv, dim);
    c.causal = causal;
    return c;
}

BenchCase windowed(const char *name, attn_dtype dtype, int64_t tokens, int64_t heads, int64_t dim, int64_t window)
{
    BenchCase c = prefill(name, dtype, tokens, heads, heads, dim, ATTN_TOP_LEFT);
    c.window_left = window - 1;
    return c;
}

BenchCase chunk(const char *name, attn_dtype dtype, int64_t queries, int64_t keys)
{
    BenchCase c = dense(name, dtype, queries, keys, 32, 8, 128);
    c.causal = ATTN_BOTTOM_RIGHT;
    return c;
}

BenchCase decode(const char *name, attn_dtype dtype, int64_t batch, int64_t keys, int64_t page_size = 0,
                 int64_t shortest = 0)
{
    BenchCase c = dense(name, dtype, 1, keys, 32, 8, 128);
    c.ceiling = Ceiling::read;
    c.batch = batch;
    c.page_size = page_size;
    c.shortest = shortest;
    return c;
}

/// DeepSeek's latent attention, absorbed: 128 query heads on one key head whose first channels are V.
BenchCase latent(const char *name, attn_dtype dtype, int64_t keys)
{
    BenchCase c = dense(name, dtype, 1, keys, 128, 1, 576);
    c.dim_v = 512;
    c.v_aliases_k = true;
    return c;
}

BenchCase varlen(const char *name, attn_dtype dtype, int64_t batch, int64_t shortest, int64_t longest, int64_t heads_q,
                 int64_t heads_kv, int64_t dim, attn_align causal)
{
    BenchCase c = prefill(name, dtype, longest, heads_q, heads_kv, dim, causal);
    c.batch = batch;
    c.packed = true;
    c.shortest = shortest;
    return c;
}

BenchCase merge(const char *name, attn_dtype dtype, int64_t parts, int64_t tokens, int64_t heads, int64_t dim)
{
    BenchCase c = dense(name, dtype, tokens, 0, heads, 0, dim);
    c.op = Operator::merge;
    c.ceiling = Ceiling::read;
    c.parts = parts;
    return c;
}

BenchCase append(const char *name, attn_dtype dtype, attn_dtype cache_dtype, int64_t batch, int64_t tokens,
                 int64_t page_size, bool rope)
{
    BenchCase c = dense(name, dtype, tokens, std::max<int64_t>(tokens, 1024), 0, 8, 128);
    c.op = Operator::append;
    c.ceiling = Ceiling::read;
    c.cache_dtype = cache_dtype;
    c.batch = batch;
    c.page_size = page_size;
    c.rope = rope;
    return c;
}

BenchCase linear(const char *name, attn_dtype dtype, int64_t batch, int64_t tokens, int64_t heads, attn_decay decay,
                 attn_update update, bool recurrent = false)
{
    BenchCase c = dense(name, dtype, tokens, 0, heads, heads, 128);
    c.op = Operator::linear;
    c.ceiling = tokens == 1 ? Ceiling::read : Ceiling::multiply_add;
    c.batch = batch;
    c.decay = decay, c.update = update;
    c.recurrent = recurrent;
    return c;
}

BenchCase conv(const char *name, attn_dtype dtype, int64_t batch, int64_t tokens, int64_t width)
{
    BenchCase c = dense(name, dtype, tokens, 0, 32, 0, 128);
    c.op = Operator::conv;
    c.ceiling = Ceiling::read;
    c.batch = batch;
    c.width = width;
    return c;
}

BenchCase scan(const char *name, attn_dtype dtype, int64_t batch, int64_t tokens)
{
    BenchCase c = conv(name, dtype, batch, tokens, 0);
    c.op = Operator::scan;
    return c;
}

constexpr attn_align kFull = ATTN_ALIGN_NONE, kCausal = ATTN_TOP_LEFT;
constexpr attn_dtype kFp32 = ATTN_FLOAT32, kFp16 = ATTN_FLOAT16, kBf16 = ATTN_BFLOAT16;

std::vector<BenchCase> make_cases()
{
    return {
        prefill("prefill s64 h2 d64 full fp32", kFp32, 64, 2, 2, 64),
        prefill("prefill s512 h8 d128 full fp32", kFp32, 512, 8, 8, 128),
        prefill("prefill s2048 h8 d128 full fp32", kFp32, 2048, 8, 8, 128),
        prefill("prefill s2048 h8 d128 full fp16", kFp16, 2048, 8, 8, 128),
        prefill("prefill s2048 h8 d128 full bf16", kBf16, 2048, 8, 8, 128),
        prefill("prefill s2048 h8 d128 causal fp32", kFp32, 2048, 8, 8, 128, kCausal),
        prefill("prefill s2048 h8 d64 full fp32", kFp32, 2048, 8, 8, 64),
        prefill("prefill s2048 h8 d64 causal fp32", kFp32, 2048, 8, 8, 64, kCausal),
        prefill("prefill s4096 h8 d128 causal fp32", kFp32, 4096, 8, 8, 128, kCausal),
        prefill("prefill s4096 h32/8 d128 causal bf16", kBf16, 4096, 32, 8, 128, kCausal),
        windowed("prefill s8192 h8 d128 window1024 fp32", kFp32, 8192, 8, 128, 1024),
        chunk("prefill chunk 512x8192 h32/8 d128 bf16", kBf16, 512, 8192),
        decode("decode b1 s32768 h32/8 d128 fp32", kFp32, 1, 32768),
        decode("decode b1 s32768 h32/8 d128 fp16", kFp16, 1, 32768),
        decode("decode b1 s32768 h32/8 d128 bf16", kBf16, 1, 32768),
        decode("decode b32 s2048 h32/8 d128 paged16 bf16", kBf16, 32, 2048, 16),
        decode("decode b16 s256..8192 h32/8 d128 paged64 bf16", kBf16, 16, 8192, 64, 256),
        latent("decode b1 s8192 h128/1 d576/512 latent bf16", kBf16, 8192),
        varlen("varlen b16 s16..1024 h8 d64 full fp32", kFp32, 16, 16, 1024, 8, 8, 64, kFull),
        varlen("varlen b8 s128..2048 h32/8 d128 causal bf16", kBf16, 8, 128, 2048, 32, 8, 128, kCausal),
        merge("merge p8 s1024 h32 d128 fp32", kFp32, 8, 1024, 32, 128),
        append("append b1 s16384 h8 d128 fp32", kFp32, 0, 1, 16384, 0, false),
        append("append b1 s16384 h8 d128 rope fp32 to bf16", kFp32, kBf16, 1, 16384, 0, true),
        append("append b32 s1 h8 d128 rope paged16 bf16", kBf16, 0, 32, 1, 16, true),
        linear("linear s8192 h4 d128 retnet fp32", kFp32, 1, 8192, 4, ATTN_DECAY_HEAD, ATTN_UPDATE_ADD),
        linear("linear s8192 h4 d128 retnet bf16", kBf16, 1, 8192, 4, ATTN_DECAY_HEAD, ATTN_UPDATE_ADD),
        linear("linear s8192 h4 d128 mamba2 fp32", kFp32, 1, 8192, 4, ATTN_DECAY_TOKEN, ATTN_UPDATE_ADD),
        linear("linear s8192 h4 d128 gla fp32", kFp32, 1, 8192, 4, ATTN_DECAY_CHANNEL, ATTN_UPDATE_ADD),
        linear("linear s8192 h4 d128 gdn fp32", kFp32, 1, 8192, 4, ATTN_DECAY_TOKEN, ATTN_UPDATE_DELTA),
        linear("linear s8192 h4 d128 kda fp32", kFp32, 1, 8192, 4, ATTN_DECAY_CHANNEL, ATTN_UPDATE_DELTA),
        linear("linear s8192 h4 d128 rwkv7 fp32", kFp32, 1, 8192, 4, ATTN_DECAY_CHANNEL, ATTN_UPDATE_DPLR),
        linear("linear s8192 h4 d128 retnet recurrent fp32", kFp32, 1, 8192, 4, ATTN_DECAY_HEAD, ATTN_UPDATE_ADD, true),
        linear("linear step b64 h32 d128 retnet fp32", kFp32, 64, 1, 32, ATTN_DECAY_HEAD, ATTN_UPDATE_ADD),
        linear("linear step b64 h32 d128 gdn fp32", kFp32, 64, 1, 32, ATTN_DECAY_TOKEN, ATTN_UPDATE_DELTA),
        linear("linear step b64 h32 d128 rwkv7 fp32", kFp32, 64, 1, 32, ATTN_DECAY_CHANNEL, ATTN_UPDATE_DPLR),
        conv("conv s8192 c4096 w4 fp32", kFp32, 1, 8192, 4),
        conv("conv s8192 c4096 w4 bf16", kBf16, 1, 8192, 4),
        conv("conv b16 s512 c4096 w4 fp32", kFp32, 16, 512, 4),
        scan("scan s8192 c4096 fp32", kFp32, 1, 8192),
        scan("scan b16 s512 c4096 fp32", kFp32, 16, 512),
    };
}

} // namespace

std::vector<int64_t> BenchCase::lengths() const
{
    std::vector<int64_t> all(static_cast<size_t>(batch), keys);
    if (shortest == 0) return all;
    const double ratio = static_cast<double>(keys) / static_cast<double>(shortest);
    for (int64_t b = 0; b < batch; ++b)
        all[static_cast<size_t>(b)] = std::llround(
            static_cast<double>(shortest) * std::pow(ratio, static_cast<double>(b) / static_cast<double>(batch - 1)));
    return all;
}

double BenchCase::flops() const
{
    if (op == Operator::linear) {
        // Products of a token with C keys of its chunk and with the state; per token and head.
        constexpr double kChunk = 64;
        const double k = static_cast<double>(dim_qk), v = static_cast<double>(dim_v);
        const double products = update == ATTN_UPDATE_ADD    ? kChunk * (k + v) + 2 * k * v
                                : update == ATTN_UPDATE_DPLR ? kChunk * (5 * k + 4 * v) + 4 * k * v
                                                             : kChunk * (3 * k + 2 * v) + 3 * k * v;
        return 2 * products * static_cast<double>(batch * queries * heads_q);
    }
    double pairs = 0;
    for (const int64_t tk : lengths()) {
        const int64_t tq = packed ? tk : queries;
        const int64_t offset = causal == ATTN_BOTTOM_RIGHT ? tk - tq : 0;
        for (int64_t i = 0; i < tq; ++i) {
            const int64_t end = causal == ATTN_ALIGN_NONE ? tk : std::clamp<int64_t>(i + offset + 1, 0, tk);
            const int64_t begin = window_left < 0 ? 0 : std::clamp<int64_t>(i + offset - window_left, 0, end);
            pairs += static_cast<double>(end - begin);
        }
    }
    return 2 * pairs * static_cast<double>(heads_q) * static_cast<double>(dim_qk + dim_v);
}

double BenchCase::bytes() const
{
    const auto real = [](int64_t x) { return static_cast<double>(x); };
    if (op == Operator::merge) {
        const double rows = real(queries) * real(heads_q);
        return rows * (real(parts) * (real(dim_v) + 1) * 4 + real(dim_v) * bytes_of(dtype));
    }
    if (op == Operator::linear) return 2 * 4 * real(batch) * real(heads_q) * real(dim_qk) * real(dim_v);
    if (op == Operator::conv || op == Operator::scan) {
        const double decay = op == Operator::scan ? bytes_of(ATTN_FLOAT32) : 0;
        return real(batch) * real(queries) * real(heads_q) * real(dim_qk) * (2 * bytes_of(dtype) + decay);
    }
    const double row = real(heads_kv) * real(v_aliases_k ? dim_qk : dim_qk + dim_v);
    if (op == Operator::append)
        return real(batch) * real(queries) * row * (bytes_of(dtype) + bytes_of(cache_dtype ? cache_dtype : dtype));
    double tokens = 0;
    for (const int64_t length : lengths()) tokens += real(length);
    return tokens * row * bytes_of(dtype);
}

const std::vector<BenchCase> &bench_cases()
{
    static const std::vector<BenchCase> cases = make_cases();
    return cases;
}

std::vector<BenchCase> filter_cases(const std::string &pattern)
{
    const bool glob = pattern.find_first_of("*?[") != std::string::npos;
    std::vector<BenchCase> chosen;
    for (const BenchCase &c : bench_cases())
        if (glob ? fnmatch(pattern.c_str(), c.name.c_str(), 0) == 0 : c.name.find(pattern) != std::string::npos)
            chosen.push_back(c);
    return chosen;
}

} // namespace attn::cli
