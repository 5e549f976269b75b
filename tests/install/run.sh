#!/usr/bin/env bash
# Installs a build, moves the installed tree and uses it in every way a consumer may. Prints one line for each.
# usage: run.sh BUILD_DIRECTORY SCRATCH_DIRECTORY
set -uo pipefail
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
here=$source_dir/tests/install
build=$(cd "$1" && pwd)
scratch=$2
jobs=${JOBS:-$(nproc)}
failed=0

rm -rf "${scratch:?}/staged" "$scratch/moved" "$scratch/bin"
mkdir -p "$scratch/bin"
scratch=$(cd "$scratch" && pwd)
log=$scratch/log.txt

check() { # name, command: runs it quietly and reports
  local name=$1
  shift
  if "$@" >"$log" 2>&1; then
    echo "ok - $name"
  else
    echo "not ok - $name: $*"
    sed 's/^/    /' "$log"
    failed=1
  fi
}

check "install" cmake --install "$build" --prefix "$scratch/staged"
[ "$failed" = 0 ] || exit 1
mv "$scratch/staged" "$scratch/moved"
prefix=$scratch/moved
libdir=$(dirname "$(find "$prefix" -name libattn.so -print -quit)")
export PKG_CONFIG_PATH=$libdir/pkgconfig
version=$(pkg-config --modversion attn)

no_build_paths() { ! grep -rIl --exclude-dir=doc -e "$scratch/staged" -e "$source_dir" "$prefix"; }
check "installed text files name no build or source path" no_build_paths
components() {
  rm -rf "$scratch/runtime" "$scratch/development"
  cmake --install "$build" --prefix "$scratch/runtime" --component runtime &&
    cmake --install "$build" --prefix "$scratch/development" --component development || return
  [ -n "$(find "$scratch/runtime" -name 'libattn.so.0')" ] && [ -z "$(find "$scratch/runtime" -name '*.h' -o -name '*.a')" ] &&
    [ -n "$(find "$scratch/development" -name attn.h)" ] && [ -z "$(find "$scratch/development" -name 'libattn.so.*')" ]
}
check "components runtime and development" components

project() { # name, cmake options
  local name=$1
  shift
  cmake -S "$here/$name" -B "$scratch/$name" -G Ninja "$@" && cmake --build "$scratch/$name" -j "$jobs"
}
rm -rf "$scratch/find_package"
check "find_package: build" project find_package -DCMAKE_PREFIX_PATH="$prefix" -DEXPECTED_VERSION="$version"
check "find_package: attn::attn" "$scratch/find_package/consumer_attn"
check "find_package: attn::attn_static" "$scratch/find_package/consumer_attn_static"
wrong_version() { ! project find_package -B "$scratch/wrong" -DCMAKE_PREFIX_PATH="$prefix" -DEXPECTED_VERSION="$1"; }
check "find_package: a newer minor version is not accepted" wrong_version "${version%%.*}.99"

check "add_subdirectory: build" project add_subdirectory -DATTN_SOURCE="$source_dir"
for program in consumer_attn consumer_attn_static consumer_cc_attn consumer_cc_attn_static; do
  check "add_subdirectory: $program" "$scratch/add_subdirectory/$program"
done

# shellcheck disable=SC2046 # words are meant to be split
link_shared() {
  gcc -std=c99 -O1 "$here/consumer.c" -o "$scratch/bin/shared" $(pkg-config --cflags --libs attn) -lm
}
# shellcheck disable=SC2046
link_static() {
  gcc -std=c99 -O1 "$here/consumer.c" -o "$scratch/bin/static" $(pkg-config --cflags attn) \
    $(pkg-config --static --libs attn | sed 's/-lattn/-Wl,-Bstatic -lattn -Wl,-Bdynamic/')
}
needs_no_libattn() { readelf -d "$1" | grep NEEDED && ! readelf -d "$1" | grep -q 'NEEDED.*libattn'; }
check "pkg-config: link shared" link_shared
check "pkg-config: run shared" env LD_LIBRARY_PATH="$libdir" "$scratch/bin/shared"
check "pkg-config: link static" link_static
check "pkg-config: static program needs no libattn.so" needs_no_libattn "$scratch/bin/static"
check "pkg-config: run static" "$scratch/bin/static"

cp "$libdir/libattn.so" "$scratch/bin/libattn-copy.so"
check "dlopen: build" gcc -std=gnu99 -O1 -I"$prefix/include" "$here/dlopen.c" -o "$scratch/bin/dlopen" -ldl -lm
check "dlopen: two copies in one process" "$scratch/bin/dlopen" "$libdir/libattn.so" "$scratch/bin/libattn-copy.so"

compilers=(g++)
command -v clang++ >/dev/null && compilers+=(clang++)
for compiler in "${compilers[@]}"; do
  for standard in 11 20; do
    program=$scratch/bin/$compiler-$standard
    # shellcheck disable=SC2046
    check "attn.hpp: $compiler C++$standard build" "$compiler" -std=c++$standard -O1 -Wall -Wextra -Wpedantic -Werror \
      "$here/consumer.cc" -o "$program" $(pkg-config --cflags --libs attn)
    check "attn.hpp: $compiler C++$standard run" env LD_LIBRARY_PATH="$libdir" "$program"
  done
done

# The C example of the README, built as the README says.
bash "$source_dir/tests/readme.sh" c >"$scratch/readme.c"
# shellcheck disable=SC2046
check "README: build the C example" gcc -std=c11 -Wall -Wextra -Werror "$scratch/readme.c" -o "$scratch/bin/readme" \
  $(pkg-config --cflags --libs attn) -lm
check "README: run the C example" env LD_LIBRARY_PATH="$libdir" "$scratch/bin/readme"

exit "$failed"
