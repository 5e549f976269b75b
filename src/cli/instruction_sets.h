// The instruction sets of the CPU backend, as its public interface tells them.
#ifndef ATTN_SRC_CLI_INSTRUCTION_SETS_H
#define ATTN_SRC_CLI_INSTRUCTION_SETS_H

#include <string>
#include <vector>

namespace attn::cli {

/// The environment variable that chooses one.
inline constexpr const char *kIsaVariable = "ATTN_CPU_ISA";

struct InstructionSet {
    std::string name;    ///< As a value of ATTN_CPU_ISA.
    std::string refusal; ///< Why the library will not use it here; empty if it would.
};

/// All that the library has kernels for, the least first. Tries each; the environment is as before afterwards.
std::vector<InstructionSet> instruction_sets();

/// The one that handles of this process get. Throws attn::Error if ATTN_CPU_ISA asks for one that is not there.
std::string chosen_instruction_set();

} // namespace attn::cli

#endif
