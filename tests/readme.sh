#!/usr/bin/env bash
# Prints the first example of a language in README.md, so that the tests can run what the README shows.
# usage: readme.sh c|python
set -euo pipefail
awk -v fence='```'"$1" '
  $0 == fence && !seen { inside = seen = 1; next }
  inside && /^```$/ { exit }
  inside { print }
  END { exit !seen }' "$(dirname "$0")/../README.md"
