#include "ceiling.h"

namespace attn::perf {
namespace {

constexpr int64_t kReadFloats = int64_t{96} << 20; ///< 384 MiB.
constexpr int64_t kRounds = 1 << 20;
constexpr size_t kLine = 16; ///< Floats of a cache line: one for each thread.

} // namespace

const CeilingLoops &ceiling_loops(const std::string &isa)
{
#if defined(__x86_64__)
    if (isa == kCeilingAvx512.isa || isa == "avx512_bf16" || isa == "amx") return kCeilingAvx512;
    if (isa == kCeilingAvx2.isa) return kCeilingAvx2;
#endif
    static_cast<void>(isa);
    return kCeilingBaseline;
}

MultiplyAdd::MultiplyAdd(Team &team, const CeilingLoops &loops)
    : team_(team), loops_(loops), results_(static_cast<size_t>(team.size()) * kLine)
{
}

void MultiplyAdd::run()
{
    team_.run([&](int worker) {
        results_[static_cast<size_t>(worker) * kLine] = loops_.multiply_add(kRounds, 0.999f, 0.001f);
    });
}

double MultiplyAdd::flops() const
{
    return static_cast<double>(kRounds) * static_cast<double>(loops_.flops_per_round) * team_.size();
}

Read::Read(Team &team, const CeilingLoops &loops)
    : team_(team), loops_(loops), buffer_(kReadFloats, 0.5f), sums_(static_cast<size_t>(team.size()) * kLine)
{
}

void Read::run()
{
    team_.run([&](int worker) {
        const auto [begin, end] = share(kReadFloats / 128, worker, team_.size());
        sums_[static_cast<size_t>(worker) * kLine] = loops_.sum(buffer_.data() + begin * 128, (end - begin) * 128);
    });
}

} // namespace attn::perf
