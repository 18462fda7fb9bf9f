#!/usr/bin/env bash
# Trains the built-in model on a CPU, in thirteen legs: 112 and 118 minutes on 2 cores of an Intel Xeon with AMX, 58, 78 and 110 on 2 of
# an AMD EPYC, 116, 86, 78, 88, 86, 86 and 100 on 2 of a newer one, 67 on 2 of one in between, mostly shared with other work; its memory in 43, 23, 12, 12,
# 14, 25, 27, 7.5, 20, 19, 12, 12 and 12 more. Cost: one laptop, 24 hours. Seeds 20261120 to 20261130, 20261205, 20261206, 20261208 to
# 20261213 and 20261215 to 20261222. The shipped weights got the trunk's way up in the fourth leg, bent pictures and second looks in the seventh, stamps in the
# eighth, a teacher in the ninth, blocks over the embedding in the eleventh and over the cells' quarters in the twelfth, and cells of 20
# pixels instead of 16 in the fourteenth (a sixth was left out); made again by this file they have all of it from the first.
# The eleventh and the twelfth, and their memories, had of the sets only what the teacher labelled (README.md); here they have all. The
# thirteenth had whole things (things.py) from its 530th step on; here all legs have them.
# Stop it at any time and start it again: it goes on where its last save (every two minutes) was.
#   DATA=folder of training sets, with stamps and what a teacher says (README.md)   OUT=folder of the run
set -euo pipefail
cd "$(dirname "$0")/../.."
DATA=${DATA:-../shared/data/train}
OUT=${OUT:-runs/nano}
PYTHON=${PYTHON:-.venv/bin/python}
EXTRA=("$@")

leg() { # NAME, then what train.py takes
  "$PYTHON" training/nano/train.py --data "$DATA" --out "$OUT/$1" --device cpu "${@:2}" "${EXTRA[@]}"
}
leg_from() { # BEGINNING NAME, then what train.py takes
  leg "$2" --start-from "$OUT/$1/nano.safetensors" "${@:3}"
}
mix() { # ONE OTHER SHARE-OF-THE-OTHER NAME
  "$PYTHON" training/nano/mix.py "$OUT/$1/nano.safetensors" "$OUT/$2/nano.safetensors" --share "$3" --out "$OUT/$4/nano.safetensors"
}
memory_from() { # BEGINNING NAME SIDE CLIPS FRAMES MINUTES LEARNING-RATE, then what else train_memory.py takes
  "$PYTHON" training/nano/train_memory.py --data "$DATA" --device cpu --out "$OUT/$2" --start-from "$OUT/$1/nano.safetensors" \
    --side "$3" --clips "$4" --frames "$5" --minutes "$6" --lr "$7" "${@:8}"
}

