"""The same work on a Ray cluster (the extra `ray`): a model in each actor, rows back in order.

Everything that is written is written here, by the process that holds the journal: actors send the bytes of their files. So no
disk has to be shared, and results are those of one machine. A picture's error is a row; an actor that dies is begun anew, and
its pictures are done again.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import errors
from ..errors import InputError, MissingExtra, OutputError, PointcutError
from ..files import make_folder, replacing
from .inputs import Pointed, Task
from .work import BatchJob, Done, Worker

PICTURES = 16
"""That travel together."""


def ray_engine(
    address: str | None, device: str, workers: int | None
) -> Callable[[Sequence[Task], BatchJob, Path], Iterator[Done]]:
    """An engine for `run_batch`. address: of a cluster (`auto`, `ray://host:10001`); None: one on this machine, for this run.

    workers: actors; by default one for each processor of the cluster, or for each of its GPUs. Raises MissingExtra.
    """
    _ray()

    def engine(tasks: Sequence[Task], job: BatchJob, folder: Path) -> Iterator[Done]:
        if job.index is not None:
            raise InputError("segments go into an index from this machine only: leave out --engine ray, or the index")
        with _cluster(address) as ray:
            yield from _rows(ray, tasks, job, folder, device, workers)

    return engine


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtra("--engine ray needs the extra: pip install 'pointcut[ray]'") from None
    return ray


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Ray, connected. A connection that was there before stays."""
    ray = _ray()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    before = ray.is_initialized()
    if not before:
        local = {} if address else {"include_dashboard": False}
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise PointcutError(f"no Ray cluster can be reached at {address or 'this machine'} ({error})") from None
    try:
        yield ray
    finally:
        if not before:
            ray.shutdown()


def _rows(ray: Any, tasks: Sequence[Task], job: BatchJob, folder: Path, device: str, workers: int | None) -> Iterator[Done]:
    context = ray.data.DataContext.get_current()
    settings = context.execution_options.preserve_order, context.enable_progress_bars
    context.execution_options.preserve_order, context.enable_progress_bars = True, False
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0)) if device == "auto" or device.startswith("cuda") else 0
    actors = workers or max(1, gpus or int(resources.get("CPU", 1)))
    needs: dict[str, Any] = {"num_gpus": 1} if gpus else {"num_cpus": 1}
    try:
        pictures = ray.data.from_items(
            [{"task": json.dumps(asdict(task), default=str)} for task in tasks],
            override_num_blocks=-(-len(tasks) // PICTURES),
        )
        done = pictures.map_batches(
            Actor,
            fn_constructor_args=(job, device),
            compute=ray.data.ActorPoolStrategy(size=min(actors, -(-len(tasks) // PICTURES))),
            batch_size=None,
            batch_format="pyarrow",
            **needs,
        )
        for answer in done.iter_rows():
            yield _received(answer, folder)
    except ray.exceptions.RayError as error:
        raise PointcutError(f"Ray: {_last_line(error)}") from None
    finally:
        context.execution_options.preserve_order, context.enable_progress_bars = settings


def _received(answer: dict[str, Any], folder: Path) -> Done:
    """An actor's answer; its files are written. Raises what the actor could not go on with."""
    if answer["fault"]:
        raise getattr(errors, answer["fault"])(answer["message"])
    for name, content in zip(answer["names"], answer["contents"], strict=True):
        path = folder / name
        make_folder(path.parent)
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    row, seconds = json.loads(answer["row"])
    return Done(row, seconds)


class Actor:
    """Holds a model on some machine of the cluster, and does pictures."""

    def __init__(self, job: BatchJob, device: str) -> None:
        import torch

        if not torch.cuda.is_available():
            torch.set_num_threads(1)  # one of the cluster's processors was asked for
        self.worker: Worker | None = None
        self.fault: PointcutError | None = None
        try:
            self.worker = Worker.open(job, device)
        except PointcutError as error:  # raised here, it would come as a page of Ray's own
            self.fault = error

    def __call__(self, table: Any) -> Any:
        """A table of tasks -> a table of rows and files, or of why nothing can be done here."""
        import pyarrow

        answers = [self._answer(task_of(text)) for text in table["task"].to_pylist()]
        kinds = {name: pyarrow.string() for name in ("row", "fault", "message")}
        kinds |= {"names": pyarrow.list_(pyarrow.string()), "contents": pyarrow.list_(pyarrow.binary())}
        return pyarrow.Table.from_pylist(answers, pyarrow.schema(list(kinds.items())))

    def _answer(self, task: Task) -> dict[str, Any]:
        if self.worker is None:
            return _stopped(self.fault)
        with tempfile.TemporaryDirectory(prefix="pointcut-") as folder:
            try:
                done = self.worker(task, Path(folder))
            except OutputError as error:  # the disk is full there
                return _stopped(error)
            files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
            return {
                "row": json.dumps([done.row, done.seconds]),
                "names": [path.relative_to(folder).as_posix() for path in files],
                "contents": [path.read_bytes() for path in files],
                "fault": "",
                "message": "",
            }


def _stopped(error: PointcutError | None) -> dict[str, Any]:
    return {"row": "", "names": [], "contents": [], "fault": type(error).__name__, "message": str(error)}


def task_of(text: str) -> Task:
    """A task that was written down."""
    told = json.loads(text)
    if told["pointed"] is not None:
        told["pointed"] = Pointed(
            points=tuple(tuple((x, y) for x, y in one) for one in told["pointed"]["points"]),
            labels=tuple(map(tuple, told["pointed"]["labels"])),
            boxes=tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in told["pointed"]["boxes"]),
            names=tuple(told["pointed"]["names"]),
            shares=told["pointed"]["shares"],
        )
    path: str = told.pop("path")
    return Task(path=path if "://" in path else Path(path), **told)


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
