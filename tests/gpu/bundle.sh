#!/usr/bin/env bash
# Makes build/gpu-bundle from build/release: what run.sh and the performance scripts need on a machine with a GPU, and no
# more, in the same places, without debug information. The machine needs a C library and a libstdc++ not older than those
# of this one, and x86-64.
#
# usage: bundle.sh [BUILD]      build/release without it
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build/release}
bundle=build/gpu-bundle
files=(src/cli/attn tests/conformance/attn_conformance tests/gpu/attn_gpu_tests tests/gpu/attn_first_plan)
alone=(tests/gpu/attn_gpu_masks) # has the library in it

rm -rf "$bundle"
for file in "${files[@]}" "${alone[@]}"; do
  [ -x "$build/$file" ] || {
    echo "$build/$file is not there: build the targets attn_tool attn_conformance attn_gpu_tests attn_gpu_masks attn_first_plan"
    exit 1
  }
  mkdir -p "$bundle/$(dirname "$file")"
  strip -o "$bundle/$file" "$build/$file"
done
library=$(readlink -f "$build/libattn.so")
strip --strip-unneeded -o "$bundle/libattn.so.0" "$library"
ln -s libattn.so.0 "$bundle/libattn.so"

# Every program must find the library of the bundle.
for file in "${files[@]}"; do
  found=$(ldd "$bundle/$file" | awk '/libattn/ { print $3 }')
  [ "$(readlink -f "$found")" = "$(readlink -f "$bundle/libattn.so.0")" ] || { echo "$bundle/$file finds $found"; exit 1; }
done
du -sh "$bundle"
