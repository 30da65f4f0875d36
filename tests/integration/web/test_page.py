"""The page over real HTTP, in front of a small server of the real handler."""

import io
import json
import re
import socket
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import av
import numpy as np
import pytest
import requests
import torch

from tests.support.small_server import small_server
from tests.support.videos import encode, frames
from videopure.client import VideoPureClient
from videopure.evaluation.archives import load_evaluated
from videopure.web.app import make_app
from videopure.web.asking import Asker
from videopure.web.attacking import Attacker
from videopure.web.serving import listen, make_server
from videopure.wire.evidence import CAPTION, GAP

pytestmark = pytest.mark.integration

SOURCE = frames(4, 16, 24)
VIDEO = encode(SOURCE, "mp4", "libx264rgb", "rgb24", crf="0")
TYPE = {"Content-Type": "application/octet-stream"}
TOKEN = "a-token-of-the-tests"


@contextmanager
def page(asker: Asker, attacker: Attacker | None = None, **options: object) -> Iterator[str]:
    """The address of a page that runs."""
    listening = listen("127.0.0.1", 0)
    server = make_server(make_app(asker, attacker, **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def client(
    tiny_archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VideoPureClient]:
    with small_server(tiny_archive, tmp_path_factory.mktemp("server")) as connected:
        yield connected


@pytest.fixture(scope="module")
def attacker(tiny_archive: Path) -> Iterator[Attacker]:
    made = Attacker(load_evaluated(tiny_archive, torch.device("cpu")))
    yield made
    made.close()


@pytest.fixture(scope="module")
def url(client: VideoPureClient, attacker: Attacker) -> Iterator[str]:
    with page(Asker(client), attacker) as address:
        yield address


def film(base64: str) -> np.ndarray:
    """The frames of a video, uint8 [T, H, W, 3]."""
    with av.open(io.BytesIO(b64decode(base64))) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def post(
    url: str, video: bytes = VIDEO, path: str = "/api/ask", **query: object
) -> requests.Response:
    return requests.post(f"{url}{path}", video, headers=TYPE, params=query, timeout=60)


def test_a_clip_is_reported_as_the_server_answers_it(url: str, client: VideoPureClient) -> None:
    report = post(url).json()
    assert report["answer"]["predictions"] == client.predict(VIDEO).model_dump()["predictions"]
    assert report["answer"]["detail"] == "full"
    bare = client.predict(VIDEO, purify=False).model_dump()["predictions"]
    assert report["bare"] == bare
    assert report["answer"]["undefended"]["label"] == bare[0]["label"]
    full = client.predict(VIDEO, votes="full").votes
    assert report["votes"]["by_step"] == full.model_dump()["by_step"]
    assert report["votes"]["counted"] == report["votes"]["of"]
    assert report["answer"]["purification"]["calibrated"]  # as the archive has it, not as `full`


def test_the_panels_are_where_the_page_cuts_them(url: str) -> None:
    """As player.js does: the first panel is the clip that was sent, enlarged."""
    report = post(url).json()
    shown = film(report["evidence"])
    side = (shown.shape[2] - 2 * GAP) // 3
    panel = shown[:, CAPTION:, :side]
    scale = side // SOURCE.shape[2]
    assert panel.shape[1:3] == (scale * 16, scale * 24)
    middle = panel[:, scale // 2 :: scale, scale // 2 :: scale].astype(int)
    assert np.abs(middle - SOURCE).mean() < 3


def test_what_the_page_says_of_the_server(url: str, client: VideoPureClient) -> None:
    about = requests.get(f"{url}/api/about", timeout=60).json()
    assert about["problem"] is None
    assert about["operator"]
    assert about["model"]["recogniser"] == "tiny"
    assert about["model"]["threshold"] == 0.5
    assert about["attack"] == {"possible": True, "why": None}
    assert "grows-attacked" in about["samples"]
    sample = requests.get(f"{url}/api/samples/grows-clean", timeout=60)
    assert sample.headers["Content-Type"] == "video/mp4"
    assert post(url, sample.content).status_code == 200
    for name in ("nothing", "..%2F..%2Fpyproject.toml"):
        assert requests.get(f"{url}/api/samples/{name}", timeout=60).status_code == 404


@pytest.mark.parametrize(
    ("video", "query", "status", "words"),
    [
        (b"<html>no video</html>", {}, 415, "HTML"),
        (b"", {}, 422, "The file is empty."),
        (VIDEO, {"method": "magic"}, 400, "magic"),
        (VIDEO, {"inversion_steps": 1000}, 400, "inversion_steps"),
        (VIDEO, {"purify": "false"}, 400, "There is no option 'purify'."),
    ],
)
def test_errors_are_told_in_words(
    url: str, video: bytes, query: dict[str, object], status: int, words: str
) -> None:
    answer = post(url, video, **query)
    assert answer.status_code == status
    message = answer.json()["message"]
    assert words in message
    assert message[0].isupper() or message[0] == "'"
    assert message.endswith(".")


def test_a_body_is_read_no_further_than_the_server_allows(client: VideoPureClient) -> None:
    asker = Asker(client)
    asker.description()["limits"]["max_bytes"] = 1000
    with page(asker) as url:
        answer = post(url, b"x" * 2000)
    assert answer.status_code == 413
    assert "MB allowed" in answer.json()["message"]


def test_without_a_server_the_page_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    with (
        VideoPureClient(address, address, key_file=tmp_path / "key_file.json") as client,
        page(Asker(client)) as url,
    ):
        about = requests.get(f"{url}/api/about", timeout=60).json()
        answer = post(url)
    assert about["model"] is None
    assert about["problem"].startswith(f"No server answers at {address}")
    assert answer.status_code == 502
    assert answer.json()["message"].startswith(f"No server answers at {address}")


def test_without_the_operators_key_it_shows_what_clients_are_told(
    client: VideoPureClient, tmp_path: Path
) -> None:
    url = client.inference_url
    keyless = VideoPureClient(url, url, key_file=tmp_path / "key_file.json")
    with keyless, page(Asker(keyless)) as url:
        report = post(url).json()
    assert report["answer"]["detail"] == "scores"
    assert report["bare"] is report["votes"] is report["evidence"] is None


def test_an_attack_makes_the_recogniser_fall(url: str, client: VideoPureClient) -> None:
    answer = post(url, path="/api/attack", epsilon=16, steps=50)
    *steps, made = map(json.loads, answer.text.splitlines())
    assert [line["step"] for line in steps] == list(range(1, len(steps) + 1))
    assert 0 < made["largest"] <= 16
    changed = film(made["video"])
    assert changed.shape == SOURCE.shape
    assert np.abs(changed.astype(int) - SOURCE).max() == made["largest"]
    (before, _), (after, _) = made["before"], made["after"]
    assert before != after
    assert client.predict(VIDEO, purify=False).predictions[0].label == before
    served = client.predict(b64decode(made["video"]), purify=False)
    assert served.predictions[0].label == after


def test_an_attacker_may_know_everything(url: str) -> None:
    answer = post(url, path="/api/attack", epsilon=8, steps=2, knows="everything")
    *_, made = map(json.loads, answer.text.splitlines())
    changed = film(made["video"]).astype(int)
    assert 0 < np.abs(changed - SOURCE).max() <= 8


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"epsilon": 99, "steps": 5}, "'epsilon' must be 0.25 to 32, got '99'."),
        ({"epsilon": "nan", "steps": 5}, "'epsilon' must be"),
        ({"epsilon": 4, "steps": "many"}, "'steps' must be"),
        ({"epsilon": 4, "steps": 5, "knows": "me"}, "'knows' must be recogniser or everything"),
    ],
)
def test_attacks_out_of_range_are_refused(url: str, query: dict[str, object], words: str) -> None:
    answer = post(url, path="/api/attack", **query)
    assert answer.status_code == 400
    assert words in answer.json()["message"]


