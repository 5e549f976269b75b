#!/usr/bin/env bash
# Sets up and runs every test, from a bare Debian 12. Exits with 0 if all passed; the last line counts the checks.
# usage: run.sh [--list] [--only STEP[,STEP...]]   (JOBS=n: parallel jobs, default: all cores)
set -uo pipefail
cd "$(dirname "$0")/.." || exit
export JOBS=${JOBS:-$(nproc)}

steps=(setup format headers build ctest symbols abidiff consumers tool compilers neon amx asan tsan fuzz valgrind python
  examples docs tidy)
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
  find include src backends tests examples bindings docs \
    -name '*.h' -o -name '*.hpp' -o -name '*.c' -o -name '*.cc' -o -name '*.cuh' | grep -v /build/ | sort
}
# each_file COMMAND...: runs it on each file named on stdin and says which of them fail.
each_file() {
  # shellcheck disable=SC2016 # for the inner shell
  xargs -n 1 -P "$JOBS" bash -c '
    file=${*: -1}
    if report=$("$@" 2>&1); then echo "ok - $file"; else printf "not ok - %s\n%s\n" "$*" "$report"; exit 1; fi' each "$@"
}
# tidy PRESET NAME...: clang-tidy for files of the library with such names, each once: some belong to several targets, and
# clang-tidy would read them once for each. Not as tests compile them, with headers that GCC has compiled.
tidy() {
  mkdir -p "build/$1/tidy" && python3 - "build/$1" <<'EOF' || return
import json, sys
commands = json.load(open(sys.argv[1] + "/compile_commands.json"))
commands.sort(key=lambda c: "cmake_pch" not in c["command"])
json.dump(list({c["file"]: c for c in commands}.values()), open(sys.argv[1] + "/tidy/compile_commands.json", "w"))
EOF
  find src backends -name "${@:2}" | sort |
    each_file clang-tidy --quiet -p "build/$1/tidy" --extra-arg=-Wno-unknown-warning-option \
      --extra-arg=-Wno-ignored-optimization-argument
}
configure_and_build() { cmake --preset "$1" "${@:2}" && cmake --build --preset "$1" -j "$JOBS"; }

step_setup() {
  need_packages "${build_packages[@]}" \
    "libgtest-dev=test -e /usr/include/gtest/gtest.h" \
    "clang=command -v clang++" \
    "libclang-rt-dev=ls /usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a" \
    "valgrind=command -v valgrind" \
    "clang-format=command -v clang-format" \
    "clang-tidy=command -v clang-tidy" \
    "abigail-tools=command -v abidiff" \
    "pkg-config=command -v pkg-config"
}

step_format() { sources | each_file clang-format --dry-run --Werror --ferror-limit=1; }

step_headers() { bash tests/abi/headers.sh; }

step_build() { configure_and_build release; }

# run_ctest PRESET: what the preset built, with the summaries of conformance; not those of tests of the harness, some of
# which have to fail.
run_ctest() {
  ctest --preset "$1" -j "$JOBS"
  local status=$?
  awk '/^[0-9]+\/[0-9]+ Testing: / { harness = /Testing: gpu_harness/ }
    /^conformance summary/ && !harness { shown = 1 }
    shown { print "# " $0 }
    /^  total:/ { shown = 0 }' "build/$1/Testing/Temporary/LastTest.log"
  return "$status"
}

# Unit tests, conformance and the C examples.
step_ctest() { configure_and_build release && run_ctest release; }

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

# 64-bit ARM, compiled here and run by an emulator, which slows everything down too. Its preset leaves out what needs
# terabytes of address space: the emulator would take memory for the tables of its pages; and an example that starts
# itself again, which the system would not give to the emulator.
step_neon() {
  need_packages \
    "g++-aarch64-linux-gnu=command -v aarch64-linux-gnu-g++" \
    "qemu-user-static=command -v qemu-aarch64 || command -v qemu-aarch64-static" \
    "googletest=test -e /usr/src/googletest/CMakeLists.txt" || return
  configure_and_build neon || return
  local failed=0
  bash tests/abi/symbols.sh build/neon || failed=1
  tidy neon '*_neon.cc' || failed=1
  run_ctest neon || failed=1
  return "$failed"
}

# The sanitizers slow everything down, so their test presets, and that of the emulator, choose a fixed part of the conformance table.
# The kernels for AMX where the processor has AVX512-BF16 at least; where it has AMX too, ctest has run them.
step_amx() {
  if ! grep -q -m 1 avx512_bf16 /proc/cpuinfo; then
    echo "ok - this processor lacks AVX512-BF16: nothing to emulate AMX with"
    return
  fi
  cmake --preset amx && cmake --build --preset amx -j "$JOBS" --target attn_conformance && run_ctest amx
}

