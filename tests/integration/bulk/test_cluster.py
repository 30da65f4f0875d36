"""`videopure screen` on a Ray cluster of two nodes of this machine, with videos in a bucket."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fsspec.core import url_to_fs

from benchmarks.screening import differences, make_videos, read_rows
from tests.integration.bulk.test_screen import answers
from tests.support.load import wait_for
from tests.support.ray_cluster import ray_cluster
from tests.support.stores import bucket_in_s3
from videopure.wire.schemas import ErrorAnswer

pytestmark = [pytest.mark.integration, pytest.mark.slow]

COMMAND = Path(sys.executable).with_name("videopure")


@contextmanager
def screen(videos: str, archive: Path, out: str, address: str) -> Iterator[subprocess.Popen[str]]:
    asked = ["--archive", str(archive), "--out", out, "--address", address, "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
    run = subprocess.Popen(
        [COMMAND, "screen", videos, *asked, "--workers", "2", "--block", "2"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield run
    finally:
        run.kill()
        run.communicate()


def test_a_cluster_answers_a_bucket_though_a_node_is_lost(
    tiny_archive: Path, tmp_path: Path
) -> None:
    videos = tmp_path / "videos"
    make_videos(videos, 40)
    count = len(list(videos.iterdir()))
    # Nodes and run know the bucket by the environment.
    with bucket_in_s3() as bucket, ray_cluster() as cluster:
        out, store = f"{bucket}/out", url_to_fs(bucket)[0]
        store.put(f"{videos}/", f"{bucket}/videos/", recursive=True)
        with screen(f"{bucket}/videos", tiny_archive, out, cluster.address) as run:

            def answered() -> int:
                assert run.poll() is None, run.communicate()
                store.invalidate_cache()
                return len(store.glob(f"{out}/answers/*"))

            def both_work() -> bool:
                return answered() > 2 and cluster.works("Screener")

            wait_for(both_work, "answers and a worker on the second node", seconds=1800)
            cluster.lose_a_node()
            cluster.add_a_node()
            printed, errors = run.communicate()
        assert run.returncode == 0, errors
        told = json.loads(printed)
        assert told["answered"] == told["planned"] == told["this_run"]["videos"] == count
        store.get(out, str(tmp_path / "out"), recursive=True)

    rows = read_rows(tmp_path / "out")  # raises an error for what is there twice
    assert rows.keys() == {file.name for file in videos.iterdir()}
    assert differences(rows, answers(tiny_archive, videos)) == []
    assert sum(told["errors"].values()) == sum(isinstance(r, ErrorAnswer) for r in rows.values())