def test_a_damaged_clip_is_not_attacked(url: str) -> None:
    answer = post(url, b"no video", "/api/attack", epsilon=4, steps=5)
    (line,) = map(json.loads, answer.text.splitlines())
    assert "video" in line["message"]


def test_without_an_archive_nothing_is_attacked(client: VideoPureClient) -> None:
    with page(Asker(client)) as url:
        about = requests.get(f"{url}/api/about", timeout=60).json()
        answer = post(url, path="/api/attack", epsilon=4, steps=5)
    assert not about["attack"]["possible"]
    assert "--archive" in about["attack"]["why"]
    assert answer.status_code == 403


def test_another_recogniser_than_the_servers_is_not_attacked(
    client: VideoPureClient, attacker: Attacker
) -> None:
    served = client.describe()
    assert attacker.refusal(served) is None
    served["recogniser"] |= {"name": "another"}
    assert "'tiny', and the server another one, 'another'" in (attacker.refusal(served) or "")


def test_files_of_the_page_load_nothing_from_elsewhere(url: str) -> None:
    answer = requests.get(url, timeout=60)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    # What the policy forbids would not work: code and styles inside the page.
    assert not re.search(r"<[^>]*\s(on\w+|style)=", answer.text)
    assert not re.search(r"<script(?![^>]*\ssrc=)", answer.text)
    for file in (resources.files("videopure.web") / "static").iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, file.name
        assert "innerHTML" not in text, file.name
        got = requests.get(f"{url}/static/{file.name}", timeout=60)
        assert got.status_code == 200
        if file.name.endswith(".js"):  # or browsers would not run it
            assert got.headers["Content-Type"].startswith("text/javascript")
    for name in ("..%2Fapp.py", "%2e%2e/app.py", "nothing.js"):
        assert requests.get(f"{url}/static/{name}", timeout=60).status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "elsewhere.example"}, 421),  # a name that was made to point here
        ({"Host": "127.0.0.1.elsewhere.example:80"}, 421),
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),  # browsers ask before they send another type
    ],
)
def test_other_sites_cannot_use_the_page(url: str, headers: dict[str, str], status: int) -> None:
    answer = requests.post(f"{url}/api/ask", VIDEO, headers={**TYPE, **headers}, timeout=60)
    assert answer.status_code == status
    assert answer.json()["message"]


