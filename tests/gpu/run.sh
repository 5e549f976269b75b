#!/usr/bin/env bash
# Tests libattn on the NVIDIA GPU of this machine, from a build that was made elsewhere: nothing is compiled or installed
# here, and no network is used. The last line counts the checks; exits with 0 if all passed.
#
# usage: run.sh [--list] [--only STAGE[,STAGE...]] [--quick] [--seed N] [--random N] [--jobs N] [--limit S] [--build DIR]
#   --quick     a part of the conformance table, and small samples everywhere
#   --random N  random descriptors of each table (10); each may need a kernel of its own from the compiler
#   --jobs N    processes at a time (all cores): the oracle, on the CPU, takes most of the time
#   --limit S   seconds for everything (580); what is not done by then counts as failed. Where that is not enough, run the
#               stages in parts: --only device,conformance, then the others
#   --build DIR build/gpu-bundle, see bundle.sh, or build/release, whichever is there
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

stages=(device conformance packs nvrtc portable gpu memcheck racecheck python first_plan)
only=${stages[*]} quick='' seed=$RANDOM$RANDOM random=10 jobs=$(nproc) build='' limit=580
usage() { sed -n '5,11s/^# //p' "$0"; exit 2; }
while [ "$#" -gt 0 ]; do
  case $1 in
    --list) printf '%s\n' "${stages[@]}"; exit ;;
    --only) only=${2//,/ }; shift ;;
    --quick) quick=1 random=5 ;;
    --seed) seed=$2; shift ;;
    --random) random=$2; shift ;;
    --jobs) jobs=$2; shift ;;
    --limit) limit=$2; shift ;;
    --build) build=$2; shift ;;
    *) usage ;;
  esac
  shift || usage
done
for stage in $only; do
  [[ " ${stages[*]} " == *" $stage "* ]] || { echo "no stage $stage; there are: ${stages[*]}"; exit 2; }
done
for candidate in build/gpu-bundle build/release; do
  [ -n "$build" ] || { [ -x $candidate/tests/conformance/attn_conformance ] && build=$candidate; }
done
[ -n "$build" ] || { echo "neither build/gpu-bundle nor build/release holds the test programs: see bundle.sh"; exit 2; }

conformance=$build/tests/conformance/attn_conformance
gpu_tests=$build/tests/gpu/attn_gpu_tests
logs=build/gpu-logs
rm -rf "$logs" && mkdir -p "$logs" || exit
cache=$(mktemp -d) || exit
trap 'rm -rf "$cache"' EXIT
chmod 700 "$cache"
start=$SECONDS
export ATTN_TEST_BACKEND=cuda ATTN_TEST_SEED=$seed ATTN_CACHE_DIR=$cache
export ATTN_TEST_RANDOM=$random
[ -z "$quick" ] || export ATTN_TEST_SUBSET=1
# Beside each other the processes must not each take all of the host.
export OMP_NUM_THREADS=1

