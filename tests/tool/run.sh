#!/usr/bin/env bash
# Installs a build and uses the command-line tool as someone would. Prints one line for each check.
# usage: run.sh BUILD_DIRECTORY SCRATCH_DIRECTORY
# shellcheck disable=SC2016,SC2317 # backquotes are text here; functions are called by name
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
rm -rf "${2:?}"
mkdir -p "$2"
scratch=$(cd "$2" && pwd)
failed=0

ok() { echo "ok - $1"; }
not_ok() {
  echo "not ok - $1"
  sed 's/^/    /' "$scratch/out" "$scratch/err" | cut -c1-400
  failed=1
}

# expect NAME STATUS PATTERN WORDS...: runs the tool; its exit status and what it prints must be as told. The pattern is
# an extended regular expression for a line of standard output or standard error.
expect() {
  local name=$1 status=$2 pattern=$3
  shift 3
  "$attn" "$@" >"$scratch/out" 2>"$scratch/err" <"${input:-/dev/null}"
  local got=$?
  if [ "$got" != "$status" ]; then
    not_ok "$name: exit status $got instead of $status"
  elif ! cat "$scratch/out" "$scratch/err" | grep -qE -- "$pattern"; then
    not_ok "$name: no line like $pattern"
  else
    ok "$name"
  fi
}
# check NAME COMMAND...
check() {
  local name=$1
  shift
  if "$@" >"$scratch/out" 2>"$scratch/err"; then ok "$name"; else not_ok "$name"; fi
}

check "install" cmake --install "$build" --prefix "$scratch/staged"
[ "$failed" = 0 ] || exit 1
mv "$scratch/staged" "$scratch/moved" # the tool finds the library from its own place
prefix=$scratch/moved
attn=$prefix/bin/attn
libdir=$(dirname "$(find "$prefix" -name libattn.so -print -quit)")
export PKG_CONFIG_PATH=$libdir/pkgconfig
version=$(pkg-config --modversion attn)
needs_shared_library() { readelf -d "$attn" | grep -q 'NEEDED.*libattn\.so'; }
check "the tool uses the shared library" needs_shared_library

# Help, and what is said of mistakes.
expect "--version" 0 "^attn ${version//./\\.}$" --version
expect "--help names the commands" 0 '^  attn replay ' --help
for command in info bench replay pack; do
  expect "$command --help names the exit codes" 0 '^exit codes: 0' "$command" --help
done
expect "no command" 2 '^usage: attn COMMAND'
expect "an unknown command" 2 'no command `bnech`; did you mean `bench`\?' bnech
expect "an unknown option" 2 'unknown option `--repetition`; did you mean `--repetitions`\?' bench --repetition 3
expect "an option without its value" 2 '`--csv` needs a value: FILE' bench --csv
expect "an option out of range" 2 '`--threads` = `0`: must be an integer from 1 to 1024' bench --threads=0
expect "an option given twice" 2 '`--json` is given twice' info --json --json
expect "a word too many" 2 'unexpected `now`' info now
expect "no file" 2 'missing FILE' replay

# info
expect "info: version" 0 "^libattn ${version//./\\.} " info
ATTN_CUDA_DRIVER=/nowhere/libcuda.so.1 expect "info: an absent backend says why" 0 \
  '^  cuda  absent: ATTN_ERROR_NO_DEVICE: no CUDA driver: .*/nowhere/libcuda\.so\.1' info
fake=$build/tests/fake_cuda/libattn_fake_cuda.so
ATTN_CUDA_DRIVER=$fake expect "info: a CUDA device" 0 '^  cuda  0: Fake H 0, sm_90a, 132 SMs, 80\.0 GiB, driver 13\.0$' info
ATTN_CUDA_DRIVER=$fake expect "info --json: a CUDA device" 0 '"arch":"sm_80","compute_units":108,' info --json
expect "info: kernels" 0 '^  dense +cpu\.dense' info
expect "info: kernels of experimental plans" 0 '^  scan +cpu\.scan' info
json() {
  "$attn" info --json | python3 -c '
import json, sys
info = json.load(sys.stdin)
assert info["library_version"] == sys.argv[1], info
assert [b["kind"] for b in info["backends"]] == ["cpu", "cuda", "hip"], info
assert all(bool(b["reason"]) == (b["status"] != "ATTN_OK") for b in info["backends"]), info
usable = [s["name"] for s in info["cpu"]["instruction_sets"] if s["usable"]]
assert usable[0] == "baseline" and info["cpu"]["chosen"] == usable[-1], info
assert [o["name"] for o in info["operators"]] == ["dense", "merge", "append", "linear", "conv", "scan"], info
assert all(o["kernel"] for o in info["operators"]), info' "$version"
}
check "info --json" env -u ATTN_CPU_ISA bash -c "$(declare -f json); attn=$attn version=$version; json"
ATTN_CPU_ISA=baseline expect "info follows ATTN_CPU_ISA" 0 '^  baseline +in use' info
ATTN_CPU_ISA=avx1024 expect "info: an instruction set that does not exist" 3 'ATTN_CPU_ISA = avx1024: must be' info

