"""Runs the notebooks of this folder, each in a copy of it, and keeps what they print and show.

python examples/notebooks.py            # all of them; or names: library.ipynb
"""

from __future__ import annotations

import base64
import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).parent
WIDEST = 720
"""Pixels of a kept picture."""


def executed(path: Path) -> nbformat.NotebookNode:
    """A notebook after its cells ran, in a fresh copy of this folder. Raises nbclient's CellExecutionError."""
    notebook = nbformat.read(path, as_version=4)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where `pointcut` is
    with tempfile.TemporaryDirectory(prefix="pointcut-notebook-") as folder:
        place = Path(folder) / "examples"
        shutil.copytree(HERE, place)
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(place)}}).execute()
    return notebook


def small(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Pictures as JPEG, not too wide, and nothing of when cells ran: what is committed should not grow with each run."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                picture = Image.open(io.BytesIO(base64.b64decode(data.pop("image/png"))))
                white = Image.new("RGB", picture.size, "white")
                white.paste(picture, mask=picture.getchannel("A") if picture.mode == "RGBA" else None)
                white.thumbnail((WIDEST, 2 * WIDEST))
                buffer = io.BytesIO()
                white.save(buffer, format="JPEG", quality=82)
                data["image/jpeg"] = base64.b64encode(buffer.getvalue()).decode()
    return notebook


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """What was printed in one go, however it came."""
    found: list[nbformat.NotebookNode] = []
    for output in outputs:
        if found and output.output_type == "stream" and found[-1].get("name") == output.name:
            found[-1].text += output.text
        else:
            found.append(output)
    return found


def main() -> None:
    names = sys.argv[1:] or sorted(path.name for path in HERE.glob("*.ipynb"))
    for name in names:
        print(name)
        nbformat.write(small(executed(HERE / name)), HERE / name)


if __name__ == "__main__":
    main()
