"""The image's steps without a container engine: the same files, user, variables and commands.

The context is what Dockerfile.dockerignore leaves. The packages are those that the wheel asks for,
and no others. The processes run as user 10001 in a mount namespace whose root is read-only, with
/tmp and the working folder as file systems of their own.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.closure import install
from tests.support.dockerfile import arguments, copy_context
from tests.support.load import wait_for
from tests.support.videos import encode, frames
from videopure.client import VideoPureClient
from videopure.launcher.ports import free_addresses

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy" / "docker"
DOCKERFILE = DOCKER / "Dockerfile"
# Where the environment is mounted, out of the way of this machine's own folders.
BOX = "/mnt"
RUN = "from videopure.cli.main import main; main()"


def can_unshare() -> bool:
    program = shutil.which("unshare")
    probe = ["unshare", "--mount", "mount", "-o", "remount,bind,ro", "/"]
    return bool(
        program
        and shutil.which("setpriv")
        and subprocess.run(probe, capture_output=True, check=False).returncode == 0
    )


pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(not can_unshare(), reason="needs root and mount namespaces"),
]


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """The site-packages of the image."""
    context, out, site = tmp_path / "context", tmp_path / "dist", tmp_path / "site"
    context.mkdir()
    copy_context(ROOT, DOCKER / "Dockerfile.dockerignore", context)
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", out, context]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = out.iterdir()
    names = install(wheel, site, ["serve", "transformers"], link=True)
    assert "torchserve" in names
    assert not names & {"pytest", "matplotlib", "mkdocs"}
    return site


def boxed(environment: Path, archive: Path, command: list[str]) -> list[str]:
    """A command in the box; it prints the number of its process first."""
    user = ["setpriv", "--reuid=10001", "--regid=10001", "--clear-groups", "--no-new-privs"]
    cleared = [
        "env", "-i", f"PATH={BOX}/python/bin:/usr/bin:/bin", f"PYTHONPATH={BOX}/site",
        "TMPDIR=/tmp", "HF_HUB_OFFLINE=1", "OMP_WAIT_POLICY=passive", "PYTHONUNBUFFERED=1",
        "PYTHONDONTWRITEBYTECODE=1", "OMP_NUM_THREADS=1", f"LD_LIBRARY_PATH={BOX}/python/lib",
    ]  # fmt: skip
    inner = [*user, *cleared, f"{BOX}/python/bin/python3", "-c", RUN, *command]
    script = f"""
set -e
mount -t tmpfs none {BOX}
mkdir {BOX}/python {BOX}/site {BOX}/models {BOX}/run
mount --bind {sys.base_prefix} {BOX}/python
mount --bind {environment} {BOX}/site
mount --bind {archive.parent} {BOX}/models
mount --bind {environment.parent}/run {BOX}/run
mount -o remount,ro,size=1M none {BOX}
mount -o remount,bind,ro /
mount -t tmpfs -o mode=1777 none /tmp
cd {BOX}/run
echo $$
exec {shlex.join(inner)}
"""
    return ["unshare", "--mount", "--propagation", "private", "bash", "-c", script]


def test_the_image_serves_as_nobody_from_a_read_only_root(
    environment: Path, tiny_archive: Path, tmp_path: Path
) -> None:
    for folder in (environment, *environment.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(0o755)
    tiny_archive.parent.chmod(0o755)
    (tmp_path / "run").mkdir(mode=0o700)
    os.chown(tmp_path / "run", 10001, 10001)
    addresses = free_addresses()
    port = addresses["inference_address"].rpartition(":")[2]
    entry = arguments(DOCKERFILE, "ENTRYPOINT")
    assert entry[:1] == ["videopure"]
    served = [word.replace("/models/", f"{BOX}/models/") for word in entry[1:]]
    command = boxed(environment, tiny_archive, [*served, "--port", port])
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_for(
            lambda: "Ready:" in log.read_text() or process.poll() is not None, "a ready server", 300
        )
        assert process.poll() is None, log.read_text()
        box = log.read_text().split()[0]
        check(box, int(port), healthy=0)
        ask(box, int(port), tmp_path)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    assert process.returncode == 0, log.read_text()


def check(box: str, port: int, healthy: int) -> None:
    """Run the image's health check in the box."""
    health = arguments(DOCKERFILE, "HEALTHCHECK")
    inside = ["nsenter", f"--target={box}", "--mount", f"--wd=/proc/{box}/cwd"]
    user = ["setpriv", "--reuid=10001", "--regid=10001", "--clear-groups"]
    variables = {
        **dict(PATH="/usr/bin:/bin", PYTHONPATH=f"{BOX}/site"),
        "LD_LIBRARY_PATH": f"{BOX}/python/lib",
        "VIDEOPURE_MANAGEMENT_URL": f"http://127.0.0.1:{port + 1}",
    }
    python = [f"{BOX}/python/bin/python3", "-c", RUN, *health[1:]]
    run = subprocess.run(
        [*inside, *user, *python], env=variables, capture_output=True, text=True, check=False
    )
    assert run.returncode == healthy, run.stderr
    assert "ready" in run.stdout


def ask(box: str, port: int, folder: Path) -> None:
    """A prediction, and what a process of the box may do."""
    keys = folder / "run" / "key_file.json"
    url = f"http://127.0.0.1:{port}"
    nobody = folder / "no_operator"
    with VideoPureClient(
        url, f"http://127.0.0.1:{port + 1}", key_file=keys, operator_key_file=nobody
    ) as client:
        assert client.predict(encode(frames(8, 16, 24))).detail == "scores"
        (worker,) = client.workers()
    status = Path(f"/proc/{worker.pid}/status").read_text()
    assert "Uid:\t10001\t10001" in status
    assert "CapEff:\t0000000000000000" in status
    root = f"/proc/{worker.pid}/root"
    assert os.statvfs(f"{root}/etc").f_flag & os.ST_RDONLY
    assert not os.statvfs(f"{root}/tmp").f_flag & os.ST_RDONLY