# bench: every operator, on sizes that take no time
expect "bench --list" 0 '^prefill s2048 h8 d128 full fp32$' bench --list
expect "bench --list --filter" 0 '^decode b1 s32768 h32/8 d128 bf16$' bench --list --filter 'decode b1 *bf16'
expect "bench: no such case" 2 'no case matches `nothing`; `attn bench --list`' bench --filter nothing
small=(--filter '* s[16][4 ]*' --repetitions 2 --threads 2)
cases=$("$attn" bench "${small[@]}" --list | wc -l)
check "bench: the small cases are prefill and append" test "$cases" = 2
expect "bench: table" 0 '^prefill s64 h2 d64 full fp32 .* GFLOP/s +[0-9.]+$' \
  bench "${small[@]}" --csv "$scratch/bench.csv" --plot "$scratch/bench.svg"
check "bench: CSV" python3 "$here/check_bench.py" csv "$scratch/bench.csv" "$cases"
check "bench: SVG" python3 "$here/check_bench.py" svg "$scratch/bench.svg" "$cases"
expect "bench --csv -" 0 '^case,operator,dtype,' bench "${small[@]}" --csv -
cp "$scratch/out" "$scratch/stdout.csv"
check "bench --csv - writes nothing else there" python3 "$here/check_bench.py" csv "$scratch/stdout.csv" "$cases"
expect "bench --plot -" 0 '^</svg>$' bench "${small[@]}" --plot -
cp "$scratch/out" "$scratch/stdout.svg"
check "bench --plot - writes nothing else there" python3 "$here/check_bench.py" svg "$scratch/stdout.svg" "$cases"
expect "bench: two results for standard output" 2 'only one of' bench "${small[@]}" --plot - --csv -
expect "bench: a file that cannot be written" 2 'cannot write `/nowhere/x.svg`' bench "${small[@]}" --plot /nowhere/x.svg

# replay of cases
case='{"seed": 77, "dim_qk": 40, "dim_v": 24, "heads_q": 4, "heads_k": 2, "heads_v": 2, "batch": 3, "max_q": 33,
  "max_kv": 70, "q_lengths": "cu", "kv_lengths": "paged+seqlens", "causal": "bottom_right", "row_max": 1}'
