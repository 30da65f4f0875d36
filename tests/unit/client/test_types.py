"""What a type checker says of calls: a misspelt option or a wrong value does not pass."""

from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parents[3]
CALLS = """
import asyncio
from videopure.client import AsyncVideoPureClient, VideoPureClient

client = VideoPureClient()
client.predict("clip.mp4", top_k=1, votes="full", clips="auto", purify=False).predictions[0].label
client.predict("clip.mp4", topk=1)
client.explain("clip.mp4", method="magic")
for one in client.predict_many(["clip.mp4"], seeds=1):
    pass

async def ask(other: AsyncVideoPureClient) -> None:
    await other.predict("clip.mp4", inversion_steps=1)
    await other.predict("clip.mp4", inversion_step=1)
    await other.predict("clip.mp4", clips="all")
"""

pytestmark = [pytest.mark.unit, pytest.mark.extended]


def test_a_misspelt_option_fails_the_type_checker(tmp_path: Path) -> None:
    (tmp_path / "videopure").mkdir()
    for room in ("client", "wire"):
        (tmp_path / "videopure" / room).symlink_to(ROOT / room)
    (tmp_path / "calls.py").write_text(CALLS)
    (tmp_path / "mypy.ini").write_text(
        f"[mypy]\nmypy_path = {tmp_path}\nnamespace_packages = true\n"
        "explicit_package_bases = true\nno_site_packages = true\nignore_missing_imports = true\n"
        f"cache_dir = {tmp_path}/cache\n"
    )
    found, _, code = api.run(["--config-file", f"{tmp_path}/mypy.ini", f"{tmp_path}/calls.py"])
    assert code == 1
    lines = [int(line.split(":")[1]) for line in found.splitlines() if ": error:" in line]
    wrong = [number for number, line in enumerate(CALLS.splitlines(), 1) if _is_wrong(line)]
    assert (lines, len(wrong)) == (wrong, 5), found
    assert '"topk"' in found


def _is_wrong(line: str) -> bool:
    return any(word in line for word in ("topk", "magic", "seeds=", "inversion_step=", '"all"'))
