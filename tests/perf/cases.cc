#include "cases.h"

namespace attn::perf {
namespace {

Case self(const char *name, int64_t tokens, int64_t heads, int64_t dim, bool causal, attn_dtype dtype = ATTN_FLOAT32)
{
    return {name, tokens, tokens, heads, heads, dim, causal, dtype};
}

Case decode(const char *name, int64_t heads_q, attn_dtype dtype, bool by_head = true)
{
    const int64_t keys = dtype == ATTN_FLOAT32 ? 32768 : 65536; // 256 MiB of K and V
    return {name, 1, keys, heads_q, 8, 128, false, dtype, by_head};
}

} // namespace

double Case::flops() const
{
    const double all = 4.0 * static_cast<double>(heads_q * queries) * static_cast<double>(keys * dim);
    return causal ? all / 2 : all;
}

double Case::kv_bytes() const
{
    return 2.0 * static_cast<double>(kv_elements()) * (dtype == ATTN_FLOAT32 ? 4 : 2);
}

std::vector<Case> all_cases()
{
    return {
        self("s2048 h8 d128 full", 2048, 8, 128, false),
        self("s2048 h8 d128 causal", 2048, 8, 128, true),
        self("s2048 h8 d128 full fp16", 2048, 8, 128, false, ATTN_FLOAT16),
        self("s2048 h8 d128 full bf16", 2048, 8, 128, false, ATTN_BFLOAT16),
        self("s2048 h8 d64 full", 2048, 8, 64, false),
        self("s2048 h8 d64 causal", 2048, 8, 64, true),
        self("s512 h8 d128 full", 512, 8, 128, false),
        self("s512 h16 d64 causal", 512, 16, 64, true),
        self("s1024 h8 d128 full", 1024, 8, 128, false),
        self("s4096 h8 d128 full", 4096, 8, 128, false),
        self("s8192 h2 d128 full", 8192, 2, 128, false),
        self("s16384 h2 d128 full", 16384, 2, 128, false),
        {"cross 128x4096 h8 d128", 128, 4096, 8, 8, 128, false, ATTN_FLOAT32},
        decode("decode h8/8", 8, ATTN_FLOAT32),
        decode("decode h32/8", 32, ATTN_FLOAT32),
        decode("decode h64/8", 64, ATTN_FLOAT32),
        decode("decode h8/8 fp16", 8, ATTN_FLOAT16),
        decode("decode h32/8 fp16", 32, ATTN_FLOAT16),
        decode("decode h64/8 fp16", 64, ATTN_FLOAT16),
        decode("decode h8/8 bf16", 8, ATTN_BFLOAT16),
        decode("decode h32/8 bf16", 32, ATTN_BFLOAT16),
        decode("decode h64/8 bf16", 64, ATTN_BFLOAT16),
        decode("decode h8/8 by token", 8, ATTN_FLOAT32, false),
        decode("decode h32/8 by token", 32, ATTN_FLOAT32, false),
        decode("decode h32/8 bf16 by token", 32, ATTN_BFLOAT16, false),
    };
}

} // namespace attn::perf
