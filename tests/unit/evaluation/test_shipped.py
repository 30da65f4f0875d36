"""The results in docs/: they unpack by the commands beside them, with frames for the report."""

import re
import subprocess
from itertools import chain
from pathlib import Path

import pytest
import torch

from videopure.evaluation.report.examples import SHOWN_FRAMES, load_examples
from videopure.evaluation.store import Store, read_question
from videopure.motions.clips import NUM_FRAMES, Stream
from videopure.motions.dataset import load_split

pytestmark = pytest.mark.unit

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("page", ["hardening.md", "robustness.md"])
def test_shipped_results_come_with_frames_of_their_attacks(page: str, tmp_path: Path) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    (unpack,) = re.findall(r"^\$ (mkdir -p evaluation-out.*)$", text, re.M)
    (tmp_path / "docs").symlink_to(DOCS)
    subprocess.run(["bash", "-c", unpack], cwd=tmp_path, check=True)
    folder = tmp_path / "evaluation-out" / "videopure"
    store = Store(folder, read_question(folder))
    examples = load_examples(store)
    assert set(examples) <= {record.threat for record in store.records()}
    every = list(chain(*examples.values()))
    assert len(every) >= 2
    for example in every:
        clean, attacked, purified = example.frames
        # Drawn by the demo's program, and attacked within the budget that the name says.
        whole, labels = load_split(Stream("test"), example.clip, 1)
        step = NUM_FRAMES // SHOWN_FRAMES
        assert (clean - whole[0, step // 2 :: step]).abs().max() < 3 / 255
        assert example.truth == labels[0]
        (budget,) = re.findall(r" (\d+)/255", example.threat)
        assert 1 <= (attacked - clean).abs().max() * 255 < int(budget) + 0.5
        assert not torch.equal(purified, attacked)
