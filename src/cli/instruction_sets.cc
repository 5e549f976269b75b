#include "instruction_sets.h"

#include <attn/attn.hpp>

#include <algorithm>
#include <cstdlib>

namespace attn::cli {

std::vector<InstructionSet> instruction_sets()
{
    const char *value = std::getenv(kIsaVariable);
    const std::string before = value ? value : "";
    std::vector<std::string> names = {"baseline", "neon", "avx2", "avx512", "avx512_bf16", "amx"};
    unsetenv(kIsaVariable);
    const std::string best = chosen_instruction_set(); // of another processor, maybe one that is not in this list
    if (std::find(names.begin(), names.end(), best) == names.end()) names.push_back(best);
    std::vector<InstructionSet> sets;
    for (const std::string &name : names) {
        setenv(kIsaVariable, name.c_str(), 1);
        auto options = sized<attn_options>();
        options.max_workers = 1;
        sets.push_back({name, ""});
        try {
            const Handle handle(options);
        } catch (const Error &error) {
            sets.back().refusal = error.what();
        }
    }
    if (value)
        setenv(kIsaVariable, before.c_str(), 1);
    else
        unsetenv(kIsaVariable);
    return sets;
}

std::string chosen_instruction_set()
{
    const std::string arch = device_info(ATTN_DEVICE_CPU).arch; // "x86-64 avx2"
    return arch.substr(arch.rfind(' ') + 1);
}

} // namespace attn::cli
