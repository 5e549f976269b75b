// Every case of the table, on every backend, against the oracle.
#include "backend.h"
#include "measure.h"
#include "session.h"
#include "table.h"

#include <gtest/gtest.h>

#include <iostream>
#include <sstream>

namespace conformance {
namespace {

constexpr double subset_products = 2e6; // largest case of the reduced run

Errors run_on(const Backend &backend, Instance &instance, const std::vector<Result> &references)
{
    Errors e;
    const Case &c = instance.spec();
    const Descriptor descriptor(c, instance.bounds());
    instance.poison_outputs();
    const PlanPointer plan = make_plan(backend.handle(c.workers), descriptor, e.broken);
    if (!plan) return e;
    e.broken = execute(plan.get(), instance, c.seed % 2 ? WorkspaceSize::bound : WorkspaceSize::for_actual_sizes);
    return e.broken.empty() ? compare(instance, references) : e;
}

// One reference serves all backends.
void check(const Case &c)
{
    Instance instance(c, draw_contents(c), 0);
    const std::vector<Result> references = reference(c, instance.contents());
    const auto inputs = instance.input_bytes();
    for (const auto &backend : backends()) {
        Errors e = run_on(*backend, instance, references);
        if (e.broken.empty() && instance.input_bytes() != inputs) e.broken = "an input was written";
        Summary::instance().add(backend->name(), c.out_dtype, e);
        if (!e.broken.empty()) ADD_FAILURE() << backend->name() << ": " << e.broken << "\nFAILED-CASE " << to_json(c);
    }
}

TEST(Table, Pairwise)
{
    const TableCases table = pairwise_cases(session().seed);
    std::size_t run = 0;
    for (const Case &c : table.cases) {
        if (session().subset && c.products() > subset_products) continue;
        ++run;
        check(c);
    }
    std::ostringstream line;
    line << "pairwise: " << run << " cases; pairs covered " << table.pairs_covered << " of " << table.pairs_possible;
    if (run < table.cases.size()) line << " by the full table of " << table.cases.size() << " cases (reduced run)";
    Summary::instance().note(line.str());
    EXPECT_EQ(table.pairs_covered, table.pairs_possible);
    for (const std::string &pair : table.missing) ADD_FAILURE() << "no row can hold " << pair;
}

TEST(Table, Random)
{
    Random seeds(session().seed, 10);
    std::int64_t run = 0;
    while (run < session().random_cases) {
        const Case c = random_case(seeds.next());
        if (session().subset && c.products() > subset_products) continue;
        ++run;
        check(c);
    }
    Summary::instance().note("random: " + std::to_string(run) + " cases");
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
