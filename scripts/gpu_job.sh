#!/bin/sh
# One job on a GPU, in slices of at most ten minutes. Give the same command until it no longer ends with status 75:
#   scripts/gpu_job.sh JOB FOLDER_OF_PARQUET_FILES OUT
# JOB: search (the benchmark of the loop), cifar10, cifar10-robust-l2, cifar10-robust-linf, cifar10-resnet18, cifar10-paper.
# None was run on a GPU yet. What each leaves, its estimated time, and how to commit it: docs/how-to/recipes.md.
#
# It needs this folder, python3 with torch, and the parquet files of CIFAR-10 (18 MB as JPEG copies). What else is missing
# there comes as wheels: WHEELS=FOLDER, filled by scripts/wheels.sh, is installed for this job alone. What is missing is said
# before any work.
#
# From one slice to the next. The work is kept in WORK (runs/gpu by default), and the next slice goes on there: checkpoints
# every few seconds, sets by shards, AutoAttack by batches. On a fresh machine WORK is lost. So OUT always has state.0,
# state.1, ..., even if all is killed: what was finished and fits into STATE_MB (30: together with a checkout of 12 MB, the
# images and 6 MB of wheels just under 64 MiB). Bring that folder back and name it in STATE; it is read if WORK is empty.
# That is the robust classifier of cifar10, the finished half of search, AutoAttack's outcomes. Sets never fit (600 MB each)
# and are built again. ResNet-18 has 45 MB, ResNet-50 94 MB: their jobs need a machine that keeps its disk, or begin again.
#
# DEVICE=cpu and MORE="..." try a job without a GPU (MORE_EVALUATE: the evaluation of the robust ones): docs/how-to/recipes.md.
# SLICE is its length in seconds; AUTOATTACK_IMAGES how many test images AutoAttack gets in the robust jobs.
set -eu
cd "$(dirname "$0")/.."
job=$1 data=$2 out=$3 device=${DEVICE:-cuda}
work=${WORK:-runs/gpu}/$job
log=$out/$job.log megabytes=${STATE_MB:-30}
ends=$(($(date +%s) + ${SLICE:-540}))
export PYTHONPATH="src:.${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
mkdir -p "$out" "$work"

within() { # a command, until the slice ends: its log, and its output in $out/$job.out
  left=$((ends - $(date +%s)))
  [ "$left" -gt 0 ] || again
  status=0
  timeout --foreground --signal=INT --kill-after=20 "$left" "$@" >>"$out/$job.out" 2>>"$log" || status=$?
  case $status in
    0) ;;
    124 | 130 | 137) again ;;
    *) tail -n 20 "$log" && exit "$status" ;;
  esac
}

again() { # the slice is over
  unkept
  python3 scripts/gpu_state.py pack "$work" "$out" "$megabytes"
  echo "Not finished. Run me again."
  exit 75
}

unkept() { # the process that keeps the state ends
  kill "$keeper" 2>/dev/null || true
  wait "$keeper" 2>/dev/null || true
}

notbugs() { within python3 -m notbugs "$@" --data "$data" --device "$device"; }

study() { # its page is drawn elsewhere, by `notbugs report OUT`
  # shellcheck disable=SC2086
  notbugs run "$job" --out "$work" --no-page ${MORE:-}
  for name in results.json recipe.toml gallery.safetensors; do cp "$work/$name" "$out"; done
  rm "$out/$job.out"
}

robust() { # norm and radius: a ResNet-18, half of the five minutes an estimate for its 30 epochs
  file=$work/$job.safetensors
  # shellcheck disable=SC2086
  [ -e "$file" ] || {
    notbugs train --out "$file" --arch resnet18 --epochs 30 --batch 256 --lr 0.1 --shift 4 --flip \
      --adversary.norm "$1" --adversary.eps "$2" --adversary.steps 5 ${MORE:-}
    rm "$out/$job.out" # its clean accuracy, which is measured again
  }
  # shellcheck disable=SC2086
  notbugs evaluate "$file" --norm "$1" --radii "$2" --steps 20 --restarts 2 \
    --autoattack --autoattack-images "${AUTOATTACK_IMAGES:-500}" --keep "$work/autoattack" ${MORE_EVALUATE:-}
  echo "$machine" | cat - "$out/$job.out" >"$out/accuracies.txt"
  rm "$out/$job.out"
}

search() { # peers are timed too where `python -m benchmarks.peers` has been run, and named as missing where not
  for model in resnet18 cnn; do
    name=search-gpu-$model.json
    # shellcheck disable=SC2086
    [ -e "$work/$name" ] || {
      within python3 -m benchmarks.search --device "$device" --data "$data" --models "$model" --images 512 --batch 512 --repeats 3 \
        --tasks "pgd-20 l2;pgd-20 linf;relabelling;feature matching" --json "$out/$name" ${MORE:-}
      cp "$out/$name" "$work/.$name" && mv "$work/.$name" "$work/$name"
    }
    cp "$work/$name" "$out"
  done
}

if [ -n "${WHEELS:-}" ]; then
  site=$(mktemp -d)
  python3 -m pip install --quiet --no-index --no-deps --no-compile --root-user-action ignore --target "$site" "$WHEELS"/*.whl
  PYTHONPATH=$PYTHONPATH:$site
fi
if [ -n "${STATE:-}" ] && [ -z "$(ls -A "$work")" ]; then
  python3 scripts/gpu_state.py unpack "$STATE" "$work"
fi
machine=$(python3 scripts/gpu_state.py machine "$device")
echo "$machine" | tee -a "$log"
python3 scripts/gpu_state.py keep "$work" "$out" "$megabytes" >/dev/null 2>&1 &
keeper=$!
trap unkept EXIT
case $job in
  search) search ;;
  cifar10-robust-l2) robust l2 0.5 ;;
  cifar10-robust-linf) robust linf 0.03137255 ;;
  cifar10 | cifar10-resnet18 | cifar10-paper) study ;;
  *) echo "There is no job $job: the head of $0 names all." && exit 2 ;;
esac
unkept
rm -f "$out"/state.*
echo "Finished: $out"