def test_a_browser_of_the_page_itself_is_let_in(url: str) -> None:
    headers = {**TYPE, "Origin": url, "Sec-Fetch-Site": "same-origin"}
    assert requests.post(f"{url}/api/ask", VIDEO, headers=headers, timeout=60).ok


def test_beyond_this_machine_a_token_is_asked_for(client: VideoPureClient) -> None:
    with page(Asker(client), token=TOKEN, local=False) as url:

        def about(**headers: str) -> int:
            return requests.get(f"{url}/api/about", headers=headers, timeout=60).status_code

        assert requests.get(url, timeout=60).ok  # which asks for the token
        assert about() == 401
        assert about(Authorization="Bearer wrong") == 401
        assert about(Cookie=f"videopure_page={TOKEN}") == 401
        assert about(Authorization=f"Bearer {TOKEN}") == 200
        assert about(Host="some.name.example", Authorization=f"Bearer {TOKEN}") == 200
        with requests.Session() as browser:
            assert browser.post(f"{url}/api/login", timeout=60).status_code == 401
            entered = browser.post(
                f"{url}/api/login", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60
            )
            assert entered.status_code == 204
            kept = entered.headers["Set-Cookie"]
            assert "HttpOnly" in kept
            assert "SameSite=strict" in kept
            assert TOKEN not in kept
            assert browser.get(f"{url}/api/about", timeout=60).ok
            assert browser.post(f"{url}/api/ask", VIDEO, headers=TYPE, timeout=60).ok
