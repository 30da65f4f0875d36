"""Which files folders, globs, lists and URLs name, and how they are read."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from videopure.bulk.errors import ScreenError
from videopure.bulk.sources import Source, find_sources, read_source

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.mp4", "a.mp4", "sub/c.webm", ".hidden.mp4", ".git/d.mp4", "sub/.e.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def names(folder: Path, *named: object) -> list[str]:
    found = list(find_sources([str(name) for name in named]))
    assert all(
        s.size in (None, len(Path(s.path).read_bytes())) for s in found if "://" not in s.path
    )
    return [s.path.removeprefix(f"{folder}/") for s in found]


def test_folders_globs_and_files_each_file_once(folder: Path) -> None:
    assert names(folder, folder) == ["a.mp4", "b.mp4", "sub/c.webm"]
    assert names(folder, folder / "*.mp4") == ["a.mp4", "b.mp4"]
    assert names(folder, folder / "**/*.webm", folder / "b.mp4", folder) == [
        "sub/c.webm", "b.mp4", "a.mp4",
    ]  # fmt: skip
    assert names(folder, f"file://{folder}/sub") == ["sub/c.webm"]


def test_lists_name_paths_beside_them_and_urls(folder: Path) -> None:
    (folder / "list.txt").write_text(f"b.mp4\n\n  sub/c.webm \n{folder}/a.mp4\ns3://bucket/x.mp4\n")
    assert names(folder, folder / "list.txt") == [
        "b.mp4", "sub/c.webm", "a.mp4", "s3://bucket/x.mp4",
    ]  # fmt: skip
    (folder / "list.csv").write_text("label,path\n1,sub/c.webm\n2,not there.mp4\n")
    paths = [source.path for source in find_sources([str(folder / "list.csv")])]
    assert paths == [f"{folder}/sub/c.webm", f"{folder}/not there.mp4"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.mp4", "there is no .*missing.mp4"),
        ("missing.txt", "there is no .*missing.txt"),
        ("*.avi", r".*\*.avi names no files"),
        ("paths.csv", "paths.csv needs a first line that names the column path"),
        ("nowhere://x/y", "nowhere://x/y cannot be listed: Protocol not known: nowhere"),
    ],
)
def test_what_names_nothing_is_said(folder: Path, name: str, message: str) -> None:
    (folder / "paths.csv").write_text("file\na.mp4\n")
    with pytest.raises(ScreenError, match=message):
        list(find_sources([name if "://" in name else str(folder / name)]))


def test_no_more_is_read_than_shows_that_a_file_is_too_large(folder: Path) -> None:
    assert read_source(str(folder / "a.mp4"), 5) == b"a.mp4"
    assert read_source(str(folder / "a.mp4"), 3) == b"a.mp"
    with pytest.raises(FileNotFoundError):
        read_source(str(folder / "no.mp4"), 3)


class Quiet(SimpleHTTPRequestHandler):
    failures = 0

    def do_GET(self) -> None:
        if "flaky" in self.path and Quiet.failures < 2:
            Quiet.failures += 1
            self.send_error(503)
        else:
            self.path = self.path.replace("flaky", "a")
            super().do_GET()

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def web(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_files_behind_http(folder: Path, web: str) -> None:
    (folder / "list.txt").write_text("sub/c.webm\n")
    found = list(find_sources([f"{web}/a.mp4", f"{web}/list.txt"]))
    assert found == [Source(f"{web}/a.mp4"), Source(f"{web}/sub/c.webm")]
    assert [read_source(source.path, 99) for source in found] == [b"a.mp4", b"sub/c.webm"]
    with pytest.raises(FileNotFoundError):
        read_source(f"{web}/none.mp4", 99)
    assert read_source(f"{web}/flaky.mp4", 99) == b"a.mp4"
    assert Quiet.failures == 2
