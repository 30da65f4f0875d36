"""What a training loop leaves behind when it is stopped, and what it goes on from."""

import errno
from pathlib import Path

import pytest
import torch
from torch import nn

from videopure.training.ahead import Ahead
from videopure.training.loop import Question, train_steps
from videopure.training.precision import half_dtype

pytestmark = pytest.mark.unit


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    file = tmp_path / "stage.pt"
    parts = {"network": nn.Linear(1, 1)}
    train_steps("stage", 1, lambda step: {"loss": 0.0}, parts, file, writes=True)
    before = file.read_bytes()
    (tmp_path / "stage.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        train_steps("stage", 2, lambda step: {"loss": 0.0}, parts, file, writes=True)
    assert caught.value.errno == errno.ENOSPC
    assert file.read_bytes() == before


def test_a_question_names_what_differs() -> None:
    stored = Question({"batch": 2, "seed": 0}).state_dict()
    Question({"batch": 2}).load_state_dict(stored)
    with pytest.raises(ValueError, match="with other batch, size: remove it"):
        Question({"batch": 3, "size": "S"}).load_state_dict(stored)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_batches_made_ahead_are_those_of_their_steps(threads: int) -> None:
    made: list[int] = []

    def make(step: int) -> int:
        made.append(step)
        return step * step

    ahead = Ahead(make, 9, threads)
    assert [ahead.take(step) for step in range(4, 9)] == [16, 25, 36, 49, 64]
    ahead.close()
    assert sorted(made) == [4, 5, 6, 7, 8]  # each once, and none beyond the end
    assert ahead.waited >= 0


def test_what_a_batch_fails_with_reaches_its_step() -> None:
    def make(step: int) -> int:
        raise OSError(f"step {step}")

    ahead = Ahead(make, 3)
    with pytest.raises(OSError, match="step 0"):
        ahead.take(0)
    ahead.close()


def test_a_cpu_never_computes_in_bfloat16() -> None:
    cpu = torch.device("cpu")
    assert half_dtype("auto", cpu) is None
    assert half_dtype("float32", cpu) is None
    with pytest.raises(ValueError, match="needs a GPU that computes in it"):
        half_dtype("bfloat16", cpu)
    with pytest.raises(ValueError, match="must be one of auto, float32, bfloat16, got 'half'"):
        half_dtype("half", cpu)
