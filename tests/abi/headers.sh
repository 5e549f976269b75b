#!/usr/bin/env bash
# The public headers compile without a warning as every C and C++ standard they promise, for 64- and 32-bit targets
# (which proves the layout they assert), alone and with ATTN_EXPERIMENTAL. Prints one line for each check.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

check() { # compiler, flags; compiles a unit that includes the header twice
  local header=$1 name=${*:2}
  if printf '#include <attn/%s>\n#include <attn/%s>\nextern int unit;\nint unit;\n' "$header" "$header" |
    "${@:2}" -Wall -Wextra -Wpedantic -Werror -Wconversion -Wshadow -Iinclude -fsyntax-only - >"$log" 2>&1; then
    echo "ok - $header: $name"
  else
    echo "not ok - $header: $name"
    sed 's/^/    /' "$log"
    failed=1
  fi
}

c_compilers=(gcc) cc_compilers=(g++)
command -v clang >/dev/null && c_compilers+=(clang) cc_compilers+=(clang++)
for define in -UATTN_EXPERIMENTAL -DATTN_EXPERIMENTAL; do
  for compiler in "${c_compilers[@]}"; do
    for standard in c99 c11 c17; do
      check attn.h "$compiler" -x c -std=$standard -Wpadded -Wstrict-prototypes $define
      # Without a C library for 32 bits: the compiler's own stdint.h and stddef.h are enough.
      check attn.h "$compiler" -x c -std=$standard -m32 -ffreestanding $define
    done
  done
  for compiler in "${cc_compilers[@]}"; do
    for standard in c++11 c++14 c++17 c++20; do
      check attn.h "$compiler" -x c++ -std=$standard -Wpadded $define
      check attn.hpp "$compiler" -x c++ -std=$standard $define
    done
  done
done
for compiler in "${c_compilers[@]}"; do
  for standard in c99 c11 c17; do check recipes.h "$compiler" -x c -std=$standard -DATTN_EXPERIMENTAL; done
done
for compiler in "${cc_compilers[@]}"; do
  for standard in c++11 c++20; do check recipes.h "$compiler" -x c++ -std=$standard -DATTN_EXPERIMENTAL; done
done
exit "$failed"
