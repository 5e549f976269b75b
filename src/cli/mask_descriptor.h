// From the mask of a described plan back to the attn_program that it was made of.
#ifndef ATTN_SRC_CLI_MASK_DESCRIPTOR_H
#define ATTN_SRC_CLI_MASK_DESCRIPTOR_H

#include "json_reader.h"

#include <attn/attn.h>

#include <deque>
#include <vector>

namespace attn::cli {

/// A program with what it points to. Not to be moved: it points into itself.
class MaskDescriptor {
public:
    MaskDescriptor() = default;
    ~MaskDescriptor() = default;
    MaskDescriptor(const MaskDescriptor &) = delete;
    MaskDescriptor &operator=(const MaskDescriptor &) = delete;

    /// Reads the terms. Throws std::invalid_argument, "line:column: reason", for what is no term.
    void read(const JsonValue &terms);
    const attn_program *program() const { return &program_; }

private:
    void read_term(const JsonValue &described);

    std::vector<attn_term> terms_;
    std::vector<attn_table> tables_;
    std::deque<std::vector<double>> numbers_; ///< Of the tables; addresses stay.
    attn_program program_ = {};
};

/// The number of an alignment by its name.
attn_align align_of(const JsonValue &name);

} // namespace attn::cli

#endif
