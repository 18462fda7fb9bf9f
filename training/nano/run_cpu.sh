#!/usr/bin/env bash
# Trains the built-in model on a CPU, in two legs, 112 and 118 minutes on 2 cores (Intel Xeon with AMX, bfloat16) shared with
# other work, and its memory in 43 more. Cost: one laptop, five hours. Seeds 20261120 to 20261122.
# Stop it at any time and start it again: it goes on where its last save (every two minutes) was.
#   DATA=folder of training sets   OUT=folder of the run
set -euo pipefail
cd "$(dirname "$0")/../.."
DATA=${DATA:-../shared/data/train}
OUT=${OUT:-runs/nano}
PYTHON=${PYTHON:-.venv/bin/python}
"$PYTHON" training/nano/train.py --data "$DATA" --out "$OUT/first" --device cpu \
  --phase 256:16:60 --phase 384:8:30 --phase 512:6:22 "$@"
# The first leg had learnt no more of its own pictures than of strangers': it wanted more steps, not more data. The second begins
# with its averaged weights and a fresh schedule, at finer resolution; at last with fewer composites, so that scores fit photographs.
"$PYTHON" training/nano/train.py --data "$DATA" --out "$OUT" --device cpu --start-from "$OUT/first/nano.safetensors" \
  --lr 5e-4 --seed 20261121 --phase 384:10:70 --phase 512:6:48:0.3 "$@"
# The memory for tracking comes last, with the image network frozen: 26 minutes on small clips, then 17 on larger ones.
CLIPS=("$PYTHON" training/nano/train_memory.py --data "$DATA" --device cpu)
"${CLIPS[@]}" --out "$OUT/memory-first" --start-from "$OUT/nano.safetensors" --side 256 --clips 6 --frames 4 --minutes 26 --lr 1e-3
"${CLIPS[@]}" --out "$OUT/memory" --start-from "$OUT/memory-first/nano.safetensors" --side 384 --clips 4 --frames 5 \
  --minutes 17 --lr 4e-4 --seed 20261122
"$PYTHON" training/nano/export.py "$OUT/memory"
