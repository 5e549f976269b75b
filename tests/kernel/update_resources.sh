#!/usr/bin/env bash
# Writes tests/kernel/resources.csv anew: what kernels take of the machine. Needs NVRTC; look
# at the difference before you commit it.
# usage: update_resources.sh [BUILD_DIRECTORY]   (default: build/release)
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build/release}
cmake --build "$build" --target attn_kernel_resources attn_default_pack attn_sm90_pack
"$build/tests/kernel/attn_kernel_resources" --update tests/kernel/resources.csv "$build/kernel/default.attnpack" \
  "$build/kernel/sm90.attnpack"
git diff --stat -- tests/kernel/resources.csv
