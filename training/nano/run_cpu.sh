#!/usr/bin/env bash
# Trains the built-in model on a CPU: 112 minutes on 2 cores (Intel Xeon with AMX, bfloat16). Cost: one laptop, two hours.
# Seed 20261120. Stop it at any time and start it again: it goes on where its last save (every two minutes) was.
#   DATA=folder of training sets   OUT=folder of the run
set -euo pipefail
cd "$(dirname "$0")/../.."
DATA=${DATA:-../shared/data/train}
OUT=${OUT:-runs/nano}
PYTHON=${PYTHON:-.venv/bin/python}
"$PYTHON" training/nano/train.py --data "$DATA" --out "$OUT" --device cpu \
  --phase 256:16:60 --phase 384:8:30 --phase 512:6:22 "$@"
"$PYTHON" training/nano/export.py "$OUT"
