#include "backends/cpu/linear/checked.h"

#include "backends/cpu/linear/token_values.h"

#include <algorithm>
#include <cmath>

namespace attn::cpu {
namespace {

/// Rounding of gates and keys to bfloat16 must not look like a broken rule.
constexpr double kSlack = 1.01;

/// Where a value lies.
struct Place {
    long long sequence, token, head;
};

attn_status check_decay(const LinearShape &shape, const LinearTask &task, int64_t token, const Place &place)
{
    if (shape.decay == Decay::none) return ATTN_OK;
    const int64_t channels = shape.decay == Decay::channel ? shape.dim_k : 1;
    const double bound = static_cast<double>(shape.lower_bound);
    for (int64_t c = 0; c < channels; ++c) {
        const double g = log_decay(shape, task, token, c);
        const bool below = bound != 0 && g < bound * kSlack;
        if (g <= 0 && !below) continue; // so a NaN is refused
        return fail(ATTN_ERROR_DATA,
                    "DECAY of sequence %lld, token %lld, head %lld, channel %lld: the log decay is %g, must be %s%g%s",
                    place.sequence, place.token, place.head, static_cast<long long>(c), g,
                    below ? ">= " : "<= ", below ? bound : 0.0, below ? ", the declared lower bound" : "");
    }
    return ATTN_OK;
}

/// The factor that an update applies to what the state holds for its key must stay within [-1, 1].
attn_status check_key(const LinearShape &shape, const LinearTask &task, int64_t token, const Place &place)
{
    double removed = 0; // the state keeps 1 - removed of it
    const char *rule = "";
    if (shape.update == Update::dplr) {
        for (int64_t i = 0; i < shape.dim_k; ++i)
            removed -= value_at(task.dplr_b, token, i) * value_at(task.dplr_c, token, i);
        rule = "-DPLR_B . DPLR_C";
    } else {
        // The sum below needs features one at a time; without a map they are the channels.
        double square = 1e-6, erased = 0;
        for (int64_t i = 0; i < shape.dim_qk; ++i) {
            const double k = value_at(task.k, token, i);
            const double erase =
                shape.update == Update::delta ? value_at(task.beta, token, 0) : value_at(task.erase, token, i);
            square += k * k, erased += erase * k * k;
        }
        removed = shape.l2norm ? erased / square : erased;
        rule = shape.update == Update::delta ? "BETA |K|^2" : "ERASE K . K";
    }
    if (removed >= -(kSlack - 1) && removed <= 2 * kSlack) return ATTN_OK;
    return fail(ATTN_ERROR_DATA, "%s of sequence %lld, token %lld, head %lld is %g: must be 0 .. 2, normalise the keys",
                rule, place.sequence, place.token, place.head, removed);
}

} // namespace

attn_status check_values(const LinearShape &shape, const LinearTask &task, int64_t b, int64_t head) noexcept
{
    const bool plain = shape.feature_map == FeatureMap::identity;
    const bool keys = shape.update == Update::dplr || (shape.update != Update::add && plain);
    const int64_t decays = shape.decay == Decay::head ? std::min<int64_t>(task.keys, 1) : task.keys;
    for (int64_t token = 0; token < task.keys; ++token) {
        const Place place = {b, token, head};
        if (token < decays)
            if (const attn_status status = check_decay(shape, task, token, place)) return status;
        if (keys)
            if (const attn_status status = check_key(shape, task, token, place)) return status;
    }
    return ATTN_OK;
}

} // namespace attn::cpu
