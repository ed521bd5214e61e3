#!/bin/sh
# The benchmark of the search on a GPU, under ten minutes: results/search-gpu.json, for docs/performance.md.
#   scripts/gpu_search.sh FOLDER_OF_PARQUET_FILES [OUT]      DEVICE=cpu and MORE=--quick try it without a GPU
# The peers are timed too where `python -m benchmarks.peers` has been run, and named as missing where not.
set -eu
cd "$(dirname "$0")/.."
data=$1 out=${2:-results} device=${DEVICE:-cuda}
mkdir -p "$out"
export PYTHONPATH="src:.${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
for model in resnet18 cnn; do
  python3 -m benchmarks.search --device "$device" --data "$data" --models "$model" --images 1024 --batch 512 --repeats 5 \
    --tasks "pgd-20 l2;pgd-20 linf;relabelling;feature matching" --json "$out/search-gpu-$model.json" ${MORE:-}
done
