"""Puts a trained model into the package: `python training/nano/export.py RUN_FOLDER`.

Reads RUN_FOLDER/nano.safetensors (the averaged weights, half precision), checks that it loads and fits, and writes it with its
SHA-256 to src/pointcut/weights/, under the name in `specs.BUILT_IN`: first give that a new number and remove the old file.
Prints what the model card needs.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from pointcut.files import replacing
from pointcut.weights import hub, specs
from pointcut.weights.load import load_network

LIMIT = 15 * 1024 * 1024


def main(run: Path) -> None:
    weights = run / "nano.safetensors"
    name = load_network(weights).name
    if name != "nano":
        raise SystemExit(f"{weights}: is {name}, not nano")
    if weights.stat().st_size > LIMIT:
        raise SystemExit(f"{weights}: {weights.stat().st_size} bytes are more than the package takes ({LIMIT})")
    with replacing(specs.BUILT_IN) as temporary:
        shutil.copyfile(weights, temporary)
    digest = hub.sha256(specs.BUILT_IN)
    specs.BUILT_IN.with_name(f"{specs.BUILT_IN.name}.sha256").write_text(f"{digest}  {specs.BUILT_IN.name}\n")
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    print(json.dumps({"sha256": digest, "bytes": weights.stat().st_size, "steps": last["step"], "minutes": last["minutes"]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
