#!/usr/bin/env bash
# What the built library shows and needs: exactly the functions of the header, libc, libm and the loader.
# usage: symbols.sh BUILD_DIRECTORY
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
build=$1
library=$build/libattn.so
failed=0

check() { # name, expected, actual
  if [ "$2" = "$3" ]; then
    echo "ok - $1"
  else
    echo "not ok - $1 (< expected, > found)"
    diff <(echo "$2") <(echo "$3") | grep '^[<>]' | sed 's/^/    /'
    failed=1
  fi
}

declared=$(tr '\n' ' ' <include/attn/attn.h | grep -oE 'ATTN_API [^;(]*ATTN_CALL +attn_[a-z0-9_]+ *\(' |
  grep -oE 'attn_[a-z0-9_]+ *\($' | tr -d ' (' | sort)
[ -n "$declared" ] || { echo "not ok - no function found in include/attn/attn.h"; exit 1; }
check "exported symbols are the functions of attn.h" "$declared" \
  "$(nm -D --defined-only "$library" | awk '$2 == "T" { sub(/@.*/, "", $3); print $3 }' | sort)"
check "nothing else is exported" "" \
  "$(nm -D --defined-only "$library" | awk '$2 != "T" && !($2 == "A" && $3 ~ /^ATTN_[0-9]/)')"

major=$(sed -n 's/^#define ATTN_VERSION 0x0*\([0-9a-f]*\)[0-9a-f]\{4\}$/\1/p' include/attn/attn.h)
dynamic=$(readelf -dW "$library")
check "SONAME" "libattn.so.$((16#${major:-0}))" "$(sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p' <<<"$dynamic")"
check "needs libc, libm and the loader only" "" \
  "$(sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' <<<"$dynamic" | grep -vE '^(libc\.so\.6|libm\.so\.6|ld-linux.*)$')"
check "no search path, no text relocation" "" "$(grep -E 'RPATH|RUNPATH|TEXTREL' <<<"$dynamic")"
check "no executable stack" "RW" "$(readelf -lW "$library" | awk '$1 == "GNU_STACK" { print $7 }')"
check "static library: C names begin with attn_" "" \
  "$(nm -g --defined-only "$build/libattn.a" 2>/dev/null | awk '$2 ~ /[TDBR]/ && $3 !~ /^(attn_|_Z)/')"

# These are compiled for other instruction sets. A weak function in one could be the copy that the whole program gets,
# and an initialiser would run at load time, both on processors that lack the instructions.
objects=$(find "$build" -path '*attn_objects*' \( -name 'forward_*.cc.o' -o -name 'merge_*.cc.o' -o -name 'chunk_*.cc.o' \) | sort)
check "objects for the baseline instruction set found" 3 "$(grep -c _baseline <<<"$objects")"
for object in $objects; do
  name=$(basename "$object")
  check "$name defines no weak symbol" "" "$(nm -C --defined-only "$object" | awk '$2 ~ /[WVu]/')"
  check "$name has no static initialiser" "" "$(readelf -SW "$object" | grep -oE '\.(init_array|ctors)[^ ]*')"
done
exit "$failed"
