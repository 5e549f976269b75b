#!/usr/bin/env bash
# Sets up and runs every test, from a bare Debian 12. Exits with 0 if all passed; the last line counts the checks.
# usage: run.sh [--list] [--only STEP[,STEP...]]   (JOBS=n: parallel jobs, default: all cores)
set -uo pipefail
cd "$(dirname "$0")/.." || exit
export JOBS=${JOBS:-$(nproc)}

steps=(setup format headers build ctest symbols abidiff consumers tool compilers asan tsan python examples tidy)
only=${steps[*]}
while [ "$#" -gt 0 ]; do
  case $1 in
    --list) printf '%s\n' "${steps[@]}"; exit ;;
    --only) only="setup ${2//,/ }"; shift 2 ;;
    *) sed -n '2,3s/^# //p' "$0"; exit 2 ;;
  esac
done
for step in $only; do
  [[ " ${steps[*]} " == *" $step "* ]] || { echo "no step $step; there are: ${steps[*]}"; exit 2; }
done

# shellcheck source=tests/prepare.sh
. tests/prepare.sh
logs=build/test-logs
mkdir -p "$logs"

sources() {
  find include src backends tests examples bindings \
    -name '*.h' -o -name '*.hpp' -o -name '*.c' -o -name '*.cc' | grep -v /build/ | sort
}
# each_file COMMAND...: runs it on each file named on stdin and says which of them fail.
each_file() {
  # shellcheck disable=SC2016 # for the inner shell
  xargs -n 1 -P "$JOBS" bash -c '
    file=${*: -1}
    if report=$("$@" 2>&1); then echo "ok - $file"; else printf "not ok - %s\n%s\n" "$*" "$report"; exit 1; fi' each "$@"
}
configure_and_build() { cmake --preset "$1" "${@:2}" && cmake --build --preset "$1" -j "$JOBS"; }

step_setup() {
  need_packages "${build_packages[@]}" \
    "libgtest-dev=test -e /usr/include/gtest/gtest.h" \
    "clang=command -v clang++" \
    "clang-format=command -v clang-format" \
    "clang-tidy=command -v clang-tidy" \
    "abigail-tools=command -v abidiff" \
    "pkg-config=command -v pkg-config"
}

step_format() { sources | each_file clang-format --dry-run --Werror --ferror-limit=1; }

step_headers() { bash tests/abi/headers.sh; }

step_build() { configure_and_build release; }

# Unit tests, conformance and the C examples.
step_ctest() {
  configure_and_build release || return
  ctest --preset release -j "$JOBS"
  local status=$?
  sed -n '/^conformance summary/,/^  total:/s/^/# /p' build/release/Testing/Temporary/LastTest.log
  return "$status"
}

step_symbols() { configure_and_build release && bash tests/abi/symbols.sh build/release; }

step_abidiff() { bash tests/abi/abidiff.sh build/abi; }

step_consumers() { configure_and_build release && bash tests/install/run.sh build/release build/consumers; }

# The installed command-line tool.
step_tool() { configure_and_build release && bash tests/tool/run.sh build/release build/tool; }

# Other compilers than the default one: the libraries link and the quickstart computes.
step_compilers() {
  local compiler failed=0
  for compiler in clang++ g++-11 g++-13 g++-14; do
    command -v "$compiler" >/dev/null || continue
    if CXX=$compiler cmake --preset release -B "build/$compiler" -DATTN_BUILD_TESTS=OFF &&
      cmake --build "build/$compiler" -j "$JOBS" --target attn attn_static attn_example_quickstart &&
      "build/$compiler/examples/quickstart"; then
      echo "ok - $compiler"
    else
      echo "not ok - $compiler"
      failed=1
    fi
  done
  return "$failed"
}

# The sanitizers slow everything down, so their test presets choose a fixed part of the conformance table.
step_asan() { configure_and_build asan && ctest --preset asan -j "$JOBS"; }

step_tsan() { configure_and_build tsan && ctest --preset tsan -j "$JOBS"; }

step_python() {
  need_bindings && need_python pytest ml_dtypes mypy || return
  .venv/bin/python -m pytest -q -p no:cacheprovider bindings/python/tests || return
  bash tests/readme.sh python >"$logs/readme.py" && .venv/bin/python "$logs/readme.py" && echo "ok - README example"
}

step_examples() { bash examples/run.sh; }

step_tidy() {
  configure_and_build release &&
    find src backends -name '*.cc' | sort |
    each_file clang-tidy --quiet -p build/release --extra-arg=-Wno-unknown-warning-option
}

# Reads a log: checks passed and failed, as the test programs counted them. Lines that begin with "# " are shown.
count() {
  awk '
    /^ok - / { passed++ }
    /^not ok - / { failed++ }
    /^#   total: [0-9]+ runs, [0-9]+ failures/ { passed += $3 - $5; failed += $5 }
    /tests passed, [0-9]+ tests? failed out of [0-9]+/ {
      match($0, /[0-9]+ tests? failed/); f = substr($0, RSTART) + 0
      match($0, /out of [0-9]+/); passed += substr($0, RSTART + 7) - f; failed += f
    }
    /[0-9]+ (passed|failed|error).* in [0-9.]+s/ {
      if (match($0, /[0-9]+ passed/)) passed += substr($0, RSTART)
      if (match($0, /[0-9]+ failed/)) failed += substr($0, RSTART)
      if (match($0, /[0-9]+ error/)) failed += substr($0, RSTART)
    }
    END { print passed + 0, failed + 0 }' "$1"
}

passed=0 failed=0 start=$SECONDS
for step in "${steps[@]}"; do
  [[ " $only " == *" $step "* ]] || continue
  printf '== %s\n' "$step"
  log=$logs/$step.log begin=$SECONDS
  "step_$step" >"$log" 2>&1
  status=$?
  read -r good bad <<<"$(count "$log")"
  [ "$status" = 0 ] || [ "$bad" -gt 0 ] || bad=1
  [ "$status" != 0 ] || [ "$((good + bad))" -gt 0 ] || good=1
  passed=$((passed + good)) failed=$((failed + bad))
  sed -n 's/^# /   /p' "$log"
  if [ "$bad" = 0 ]; then
    printf '   passed: %d checks, %d s\n' "$good" "$((SECONDS - begin))"
  else
    printf '   FAILED: %d of %d checks, %d s; the end of %s:\n' "$bad" "$((good + bad))" "$((SECONDS - begin))" "$log"
    grep -vE '^(ok - |# )' "$log" | tail -n 60 | sed 's/^/   | /'
  fi
done
printf 'total time %d s\n' "$((SECONDS - start))"
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
