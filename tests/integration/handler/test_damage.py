"""Bad input through the service: errors in one shape, in bounded time, and nothing else."""

import base64
import socket
import threading
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.damage import damaged_files, whole_files
from tests.support.policies import OPEN
from tests.support.videos import encode, frames
from videopure.format.settings import HandlerSettings
from videopure.handler.requests import Options
from videopure.handler.service import VideoPureService
from videopure.handler.torchserve import load_service
from videopure.wire.schemas import Answer, ErrorAnswer

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def service(tiny_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> VideoPureService:
    root = tmp_path_factory.mktemp("unpacked")
    ZipFile(tiny_archive).extractall(root)
    section = {
        "limits": {"max_decode_seconds": 10},
        "purification": {"inversion_steps": 1},
        "policy": OPEN,
    }
    return load_service(root, HandlerSettings.parse(section), torch.device("cpu"))


def ask(service: VideoPureService, row: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    (reply,) = service.answer([row], ["id"]).replies
    shape = Answer if reply.status == 200 else ErrorAnswer
    assert shape.model_validate(reply.body).model_extra == {}
    return reply.status, reply.body


def test_whole_files_are_answered(service: VideoPureService) -> None:
    for name, data in whole_files().items():
        assert ask(service, {"video": data, "purify": b"false"})[0] == 200, name


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("huge-gif", 413, "more pixels a frame than the 9437184 allowed"),
        ("endless-index", 413, "170000000 frames, more than the 20000 allowed"),
        ("lying-pictures", 413, "more pixels a frame than"),
        ("inflated-header", 415, "compressed header"),
        ("sound-mp4", 415, "has no video stream"),
        ("no-frames", 422, "damaged or cut short"),
        ("only-header", 422, "damaged or cut short"),
    ],
)
def test_each_lie_has_its_own_error(
    service: VideoPureService, name: str, status: int, words: str
) -> None:
    data = dict(damaged_files(11))[name]
    assert ask(service, {"body": data})[0] == status
    assert words in ask(service, {"body": data})[1]["message"]


def test_nothing_that_a_file_points_to_is_opened(service: VideoPureService, tmp_path: Path) -> None:
    """Playlists and the like may name files and addresses: none is read or connected to."""
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(encode(frames(8, 16, 24)))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x.ts"
        connections: list[object] = []
        thread = threading.Thread(target=lambda: connections.append(_accept(listener)))
        thread.start()
        for target in (url, secret.as_uri(), str(secret)):
            for text in (
                f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
                f"ffconcat version 1.0\nfile '{target}'\n",
                f"file '{target}'\n",
                '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
                f"<Period><AdaptationSet><Representation><BaseURL>{target}</BaseURL>"
                "</Representation></AdaptationSet></Period></MPD>",
                f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"
                f"a=control:{target}\n",
                f"[playlist]\nFile1={target}\n",
            ):
                # What starts with a bracket is taken for broken JSON.
                assert ask(service, {"body": text.encode()})[0] in (400, 415)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert connections == [None]


def _accept(listener: socket.socket) -> object:
    try:
        return listener.accept()
    except OSError:  # closed before anyone came
        return None


VIDEO = encode(frames(4, 16, 24), "matroska", "ffv1", "bgr0")
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["early", "full", "ddpm", "videopure"]),
    st.lists(st.integers(), max_size=2),
)
options = st.dictionaries(
    st.one_of(st.sampled_from(sorted(Options.model_fields)), st.text(max_size=8)),
    values,
    max_size=4,
)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(options)
def test_any_options_are_answered_or_named(
    service: VideoPureService, chosen: dict[str, Any]
) -> None:
    chosen = {"purify": False, **chosen}
    body = {"video": base64.b64encode(VIDEO).decode(), "options": chosen}
    status, answer = ask(service, {"body": body})
    assert status in (200, 400)
    if status == 400:
        assert any(repr(name)[1:-1] in answer["message"] for name in chosen)
