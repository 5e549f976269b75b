#!/usr/bin/env bash
# Builds the library with debug information and writes its ABI: functions and structs as libabigail sees them in the
# library, the constants as a compiler sees them in the header.
# usage: dump.sh BUILD_DIRECTORY OUTPUT_DIRECTORY; writes baseline.abixml and constants.txt
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$1 output=$2

cmake --preset debug -B "$build" -DATTN_BUILD_TESTS=OFF -DATTN_BUILD_EXAMPLES=OFF \
  -DCMAKE_CXX_FLAGS="-fdebug-prefix-map=$PWD=." >"$build.log" || { cat "$build.log"; exit 1; }
cmake --build "$build" --target attn -j "${JOBS:-$(nproc)}" >"$build.log" || { cat "$build.log"; exit 1; }
abidw --headers-dir include/attn --drop-private-types --no-show-locs --no-corpus-path --no-comp-dir-path \
  --out-file "$output/baseline.abixml" "$build/libattn.so"
python3 tests/abi/prune.py "$output/baseline.abixml"

{
  printf '#include <attn/attn.h>\n#include <stdio.h>\nint main(void) {\n'
  grep -oE '^    ATTN_[A-Z0-9_]+ =' include/attn/attn.h | sed -E 's/ +(\w+) =/printf("%s %#x\\n", "\1", (unsigned)\1);/'
  printf 'return 0; }\n'
} >"$build/constants.c"
gcc -DATTN_EXPERIMENTAL -Iinclude "$build/constants.c" -o "$build/constants"
"$build/constants" >"$output/constants.txt"
