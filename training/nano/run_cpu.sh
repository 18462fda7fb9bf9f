#!/usr/bin/env bash
# Trains the built-in model on a CPU, in seven legs: 112 and 118 minutes on 2 cores of an Intel Xeon with AMX, 58, 78 and 110 on 2 of
# an AMD EPYC, 116 and 86 on 2 of a newer one, mostly shared with other work; its memory in 43, 23, 12, 12, 14, 25, 27 and 7.5 more. Cost: one
# laptop, fourteen hours. Seeds 20261120 to 20261130, 20261205, 20261206 and 20261208 to 20261210. The shipped weights got the trunk's way
# up in the fourth leg, bent pictures and second looks in the seventh, and stamps in the eighth (a sixth was left out); made again by this
# file they have all of it from the first.
# Stop it at any time and start it again: it goes on where its last save (every two minutes) was.
#   DATA=folder of training sets, with stamps (README.md)   OUT=folder of the run
set -euo pipefail
cd "$(dirname "$0")/../.."
DATA=${DATA:-../shared/data/train}
OUT=${OUT:-runs/nano}
PYTHON=${PYTHON:-.venv/bin/python}
"$PYTHON" training/nano/train.py --data "$DATA" --out "$OUT/first" --device cpu \
  --phase 256:16:60 --phase 384:8:30 --phase 512:6:22 "$@"
# The first leg had learnt no more of its own pictures than of strangers': it wanted more steps, not more data. The second begins
# with its averaged weights and a fresh schedule, at finer resolution; at last with fewer composites, so that scores fit photographs.
"$PYTHON" training/nano/train.py --data "$DATA" --out "$OUT/second" --device cpu --start-from "$OUT/first/nano.safetensors" \
  --lr 5e-4 --seed 20261121 --phase 384:10:70 --phase 512:6:48:0.3 "$@"
# The third goes on with Muon (a trial is told in README.md), and with fewer composites.
"$PYTHON" training/nano/train.py --data "$DATA" --out "$OUT/third" --device cpu --start-from "$OUT/second/nano.safetensors" \
  --optimiser muon --lr 6e-4 --seed 20261123 --phase 384:10:33:0.3 --phase 512:6:25:0.2 "$@"
# The fourth goes on in the same way: 2,180 steps where the third had 1,330, with slow kernels spared and little beside it.
"$PYTHON" training/nano/train.py --data "$DATA" --out "$OUT/fourth" --device cpu --start-from "$OUT/third/nano.safetensors" \
  --optimiser muon --lr 7e-4 --seed 20261126 --phase 384:10:42:0.3 --phase 512:6:36:0.2 "$@"
# The fifth sees its photographs turned and recoloured more (README.md), and half of its pictures are composites again: 2,870 steps.
"$PYTHON" training/nano/train.py --data "$DATA" --out "$OUT/fifth" --device cpu --start-from "$OUT/fourth/nano.safetensors" \
  --optimiser muon --lr 7e-4 --seed 20261128 --phase 384:10:60:0.5 --phase 512:6:50:0.35 "$@"
# The next begins between the last two (README.md), and is taught to look at its answers again.
"$PYTHON" training/nano/mix.py "$OUT/fourth/nano.safetensors" "$OUT/fifth/nano.safetensors" --share 0.6 --out "$OUT/between/nano.safetensors"
"$PYTHON" training/nano/train.py --data "$DATA" --out "$OUT/seventh" --device cpu --start-from "$OUT/between/nano.safetensors" \
  --optimiser muon --lr 7e-4 --seed 20261205 --phase 384:10:72:0.45 --phase 512:6:44:0.3 "$@"
# The eighth begins between the seventh's beginning and its end, and has stamps to paste (stamps.py): more of its pictures are composites.
"$PYTHON" training/nano/mix.py "$OUT/between/nano.safetensors" "$OUT/seventh/nano.safetensors" --share 0.7 --out "$OUT/next/nano.safetensors"
"$PYTHON" training/nano/train.py --data "$DATA" --out "$OUT/eighth" --device cpu --start-from "$OUT/next/nano.safetensors" \
  --optimiser muon --lr 7e-4 --seed 20261208 --phase 384:10:44:0.6 --phase 512:6:42:0.4 "$@"
# What is shipped is half of its beginning and half of its end.
"$PYTHON" training/nano/mix.py "$OUT/next/nano.safetensors" "$OUT/eighth/nano.safetensors" --share 0.5 --out "$OUT/mixed/nano.safetensors"
# The memory for tracking comes last, with the image network frozen: 26 minutes on small clips, then 17 on larger ones; and 23 more
# on clips in which objects leave. The shipped weights got the first 43 over the second leg's image network, the next 23 over the
# third's, twelve each over the fourth's and the fifth's, fourteen over what was mixed of these, 25 over what the eighth began with, 27
# over seven tenths of the eighth, on clips of eight frames, which reach as far back as a memory does (README.md), and 7.5 over what is
# shipped.
CLIPS=("$PYTHON" training/nano/train_memory.py --data "$DATA" --device cpu)
"${CLIPS[@]}" --out "$OUT/memory-first" --start-from "$OUT/mixed/nano.safetensors" --side 256 --clips 6 --frames 4 --minutes 26 --lr 1e-3
"${CLIPS[@]}" --out "$OUT/memory-second" --start-from "$OUT/memory-first/nano.safetensors" --side 384 --clips 4 --frames 5 \
  --minutes 17 --lr 4e-4 --seed 20261122
"${CLIPS[@]}" --out "$OUT/memory-third" --start-from "$OUT/memory-second/nano.safetensors" --side 384 --clips 4 --frames 5 \
  --minutes 23 --lr 6e-4 --seed 20261125
"${CLIPS[@]}" --out "$OUT/memory-fourth" --start-from "$OUT/memory-third/nano.safetensors" --side 384 --clips 4 --frames 5 \
  --minutes 12 --lr 5e-4 --seed 20261127
"${CLIPS[@]}" --out "$OUT/memory-fifth" --start-from "$OUT/memory-fourth/nano.safetensors" --side 384 --clips 4 --frames 5 \
  --minutes 12 --lr 5e-4 --seed 20261129
"${CLIPS[@]}" --out "$OUT/memory-sixth" --start-from "$OUT/memory-fifth/nano.safetensors" --side 384 --clips 4 --frames 5 \
  --minutes 14 --lr 5e-4 --seed 20261130
"${CLIPS[@]}" --out "$OUT/memory-seventh" --start-from "$OUT/memory-sixth/nano.safetensors" --side 384 --clips 4 --frames 5 \
  --minutes 25 --lr 6e-4 --seed 20261206
"${CLIPS[@]}" --out "$OUT/memory-eighth" --start-from "$OUT/memory-seventh/nano.safetensors" --side 384 --clips 3 --frames 8 \
  --minutes 27 --lr 6e-4 --seed 20261209
"${CLIPS[@]}" --out "$OUT/memory" --start-from "$OUT/memory-eighth/nano.safetensors" --side 384 --clips 3 --frames 8 \
  --minutes 7.5 --lr 4e-4 --seed 20261210
"$PYTHON" training/nano/export.py "$OUT/memory"
