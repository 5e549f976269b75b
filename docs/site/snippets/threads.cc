// One plan, four threads, each with its own workspace: the results have the same bits.
#include <attn/attn.hpp>

#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

int main()
{
    const std::int64_t tokens = 200, heads = 4, channels = 32;
    std::vector<float> input(tokens * heads * channels);
    for (std::size_t n = 0; n < input.size(); ++n)
        input[n] = static_cast<float>(n * 7919 % 1000) / 500 - 1;
    const attn_tensor view = attn::view(input.data(), {1, tokens, heads, channels});

    attn::Handle handle;
    attn::Problem problem(ATTN_FLOAT32);
    problem.heads(heads).dims(channels).lengths(tokens);
    // [threads]
    const attn::Plan plan(handle, attn::Dense(problem).causal(ATTN_TOP_LEFT));
    std::vector<std::vector<float>> results(4, std::vector<float>(input.size()));
    std::vector<std::thread> threads;
    for (std::vector<float> &result : results)
        threads.emplace_back([&plan, &view, &result] {
            attn::Workspace workspace(plan); // not shared by concurrent executes
            plan.execute({attn::arg(ATTN_SLOT_Q, view), attn::arg(ATTN_SLOT_K, view),
                          attn::arg(ATTN_SLOT_V, view),
                          attn::arg(ATTN_SLOT_OUT, attn::view(result.data(), {1, 200, 4, 32}))},
                         workspace);
        });
    for (std::thread &thread : threads) thread.join();
    // [threads]
    bool same = results[0][0] == input[0]; // the first token sees only itself
    for (const std::vector<float> &result : results)
        same = same && std::memcmp(result.data(), results[0].data(),
                                   result.size() * sizeof(float)) == 0;
    std::printf("%s\n", same ? "the same bits in every thread" : "different results");
    return same ? 0 : 1;
}
