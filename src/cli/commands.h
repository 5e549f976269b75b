// The commands of attn, each with its options and its help.
#ifndef ATTN_SRC_CLI_COMMANDS_H
#define ATTN_SRC_CLI_COMMANDS_H

#include "command_line.h"

namespace attn::cli {

Command info_command();
Command bench_command();
Command replay_command();
Command pack_command();

} // namespace attn::cli

#endif