# jobs_of STAGE SECONDS: runs the jobs that stdin lists, "NAME<tab>COMMAND" a line, several at a time, all of them within
# that time; the log and the exit status of each go to a folder of the stage.
jobs_of() {
  local seconds=$((limit - SECONDS + start))
  [ "$seconds" -lt "$2" ] || seconds=$2
  [ "$seconds" -gt 1 ] || seconds=1
  mkdir -p "$logs/$1"
  cat >"$logs/$1/jobs"
  # shellcheck disable=SC2016 # for the inner shell
  tr '\n' '\0' <"$logs/$1/jobs" | timeout -k 10 "$seconds" xargs -0 -r -n 1 -P "$jobs" bash -c '
    name=${2%%$'"'\t'"'*} command=${2#*$'"'\t'"'}
    bash -c "$command" >"$1/$name.log" 2>&1 </dev/null
    echo $? >"$1/$name.status"
    echo $SECONDS >"$1/$name.seconds"' job "$logs/$1"
}

# One job for each test of the filter.
test_jobs() { # SETTINGS FILTER [PREFIX]
  local test
  "$conformance" --gtest_list_tests --gtest_filter="$2" |
    awk '/^[A-Z]/ { suite = $1 } /^  / { print suite $1 }' |
    while read -r test; do printf '%s\t%s %s --gtest_filter="%s"\n' "${3:-}$test" "$1" "$conformance" "$test"; done
}

# Tables in shards.
table_jobs() { # SETTINGS FILTER
  local shard
  for ((shard = 0; shard < jobs; ++shard)); do
    printf 'table-%02d\t%s ATTN_TEST_SHARD=%d/%d %s --gtest_filter="%s"\n' "$shard" "$1" "$shard" "$jobs" "$conformance" "$2"
  done
}

# All tables, then other tests.
conformance_jobs() { # SETTINGS FILTER
  table_jobs "$1" "Table*"
  test_jobs "$1" "$2"
}

stage_device() {
  "$build/src/cli/attn" info
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv,noheader 2>&1
  ATTN_TEST_SUBSET=1 ATTN_TEST_RANDOM=1 "$conformance" --gtest_filter=Table.Random 2>&1 | grep -m 1 'no backend to test'
  [ "${PIPESTATUS[1]}" != 0 ]
}

# Everything, kernels from wherever the library finds them.
stage_conformance() {
  # These two make hundreds of plans, most of which would have a kernel of their own: those of the packs do.
  local many=Described.PlansWithOptionsReadBack programs=PropertyVisibility.SingleKeysOutsideMaskPrograms
  {
    conformance_jobs "" "Property*:Append*:Merge*:Described*:Far*:-$many:$programs"
    test_jobs ATTN_TEST_HANDLE_FLAGS=NO_COMPILE "$many:$programs"
    test_jobs ATTN_TEST_SUBSET=1 "$programs" compiled-
  } | jobs_of conformance 400
}

# Embedded packs alone: what needs a compiler counts as refused.
stage_packs() {
  conformance_jobs ATTN_TEST_HANDLE_FLAGS=NO_COMPILE,NO_DISK_CACHE "Append*:Merge*" | jobs_of packs 150
}

# No packs: every kernel comes from the compiler, or from the cache that it has filled in this run.
stage_nvrtc() {
  conformance_jobs ATTN_KERNEL_SOURCES=nvrtc "Append*:Merge*" | jobs_of nvrtc 250
}

# Portable kernels on the cases that others take by default, where the GPU has others, and in the tests of whole calls.
stage_portable() {
  {
    table_jobs ATTN_GPU_IMPLEMENTATION=portable "TableTiles*:TableFew*:TableLatent*"
    printf 'gpu\tATTN_GPU_IMPLEMENTATION=portable %s\n' "$gpu_tests"
  } | jobs_of portable 200
}

# Graphs, streams, contexts, faults, checked mode, in one process: some tests look at the whole device. Bits of masks.
stage_gpu() {
  printf 'gpu\t%s\nmasks\t%s\n' "$gpu_tests" "$build/tests/gpu/attn_gpu_masks" | jobs_of gpu 150
}

# A sample of small cases under a tool of compute-sanitizer.
sanitize() { # TOOL
  local tool=$1 sanitizer probe
  mkdir -p "$logs/$tool"
  local -a run
  sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
  if [ -z "$sanitizer" ]; then
    echo "unavailable: there is no compute-sanitizer" >"$logs/$tool/unavailable"
    return
  fi
  run=("$sanitizer" --tool "$tool" --error-exitcode 9)
  [ "$tool" != memcheck ] || run+=(--report-api-errors no) # calls of the driver that may fail are tested elsewhere
  sanitizer=${run[*]}
  probe=$(timeout -k 10 60 "${run[@]}" "$gpu_tests" --gtest_filter=Limits.MergeOfManyRows 2>&1)
  if grep -qiE 'not supported|unable to|failed to initiali|internal error' <<<"$probe"; then
    grep -iE -m 1 'not supported|unable to|failed to initiali|internal error' <<<"$probe" | sed 's/^=* */unavailable: /' \
      >"$logs/$tool/unavailable"
    return
  fi
  local small="ATTN_TEST_SUBSET=1 ATTN_TEST_RANDOM=8" shard shards=40
  {
    for ((shard = 0; shard < 3; ++shard)); do
      printf 'table-%d\t%s ATTN_TEST_SHARD=%d/%d %s %s --gtest_filter="Table*"\n' "$shard" "$small" "$shard" "$shards" \
        "$sanitizer" "$conformance"
    done
    printf 'merge\t%s %s %s --gtest_filter="Merge.NothingToDo:Merge.SplitKeysOfADensePlan:Merge.HugeDifferences*"\n' \
      "$small" "$sanitizer" "$conformance"
    printf 'append\t%s %s %s --gtest_filter="Append.RandomCalls*:Append.RingsKeep*"\n' "$small" "$sanitizer" "$conformance"
    printf 'calls\t%s %s --gtest_filter="Streams.DefaultStreams:References.Small"\n' "$sanitizer" "$gpu_tests"
  } | jobs_of "$tool" 150
}
stage_memcheck() { sanitize memcheck; }
stage_racecheck() { sanitize racecheck; }

# The Python package on CUDA tensors, if it is here.
stage_python() {
  local tests=tests/gpu/test_torch_cuda.py reason
  mkdir -p "$logs/python"
  if [ -e "$build/python/unavailable" ]; then
    reason=$(<"$build/python/unavailable")
  elif [ ! -e $tests ]; then
    reason="there is no $tests"
  else
    reason=$(PYTHONPATH=$build/python python3 -c 'import attn, torch; assert torch.cuda.is_available()' 2>&1 | tail -n 1)
  fi
  if [ -n "$reason" ]; then
    echo "unavailable: $reason" >"$logs/python/unavailable"
    return
  fi
  printf 'python\tPYTHONPATH=%s/python python3 -B %s -v\n' "$build" $tests | jobs_of python 120
}

# Not a test but for its end: how long the first plan takes.
stage_first_plan() {
  printf 'first_plan\t%s %d\n' "$build/tests/gpu/attn_first_plan" "$([ -n "$quick" ] && echo 3 || echo 10)" |
    jobs_of first_plan 150
}

if [[ " $only " == *" device "* ]]; then
  mkdir -p "$logs/device"
  timeout -k 10 120 bash -c "$(declare -f stage_device); build=$build conformance=$conformance; stage_device" \
    >"$logs/device/device.log" 2>&1
  status=$?
  cat "$logs/device/device.log"
  if [ "$status" != 0 ]; then
    echo "there is no usable GPU, so nothing was tested"
    exit 2
  fi
fi
for stage in "${stages[@]}"; do
  [[ "$stage" != device && " $only " == *" $stage "* ]] || continue
  begin=$SECONDS
  "stage_$stage"
  printf '== %s: %d s\n' "$stage" "$((SECONDS - begin))"
  python3 tests/gpu/summarize.py --stage "$logs/$stage"
done
printf 'ATTN_TEST_SEED=%s, total time %d s\n' "$seed" "$((SECONDS - start))"
python3 tests/gpu/summarize.py --total "$logs"
