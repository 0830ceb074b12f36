#!/usr/bin/env bash
# Measures one GPU: `bash benchmarks/gpu.sh OUT [OPTION...]`, options as benchmarks/gpu.py has them. About ten minutes.
# WHEELS=FOLDER names wheels of what the machine's Python lacks; nothing is fetched, so it may be without a network:
#   pip download --no-deps -d wheels webdataset braceexpand clean-fid pydantic pydantic-core annotated-types ...
# They are put into OUT/site, beside the Python that is there.
set -euo pipefail
[ $# -ge 1 ] || { echo "error: name a folder for the results: bash benchmarks/gpu.sh OUT" >&2; exit 2; }
cd "$(dirname "$0")/.."
out=$1
shift
python=${PYTHON:-python3}
mkdir -p "$out"
if [ -n "${WHEELS:-}" ]; then
  compgen -G "$WHEELS/*.whl" >/dev/null || { echo "error: WHEELS: $WHEELS holds no wheels; name another folder" >&2; exit 2; }
  "$python" -m pip install --quiet --no-index --no-deps --upgrade --target "$out/site" "$WHEELS"/*.whl
  export PYTHONPATH=$out/site${PYTHONPATH:+:$PYTHONPATH}
fi
lacks=$("$python" -c 'import importlib.util as u
print(*(n for n in ("torch", "accelerate", "pydantic", "safetensors", "webdataset", "yaml") if u.find_spec(n) is None))')
[ -z "$lacks" ] || { echo "error: $python lacks $lacks; set PYTHON, or WHEELS to a folder of wheels" >&2; exit 2; }
exec "$python" benchmarks/gpu.py --out "$out" "$@"
