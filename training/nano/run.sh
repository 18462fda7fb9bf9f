#!/usr/bin/env bash
# What the legs of run_cpu.sh have learnt to do, in one go for a GPU: larger batches, Muon, a teacher. In chunks of ten minutes that
# resume one another (call it again until it says it is done). It has not been run on a GPU yet, so neither cost nor result is known.
#   DATA=folder of training sets, with stamps and what a teacher says (README.md)   OUT=folder of the run   WORKERS=processes that draw pictures
set -euo pipefail
cd "$(dirname "$0")/../.."
DATA=${DATA:-../shared/data/train}
OUT=${OUT:-runs/nano-gpu}
PYTHON=${PYTHON:-.venv/bin/python}
"$PYTHON" training/nano/train.py --data "$DATA" --out "$OUT" --device cuda --workers "${WORKERS:-12}" --stop-after 9.5 \
  --optimiser muon --told 0.5 --objects 4 --phase 320:64:8 --phase 480:48:6:0.25 --phase 640:32:10:0.1 "$@"
tail -n 1 "$OUT/log.jsonl"
echo "When the minutes reach 24, the memory (nine minutes), and into the package:"
echo "  $PYTHON training/nano/train_memory.py --data $DATA --out $OUT/memory --start-from $OUT/nano.safetensors --minutes 9 --clips 24 --frames 8"
echo "  $PYTHON training/nano/export.py $OUT/memory"
