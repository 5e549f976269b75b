# shellcheck shell=bash
# Sourced by tests/run.sh and examples/run.sh in the root of the repository: brings what a bare Debian 12 lacks.
# What is there already is left alone, so a second run does nothing here.

# need_packages PACKAGE=COMMAND...: installs the packages whose command fails.
need_packages() {
  local entry missing=() sudo=()
  for entry in "$@"; do
    eval "${entry#*=}" >/dev/null 2>&1 || missing+=("${entry%%=*}")
  done
  [ "${#missing[@]}" = 0 ] && return
  echo "installing ${missing[*]}"
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "not root and no sudo: install ${missing[*]} and run again"; return 1; }
    sudo=(sudo)
  fi
  "${sudo[@]}" apt-get update -qq &&
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
      >/dev/null
}

# What building the library and its Python package takes.
build_packages=(
  "cmake=command -v cmake"
  "ninja-build=command -v ninja"
  "g++=command -v gcc && command -v g++"
  "ca-certificates=test -e /etc/ssl/certs/ca-certificates.crt"
  "python3=command -v python3"
  "python3-venv=python3 -c 'import ensurepip, venv'"
  "python3-dev=python3 -c 'import os, sysconfig; os.stat(sysconfig.get_path(\"include\") + \"/Python.h\")'"
)

# need_python DISTRIBUTION...: has them in .venv.
need_python() {
  [ -x .venv/bin/python ] || { rm -rf .venv && python3 -m venv .venv || return; }
  local missing
  missing=$(.venv/bin/python - "$@" <<'PYTHON'
import importlib.metadata, sys

for name in sys.argv[1:]:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        print(name)
PYTHON
  ) || return
  # shellcheck disable=SC2086 # one word for each distribution
  [ -z "$missing" ] || .venv/bin/python -m pip install --quiet --disable-pip-version-check ${PIP_FLAGS:-} $missing
}

# Has the Python package of this very source tree in .venv; builds it only if a source has changed.
need_bindings() {
  need_python pip || return
  local stamp=.venv/attn-sources now
  now=$(find CMakeLists.txt cmake include src backends bindings/python -type f \
    ! -path '*/__pycache__/*' ! -path '*/build/*' ! -path '*/.*_cache/*' -print0 | sort -z | xargs -0 sha256sum | sha256sum)
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$now" ] && return
  rm -f "$stamp"
  CMAKE_BUILD_PARALLEL_LEVEL=${JOBS:-$(nproc)} \
    .venv/bin/python -m pip install --quiet --disable-pip-version-check ./bindings/python &&
    echo "$now" >"$stamp"
}

# Compilers go through ccache where it is installed.
if command -v ccache >/dev/null; then
  export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache
fi
