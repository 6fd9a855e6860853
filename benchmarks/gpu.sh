#!/usr/bin/env bash
# Check and time everything on this machine's GPU, TPU or Mac, with what is installed and without a
# network. Packages that are missing come from WHEELS; samestep is built from this checkout, unless
# it is installed or among the wheels. Nothing outside of a temporary folder is installed.
#
#     WHEELS=FOLDER PYTHON=python3 benchmarks/gpu.sh [--out FOLDER] [--minutes 12] [--platform ...]
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3} wheels=${WHEELS:-wheels}
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
install() { "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$@"; }
if compgen -G "$wheels/*.whl" >/dev/null; then install "$wheels"/*.whl; fi
"$python" -c "import samestep" 2>/dev/null || install --no-build-isolation .
"$python" -m samestep.benchmarks.hardware "$@"
