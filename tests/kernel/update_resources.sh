#!/usr/bin/env bash
# Writes tests/kernel/resources.csv anew: what the kernels of the embedded pack take of the machine. Needs NVRTC; look
# at the difference before you commit it.
# usage: update_resources.sh [BUILD_DIRECTORY]   (default: build/release)
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build/release}
cmake --build "$build" --target attn_kernel_resources attn_default_pack
"$build/tests/kernel/attn_kernel_resources" "$build/kernel/default.attnpack" tests/kernel/resources.csv --update
git diff --stat -- tests/kernel/resources.csv
