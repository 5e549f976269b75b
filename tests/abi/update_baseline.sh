#!/usr/bin/env bash
# Makes the present ABI the one that tests/abi/abidiff.sh compares with. Say what changed in CHANGELOG.md, in a line that
# starts with "ABI:".
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build
bash tests/abi/dump.sh build/abi tests/abi
git --no-pager diff --stat -- tests/abi
