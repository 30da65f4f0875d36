"""What TorchServe does that nobody expects, where this product or its users depend on it."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.keys import write_keys
from videopure.archive.configure import sign_archive
from videopure.demo import SAMPLES
from videopure.handler.torchserve import REQUIRED_SIGNATURE
from videopure.launcher.ports import free_addresses
from videopure.launcher.server import ServerError, TorchServe

pytestmark = pytest.mark.e2e

VIDEO = SAMPLES / "grows-clean.mp4"


def call(
    server: TorchServe, method: str, path: str, purpose: str = "inference", **kwargs: Any
) -> requests.Response:
    """A request with the key of a purpose, to the address that serves it."""
    client = server.client()
    base = client.inference_url if purpose == "inference" else client.management_url
    key = json.loads(client.key_file.read_text())[purpose]["key"]
    headers = {"Authorization": f"Bearer {key}", **kwargs.pop("headers", {})}
    return requests.request(method, f"{base}{path}", headers=headers, timeout=120, **kwargs)


def curl(server: TorchServe, *arguments: str) -> tuple[int, str]:
    """Status and body that curl gets from /predictions."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("needs curl")
    client = server.client()
    key = json.loads(client.key_file.read_text())["inference"]["key"]
    headers = ["-H", f"Authorization: Bearer {key}", "-w", "\n%{http_code}"]
    url = f"{client.inference_url}/predictions/{client.model}"
    run = subprocess.run(
        [program, "-sS", *headers, *arguments, url],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "no_proxy": "*"},
    )
    body, status = run.stdout.rsplit("\n", 1)
    return int(status), body


@pytest.mark.parametrize("how", [("-T",), ("-H", "Content-Type: video/mp4", "--data-binary")])
def test_curl_sends_a_file_whole(server: TorchServe, how: tuple[str, ...]) -> None:
    file = str(VIDEO) if how == ("-T",) else f"@{VIDEO}"
    status, body = curl(server, *how, file)
    assert status == 200
    assert json.loads(body)["predictions"][0]["label"] == "grows"


def test_curls_form_type_breaks_a_file_before_the_handler_sees_it(server: TorchServe) -> None:
    """The README warns of it; a form that can be read gets an error that says what to do."""
    status, body = curl(server, "--data-binary", f"@{VIDEO}")
    assert status >= 400, body
    status, body = curl(server, "--data-binary", "no-equals-sign-and-no-percent")
    assert status == 400
    assert "curl: -T FILE" in json.loads(body)["message"]


def test_query_strings_do_not_reach_the_handler(server: TorchServe) -> None:
    """The README says so; where this changes, they must be read and checked as options."""
    answer = call(
        server,
        "POST",
        "/predictions/videopure?stpes=1",
        data=VIDEO.read_bytes(),
        headers={"Content-Type": "video/mp4"},
    )
    assert answer.status_code == 200


def test_models_are_neither_registered_nor_removed_over_http(server: TorchServe) -> None:
    url = "/models?url=file:///etc/passwd"
    assert call(server, "POST", url, "management").status_code == 405
    assert call(server, "DELETE", "/models/videopure", "management").status_code == 405
    assert call(server, "GET", "/models/videopure", "management").ok
    assert not (server.archive.parent / "passwd").exists()


def test_a_file_name_that_climbs_is_but_a_name(server: TorchServe) -> None:
    before = set(server.folder.parent.iterdir())
    name = "../../../climbed.mp4"
    answer = call(
        server,
        "POST",
        "/predictions/videopure",
        files={"video": (name, VIDEO.read_bytes(), "video/mp4"), "../top_k": ("../k", b"1")},
    )
    assert answer.status_code == 400
    assert "unknown option '../top_k'" in answer.json()["message"]
    answer = call(
        server, "POST", "/predictions/videopure", files={"video": (name, VIDEO.read_bytes())}
    )
    assert answer.status_code == 200
    assert set(server.folder.parent.iterdir()) == before


@pytest.mark.slow
def test_no_file_is_fetched_even_where_models_can_be_registered(
    tiny_archive: Path, tmp_path: Path
) -> None:
    """TorchServe would copy any file into the model store, but for allowed_urls."""
    store = tmp_path / "store"
    store.mkdir()
    archive = store / "videopure.mar"
    shutil.copyfile(tiny_archive, archive)
    overrides = {**free_addresses(), "enable_model_api": "true"}
    with TorchServe(archive, folder=tmp_path, overrides=overrides) as running:
        for url in (Path(__file__).as_uri(), "http://127.0.0.1:9/other.mar"):
            answer = call(running, "POST", f"/models?url={url}", "management")
            assert 400 <= answer.status_code < 500, answer.text
    assert [path.name for path in store.iterdir()] == ["videopure.mar"]


@pytest.mark.parametrize("path", ["/ping", "/predictions/videopure", "/v2/health/ready"])
def test_nothing_on_the_inference_address_answers_without_a_key(
    server: TorchServe, path: str
) -> None:
    answer = requests.get(f"{server.client().inference_url}{path}", timeout=60)
    assert answer.status_code == 400
    assert answer.json()["type"] == "InvalidKeyException"


def test_every_address_is_of_this_machine_alone(server: TorchServe) -> None:
    """Of the shipped config.properties, which the server's own is made from."""
    shipped = (Path(__file__).parents[2] / "config.properties").read_text()
    addresses = [line for line in shipped.splitlines() if "_address=" in line]
    assert len(addresses) == 5
    assert all("127.0.0.1" in line for line in addresses)


def test_a_body_beyond_the_servers_own_limit_is_refused(server: TorchServe) -> None:
    limit = 67108864
    answer = call(
        server,
        "POST",
        "/predictions/videopure",
        data=bytes(limit + 1),
        headers={"Content-Type": "video/mp4"},
    )
    assert answer.status_code == 413
    with server.client() as client:
        assert client.ready()
        assert client.predict(VIDEO)


@pytest.mark.slow
def test_an_edited_configuration_holds_though_a_server_ran_here_before(
    tiny_archive: Path, tmp_path: Path
) -> None:
    """TorchServe's snapshots in logs/config would win over the file, but for --ncs."""
    for limit in ("2000", "4000"):
        overrides = {**free_addresses(), "max_request_size": limit}
        with TorchServe(tiny_archive, folder=tmp_path, overrides=overrides) as running:
            answer = call(
                running,
                "POST",
                "/predictions/videopure",
                data=bytes(3000),
                headers={"Content-Type": "video/mp4"},
            )
            assert answer.status_code == (413 if limit == "2000" else 415)


def test_a_required_signature_is_checked_by_the_worker(demo_archive: Path, tmp_path: Path) -> None:
    """TorchServe hands its environment to the workers, and with it the key they are to require."""
    private, public = write_keys(tmp_path)
    archive = tmp_path / "store" / "videopure.mar"
    archive.parent.mkdir()
    shutil.copy(demo_archive, archive)

    def serve(folder: str) -> TorchServe:
        (tmp_path / folder).mkdir()
        return TorchServe(
            archive,
            folder=tmp_path / folder,
            overrides=free_addresses(),
            environment={REQUIRED_SIGNATURE: str(public)},
        )

    with pytest.raises(ServerError, match="the archive is not signed"), serve("unsigned"):
        pass
    sign_archive(archive, private)
    with serve("signed") as running, running.client() as client:
        assert client.predict(VIDEO).predictions[0].label == "grows"
