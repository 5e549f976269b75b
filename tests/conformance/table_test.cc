// Every case of the table, on every backend, against the oracle.
#include "refusal.h"
#include "session.h"
#include "table.h"
#include "trial.h"

#include <gtest/gtest.h>

#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <sstream>

namespace conformance {
namespace {

constexpr double subset_products = 2e6; // largest case of the reduced run
constexpr double subset_option_products = 3e5;

Errors run_on(const Backend &backend, Trial &trial)
{
    const Case &c = trial.instance.spec();
    Errors e;
    const PlanPointer plan = make_plan(backend.handle(c.workers), Descriptor(c, trial.instance.bounds()), e.broken);
    return plan ? trial.run(plan.get(), c.seed % 2 ? WorkspaceSize::bound : WorkspaceSize::for_actual_sizes) : e;
}

// Options that a backend refuses are counted and taken out, so that the rest of the case is run all the same.
Refusal served_part(const Backend &backend, Case &c)
{
    Refusal first = refusal(backend, c), r = first;
    if (!r.names.empty()) Summary::instance().add_refusal(backend.name(), r.names);
    for (int round = 0; !r.names.empty() && round < 20; ++round) {
        c = without(c, r.names);
        r = refusal(backend, c);
    }
    if (!r.names.empty()) r.broken = "options refused after they were removed";
    first.broken = r.broken;
    return first;
}

using RefusedNames = std::set<std::string>;

void check(const Case &c, RefusedNames *refused = nullptr)
{
    std::map<std::string, std::unique_ptr<Trial>> trials; // by what is left of the case
    for (const auto &backend : backends()) {
        Case rest = c;
        const Refusal refusal = served_part(*backend, rest);
        if (refused) refused->insert(refusal.names.begin(), refusal.names.end());
        Errors e;
        e.broken = refusal.broken;
        if (e.broken.empty()) {
            std::unique_ptr<Trial> &trial = trials[to_json(rest)];
            if (!trial) trial = std::make_unique<Trial>(rest);
            e = run_on(*backend, *trial);
        }
        Summary::instance().add(backend->name(), rest.out_dtype, e);
        if (!e.broken.empty())
            ADD_FAILURE() << backend->name() << ": " << e.broken << "\nFAILED-CASE " << to_json(rest);
    }
}

void run_table(const char *name, const TableCases &table, double most_products, RefusedNames *refused = nullptr)
{
    std::size_t run = 0;
    for (const Case &c : table.cases) {
        if (session().subset && c.products() > most_products) continue;
        ++run;
        check(c, refused);
    }
    std::ostringstream line;
    line << name << ": " << run << " cases; pairs covered " << table.pairs_covered << " of " << table.pairs_possible;
    if (run < table.cases.size()) line << " by the full table of " << table.cases.size() << " cases (reduced run)";
    Summary::instance().note(line.str());
    EXPECT_EQ(table.pairs_covered, table.pairs_possible);
    for (const std::string &pair : table.missing) ADD_FAILURE() << "no row can hold " << pair;
}

void run_random(const char *name, Case draw(std::uint64_t), std::uint64_t purpose, std::int64_t count)
{
    Random seeds(session().seed, purpose);
    std::int64_t run = 0;
    while (run < count) {
        const Case c = draw(seeds.next());
        if (session().subset && c.products() > subset_products) continue;
        ++run;
        check(c);
    }
    Summary::instance().note(std::string(name) + ": " + std::to_string(run) + " cases");
}

TEST(Table, Pairwise)
{
    run_table("pairwise", pairwise_cases(session().seed), subset_products);
}

TEST(Table, Random)
{
    run_random("random", random_case, 10, session().random_cases);
}

TEST(TableOptions, Pairwise)
{
    RefusedNames refused;
    run_table("options, pairwise", option_cases(session().seed), subset_option_products, &refused);
    if (session().subset) return;
    for (const Option &option : options()) // so that the list of refusal.cc does not grow stale
        if (option.may_be_refused && refused.count(option.name) == 0)
            Summary::instance().note(std::string("served, but still listed as refusable: ") + option.name);
}

TEST(TableOptions, Random)
{
    run_random("options, random", random_option_case, 11, session().random_cases);
}

TEST(Replay, Case)
{
    if (session().replay.empty()) GTEST_SKIP() << "set ATTN_TEST_CASE to the JSON of a case";
    const Case c = from_json(session().replay);
    std::cout << "replaying " << to_json(c) << '\n';
    check(c);
}

} // namespace
} // namespace conformance
