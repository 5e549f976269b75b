#include "property.h"

#include "refusal.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace conformance {

Output output_of(const Instance &instance)
{
    Output o;
    for (std::size_t b = 0; b < instance.contents().size(); ++b) {
        o.out.push_back(instance.out(b));
        o.lse.push_back(instance.spec().lse ? instance.lse(b) : std::vector<double>{});
        o.mass.push_back(instance.statistic(ATTN_SLOT_COLUMN_MASS, b));
    }
    return o;
}

Output run(attn_plan plan, Instance &instance)
{
    instance.poison_outputs();
    const std::string why = execute(plan, instance);
    EXPECT_EQ(why, "");
    EXPECT_FALSE(instance.wrote_elsewhere());
    return output_of(instance);
}

PlanPointer plan_for(attn_handle handle, const Case &c, const Bounds &bounds)
{
    const Descriptor descriptor(c, bounds);
    std::string why;
    PlanPointer plan = make_plan(handle, descriptor, why);
    EXPECT_EQ(why, "");
    return plan;
}

PlanPointer plan_for(attn_handle handle, const Instance &instance)
{
    return plan_for(handle, instance.spec(), instance.bounds());
}

Output run_alone(const Backend &backend, Instance &instance)
{
    const PlanPointer plan = plan_for(backend.handle(instance.spec().workers), instance);
    return plan ? run(plan.get(), instance) : output_of(instance);
}

bool same_bits(const std::vector<double> &a, const std::vector<double> &b)
{
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
}

bool same_bits(const Output &a, const Output &b)
{
    if (a.out.size() != b.out.size()) return false;
    for (std::size_t n = 0; n < a.out.size(); ++n)
        if (!same_bits(a.out[n], b.out[n]) || !same_bits(a.lse[n], b.lse[n]) || !same_bits(a.mass[n], b.mass[n]))
            return false;
    return true;
}

std::vector<Case> sample(std::uint64_t purpose, int count, const std::function<void(Case &)> &change,
                         const std::function<bool(const Case &)> &keep)
{
    const double most_products = session().subset ? 1e6 : 1e7;
    if (session().subset) count = (count + 5) / 6;
    constexpr std::int64_t most_attempts = 100000;
    std::vector<Case> cases;
    const auto is_served = [](Case c) {
        tidy(c); // some tests add the option that makes a case valid
#ifdef ATTN_EMULATED_DENSE
        if (c.q_dtype != "fp32" && std::max(c.dim_qk, c.dim_v) > 128) return false; // of these no kernel is emulated
#endif
        return std::all_of(backends().begin(), backends().end(), [&](const auto &backend) {
            const Refusal r = refusal(*backend, c);
            EXPECT_EQ(r.broken, "") << "FAILED-CASE " << to_json(c);
            return r.served();
        });
    };
    std::int64_t attempts = 0;
    for (Random seeds(session().seed, 1000 + purpose); std::int64_t(cases.size()) < count;) {
        if (++attempts > most_attempts) throw std::runtime_error("hardly any case is served");
        Case c = random_case(seeds.next());
        c.column_mass = std::int64_t(c.seed / 64 % 2);
        change(c);
        if (c.products() > 0 && c.products() <= most_products && (!keep || keep(c)) && is_served(c)) cases.push_back(c);
    }
    return cases;
}

void for_each_backend(const std::function<void(const Backend &)> &body)
{
    for (const auto &backend : backends()) {
        SCOPED_TRACE(backend->name());
        body(*backend);
    }
}

} // namespace conformance