case=${case//$'\n'/}
printf '%s\n\nFAILED-CASE %s\n' "$case" "$case" >"$scratch/pass.json"
printf '%s\n' "$case" '{"seed": 5, "heads_q": 4, "heads_k": 3}' >"$scratch/refused.json"
printf '%s\n' "$case" "${case%\}}" >"$scratch/corrupt.json"
expect "replay: a case" 0 ': 0 mismatches, 0 refusals$' replay "$scratch/pass.json"
expect "replay: errors by slot" 0 '^    ROW_MAX +worst +[0-9.e+-]+ +\(allowed 2\.0e-05\)$' replay "$scratch/pass.json"
expect "replay: one backend" 0 '^cases 2, backends 1: ' replay "$scratch/pass.json" --backend cpu/baseline
input=$scratch/pass.json expect "replay: standard input" 0 '^stdin:3: ' replay -
expect "replay finds a mismatch" 1 '^  cpu/baseline: MISMATCH$' replay "$scratch/pass.json" --tolerance-scale 1e-9
expect "replay: the library refuses" 3 'attn_problem\.heads_k = 3: must divide' replay "$scratch/refused.json"
expect "replay: a mismatch outweighs a refusal" 1 ' refusals$' replay "$scratch/refused.json" --tolerance-scale 1e-9
expect "replay: a corrupted file" 2 "corrupt\.json:2:$((${#case})): expected ',' or '}'" replay "$scratch/corrupt.json"
echo '{"seed": 1, "head": 2}' >"$scratch/field.json"
expect "replay: an unknown field" 2 'field\.json:1:21: a case has no field "head"' replay "$scratch/field.json"
echo '{"seed": 1, "max_q": 100000, "max_kv": 100000}' >"$scratch/large.json"
expect "replay: more than the oracle can do" 2 'large\.json:1: .* more than --work' replay "$scratch/large.json"
expect "replay: a file without a case" 2 'holds no case' replay /dev/null
expect "replay: no such file" 2 'cannot read' replay "$scratch/missing.json"
expect "replay: no such backend" 2 'no backend `cpu/avx3`.* There are: cpu/baseline' replay --backend cpu/avx3 x

# replay of described plans, printed by a program of its own
# shellcheck disable=SC2046 # words are meant to be split
build_describe() {
  gcc -std=c99 -Wall -Wextra -Werror "$here/describe.c" -o "$scratch/describe" $(pkg-config --cflags --libs attn)
}
check "describe: build" build_describe
for plan in varlen paged options merge; do
  LD_LIBRARY_PATH=$libdir "$scratch/describe" "$plan" >"$scratch/$plan.json" || failed=1
done
for plan in varlen paged options; do
  expect "replay: the description of a plan, $plan" 0 '^cases 1, .*: 0 mismatches, 0 refusals$' \
    replay "$scratch/$plan.json" --seed 42
  expect "replay finds a mismatch in $plan" 1 'MISMATCH' replay "$scratch/$plan.json" --tolerance-scale 1e-9
done
expect "replay: sizes are reduced to the work" 0 '^  sizes: .* keys [0-9]{1,3} of 5000$' \
  replay "$scratch/paged.json" --work 3e5
expect "replay: a plan that is not dense" 2 'merge\.json:1:[0-9]+: the oracle has no plans of kind merge' \
  replay "$scratch/merge.json"
sed 's/"schema":1/"schema":7/' "$scratch/paged.json" >"$scratch/schema.json"
expect "replay: a schema of the future" 2 'schema 7 is not known, only 1' replay "$scratch/schema.json"
sed 's/"flags":0,"output":false/"flags":512,"output":false/' "$scratch/paged.json" >"$scratch/promise.json"
expect "replay: a plan that a case cannot express" 2 'cannot ask for this plan: tensors\[[0-9]+\]\.flags is 512, not 0' \
  replay "$scratch/promise.json"
sed 's/"heads_q":4/"heads_q":5/' "$scratch/paged.json" >"$scratch/heads.json"
expect "replay: a description that the library refuses" 3 'attn_problem\.heads_' replay "$scratch/heads.json"

# pack: the plans described above, with a compiler that is a fake where the build has it
fake=$build/tests/kernel/libattn_fake_nvrtc.so
cat "$scratch/varlen.json" "$scratch/paged.json" "$scratch/options.json" >"$scratch/plans.json"
pack=(pack "$scratch/plans.json" --arch sm_90a,compute_80 --output "$scratch/plans.attnpack" --no-cache)
if [ -e "$fake" ]; then
  expect "pack: three plans" 0 '^plans 3, targets 2, kernels [0-9]+: [0-9]+ bytes$' "${pack[@]}" --compiler "$fake"
  cp "$scratch/plans.attnpack" "$scratch/first.attnpack"
  input=$scratch/plans.json expect "pack: standard input" 0 '^plans 3, ' \
    pack - --arch sm_90a,compute_80 --output "$scratch/plans.attnpack" --no-cache --compiler "$fake" --jobs 1
  check "pack: the same plans make the same pack" cmp "$scratch/first.attnpack" "$scratch/plans.attnpack"
  expect "pack --list" 0 '^sm_90a +NVRTC 13\.0 .* stored +attn_dense_combine of backends/gpu/dense/combine\.cuh, ATTN_PROGRAMMATIC=1$' \
    pack --list "$scratch/plans.attnpack"
  printf 'x' | dd of="$scratch/plans.attnpack" bs=1 seek=300 conv=notrunc status=none
  expect "pack --list: a damaged pack" 2 'plans\.attnpack is a damaged pack: ' pack --list "$scratch/plans.attnpack"
  expect "pack: a target that the compiler does not know" 3 'does not know sm_103a' \
    pack "$scratch/plans.json" --arch sm_103a --output "$scratch/x" --no-cache --compiler "$fake"
  expect "pack: an output that cannot be written" 2 'cannot write `/nowhere/x`' \
    pack "$scratch/paged.json" --arch sm_90a --output /nowhere/x --no-cache --compiler "$fake"
fi
expect "pack: no compiler" 3 'plans\.json:[123]: for sm_90a: .*compiler_path = /nowhere/nvrtc\.so: ' \
  "${pack[@]}" --compiler /nowhere/nvrtc.so
expect "pack: an unknown target" 3 'sm_75 is no known target; those are ' \
  pack "$scratch/plans.json" --arch sm_75 --output "$scratch/x"
ATTN_CUDA_DRIVER=/nowhere/libcuda.so.1 expect "pack: for no GPU in particular" 2 'Name it, as in `--arch sm_90a`' \
  pack "$scratch/plans.json" --output "$scratch/x"
expect "pack: no output" 2 'option `--output` is needed' pack "$scratch/plans.json" --arch sm_90a
expect "pack: no plan" 2 'holds no plan' pack /dev/null --arch sm_90a --output "$scratch/x"
expect "pack: a schema of the future" 2 'schema\.json:1:[0-9]+: schema 7 is not known, only 1' \
  pack "$scratch/schema.json" --arch sm_90a --output "$scratch/x"
sed 's/"softcap":/"softness":1,"softcap":/' "$scratch/paged.json" >"$scratch/unknown.json"
expect "pack: a description that says more than is known" 2 'unknown\.json:1: .*dense\.softness is 1, not absent' \
  pack "$scratch/unknown.json" --arch sm_90a --output "$scratch/x"
expect "pack --list: no pack" 2 'plans\.json is no pack of libattn' pack --list "$scratch/plans.json"
expect "pack --list goes alone" 2 'option `--arch` does not go with `--list`' pack --list x --arch sm_90a

exit "$failed"
