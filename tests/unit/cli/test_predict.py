"""`videopure predict` apart from the server it asks."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from videopure.cli.answers import Result, print_table, short_names
from videopure.cli.main import app
from videopure.cli.predict import evidence_names
from videopure.client.errors import ConnectionLostError, RequestFailedError
from videopure.wire.schemas import Answer

pytestmark = pytest.mark.unit


def answer(label: str, bare: str | None, **changes: Any) -> Answer:
    def prediction(name: str) -> dict[str, Any]:
        return {"label": name, "label_id": 1, "score": 0.987}

    content = {
        "request_id": "1",
        "model": {"name": "m", "version": "1", "recogniser": "r", "purifier": "p"},
        "purification": {
            "method": "videopure", "inversion_steps": 1, "speed": "exact", "calibrated": True,
        },
        "predictions": [prediction(label)],
        "votes": {"counted": 2, "of": 3, "agreement": 1.0, "by_step": []},
        "undefended": None if bare is None else prediction(bare),
        "suspicion": {"score": 0.99, "adversarial": True},
        "clips": [{**prediction(label), "suspicion": 0.9, "frame_indices": [0]}],
        "video": {
            "frames": 16, "fps": 8.0, "duration_s": 2.0, "width": 64, "height": 64,
            "frame_indices": [0],
        },
        "warnings": [],
        "timing_ms": {"total": 1234.5},
    }  # fmt: skip
    return Answer.model_validate({**content, **changes})


def printed(results: list[tuple[Path, Result]], width: int = 80) -> tuple[str, str, bool]:
    out, err = io.StringIO(), io.StringIO()
    failed = print_table(
        iter(results), Console(file=out, width=width), Console(file=err, width=width)
    )
    return out.getvalue(), err.getvalue(), failed


def test_eighty_columns_hold_what_tells_the_videos_apart() -> None:
    folder = Path("some/very/long/way/to/the/folder/of/all/the/videos/that/are/asked/about")
    names = [f"turns-right-{kind}.mp4" for kind in ("clean", "attacked")]
    out, err, failed = printed([(folder / n, answer("turns right", "moves right")) for n in names])
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    for name in names:
        (row,) = [line for line in lines if line.strip().startswith(name)]
        for cell in ("turns right 0.99", "moves right 0.99", "2 of 3", "0.99 !"):
            assert cell in row  # all of it in one line
    assert "1.2 s a video" in out
    assert (err, failed) == ("", False)


def test_long_labels_are_wrapped_and_not_cut() -> None:
    label = "playing squash or racquetball in a hall with very high windows"
    out, _, _ = printed([(Path("a.mp4"), answer(label, label))])
    assert max(map(len, out.splitlines())) <= 80
    assert out.count("racquetball") == 2
    assert "…" not in out


def test_the_legend_explains_the_columns_that_are_shown() -> None:
    out, _, _ = printed([(Path("a.mp4"), answer("grows", "shrinks"))])
    assert "suspicion: 0 to 1; ! exceeds the archive's threshold" in out
    told_less = answer("grows", None, votes=None)
    out, _, _ = printed([(Path("a.mp4"), told_less)])
    assert "votes" not in out
    assert "bare recogniser" not in out


def test_what_was_not_purified_is_not_headed_videopure() -> None:
    bare = answer("grows", None, purification=None, votes=None, suspicion=None)
    out, _, _ = printed([(Path("a.mp4"), bare)])
    heading = next(line for line in out.splitlines() if "video" in line)
    assert "VideoPure" not in heading
    assert "bare recogniser" in heading
    assert "grows 0.99" in out


def test_errors_are_whole_and_the_same_one_is_told_once() -> None:
    same = RequestFailedError(400, "BadRequestError", "option 'method' must be one of " + "x" * 99)
    other = RequestFailedError(415, "NotAVideoError", "[text] is not a video")
    results: list[tuple[Path, Result]] = [
        (Path("v/a.mp4"), same), (Path("v/b.mp4"), same), (Path("v/c.mp4"), other),
    ]  # fmt: skip
    out, err, failed = printed(results)
    assert failed
    assert out == ""
    assert err.splitlines() == [
        f"Error: 2 videos (a.mp4, b.mp4): {same}",
        "Error: c.mp4: 415 NotAVideoError: [text] is not a video",
    ]


def test_warnings_are_whole_and_on_standard_error() -> None:
    told = answer("wave", None, warnings=["[odd] the clip is unlike those " + "x" * 99])
    out, err, failed = printed([(Path("v/a.mp4"), told)])
    assert not failed
    assert "odd" not in out
    assert err.splitlines() == ["Warning: a.mp4: [odd] the clip is unlike those " + "x" * 99]


def test_names_are_short_and_differ() -> None:
    assert short_names([Path("a/b/x.mp4"), Path("a/c/x.mp4")]) == ["b/x.mp4", "c/x.mp4"]
    assert short_names([Path("x.mp4")]) == ["x.mp4"]
    assert short_names([Path("/a/x.mp4"), Path("/b/x.mp4")]) == ["a/x.mp4", "b/x.mp4"]
    assert short_names([]) == []


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
def test_an_error_of_the_whole_call_is_one_line(form: list[str], tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}.mp4").write_bytes(b"video")
    url = "http://127.0.0.1:1"  # nothing listens there
    result = CliRunner().invoke(app, ["predict", str(tmp_path), "--url", url, *form])
    assert result.exit_code == 1
    assert result.stderr.replace("\n", " ").count("Error:") == 1
    assert f"no server answers at {url}" in result.stderr.replace("\n", " ")
    assert "error" not in result.stdout.replace(",error", "")


def test_a_lost_connection_is_told_of_its_video_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(file: Path, **options: Any) -> Answer:
        if file.name == "a.mp4":
            raise ConnectionLostError("the worker died")
        return answer("grows", "grows")

    monkeypatch.setattr(
        "videopure.cli.predict.VideoPureClient.predict", lambda self, *a, **o: answers(*a, **o)
    )
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"video")
    result = CliRunner().invoke(app, ["predict", str(tmp_path), "--json"])
    assert result.exit_code == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines[0]["error"] == "the worker died"
    assert lines[1]["predictions"][0]["label"] == "grows"


def test_no_evidence_is_written_over_another() -> None:
    files = [Path(name) for name in ("a/x.mp4", "b/x.mov", "c/x-2.mp4", "d/X.mp4", "e/y.mp4")]
    names = evidence_names(files)
    assert len({name.lower() for name in names}) == len(files)
    assert names == [
        "x-purified.mp4",
        "x-2-purified.mp4",
        "x-2-2-purified.mp4",
        "X-3-purified.mp4",
        "y-purified.mp4",
    ]