step_asan() { configure_and_build asan && ctest --preset asan -j "$JOBS"; }

step_tsan() { configure_and_build tsan && ctest --preset tsan -j "$JOBS"; }

# Each fuzzer: the committed inputs, then random ones that follow from a fixed seed.
step_fuzz() {
  configure_and_build fuzz || return
  rm -rf build/fuzz/found && mkdir -p build/fuzz/found || return
  export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1
  # shellcheck disable=SC2016 # for the inner shell
  printf '%s\n' descriptors=40000 arguments=30000 json=100000 pack=20000 | xargs -n 1 -P "$JOBS" bash -c '
    target=${1%%=*} runs=${1#*=} fuzzer=build/fuzz/tests/fuzz/attn_fuzz_${1%%=*} failed=0
    check() { # name, command
      if report=$("${@:2}" -timeout=60 -artifact_prefix="build/fuzz/found/$target-" 2>&1); then echo "ok - $1"
      else printf "not ok - %s\n%s\n" "$1" "$(tail -n 40 <<<"$report")"; failed=1; fi
    }
    check "fuzz $target: $(ls "tests/fuzz/corpus/$target" | wc -l) committed inputs" \
      "$fuzzer" -runs=0 "tests/fuzz/corpus/$target"
    mkdir "build/fuzz/found/$target"
    check "fuzz $target: $runs random inputs" \
      "$fuzzer" -runs="$runs" -seed=1 -max_len=1024 "build/fuzz/found/$target" "tests/fuzz/corpus/$target"
    exit "$failed"' fuzz
}

# Memory that was never written, and leaks, where no sanitizer looks. Valgrind does not know AVX-512 and hides it.
step_valgrind() {
  configure_and_build release || return
  local program failed=0
  for program in examples/quickstart examples/varlen examples/paged_decode \
    "tests/hardening/attn_concurrency --gtest_filter=*OnePlanOfEveryKind/1"; do
    # shellcheck disable=SC2086 # a program and its argument
    if valgrind --quiet --error-exitcode=9 --leak-check=full --fair-sched=yes build/release/$program; then
      echo "ok - valgrind $program"
    else
      echo "not ok - valgrind $program"
      failed=1
    fi
  done
  return "$failed"
}

step_python() {
  need_bindings && need_python pytest ml_dtypes mypy scikit-build-core || return
  .venv/bin/python -m pytest -q -p no:cacheprovider bindings/python/tests || return
  bash tests/readme.sh python >"$logs/readme.py" && .venv/bin/python "$logs/readme.py" && echo "ok - README example" &&
    .venv/bin/python docs/site/snippets/getting_started.py && .venv/bin/python docs/site/snippets/linear.py &&
    .venv/bin/python docs/site/snippets/mask.py &&
    echo "ok - Python snippets of the documentation"
}

step_examples() { bash examples/run.sh; }

# The site from nothing, a warning being an error; its links; that its pages show tested code only.
step_docs() {
  need_packages \
    "doxygen=command -v doxygen" \
    "doxygen-awesome-css=test -e /usr/share/doxygen-awesome-css/doxygen-awesome.css" \
    "libjs-mathjax=test -e /usr/share/javascript/mathjax/MathJax.js" || return
  rm -rf build/docs
  bash docs/build.sh && echo "ok - site without warnings" && python3 docs/check_site.py build/docs/html
}

step_tidy() { configure_and_build release && tidy release '*.cc' ! -name '*_neon.cc' ! -name embedded_pack.cc; }

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

# What failed, in short: the names of the tests and the first messages. Printed last of all, where it is read first.
digest() { # step, log
  printf '== failed in %s\n' "$1"
  {
    grep -E '^not ok - ' "$2"
    sed -n '/^The following tests FAILED:/,/^Errors while running CTest/p' "$2" | grep -E '^[[:space:]]+[0-9]+ - '
    grep -E '^(FAILED|ERROR) ' "$2"
  } | head -n 20
  grep -nE -A 8 ': Failure$|AssertionError|: error: |^E   |ERROR: [A-Za-z]*Sanitizer|runtime error: |FAILED \(' "$2" |
    head -n 40 | cut -c 1-300
}

passed=0 failed=0 start=$SECONDS digests=
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
    digests+=$(digest "$step" "$log")$'\n'
  fi
done
printf '%s' "$digests"
printf 'total time %d s\n' "$((SECONDS - start))"
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
