// Every case of the table, on every backend, against the oracle.
#include "refusal.h"
#include "session.h"
#include "table.h"
#include "trial.h"

#include "tests/gpu/driver.h"

#include <gtest/gtest.h>

#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <stdexcept>

namespace conformance {
namespace {

constexpr double subset_products = 2e6; // largest case of the reduced run
constexpr double subset_option_products = 3e5;

// The kernel that serves a plan, by its description; "" if that has none.
std::string kernel_of(attn_plan plan)
{
    std::size_t needed = 0;
    if (attn_plan_describe(plan, nullptr, 0, &needed) != ATTN_OK) return "";
    std::string text(needed, 0);
    if (attn_plan_describe(plan, text.data(), needed, nullptr) != ATTN_OK) return "";
    const std::string key = "\"kernel\":\"";
    const std::size_t begin = text.find(key);
    if (begin == std::string::npos) return "";
    return text.substr(begin + key.size(), text.find('"', begin + key.size()) - begin - key.size());
}

Errors run_on(const Backend &backend, Trial &trial, std::string *kernel)
{
    const Case &c = trial.instance.spec();
    Errors e;
    const PlanPointer plan = make_plan(backend.handle(c.workers), Descriptor(c, trial.instance.bounds()), e.broken);
    if (!plan) return e;
    *kernel = kernel_of(plan.get());
    Summary::instance().add_kernel(*kernel);
    return trial.run(plan.get(), c.seed % 2 ? WorkspaceSize::bound : WorkspaceSize::for_actual_sizes);
}

using RefusedNames = std::set<std::string>;

void check(const Case &c, RefusedNames *refused = nullptr)
{
    std::map<std::string, std::unique_ptr<Trial>> trials; // by what is left of the case
    for (const auto &backend : backends()) {
        Case rest = c;
        // What a backend refuses is counted and taken out, so that the rest of the case is run all the same.
        const Refusal refusal = reduce(*backend, rest);
        if (refused) refused->insert(refusal.names.begin(), refusal.names.end());
        if (!refusal.names.empty()) Summary::instance().add_refusal(backend->name(), refusal.names);
        if (!refusal.whole.empty()) {
            Summary::instance().add_refusal(backend->name(), {refusal.whole});
            continue;
        }
        Errors e;
        std::string kernel;
        e.broken = refusal.broken;
        if (e.broken.empty()) {
            std::unique_ptr<Trial> &trial = trials[to_json(rest)];
            if (!trial) trial = std::make_unique<Trial>(rest);
            e = run_on(*backend, *trial, &kernel);
            if (lacks_compiler(ATTN_ERROR_COMPILE, e.broken) &&
                e.broken.find(attn_status_name(ATTN_ERROR_COMPILE)) != std::string::npos) {
                Summary::instance().add_refusal(backend->name(), {"no kernel without a compiler"});
                continue;
            }
        }
        Summary::instance().add(backend->name(), rest.out_dtype, e);
        if (!e.broken.empty())
            ADD_FAILURE() << backend->name() << " " << kernel << ": " << e.broken << "\nFAILED-CASE " << to_json(rest);
        if (gpu_test::device_is_lost()) throw std::runtime_error("the device is lost");
    }
}

void run_table(const char *name, const TableCases &table, double most_products, RefusedNames *refused = nullptr)
{
    std::size_t run = 0;
    std::int64_t number = 0;
    for (const Case &c : table.cases) {
        if (session().subset && c.products() > most_products) continue;
        if (!session().owns(number++)) continue;
        ++run;
        check(c, refused);
    }
    std::ostringstream line;
    line << name << ": " << run << " cases; pairs covered " << table.pairs_covered << " of " << table.pairs_possible;
    if (session().shards > 1)
        line << " by all " << session().shards << " shards of " << table.cases.size() << " cases";
    else if (run < table.cases.size())
        line << " by the full table of " << table.cases.size() << " cases (reduced run)";
    Summary::instance().note(line.str());
    EXPECT_EQ(table.pairs_covered, table.pairs_possible);
    for (const std::string &pair : table.missing) ADD_FAILURE() << "no row can hold " << pair;
}

void run_random(const char *name, Case draw(std::uint64_t), std::uint64_t purpose, std::int64_t count)
{
    Random seeds(session().seed, purpose);
    std::int64_t run = 0;
    for (std::int64_t number = 0; number < count;) {
        const Case c = draw(seeds.next());
        if (session().subset && c.products() > subset_products) continue;
        if (!session().owns(number++)) continue;
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
    if (session().subset || session().shards > 1) return;
    for (const Option &option : options()) // so that the list of refusal.cc does not grow stale
        if (option.refused_by && backends()[0]->family() == option.refused_by && refused.count(option.name) == 0)
            Summary::instance().note(std::string("served, but still listed as refusable: ") + option.name);
}

TEST(TableOptions, Random)
{
    run_random("options, random", random_option_case, 11, session().random_cases);
}

TEST(TableTiles, Pairwise)
{
    run_table("tiles, pairwise", tile_cases(session().seed), subset_products);
}

TEST(TableTiles, Random)
{
    run_random("tiles, random", random_tile_case, 14, session().random_cases);
}

TEST(TableFew, Pairwise)
{
    run_table("few rows, pairwise", few_cases(session().seed), subset_products);
}

TEST(TableFew, Random)
{
    run_random("few rows, random", random_few_case, 16, session().random_cases);
}

TEST(TableLatent, Pairwise)
{
    run_table("latent, pairwise", latent_cases(session().seed), subset_products);
}

TEST(TableLatent, Random)
{
    run_random("latent, random", random_latent_case, 18, session().random_cases);
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
