#!/bin/sh
# One job on a GPU, in slices of at most ten minutes. Give the same command until it no longer ends with status 75:
#   scripts/gpu_job.sh JOB FOLDER_OF_PARQUET_FILES OUT
# JOB: search (the benchmark of the loop), cifar10, cifar10-robust-l2, cifar10-robust-linf, cifar10-resnet18, cifar10-paper.
# In this order; none was run on a GPU yet. Times, all estimated for one H200: docs/recipes.md.
#
# It needs this folder, python3 with torch, and the parquet files of CIFAR-10 (18 MB as JPEG copies). What else is missing
# there comes as wheels: scripts/wheels.sh. OUT gets small files only, at most seven, none over 15 MB: results.json,
# recipe.toml, report.html, theory.html, theory.json, or accuracies.txt, and the log of the slice.
#
# From one slice to the next. The work is kept in WORK (runs/gpu by default), and the next slice goes on there: checkpoints
# every few seconds, sets by shards. If the machine is another one each time, WORK is lost. So a slice that is not the last
# leaves OUT/state.0, state.1, ... (60 MB together): the classifiers that fit, those that others are built with first, with
# what was measured of them. Bring that folder back and name it in STATE; it is read if WORK is empty. Sets are
# never in it (600 MB each) and are built again. Two or three classifiers of ResNet-9 fit, one of ResNet-18, none of ResNet-50
# (94 MB): cifar10-paper needs a machine that keeps its disk from first slice to last.
#
# DEVICE=cpu MORE="--train-images 60 --test-images 20 ..." tries a job without a GPU (MORE_EVALUATE: the evaluation of the
# robust ones); SLICE is its length in seconds.
set -eu
cd "$(dirname "$0")/.."
job=$1 data=$2 out=$3 device=${DEVICE:-cuda}
work=${WORK:-runs/gpu}/$job
ends=$(($(date +%s) + ${SLICE:-540}))
export PYTHONPATH="src:.${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
mkdir -p "$out" "$work"

again() { # the slice is over: leave what fits
  python3 scripts/gpu_state.py pack "$work" "$out"
  echo "Not finished. Run me again."
  exit 75
}

notbugs() { # one command, until the slice ends; its log, and its result on stdout
  left=$((ends - $(date +%s)))
  [ "$left" -gt 0 ] || again
  status=0
  timeout --signal=INT --kill-after=20 "$left" python3 -m notbugs "$@" --data "$data" --device "$device" \
    >>"$out/$job.out" 2>>"$out/$job.log" || status=$?
  case $status in
    0) ;;
    124 | 130 | 137) again ;;
    *) tail -n 20 "$out/$job.log" && exit "$status" ;;
  esac
}

robust() { # norm and radius: a ResNet-18, half of the five minutes an estimate for its 30 epochs
  file=$work/$job.safetensors
  # shellcheck disable=SC2086
  [ -e "$file" ] || notbugs train --out "$file" --architecture.name resnet18 --epochs 30 --batch 256 --lr 0.1 --shift 4 --flip \
    --adversary.norm "$1" --adversary.eps "$2" --adversary.steps 5 ${MORE:-}
  # shellcheck disable=SC2086
  notbugs evaluate "$file" --norm "$1" --radii "$2" --steps 20 --restarts 2 --autoattack ${MORE_EVALUATE:-}
  mv "$out/$job.out" "$out/accuracies.txt"
}

if [ -n "${STATE:-}" ] && [ -z "$(ls -A "$work")" ]; then
  python3 scripts/gpu_state.py unpack "$STATE" "$work"
fi
case $job in
  search) exec scripts/gpu_search.sh "$data" "$out" ;;
  cifar10-robust-l2) robust l2 0.5 ;;
  cifar10-robust-linf) robust linf 0.03137255 ;;
  cifar10 | cifar10-resnet18 | cifar10-paper)
    # shellcheck disable=SC2086
    notbugs run "$job" --out "$work" ${MORE:-}
    rm "$out/$job.out"
    for name in results.json recipe.toml report.html theory.html theory.json; do cp "$work/$name" "$out"; done
    ;;
  *) echo "There is no job $job: the head of $0 names all." && exit 2 ;;
esac
rm -f "$out"/state.*
echo "Finished: $out"
