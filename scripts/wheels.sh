#!/bin/sh
# Wheels of what notbugs needs beside torch, numpy, scipy, scikit-learn, pyarrow and Pillow, for a machine without a network (Linux, x86-64):
#   scripts/wheels.sh FOLDER [PYTHON_VERSION]
# There: python -m pip install --no-index --no-deps --find-links FOLDER FOLDER/*.whl
set -eu
cd "$(dirname "$0")/.."
into=$1 python=${2:-3.12}
names="pydantic pydantic-core annotated-types typing-inspection typing-extensions cyclopts docstring-parser rich-rst docutils
attrs tomli-w jaxtyping wadler-lindig rich markdown-it-py mdurl pygments safetensors
altair vl-convert-python jsonschema jsonschema-specifications referencing rpds-py narwhals jinja2 markupsafe pyautoattack"
platforms=$(for glibc in 2_28 2_27 2_17 2_5; do printf ' --platform manylinux_%s_x86_64' $glibc; done)
# shellcheck disable=SC2086
python3 -m pip download --quiet --no-deps --only-binary=:all: --implementation cp --python-version "$python" $platforms \
  --platform manylinux2014_x86_64 --constraint constraints.txt --dest "$into" $names
ls "$into"
