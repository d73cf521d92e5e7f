#!/usr/bin/env bash
# Install a wheel in an empty environment, away from the checkout, and run the main job with it.
set -euo pipefail
wheel=$(realpath "$1"); examples=$(realpath "$(dirname "$0")/../../examples/h200_decoder")
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
cd "$place"
"${PYTHON:-python3}" -m venv empty
empty/bin/python -m pip install --quiet "$wheel"
empty/bin/rocscope --version
empty/bin/rocscope analyze "$examples/kineto_fp16_graph.json.gz" --model "$examples/fp16_config.json" --out out --quiet >/dev/null
test -s out/analysis.json && test -s out/report.html
empty/bin/rocscope export rules out/watched && empty/bin/rocscope export dashboards out/watched
test -s out/watched/rocscope.rules.yml && test -s out/watched/rocscope-fleet.json && test -s out/watched/rocscope-node.json
empty/bin/python - <<'PY'
import rocscope
analysis = rocscope.analyze("out/capture")
assert analysis.kernels, "no kernels"
PY
echo "the wheel works by itself"
