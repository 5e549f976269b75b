// The same through attn.hpp, and what the layer adds: errors as exceptions, moves, descriptions.
#include <attn/attn.hpp>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <utility>

static float attend(const attn::Plan &plan)
{
    const float q[] = {1, 0}, k[] = {0, 0, 1.0986123f, 0}, v[] = {0, 4};
    float out = 0;
    attn::Workspace workspace(plan);
    plan.execute(
        {attn::arg(ATTN_SLOT_Q, attn::view(q, {1, 1, 1, 2})), attn::arg(ATTN_SLOT_K, attn::view(k, {1, 2, 1, 2})),
         attn::arg(ATTN_SLOT_V, attn::view(v, {1, 2, 1, 1})), attn::arg(ATTN_SLOT_OUT, attn::view(&out, {1, 1, 1, 1}))},
        workspace);
    return out;
}

int main()
{
    try {
        attn::Handle handle;
        const attn::Problem problem = attn::Problem(ATTN_FLOAT32).heads(1).dims(2, 1).lengths(1, 2).scale(1);
        attn::Plan plan(handle, attn::Dense(problem).causal(ATTN_BOTTOM_RIGHT));
        const float first = attend(plan);

        attn::Plan moved(std::move(plan));
        attn::Handle other(std::move(handle));
        const float second = attend(moved);
        const bool described = moved.describe().find('{') == 0;

        bool refused = false;
        try {
            attn::Plan(other, attn::Dense(attn::Problem(ATTN_FLOAT32).heads(1).dims(-1).lengths(1)));
        } catch (const attn::Error &error) {
            refused = error.status() == ATTN_ERROR_INVALID && std::strstr(error.what(), "dim_qk") != nullptr;
        }
        std::printf("libattn %s: %g %g\n", attn::version_text().c_str(), static_cast<double>(first),
                    static_cast<double>(second));
        return std::fabs(first - 3) < 1e-5f && first == second && described && refused ? 0 : 1;
    } catch (const attn::Error &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
