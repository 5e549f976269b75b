#!/usr/bin/env bash
# Compares the ABI with the committed one. usage: abidiff.sh BUILD_DIRECTORY
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
current=$1.current
failed=0
mkdir -p "$current"
bash "$here/dump.sh" "$1" "$current" || { echo "not ok - ABI dump"; exit 1; }

check() { # name, command
  local report
  if report=$("${@:2}" 2>&1); then
    echo "ok - $1"
  else
    echo "not ok - $1"
    sed 's/^/    /' <<<"$report"
    failed=1
  fi
}
check "functions and structs as in tests/abi/baseline.abixml" \
  abidiff "$here/baseline.abixml" "$current/baseline.abixml"
check "constants as in tests/abi/constants.txt" diff "$here/constants.txt" "$current/constants.txt"
[ "$failed" = 0 ] || echo "    If this is meant: run tests/abi/update_baseline.sh and say it in CHANGELOG.md, in a" \
  "line that starts with \"ABI:\"."
exit "$failed"
