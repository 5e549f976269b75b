# Script: writes the C++ file that holds the texts of kernels and of the headers they include.
# usage: cmake -D ROOT=DIRECTORY -D FILES=PATH,... -D FUNCTION=NAME -D OUTPUT=FILE -P AttnKernelSources.cmake
# (paths relative to ROOT; attn::kernel::NAME() returns them)

string(REPLACE "," ";" files "${FILES}")
set(arrays "")
set(table "")
set(number 0)
foreach(path IN LISTS files)
  file(READ "${ROOT}/${path}" bytes HEX)
  # Arrays, as compilers limit the length of string literals; 32 bytes a line, a NUL at the end.
  string(REGEX REPLACE "(................................................................)" "\\1\n" bytes "${bytes}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  string(APPEND arrays "const unsigned char text_${number}[] = { // ${path}\n${bytes}0x00};\n")
  string(APPEND table "    {\"${path}\", text_${number}, sizeof text_${number} - 1},\n")
  math(EXPR number "${number} + 1")
endforeach()
file(WRITE "${OUTPUT}" "// Written by cmake/AttnKernelSources.cmake.
#include \"kernel/source.h\"

namespace attn::kernel {
namespace {

${arrays}
const Source table[] = {
${table}    {nullptr, nullptr, 0}};

} // namespace

Sources ${FUNCTION}() noexcept;
Sources ${FUNCTION}() noexcept
{
    return Sources(table, ${number});
}

} // namespace attn::kernel
")
