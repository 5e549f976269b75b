// attn replay: one descriptor against the fp64 oracle of the conformance tests.
#include "commands.h"
#include "described_plan.h"
#include "instruction_sets.h"
#include "json_reader.h"
#include "work.h"

#include "conformance/number.h"
#include "conformance/trial.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <optional>

namespace attn::cli {
namespace {

using conformance::Backend;
using conformance::Case;
using conformance::Errors;
using conformance::Trial;

constexpr double kDefaultWork = 1e9;

/// What the lines have in common.
struct Session {
    std::vector<const Backend *> backends;
    uint64_t seed;
    double slack, work;
    std::string file;
    int64_t cases = 0, mismatches = 0, refusals = 0;
};

std::vector<const Backend *> choose_backends(const Arguments &arguments)
{
    const char *isa = std::getenv(kIsaVariable); // read first: looking for backends sets it
    const std::string fallback = isa && *isa ? std::string("cpu/") + isa : "";
    const std::string wanted = arguments.text("--backend", fallback);
    std::vector<const Backend *> chosen;
    std::vector<std::string> names;
    for (const auto &backend : conformance::backends()) {
        names.push_back(backend->name());
        if (wanted.empty() || wanted == backend->name()) chosen.push_back(backend.get());
    }
    if (!chosen.empty()) return chosen;
    const auto absent = conformance::absent_backends().find(wanted);
    if (absent != conformance::absent_backends().end())
        throw UsageError("backend `" + wanted + "` is absent: " + absent->second);
    std::string all;
    for (const std::string &name : names) all += (all.empty() ? "" : ", ") + name;
    throw UsageError("no backend `" + wanted + "`" + suggestion(wanted, names) + " There are: " + all);
}

/// Plans without running: the message of the library if it refuses. Comes before anything is allocated for the case.
std::string refusal(const Backend &backend, const Case &c)
{
    const auto bound = [](int64_t size) { return std::max<int64_t>(size, 1); };
    conformance::Bounds bounds{bound(c.batch), bound(c.max_q), bound(c.max_kv), 0, 0};
    bounds.total_q = bounds.batch * bounds.max_q, bounds.total_kv = bounds.batch * bounds.max_kv;
    const conformance::Descriptor descriptor(c, bounds);
    std::string why;
    return conformance::make_plan(backend.handle(c.workers), descriptor, why) ? "" : why;
}

void print_slot(const char *slot, const char *measure, double error, double allowed)
{
    std::printf("    %-12s %-10s %10.3e  (allowed %.1e)%s\n", slot, measure, error, allowed,
                error <= allowed ? "" : "  <--");
}

void print_errors(const Case &c, const Errors &e, double slack)
{
    const conformance::Tolerance allowed = conformance::tolerance(conformance::dtype_of(c.out_dtype));
    print_slot("OUT", "global", e.global, slack * allowed.global);
    print_slot("OUT", "worst row", e.worst_row, slack * allowed.worst_row);
    if (c.lse) print_slot("LSE", "worst", e.lse, slack * allowed.lse);
    if (c.row_max) print_slot("ROW_MAX", "worst", e.row_max, slack * allowed.statistic);
    if (c.row_entropy) print_slot("ROW_ENTROPY", "worst", e.row_entropy, slack * allowed.statistic);
    if (c.column_mass) print_slot("COLUMN_MASS", "worst", e.column_mass, slack * allowed.statistic);
}

/// Counts and prints how one backend did.
void report(const Backend &backend, const Case &c, const Errors &e, Session *session)
{
    std::printf("  %s: %s\n", backend.name().c_str(), e.broken.empty() ? "pass" : "MISMATCH");
    print_errors(c, e, session->slack);
    if (e.broken.empty()) return;
    std::printf("    %s\n", e.broken.c_str());
    ++session->mismatches;
}

void report_refusal(const Backend &backend, const std::string &why, Session *session)
{
    std::printf("  %s: refused\n    %s\n", backend.name().c_str(), why.c_str());
    ++session->refusals;
}

void print_header(const Case &c, size_t line, const Session &session)
{
    const auto number = [](int64_t x) { return std::to_string(x); };
    const auto dims = c.dim_qk == c.dim_v ? number(c.dim_qk) : number(c.dim_qk) + '/' + number(c.dim_v);
    std::printf("%s:%zu: q %s k %s v %s out %s, batch %s, queries %s (%s), keys %s (%s), heads %s/%s/%s, dim %s, "
                "causal %s, seed %llu\n",
                session.file.c_str(), line, c.q_dtype.c_str(), c.k_dtype.c_str(), c.v_dtype.c_str(),
                c.out_dtype.c_str(), number(c.batch).c_str(), number(c.max_q).c_str(), c.q_lengths.c_str(),
                number(c.max_kv).c_str(), c.kv_lengths.c_str(), number(c.heads_q).c_str(), number(c.heads_k).c_str(),
                number(c.heads_v).c_str(), dims.c_str(), c.causal.c_str(), static_cast<unsigned long long>(c.seed));
}

void replay_case(const Case &c, Session *session)
{
    std::optional<Trial> trial; // its reference serves all backends
    for (const Backend *backend : session->backends) {
        if (const std::string why = refusal(*backend, c); !why.empty()) {
            report_refusal(*backend, why, session);
            continue;
        }
        if (work_of(c) > session->work) {
            char text[160];
            snprintf(text, sizeof text, "the case costs the oracle %.1e multiplications: more than --work %.1e",
                     work_of(c), session->work);
            throw std::invalid_argument(text);
        }
        if (!trial) trial.emplace(c);
        Errors e;
        const conformance::Descriptor descriptor(c, trial->instance.bounds());
        const conformance::PlanPointer plan = conformance::make_plan(backend->handle(c.workers), descriptor, e.broken);
        if (!plan) {
            report_refusal(*backend, e.broken, session);
            continue;
        }
        // As the conformance tests choose.
        const auto size = c.seed % 2 ? conformance::WorkspaceSize::bound : conformance::WorkspaceSize::for_actual_sizes;
        report(*backend, c, trial->run(plan.get(), size, session->slack), session);
    }
}

std::string describe(attn_plan plan)
{
    size_t needed = 0;
    attn_plan_describe(plan, nullptr, 0, &needed);
    std::string text(needed, '\0');
    if (attn_plan_describe(plan, text.data(), text.size(), nullptr) != ATTN_OK)
        throw std::runtime_error(std::string("attn_plan_describe: ") + attn_last_error());
    text.resize(needed - 1);
    return text;
}

void replay_plan(const DescribedPlan &described, const JsonValue &description, Session *session)
{
    std::optional<Trial> trial;
    for (const Backend *backend : session->backends) {
        conformance::Descriptor descriptor(described.spec, described.bounds);
        complete(described, &descriptor);
        std::string why;
        const conformance::PlanPointer plan =
            conformance::make_plan(backend->handle(described.spec.workers), descriptor, why);
        if (!plan) {
            report_refusal(*backend, why, session);
            continue;
        }
        if (const std::string text = difference(description, parse_json(describe(plan.get()))); !text.empty())
            throw std::invalid_argument("the tests cannot ask for this plan: " + text);
        if (!trial) {
            FittingContents fit = draw_fitting(described);
            std::printf("  sizes: batch %lld of %lld, queries %lld of %lld, keys %lld of %lld\n",
                        static_cast<long long>(fit.spec.batch), static_cast<long long>(described.bounds.batch),
                        static_cast<long long>(fit.spec.max_q), static_cast<long long>(described.bounds.max_q),
                        static_cast<long long>(fit.spec.max_kv), static_cast<long long>(described.bounds.max_kv));
            trial.emplace(fit.spec, std::move(fit.contents), fit.placement);
        }
        report(*backend, described.spec, trial->run(plan.get(), conformance::WorkspaceSize::bound, session->slack),
               session);
    }
}

void replay_line(const std::string &text, size_t line, Session *session)
{
    static const std::string kPrefix = "FAILED-CASE "; // as the conformance tests print it
    const size_t begin = text.rfind(kPrefix, 0) == 0 ? kPrefix.size() : 0;
    const JsonValue value = parse_json(std::string_view(text).substr(begin), {line, begin + 1});
    ++session->cases;
    if (value.find("schema")) {
        const DescribedPlan plan = read_description(value, session->seed, session->work);
        print_header(plan.spec, line, *session);
        replay_plan(plan, value, session);
    } else {
        const Case c = conformance::from_json(value);
        print_header(c, line, *session);
        replay_case(c, session);
    }
    std::fflush(stdout);
}

/// "reason" or "line:column: reason" with the file and the line in front.
std::string located(const std::string &file, size_t line, const std::string &what)
{
    const std::string number = std::to_string(line) + ':';
    return file + ':' + (what.rfind(number, 0) == 0 ? what : number + ' ' + what);
}

int run_replay(const Arguments &arguments)
{
    Session session;
    session.seed = static_cast<uint64_t>(arguments.integer("--seed", 1, 0, INT64_MAX));
    session.slack = arguments.real("--tolerance-scale", 1);
    session.work = arguments.real("--work", kDefaultWork);
    session.file = arguments.operand() == "-" ? "stdin" : arguments.operand();
    session.backends = choose_backends(arguments);
    std::ifstream file;
    if (arguments.operand() != "-") {
        file.open(arguments.operand());
        if (!file) throw UsageError("cannot read `" + arguments.operand() + "`");
    }
    std::istream &input = arguments.operand() == "-" ? std::cin : file;
    size_t line = 0;
    for (std::string text; std::getline(input, text);) {
        ++line;
        if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
        try {
            replay_line(text, line, &session);
        } catch (const std::invalid_argument &error) {
            std::fflush(stdout);
            throw UsageError(located(session.file, line, error.what()));
        }
    }
    if (session.cases == 0) throw UsageError(session.file + ": holds no case");
    std::printf("cases %lld, backends %zu: %lld mismatches, %lld refusals\n", static_cast<long long>(session.cases),
                session.backends.size(), static_cast<long long>(session.mismatches),
                static_cast<long long>(session.refusals));
    return session.mismatches > 0 ? kMismatch : session.refusals > 0 ? kRefused : kSuccess;
}

} // namespace

Command replay_command()
{
    return {
        "replay",
        "FILE",
        "Runs descriptors from a file against an oracle in double precision and reports the errors of each output.",
        {{"--backend", "NAME", "only this one, e.g. cpu/avx2 (default: that of ATTN_CPU_ISA, else all)"},
         {"--seed", "N", "of the random inputs of a described plan (default 1); a case has its own"},
         {"--tolerance-scale", "X", "multiplies what is allowed (default 1)"},
         {"--work", "N", "multiplications that the oracle may do for a case (default 1e9)"}},
        "Each line of FILE (- for standard input) is a JSON object:\n"
        "  a case, as a failing conformance test prints it (\"FAILED-CASE \" may stand before it), or\n"
        "  the description of a dense plan, as attn_plan_describe() prints it; inputs and lengths are random then,\n"
        "  and sizes are reduced to what --work allows. A description that names what the oracle does not know\n"
        "  is an error.\n"
        "Errors of OUT are norms relative to those of the reference, of the whole output and of the worst row; of\n"
        "the statistics the largest |x - reference| / max(1, |reference|). They are divided by the allowance for\n"
        "large scores, so each may be compared with what is allowed.\n\n"
        "exit codes: 0 all within the tolerances; 1 a mismatch; 2 the file cannot be used (file:line:column:\n"
        "reason); 3 the library refused a descriptor (its message is printed), and no other mismatched\n",
        run_replay};
}

} // namespace attn::cli
