#!/usr/bin/env bash
# The same recipe for a GPU, in chunks of ten minutes that resume one another (call it again until it says it is done).
# The batches are larger and the schedule longer; it has not been run on a GPU yet, so no cost is known.
#   DATA=folder of training sets   OUT=folder of the run   WORKERS=processes that draw pictures
set -euo pipefail
cd "$(dirname "$0")/../.."
DATA=${DATA:-../shared/data/train}
OUT=${OUT:-runs/nano-gpu}
PYTHON=${PYTHON:-.venv/bin/python}
"$PYTHON" training/nano/train.py --data "$DATA" --out "$OUT" --device cuda --workers "${WORKERS:-12}" --stop-after 9.5 \
  --objects 4 --phase 256:64:8 --phase 384:48:6 --phase 512:32:10 "$@"
tail -n 1 "$OUT/log.jsonl"
echo "When the minutes reach 24, the memory (nine minutes), and into the package:"
echo "  $PYTHON training/nano/train_memory.py --data $DATA --out $OUT/memory --start-from $OUT/nano.safetensors --minutes 9 --clips 24"
echo "  $PYTHON training/nano/export.py $OUT/memory"
