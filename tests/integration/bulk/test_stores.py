"""Videos in object stores, and answers written there, with real servers of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tests.support.stores import bucket_in_gs, bucket_in_s3
from videopure.bulk import ScreenError, screen
from videopure.bulk.folder import Folder
from videopure.bulk.sources import Source, find_sources, read_source

pytestmark = pytest.mark.integration

NAMES = ("a.mp4", "b.mp4", "sub/c.webm", ".hidden.mp4", "sub/.hidden.mp4")


@pytest.fixture(scope="module", params=[bucket_in_s3, bucket_in_gs])
def bucket(request: pytest.FixtureRequest) -> Iterator[str]:
    with request.param() as url:
        store, _ = fsspec.core.url_to_fs(url)
        for name in NAMES:
            store.pipe_file(f"{url}/videos/{name}", b"1234")
        store.pipe_file(f"{url}/videos/list.txt", b"sub/c.webm\na.mp4\n")
        yield url


def other_process(url: str) -> Folder:
    """The folder as another process has it, which shares no listing with this one."""
    fsspec.core.url_to_fs(url)[0].clear_instance_cache()
    return Folder(url)


def test_what_a_bucket_holds_is_found_and_read(bucket: str) -> None:
    videos = f"{bucket}/videos"
    a, b, c = (Source(f"{videos}/{name}", 4) for name in ("a.mp4", "b.mp4", "sub/c.webm"))
    assert list(find_sources([f"{videos}/*.mp4", f"{videos}/sub"])) == [a, b, c]
    assert {*find_sources([videos])} == {a, b, c, Source(f"{videos}/list.txt", 17)}
    assert [s.path for s in find_sources([f"{videos}/list.txt"])] == [c.path, a.path]
    assert read_source(a.path, 4) == b"1234"
    assert read_source(a.path, 2) == b"123"
    with pytest.raises(FileNotFoundError):
        read_source(f"{videos}/none.mp4", 4)
    for missing in ("videos/none.mp4", "none/"):
        with pytest.raises(ScreenError, match=f"there is no {bucket}/{missing}"):
            list(find_sources([f"{bucket}/{missing}"]))


def test_a_folder_in_a_bucket_shows_what_other_processes_write(bucket: str) -> None:
    where = f"{bucket}/out"
    driver = Folder(where)
    driver.check_question({"archive": "x"})
    driver.begin()
    todo, total = driver.plan(find_sources([f"{bucket}/videos/*.mp4"]), workers=1, most_videos=1)
    assert total == len(todo) == 2
    table = driver.fs.cat_file(f"{driver.root}/plan/000000.parquet")
    for number, block in enumerate(todo, 1):
        worker = other_process(where)
        assert worker.note_try(block.name) == 1
        assert worker.note_try(block.name) == 2
        worker.write_file(f"answers/{block.name}.parquet", table)
        assert len(driver.finished()) == len([*driver.answers(["path"])]) == number
    assert driver.plan([], workers=1)[0] == []
    driver.begin()
    assert other_process(where).note_try(todo[0].name) == 1
    with pytest.raises(ScreenError, match="holds the answers of a run with another archive"):
        driver.check_question({"archive": "y"})


def test_a_store_that_lets_nobody_in_is_said(
    tiny_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("s3fs").S3FileSystem.clear_instance_cache()
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    said = "Unable to locate credentials"
    with pytest.raises(ScreenError, match=f"s3://bucket/x cannot be listed: {said}"):
        list(find_sources(["s3://bucket/x"]))
    with pytest.raises(ScreenError, match=f"cannot be written to s3://bucket/out: {said}"):
        screen(["x"], tiny_archive, "s3://bucket/out")
