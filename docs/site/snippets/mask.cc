// A prefix LM of documents through attn.hpp: every token sees the beginning of its own
// document, and what comes before it there.
#include <attn/attn.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

int main()
{
    const std::int64_t tokens = 60, channels = 8;
    std::vector<float> input(tokens * channels), out(tokens * channels);
    for (std::size_t n = 0; n < input.size(); ++n)
        input[n] = static_cast<float>(n * 7919 % 1000) / 500 - 1;
    std::vector<std::int32_t> document, part; // which document; 0 in its prefix, then 1
    for (int i = 0; i < tokens; ++i) document.push_back(i / 25), part.push_back(i % 25 >= 10);

    attn::Handle handle;
    attn::Problem problem(ATTN_FLOAT32);
    problem.heads(1).dims(channels).lengths(tokens);
    // [mask]
    const attn::Mask prefix = attn::mask::id_kv(0, 1); // keys whose id in pair 1 is 0
    const attn::Mask visible =
        attn::mask::id_eq(0) & (attn::mask::causal(ATTN_TOP_LEFT) | prefix);
    const attn::Plan plan(handle, attn::Dense(problem).mask(visible));
    // [mask]
    attn::Workspace workspace(plan);
    const attn_tensor view = attn::view(input.data(), {1, tokens, 1, channels});
    const attn_tensor documents = attn::view(document.data(), {1, tokens});
    plan.execute({attn::arg(ATTN_SLOT_Q, view), attn::arg(ATTN_SLOT_K, view),
                  attn::arg(ATTN_SLOT_V, view),
                  attn::arg(ATTN_SLOT_OUT, attn::view(out.data(), {1, tokens, 1, channels})),
                  attn::arg(ATTN_SLOT_IDS_Q, documents), attn::arg(ATTN_SLOT_IDS_KV, documents),
                  attn::arg(ATTN_SLOT_IDS_KV, attn::view(part.data(), {1, tokens}), 1)},
                 workspace);

    double largest = 0;
    for (std::int64_t i = 0; i < tokens; ++i)
        for (std::int64_t c = 0; c < channels; ++c) {
            double sum = 0, value = 0;
            for (std::int64_t j = 0; j < tokens; ++j) {
                if (document[i] != document[j] || (j > i && part[j] != 0)) continue;
                double s = 0;
                for (std::int64_t d = 0; d < channels; ++d)
                    s += static_cast<double>(input[i * channels + d]) * input[j * channels + d];
                const double weight = std::exp(s / std::sqrt(static_cast<double>(channels)));
                sum += weight, value += weight * input[j * channels + c];
            }
            largest = std::fmax(largest, std::fabs(out[i * channels + c] - value / sum));
        }
    std::printf("largest difference from the definition %.1e\n", largest);
    return largest < 1e-5 ? 0 : 1;
}