leg first --phase 256:16:60 --phase 384:8:30 --phase 512:6:22
# The first leg had learnt no more of its own pictures than of strangers': it wanted more steps, not more data. The second begins
# with its averaged weights and a fresh schedule, at finer resolution; at last with fewer composites, so that scores fit photographs.
leg_from first second --lr 5e-4 --seed 20261121 --phase 384:10:70 --phase 512:6:48:0.3
# The third goes on with Muon (a trial is told in README.md), and with fewer composites.
leg_from second third --optimiser muon --lr 6e-4 --seed 20261123 --phase 384:10:33:0.3 --phase 512:6:25:0.2
# The fourth goes on in the same way: 2,180 steps where the third had 1,330, with slow kernels spared and little beside it.
leg_from third fourth --optimiser muon --lr 7e-4 --seed 20261126 --phase 384:10:42:0.3 --phase 512:6:36:0.2
# The fifth sees its photographs turned and recoloured more (README.md), and half of its pictures are composites again: 2,870 steps.
leg_from fourth fifth --optimiser muon --lr 7e-4 --seed 20261128 --phase 384:10:60:0.5 --phase 512:6:50:0.35
# The next begins between the last two (README.md), and is taught to look at its answers again.
mix fourth fifth 0.6 between
leg_from between seventh --optimiser muon --lr 7e-4 --seed 20261205 --phase 384:10:72:0.45 --phase 512:6:44:0.3
# The eighth begins between the seventh's beginning and its end, and has stamps to paste (stamps.py): more of its pictures are composites.
mix between seventh 0.7 next
leg_from next eighth --optimiser muon --lr 7e-4 --seed 20261208 --phase 384:10:44:0.6 --phase 512:6:42:0.4
# The ninth begins half way, and is taught by MobileSAM: its masks of every photograph, and its embedding (label.py, telling.py).
mix next eighth 0.5 mixed
leg_from mixed ninth --optimiser muon --lr 8e-4 --seed 20261211 --told 0.5 --phase 384:10:42:0.3 --phase 512:6:36:0.15
# The tenth has all of the teacher's masks of a click together (interaction.py), and is shipped half.
leg_from ninth tenth --optimiser muon --lr 8e-4 --seed 20261213 --told 0.5 --phase 384:10:46:0.25 --phase 512:6:42:0.1
mix ninth tenth 0.5 half
# The eleventh begins half way and is given blocks over the embedding (`Sam2Config.fuser_depth`), animals and monuments (gather.py) and,
# from its 386th step on, late corrections (`PATIENT` in interaction.py).
leg_from half eleventh --optimiser muon --lr 8e-4 --seed 20261215 --told 0.5 --phase 384:10:44:0.25 --phase 512:6:42:0.1
mix half eleventh 0.5 beginning
# The twelfth begins half way and is given blocks over the cells' quarters (`DecoderConfig.border_depth`): they draw borders at the first
# look, so that it takes fewer second ones (`AGAIN` in interaction.py); a third of the boxes are true (`BOX_NOISE` in batches.py).
leg_from beginning twelfth --optimiser muon --lr 8e-4 --seed 20261217 --told 0.5 --phase 384:10:40:0.25 --phase 512:6:46:0.1
mix beginning twelfth 0.5 further
# The thirteenth begins half way and has whole things, found by a detector, among its sets (things.py).
leg_from further thirteenth --optimiser muon --lr 8e-4 --seed 20261219 --told 0.5 --phase 384:10:50:0.25 --phase 512:6:50:0.1
mix further thirteenth 0.5 last
# The fourteenth begins half way and sees squares of 640 pixels, with as many cells as those of 512 had (`Sam2Config.stride`).
leg_from last fourteenth --optimiser muon --lr 8e-4 --seed 20261221 --told 0.5 --phase 480:10:25:0.25 --phase 640:6:42:0.1
mix last fourteenth 0.75 image
# The memory for tracking comes last, with the image network frozen: 26 minutes on small clips, then 17 on larger ones; and 23 more
# on clips in which objects leave. The shipped weights got the first 43 over the second leg's image network, the next 23 over the
# third's, twelve each over the fourth's and the fifth's, fourteen over what was mixed of these, 25 over what the eighth began with, 27
# over seven tenths of the eighth, on clips of eight frames, which reach as far back as a memory does (README.md), 7.5 over half of it,
# and 20 over the ninth; over half of the tenth it was what it had been, and over three quarters of the eleventh it got 19, of which half is
# shipped over half of that leg; over half of the twelfth 12 more, over half of the thirteenth 12, of which half is
# shipped each time, and over three quarters of the fourteenth 12 (README.md).
memory_from image memory-first 256 6 4 26 1e-3
memory_from memory-first memory-second 384 4 5 17 4e-4 --seed 20261122
memory_from memory-second memory-third 384 4 5 23 6e-4 --seed 20261125
memory_from memory-third memory-fourth 384 4 5 12 5e-4 --seed 20261127
memory_from memory-fourth memory-fifth 384 4 5 12 5e-4 --seed 20261129
memory_from memory-fifth memory-sixth 384 4 5 14 5e-4 --seed 20261130
memory_from memory-sixth memory-seventh 384 4 5 25 6e-4 --seed 20261206
memory_from memory-seventh memory-eighth 384 3 8 27 6e-4 --seed 20261209
memory_from memory-eighth memory-ninth 384 3 8 7.5 4e-4 --seed 20261210
memory_from memory-ninth memory-tenth 384 3 8 20 6e-4 --seed 20261212
memory_from memory-tenth memory-eleventh 384 3 8 19 6e-4 --seed 20261216
mix memory-tenth memory-eleventh 0.5 memory-mixed
memory_from memory-mixed memory-twelfth 384 3 8 12 6e-4 --seed 20261218
mix memory-mixed memory-twelfth 0.5 memory-again
memory_from memory-again memory-thirteenth 384 3 8 12 6e-4 --seed 20261220
mix memory-again memory-thirteenth 0.5 memory-then
memory_from memory-then memory-fourteenth 480 3 8 12 6e-4 --seed 20261222
"$PYTHON" training/nano/export.py "$OUT/memory-fourteenth"
