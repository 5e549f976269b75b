// Causal attention with grouped heads through attn.hpp.
// [include]
#include <attn/attn.hpp>

#include <cmath>
#include <cstdio>
#include <vector>
// [include]

int main()
{
    // [compute]
    const std::int64_t tokens = 128, heads_q = 8, heads_k = 2, channels = 64;
    std::vector<float> q(tokens * heads_q * channels, 0.5f),
        k(tokens * heads_k * channels, 0.25f);
    std::vector<float> v(tokens * heads_k * channels), out(tokens * heads_q * channels);
    for (std::size_t n = 0; n < v.size(); ++n)
        v[n] = static_cast<float>(n / (heads_k * channels)); // the token

    attn::Handle handle; // the CPU with all its cores
    attn::Problem problem(ATTN_FLOAT32);
    problem.heads(heads_q, heads_k).dims(channels).lengths(tokens);
    attn::Plan plan(handle, attn::Dense(problem).causal(ATTN_TOP_LEFT));
    attn::Workspace workspace(plan);
    plan.execute(
        {attn::arg(ATTN_SLOT_Q, attn::view(q.data(), {1, tokens, heads_q, channels})),
         attn::arg(ATTN_SLOT_K, attn::view(k.data(), {1, tokens, heads_k, channels})),
         attn::arg(ATTN_SLOT_V, attn::view(v.data(), {1, tokens, heads_k, channels})),
         attn::arg(ATTN_SLOT_OUT, attn::view(out.data(), {1, tokens, heads_q, channels}))},
        workspace);
    // [compute]

    // [error]
    try {
        attn::Plan impossible(handle, attn::Dense(problem).causal(ATTN_TOP_LEFT).softcap(-1));
        return 1;
    } catch (const attn::Error &error) {
        std::printf("%s\n", error.what()); // attn_dense.softcap = -1: must be finite and >= 0
        if (error.status() != ATTN_ERROR_INVALID) return 1;
    }
    // [error]

    // All scores are equal, so a row is the mean of the values up to it: i / 2.
    double worst = 0;
    for (std::int64_t n = 0; n < static_cast<std::int64_t>(out.size()); ++n)
        worst = std::fmax(
            worst, std::fabs(out[n] - static_cast<double>(n / (heads_q * channels)) / 2));
    std::printf("largest error %.1e\n", worst);
    return worst < 1e-4 ? 0 : 1;
}
