#!/usr/bin/env bash
# Builds the documentation site into DIR/html (default: build/docs); warnings are errors. Needs Doxygen, the style
# doxygen-awesome and MathJax 2, by default where the Debian packages doxygen, doxygen-awesome-css and libjs-mathjax put
# them. Style and formulas are copied, so the site needs no network.
# usage: build.sh [DIR]   (DOXYGEN_AWESOME=dir, MATHJAX=dir: elsewhere)
set -euo pipefail
output=${1:-$(dirname "$0")/../build/docs}
mkdir -p "$output"
output=$(cd "$output" && pwd)
cd "$(dirname "$0")/.."
export ATTN_DOCS_OUTPUT=$output
export DOXYGEN_AWESOME=${DOXYGEN_AWESOME:-/usr/share/doxygen-awesome-css}
mathjax=${MATHJAX:-/usr/share/javascript/mathjax}
for needed in "$DOXYGEN_AWESOME/doxygen-awesome.css" "$mathjax/MathJax.js"; do
  [ -f "$needed" ] || { echo "$needed is missing: install doxygen-awesome-css and libjs-mathjax, or say where they are"; exit 1; }
done

# The header is the one place where the version is written.
version=$(sed -n 's/^#define ATTN_VERSION 0x\(..\)\(..\)\(..\)$/\1 \2 \3/p' include/attn/attn.h)
read -r major minor patch <<<"$version"
ATTN_DOCS_VERSION=$((16#$major)).$((16#$minor)).$((16#$patch))
export ATTN_DOCS_VERSION

# Doxygen's own page frame, with the scripts of the style added and its logo as text, which suits light and dark.
rm -rf "$output/html" "$output/template"
mkdir -p "$output/template"
doxygen -w html "$output/template/header.html" "$output/template/footer.html" "$output/template/doxygen.css" >/dev/null
sed -i '/^<\/head>/e cat docs/site/head.html' "$output/template/header.html"
sed -i 's|<img class="footer"[^>]*>|Doxygen|' "$output/template/footer.html"

# Plots of what was measured.
mkdir -p "$output/plots"
python3 tests/perf/compare_plot.py docs/data/dense_h200.csv "$output/plots/dense_h200.svg"

mkdir -p "$output/html/mathjax"
doxygen docs/site/Doxyfile

# The parts of MathJax that turn TeX into SVG.
(cd "$mathjax" && cp --parents -rL MathJax.js extensions/*.js extensions/TeX jax/element jax/input/TeX \
  jax/output/SVG/*.js jax/output/SVG/autoload jax/output/SVG/fonts/TeX "$output/html/mathjax")
echo "built $output/html/index.html"
