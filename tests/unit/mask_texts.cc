// Writes a header with the emitted text of every program of mask_texts.h, each in a namespace of its own, and a table
// of what they say of a pair. usage: attn_mask_texts OUTPUT
#include "mask_texts.h"

#include "core_mask_programs.h"
#include "mask/emit.h"

#include <cstdio>
#include <fstream>

int main(int count, char **words)
{
    if (count != 2) return 2;
    std::string text = "#include \"src/mask/atoms.h\"\n", table;
    for (int n = 0; n < mask_test::kMaskTextCount; ++n) {
        const std::string name = "program_" + std::to_string(n);
        text += "\nnamespace " + name + " { // " + mask_test::kMaskTexts[n] + "\n" +
                attn::emit_source(mask_test::read(mask_test::kMaskTexts[n])) + "} // namespace " + name + "\n";
        table += "    [](const attn::MaskProgram &p, const auto &values) {\n        return " + name +
                 "::attn_mask_sees(" + name +
                 "::attn_mask_row(p.terms.data(), p.parameters.data(), p.heads, values.h, values.tq, values.tk, "
                 "values),\n                          values);\n    },\n";
    }
    std::ofstream file(words[1], std::ios::binary);
    file << text
         << "\ntemplate <class Values>\nconstexpr bool (*kEmitted[])(const attn::MaskProgram &, const Values &) = {\n"
         << table << "};\n";
    file.close();
    if (!file) std::perror(words[1]);
    return file ? 0 : 1;
}
