#!/bin/sh
# Wheels, 6 MB, of what GPU jobs need beside torch, numpy, scipy, pyarrow and Pillow, for a machine without a
# network (Linux, x86-64) whose Python is PYTHON_VERSION. They are fetched from the package index on a machine that has one:
#   scripts/wheels.sh FOLDER [PYTHON_VERSION]
# There: WHEELS=FOLDER scripts/gpu_job.sh ..., which installs them beside its job alone. What draws pages is not among them
# (35 MB): `notbugs report OUT` draws them here. pyautoattack goes without its examples (42 MB of weights).
set -eu
cd "$(dirname "$0")/.."
into=$1 python=${2:-3.12}
names="pydantic pydantic-core annotated-types typing-inspection typing-extensions cyclopts docstring-parser rich-rst docutils
attrs tomli-w jaxtyping wadler-lindig rich markdown-it-py mdurl pygments safetensors pyautoattack"
platforms=$(for glibc in 2_28 2_27 2_17 2_5; do printf ' --platform manylinux_%s_x86_64' $glibc; done)
# shellcheck disable=SC2086
python3 -m pip download --quiet --no-deps --only-binary=:all: --implementation cp --python-version "$python" $platforms \
  --platform manylinux2014_x86_64 --constraint constraints.txt --dest "$into" $names
python3 - "$into" <<'END'
import sys, zipfile
from pathlib import Path

for wheel in Path(sys.argv[1]).glob("pyautoattack-*.whl"):
    slim = wheel.with_suffix(".part")
    with zipfile.ZipFile(wheel) as full, zipfile.ZipFile(slim, "w", zipfile.ZIP_DEFLATED) as kept:
        for entry in full.infolist():
            if "/examples/" not in entry.filename:
                kept.writestr(entry, full.read(entry))
    slim.replace(wheel)
END
ls -s "$into"
