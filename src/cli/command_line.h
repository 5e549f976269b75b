// Commands, their options and their help: one table says what exists, and so what the help lists.
#ifndef ATTN_SRC_CLI_COMMAND_LINE_H
#define ATTN_SRC_CLI_COMMAND_LINE_H

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace attn::cli {

/// How the program ends. The help says the same.
enum ExitCode : int {
    kSuccess = 0,
    kMismatch = 1, ///< replay: an output is not what the oracle says.
    kUsage = 2,    ///< The command line, or a file that it names, cannot be used.
    kRefused = 3   ///< The library refused: no such device, no kernel, or an invalid descriptor.
};

/// The command line, or a file that it names, cannot be used.
class UsageError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

struct Option {
    const char *name;  ///< With its dashes.
    const char *value; ///< What follows it, for the help; NULL: nothing does.
    const char *help;
};

class Arguments;

struct Command {
    const char *name;
    const char *operand; ///< What it takes beside options, for the help; NULL: nothing. Required where it has one.
    const char *summary;
    std::vector<Option> options;
    const char *notes; ///< Paragraphs at the end of the help.
    int (*run)(const Arguments &);
};

/// The words that follow the name of a command, checked against what it takes.
class Arguments {
public:
    /// Takes `--option value` and `--option=value`; `--` ends the options. Throws UsageError.
    Arguments(const Command &command, const std::vector<std::string> &words);

    bool has(const std::string &option) const { return values_.count(option) > 0; }
    std::string text(const std::string &option, const std::string &otherwise) const;
    int64_t integer(const std::string &option, int64_t otherwise, int64_t least, int64_t most) const;
    double real(const std::string &option, double otherwise) const; ///< Above 0.
    const std::string &operand() const { return operand_; }

private:
    std::map<std::string, std::string> values_;
    std::string operand_;
};

/// The help of one command.
std::string help_of(const Command &command);
/// "; did you mean `x`?" for the candidate that is nearest to a word that is none of them, or nothing.
std::string suggestion(const std::string &word, const std::vector<std::string> &candidates);

} // namespace attn::cli

#endif
