// attn: what the library offers here, how fast it is, and whether it is right, from a command line.
#include "commands.h"

#include <attn/attn.hpp>

#include <cstdio>
#include <cstring>
#include <exception>

namespace attn::cli {
namespace {

constexpr const char *kNotes =
    "`attn COMMAND --help` lists the options of a command, `attn --version` prints the version of the library.\n\n"
    "exit codes: 0 success; 1 replay found a mismatch; 2 the command line or a file cannot be used;\n"
    "            3 the library refused (no device, no kernel, invalid descriptor) or failed\n";

std::string help(const std::vector<Command> &commands)
{
    std::string text = "usage: attn COMMAND [OPTION...]\n\nThe command-line tool of libattn: attention behind one C "
                       "ABI.\n\n";
    for (const Command &command : commands) {
        const std::string summary(command.summary, std::strcspn(command.summary, "\n"));
        text +=
            std::string("  attn ") + command.name + std::string(8 - std::strlen(command.name), ' ') + summary + '\n';
    }
    return text + '\n' + kNotes;
}

int run(const std::vector<std::string> &words)
{
    const std::vector<Command> commands = {info_command(), bench_command(), replay_command(), pack_command()};
    if (words.empty()) {
        std::fputs(help(commands).c_str(), stderr);
        return kUsage;
    }
    const std::string &name = words[0];
    const bool asks_help = name == "--help" || name == "-h" || name == "help";
    if (asks_help) {
        std::fputs(help(commands).c_str(), stdout);
        return kSuccess;
    }
    if (name == "--version") {
        std::printf("attn %s\n", version_text().c_str());
        return kSuccess;
    }
    std::vector<std::string> names = {"--help", "--version"};
    for (const Command &command : commands) {
        names.emplace_back(command.name);
        if (name != command.name) continue;
        const std::vector<std::string> rest(words.begin() + 1, words.end());
        for (const std::string &word : rest) {
            if (word == "--") break;
            if (word != "--help" && word != "-h") continue;
            std::fputs(help_of(command).c_str(), stdout);
            return kSuccess;
        }
        try {
            return command.run(Arguments(command, rest));
        } catch (const UsageError &error) {
            std::fprintf(stderr, "attn %s: %s\n`attn %s --help` says more\n", command.name, error.what(), command.name);
            return kUsage;
        }
    }
    std::fprintf(stderr, "attn: no %s `%s`%s\n`attn --help` lists what there is\n",
                 name[0] == '-' ? "option" : "command", name.c_str(), suggestion(name, names).c_str());
    return kUsage;
}

} // namespace
} // namespace attn::cli

int main(int count, char **words)
{
    using namespace attn::cli;
    try {
        return run(std::vector<std::string>(words + 1, words + count));
    } catch (const attn::Error &error) {
        std::fprintf(stderr, "attn: %s: %s\n", attn_status_name(error.status()), error.what());
    } catch (const std::exception &error) {
        std::fprintf(stderr, "attn: %s\n", error.what());
    }
    return kRefused;
}
