#!/usr/bin/env bash
# Check and time everything on this machine's GPU, TPU or Mac, with what is installed and without a
# network. Packages that are missing come from WHEELS; samestep is built from this checkout, unless
# it is among the wheels. Nothing outside of a temporary folder is installed. Relative names of
# folders are those of the folder in which the command is called.
#
#     WHEELS=FOLDER PYTHON=python3 benchmarks/gpu.sh [--out FOLDER] [--minutes 12] [--platform ...]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3} wheels=${WHEELS:-wheels}
if [[ -n ${WHEELS:-} && ! -d $WHEELS ]]; then
    echo "WHEELS is $WHEELS, which is no folder; name one that has the wheels" >&2
    exit 2
fi
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
install() { "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$@"; }
for wheel in "$wheels"/*.whl; do
    if [[ -e $wheel ]]; then install "$wheel" || echo "not installed: $wheel" >&2; fi
done
if ! compgen -G "$wheels/samestep-*.whl" >/dev/null; then
    printf '[build]\nbuild_base=%s\n[egg_info]\negg_base=%s\n' "$site" "$site" >"$site/build.cfg"
    if ! DIST_EXTRA_CONFIG="$site/build.cfg" install --no-build-isolation "$root"; then
        echo "samestep cannot be built from $root: that takes pip and setuptools 77 or newer;" \
            "put wheels of them, or one of samestep, into the folder WHEELS" >&2
        exit 2
    fi
fi
"$python" -m samestep.benchmarks.hardware --checkout "$root" "$@"
