"""Screens many videos: Ray Data reads them and keeps as many workers busy as there are."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from videopure.bulk.errors import ScreenError
from videopure.bulk.folder import Block, Folder
from videopure.bulk.reading import read_block
from videopure.bulk.sources import find_sources
from videopure.bulk.summary import Summary, summarise
from videopure.bulk.worker import Copies, Screener, Task
from videopure.format.manifest import ManifestError
from videopure.format.opening import digest_archive, open_archive, verify_archive
from videopure.format.settings import ModelConfig, SettingsError

__all__ = ["Progress", "screen"]

_CORES = 4  # per worker on CPUs, by default


@dataclass(frozen=True)
class Progress:
    """The progress of a run.

    Args:
        done, total: number of videos; those of earlier runs are done.
        adversarial, errors: of the videos that this run answered.
        seconds: since its first block was started.
        own: videos that this run answered.
        busy: seconds that its workers spent on them, in total.
    """

    done: int
    total: int
    adversarial: int = 0
    errors: int = 0
    seconds: float = 0.0
    own: int = 0
    busy: float = 0.0

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take; None before anything is answered."""
        return (self.total - self.done) * self.seconds / self.own if self.own else None


OnProgress = Callable[[Progress], object]


def screen(
    sources: Sequence[str],
    archive: str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    gpu_share: float = 1.0,
    block: int | None = None,
    options: dict[str, Any] | None = None,
    copies: Copies = "none",
    address: str | None = None,
    on_progress: OnProgress | None = None,
) -> Summary:
    """Answer videos as a server of the archive would answer its operator, and write the answers.

    Answers are kept: the same call resumes a stopped or killed one, and answers videos that were
    added to the sources.

    Args:
        sources: folders, globs, lists (.txt, .csv) and files, as paths or URLs; see `find_sources`.
        archive: made by `videopure build`; at the same path on every machine of a cluster.
        out: folder or URL of the answers, see `bulk.folder`; every machine of a cluster writes it.
        workers: copies of the models; by default one for each GPU, or for four CPU cores.
        gpu_share: share of a GPU for each worker.
        block: at most this many videos are written together; by default each worker gets several
            blocks.
        options: options of every video, such as `clips` and `top_k`.
        copies: videos to write purified copies of.
        address: address of a Ray cluster to join, such as "auto"; otherwise a local Ray is started.
        on_progress: called when the work begins and after each block.

    Raises:
        ScreenError: if the archive, a source, an option or the folder cannot be used, or Ray fails.
    """
    if copies not in get_args(Copies):
        raise ScreenError(f"copies must be one of {', '.join(get_args(Copies))}, got {copies!r}")
    ray = _import_ray()
    config = _checked(Path(archive))
    where = str(out) if "://" in str(out) else str(Path(out).resolve())
    question = {
        "archive": digest_archive(Path(archive)),
        "options": options or {},
        "copies": copies,
    }
    with _told_of(where):
        folder = Folder(where)
        folder.lock()
    try:
        with _told_of(where):
            folder.check_question(question)
            folder.begin()
        with _started(ray, address):
            count, resources, threads = _share(ray, workers, gpu_share)
            todo, total = folder.plan(find_sources(sources), count, block)
            task = Task(
                archive=str(Path(archive).resolve()),
                out=where,
                options=options or {},
                copies=copies,
                threads=threads,
            )
            most_bytes = config.videopure.limits.max_bytes
            answered = _answer(ray, todo, task, most_bytes, count, resources)
            _follow(ray, answered, todo, total, on_progress or (lambda now: None))
        summary = summarise(folder, total)
        folder.write_json("summary.json", summary.as_json())
        return summary
    finally:
        folder.unlock()


def _checked(archive: Path) -> ModelConfig:
    """The settings of a checked archive; otherwise workers would fail one after another."""
    try:
        verify_archive(archive)
        with open_archive(archive) as opened:
            return opened.config
    except (ManifestError, SettingsError, OSError) as error:
        raise ScreenError(f"{archive}: {error}") from error


def _import_ray() -> Any:
    """Import Ray, which is large and not needed elsewhere."""
    os.environ.setdefault(
        "RAY_USAGE_STATS_ENABLED", "0"
    )  # it would report each start to its makers
    # Ray warns that restarted workers may lack their arguments, but the living driver has them.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray
    import ray.data

    return ray


@contextmanager
def _told_of(where: str) -> Iterator[None]:
    """Turn a file system's exception into an error that names the folder of the answers."""
    try:
        yield
    except ScreenError:
        raise
    except (
        Exception
    ) as error:  # from any file system: botocore's for missing keys is not an OSError
        raise ScreenError(f"answers cannot be written to {where}: {error}") from error


@contextmanager
def _started(ray: Any, address: str | None) -> Iterator[None]:
    """A local Ray, or the cluster at an address."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    here = {} if address else {"include_dashboard": False}
    try:
        ray.init(address=address or "local", **here, **quiet)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ScreenError(f"Ray does not start: {error}") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def _share(
    ray: Any, workers: int | None, gpu_share: float
) -> tuple[int, dict[str, float], int | None]:
    """The number of workers, each one's resources, and its CPU threads."""
    have = ray.cluster_resources()
    cores, gpus = int(have.get("CPU", 1)), have.get("GPU", 0.0)
    if gpus:
        count = workers or max(1, int(gpus / gpu_share))
        if count * gpu_share > gpus:
            raise ScreenError(
                f"{count} workers with {gpu_share:g} of a GPU each need more than the {gpus:g} "
                "GPUs there are"
            )
        return count, {"num_cpus": 1, "num_gpus": gpu_share}, None
    count = workers or max(1, cores // _CORES)
    if count > cores:
        raise ScreenError(f"{count} workers need more than the {cores} CPU cores there are")
    return count, {"num_cpus": cores // count}, cores // count


def _answer(
    ray: Any,
    todo: Sequence[Block],
    task: Task,
    most_bytes: int,
    workers: int,
    resources: dict[str, float],
) -> Any:
    """A data set with the result of each block; nothing runs before its rows are requested.

    A block is one row, which Ray never splits. Reading takes no core from the workers, and runs
    ahead only as far as they need.
    """
    rows = [
        {"block": b.name, "path": [s.path for s in b.sources], "size": [s.size for s in b.sources]}
        for b in todo
    ]
    workers = max(1, min(workers, len(rows)))
    blocks = ray.data.from_items(rows, override_num_blocks=max(1, len(rows)))
    read = blocks.map_batches(
        read_block,
        fn_kwargs={"most_bytes": most_bytes},
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=0,
        compute=ray.data.TaskPoolStrategy(size=workers),
    )
    return read.map_batches(
        Screener,
        fn_constructor_args=(task,),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
        **resources,
    )


def _follow(
    ray: Any, answered: Any, todo: Sequence[Block], total: int, on_progress: OnProgress
) -> None:
    """Answer the blocks, and report progress."""
    now = Progress(done=total - sum(len(block.sources) for block in todo), total=total)
    on_progress(now)
    first = float("inf")
    try:
        for row in answered.iter_rows() if todo else ():
            first = min(first, row["began"])
            now = Progress(
                done=now.done + row["videos"],
                total=total,
                adversarial=now.adversarial + row["adversarial"],
                errors=now.errors + row["errors"],
                seconds=time.time() - first,
                own=now.own + row["videos"],
                busy=now.busy + row["ended"] - row["began"],
            )
            on_progress(now)
    except ray.exceptions.RayError as error:
        raise ScreenError(f"a worker failed: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The last meaningful line of a traceback within a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
