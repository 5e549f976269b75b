# Script: writes the C++ file that holds the texts of kernels and of the headers that they include, over any number of
# steps, and a dependency file that names them all.
# usage: cmake -D ROOT=DIRECTORY -D FILES=PATH,... -D FUNCTION=NAME -D OUTPUT=FILE -P AttnKernelSources.cmake
# (paths relative to ROOT; attn::kernel::NAME() returns the texts; the dependency file is FILE.d)

cmake_minimum_required(VERSION 3.25)
string(REPLACE "," ";" files "${FILES}")
set(reached ${files})
while(files)
  list(POP_FRONT files path)
  file(STRINGS "${ROOT}/${path}" lines REGEX "^[ \t]*#[ \t]*include[ \t]*\"[^\"]+\"")
  foreach(line IN LISTS lines)
    string(REGEX REPLACE "^[^\"]*\"([^\"]+)\".*" "\\1" header "${line}")
    # What a request generates is no file; what is missing is said by src/kernel/source.cc, with who includes it.
    if(NOT header IN_LIST reached AND EXISTS "${ROOT}/${header}")
      list(APPEND files "${header}")
      list(APPEND reached "${header}")
    endif()
  endforeach()
endwhile()
list(SORT reached)

set(arrays "")
set(table "")
set(dependencies "")
set(number 0)
foreach(path IN LISTS reached)
  file(SHA256 "${ROOT}/${path}" digest)
  file(READ "${ROOT}/${path}" bytes HEX)
  # Arrays, as compilers limit the length of string literals; 32 bytes a line, a NUL at the end.
  string(REGEX REPLACE "(................................................................)" "\\1\n" bytes "${bytes}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  string(APPEND arrays "const unsigned char text_${number}[] = { // ${path}\n${bytes}0x00};\n")
  string(APPEND table "    {\"${path}\", text_${number}, sizeof text_${number} - 1,\n     \"${digest}\"},\n")
  string(REPLACE " " "\\ " dependency "${ROOT}/${path}")
  string(APPEND dependencies " ${dependency}")
  math(EXPR number "${number} + 1")
endforeach()
file(WRITE "${OUTPUT}" "// Written by cmake/AttnKernelSources.cmake.
#include \"kernel/source.h\"

namespace attn::kernel {
namespace {

${arrays}
const Source table[] = {
${table}    {nullptr, nullptr, 0, nullptr}};

} // namespace

Sources ${FUNCTION}() noexcept;
Sources ${FUNCTION}() noexcept
{
    return Sources(table, ${number});
}

} // namespace attn::kernel
")
string(REPLACE " " "\\ " target "${OUTPUT}")
file(WRITE "${OUTPUT}.d" "${target}:${dependencies}\n")
