#!/usr/bin/env bash
# Makes build/gpu-bundle from build/release: what run.sh and the performance scripts need on a machine with a GPU, and no
# more, in the same places, without debug information. The machine needs a C library and a libstdc++ not older than those
# of this one, and x86-64.
#
# usage: bundle.sh [BUILD]      build/release without it
#   ATTN_GPU_PYTHON_VERSION  of the machine's python3 (3.12); ATTN_GPU_PYTHON  an interpreter of that version here
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
# The Python package, for the interpreter of that machine: built here if there is such a one with its headers.
python_package() {
  local python
  python=$(python_with_headers) || { echo "there was no Python $python_version with headers where the bundle was made"; return; }
  "$python" -m pip wheel --quiet --disable-pip-version-check --no-deps -w build/gpu-wheel ./bindings/python >&2 ||
    { echo "the package did not build for Python $python_version where the bundle was made"; return; }
  "$python" -m zipfile -e build/gpu-wheel/attn-*.whl "$bundle/python"
}
python_with_headers() {
  local candidate
  for candidate in "${ATTN_GPU_PYTHON:-}" "python$python_version" ~/.pyenv/versions/"$python_version".*/bin/python; do
    [ -n "$candidate" ] && "$candidate" - "$python_version" 2>/dev/null <<'END' && echo "$candidate" && return
import os, sys, sysconfig
header = os.path.join(sysconfig.get_paths()["include"], "Python.h")
sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1] or not os.path.exists(header))
END
  done
  return 1
}
python_version=${ATTN_GPU_PYTHON_VERSION:-3.12}
rm -rf build/gpu-wheel
mkdir -p "$bundle/python"
reason=$(python_package)
[ -z "$reason" ] || { rm -rf "${bundle:?}/python" && mkdir "$bundle/python" && echo "$reason" | tee "$bundle/python/unavailable"; }
du -sh "$bundle"
