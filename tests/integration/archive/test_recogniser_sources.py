"""Recognisers of every origin: stored, loaded as a worker will, the same answers as before."""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.support.models import save_recogniser
from tests.support.programs import Network, save_export, save_script
from tests.support.recognisers import LABELS, save_transformers
from videopure.archive import BuildError, BuildSpec
from videopure.archive.recognisers import find_recogniser, store_recogniser
from videopure.archive.staging import Staging
from videopure.purifier import Recogniser, load_recogniser

pytestmark = pytest.mark.integration

YAML = """
frames: 4
size: [16, 24]
layout: BCTHW
mean: [0.4, 0.5, 0.6]
std: [0.2, 0.25, 0.3]
labels: [wave, jump, run]
"""


SHAPE = (3, 4, 16, 24)


def export(path: Path, batch: int | None = None) -> Path:
    return save_export(path, batch, SHAPE)


def script(path: Path) -> Path:
    return save_script(path, SHAPE)


def store(tmp_path: Path, recogniser: object, **options: Any) -> tuple[Path, str | None, list[str]]:
    """Store a recogniser; answers the folder, its program, and what was reported."""
    spec = BuildSpec(recogniser=str(recogniser), pipeline="", out=tmp_path / "a.mar", **options)
    reported: list[str] = []
    tmp_path.mkdir(exist_ok=True)
    root = Path(tempfile.mkdtemp(dir=tmp_path)) / "staging"
    staging = Staging.of(spec, root, reported.append)
    stored = store_recogniser(spec, find_recogniser(spec), staging)
    return staging.root / "recogniser", stored.program, reported


@pytest.fixture
def yaml_file(tmp_path: Path) -> Path:
    (tmp_path / "network.yaml").write_text(YAML)
    return tmp_path / "network.yaml"


def expected_logits(frames: Tensor) -> Tensor:
    """Of `Network`, on frames [B, T, 3, H, W] normalised as the YAML says."""
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    normalised = (frames - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.no_grad():
        return Network().eval()(normalised.transpose(1, 2))


@pytest.mark.parametrize(
    ("write", "name"),
    [(export, "network.pt2"), (script, "network.pt"), (script, "network.ts")],
    ids=["export", "torchscript", "torchscript-ts"],
)
def test_a_trusted_program_answers_as_the_model_it_was_made_of(
    write: Callable[[Path], Path], name: str, tmp_path: Path, yaml_file: Path
) -> None:
    program = write(tmp_path / name)
    target, trusted, _ = store(tmp_path, program, recogniser_config=yaml_file, trust_program=True)
    assert trusted == name
    recogniser = load_recogniser(target, trusted_program=trusted)
    assert recogniser.labels == ["wave", "jump", "run"]
    frames = torch.rand(3, 4, 3, 16, 24)
    torch.testing.assert_close(recogniser.logits(frames), expected_logits(frames))
    frames.requires_grad_()
    recogniser.logits(frames).sum().backward()
    assert frames.grad is not None
    assert frames.grad.abs().sum() > 0
    with pytest.raises(ValueError, match=rf"{name} is a program, which can run any code"):
        load_recogniser(target)


def test_a_program_of_a_fixed_batch_takes_any_number_of_clips(
    tmp_path: Path, yaml_file: Path
) -> None:
    yaml_file.write_text(YAML + "batch_size: 2\n")
    program = export(tmp_path / "network.pt2", batch=2)
    target, trusted, _ = store(tmp_path, program, recogniser_config=yaml_file, trust_program=True)
    recogniser = load_recogniser(target, trusted_program=trusted)
    for clips in (1, 2, 5):
        frames = torch.rand(clips, 4, 3, 16, 24)
        torch.testing.assert_close(recogniser.logits(frames), expected_logits(frames))


def test_labels_come_from_a_file_beside_the_yaml(tmp_path: Path, yaml_file: Path) -> None:
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    yaml_file.write_text(YAML.replace("[wave, jump, run]", "names.txt"))
    program = export(tmp_path / "network.pt2")
    target, trusted, _ = store(tmp_path, program, recogniser_config=yaml_file, trust_program=True)
    assert load_recogniser(target, trusted_program=trusted).labels == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("fames: 3", r"unknown key 'fames'; known: .*layout"),
        ("frames: 0", "frames must be a whole number of at least 1, got 0"),
        ("size: [16]", r"size must be \[height, width\] in pixels, got \[16\]"),
        ("layout: HWTBC", "layout must be one of BTCHW, BCTHW, BTHWC, got 'HWTBC'"),
        ("std: [1, 1, 0]", r"std must be three numbers, .*got \[1, 1, 0\]"),
        ("labels: []", r"labels must be a list of class names, got \[\]"),
        ("labels: no.txt", r"labels .*no\.txt cannot be read"),
        ("kind: program.export", "kind follows from the recogniser"),
        ("resize: 8", r"resize must be at least .*\(16, 24\), got 8"),
    ],
)
def test_yaml_that_does_not_describe_the_program_is_named(
    tmp_path: Path, yaml_file: Path, change: str, message: str
) -> None:
    key = change.split(":")[0]
    kept = [line for line in YAML.splitlines() if not line.startswith(f"{key}:")]
    yaml_file.write_text("\n".join([*kept, change]))
    program = export(tmp_path / "network.pt2")
    with pytest.raises(BuildError, match=message):
        store(tmp_path, program, recogniser_config=yaml_file, trust_program=True)


def test_a_program_must_be_trusted_and_described(tmp_path: Path, yaml_file: Path) -> None:
    program = export(tmp_path / "network.pt2")
    with pytest.raises(BuildError, match=r"network\.pt2 is a program: loading it runs .*--trust-"):
        store(tmp_path, program, recogniser_config=yaml_file)
    with pytest.raises(BuildError, match=r"needs --recogniser-config FILE: YAML with frames"):
        store(tmp_path, program, trust_program=True)
    with pytest.raises(BuildError, match=r"nothing\.pt2 is not a file"):
        store(tmp_path, tmp_path / "nothing.pt2", trust_program=True)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["module.pt", "module.ts", "module.pt2"])
def test_a_pickle_named_like_a_program_is_told_apart(
    tmp_path: Path, yaml_file: Path, name: str, zipped: bool
) -> None:
    file = tmp_path / name
    torch.save(Evil(tmp_path / "ran"), file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(BuildError, match=r"was written by torch\.save.*Export the model"):
        store(tmp_path, file, recogniser_config=yaml_file, trust_program=True)
    assert not (tmp_path / "ran").exists()


def test_a_model_of_pictures_is_refused_with_what_could_be_used(tmp_path: Path) -> None:
    folder = tmp_path / "vit"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "vit"}')
    save_file({"a": torch.zeros(1)}, folder / "model.safetensors")
    message = r"vit is not a video classifier: model_type must be one of .*videomae.*, got 'vit'"
    with pytest.raises(BuildError, match=message):
        store(tmp_path, folder)


def test_a_missing_transformers_is_told_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_transformers("videomae", tmp_path / "model")
    for name in ("transformers.models.auto.modeling_auto", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BuildError, match=r"model needs transformers: in .*'\.\[transformers\]'"):
        store(tmp_path, tmp_path / "model")


def test_a_program_that_answers_something_else_is_named(tmp_path: Path, yaml_file: Path) -> None:
    yaml_file.write_text(YAML.replace("[wave, jump, run]", "[wave, jump]"))
    program = export(tmp_path / "network.pt2")
    target, trusted, _ = store(tmp_path, program, recogniser_config=yaml_file, trust_program=True)
    recogniser = load_recogniser(target, trusted_program=trusted)
    with pytest.raises(ValueError, match=r"logits of shape \[1, 2\] \(clips, labels\), got \[1, 3"):
        recogniser.logits(torch.rand(1, 4, 3, 16, 24))


def logits(recogniser: Recogniser) -> Tensor:
    torch.manual_seed(1)
    return recogniser.logits(torch.rand(2, recogniser.num_frames, 3, *recogniser.frame_size))


def test_pickled_transformers_weights_are_converted(tmp_path: Path) -> None:
    source = tmp_path / "source"
    model = save_transformers("videomae", source)
    before = logits(load_recogniser(source))
    (source / "model.safetensors").unlink()
    torch.save(model.state_dict(), source / "pytorch_model.bin")
    target, _, reported = store(tmp_path, source)
    assert reported == ["Converting the pickled weights pytorch_model.bin of the recogniser"]
    assert not list(target.glob("*.bin"))
    torch.testing.assert_close(logits(load_recogniser(target)), before)


class Evil:
    """Unpickled by the ordinary loader, this would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_pickle_with_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    source = tmp_path / "source"
    save_transformers("videomae", source)
    (source / "model.safetensors").unlink()
    torch.save({"a": Evil(tmp_path / "ran")}, source / "pytorch_model.bin")
    with pytest.raises(BuildError, match=r"has pickled weights that may hold more"):
        store(tmp_path, source)
    assert not (tmp_path / "ran").exists()


def test_dtype_is_chosen_and_converted_once(tmp_path: Path) -> None:
    source = save_recogniser(tmp_path / "source")
    before = load_file(source / "model.safetensors")
    target, _, _ = store(tmp_path, source, dtype="bfloat16")
    after = load_file(target / "model.safetensors")
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        floating = tensor.is_floating_point()
        expected = tensor.to(torch.bfloat16) if floating else tensor
        torch.testing.assert_close(after[name], expected, rtol=0, atol=0)
    with pytest.raises(BuildError, match="dtype must be one of float32, float16, bfloat16, got"):
        BuildSpec(recogniser="", pipeline="", out=Path("a.mar"), dtype="int8").check()


@pytest.mark.parametrize("kind", ["videopure", "transformers"])
@pytest.mark.parametrize("suffix", ["txt", "json"])
def test_labels_of_a_file_replace_those_of_the_model(
    tmp_path: Path, kind: str, suffix: str
) -> None:
    source = tmp_path / "source"
    if kind == "videopure":
        save_recogniser(source)
    else:
        save_transformers("videomae", source)
    count = len(load_recogniser(source).labels)
    names = [f"class {index}" for index in range(count)]
    file = tmp_path / f"labels.{suffix}"
    file.write_text("\n".join(names) if suffix == "txt" else json.dumps(names))
    target, _, _ = store(tmp_path, source, labels=file)
    assert load_recogniser(target).labels == names
    file.write_text("only one" if suffix == "txt" else '["only one"]')
    with pytest.raises(BuildError, match=rf"holds 1 names for {count} classes"):
        store(tmp_path / "again", source, labels=file)


def test_a_model_without_class_names_is_pointed_out(tmp_path: Path) -> None:
    source = tmp_path / "source"
    save_transformers("videomae", source)
    config = json.loads((source / "config.json").read_text())
    config["id2label"] = {str(index): f"LABEL_{index}" for index in range(len(LABELS))}
    (source / "config.json").write_text(json.dumps(config))
    _, _, reported = store(tmp_path, source)
    assert reported == ["Note: the recogniser calls its classes LABEL_0 to LABEL_2: see --labels"]


@pytest.mark.usefixtures("torchvision")
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_torchvision_model_is_named_and_its_weights_given(tmp_path: Path, suffix: str) -> None:
    from torchvision.models import get_model
    from torchvision.models.video import MC3_18_Weights

    torch.manual_seed(0)
    network = get_model("mc3_18", weights=None, num_classes=3).eval()
    file = tmp_path / f"mc3.{suffix}"
    if suffix == "pth":
        torch.save({"state_dict": network.state_dict()}, file)
    else:
        save_file(network.state_dict(), file)
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\nc")
    config = tmp_path / "small.yaml"
    config.write_text("frames: 4\nsize: 32\nresize: [36, 40]")
    target, _, _ = store(
        tmp_path, "torchvision:mc3_18", weights=file, labels=labels, recogniser_config=config
    )
    recogniser = load_recogniser(target)
    assert (recogniser.num_frames, recogniser.frame_size) == (4, (32, 32))
    # Preprocessing is torchvision's own, on the same decoded frames.
    frames = (torch.rand(4, 3, 6, 7) * 255).to(torch.uint8)
    frames = nn.functional.interpolate(frames.float(), (50, 71), mode="bilinear").to(torch.uint8)
    transforms = MC3_18_Weights.DEFAULT.transforms(crop_size=(32, 32), resize_size=(36, 40))
    from videopure.purifier import prepare_clip

    clip = prepare_clip(frames.permute(0, 2, 3, 1).numpy(), recogniser.framing)  # [T, H, W, 3]
    theirs = transforms(frames)[None]
    torch.testing.assert_close(
        recogniser.normalise(clip)[None].transpose(1, 2), theirs, rtol=0, atol=0.01
    )
    with torch.no_grad():
        expected = network(recogniser.normalise(clip)[None].transpose(1, 2))
        torch.testing.assert_close(recogniser.logits(clip[None]), expected)


@pytest.mark.usefixtures("torchvision")
def test_torchvision_models_are_refused_with_the_reason(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(1)}, weights)
    with pytest.raises(BuildError, match=r"torchvision:r4d_18 is not known: use one of mc3_18"):
        store(tmp_path, "torchvision:r4d_18", weights=weights)
    with pytest.raises(BuildError, match=r"torchvision:r3d_18 needs --weights FILE: its \.safeten"):
        store(tmp_path, "torchvision:r3d_18")
    with pytest.raises(BuildError, match=r"weights .*nowhere\.pth is not a file"):
        store(tmp_path, "torchvision:r3d_18", weights=tmp_path / "nowhere.pth")
    for content, message in (
        ({"a": 1}, "is not a dictionary of tensors"),
        ({"a": Evil(tmp_path / "ran")}, "is a pickle that may hold more than weights"),
    ):
        torch.save(content, weights)
        with pytest.raises(BuildError, match=message):
            store(tmp_path / f"{len(message)}", "torchvision:r3d_18", weights=weights)
    assert not (tmp_path / "ran").exists()
    torch.save({"a": torch.zeros(100)}, weights)
    os.truncate(weights, 400)
    with pytest.raises(BuildError, match=r"weights\.pth is damaged: "):
        store(tmp_path / "cut", "torchvision:r3d_18", weights=weights)


@pytest.mark.slow
@pytest.mark.usefixtures("torchvision")
@pytest.mark.parametrize(
    "name",
    ["mvit_v1_b", "mvit_v2_s", "r2plus1d_18", "r3d_18", "s3d", "swin3d_b", "swin3d_s", "swin3d_t"],
)
def test_every_torchvision_model_at_its_own_size(tmp_path: Path, name: str) -> None:
    from torchvision.models import get_model

    torch.manual_seed(0)
    network = get_model(name, weights=None).half()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    config = tmp_path / "short.yaml"
    config.write_text("frames: 16")
    target, _, _ = store(
        tmp_path,
        f"torchvision:{name}",
        weights=tmp_path / "weights.safetensors",
        recogniser_config=config,
    )
    recogniser = load_recogniser(target)
    assert len(recogniser.labels) == 400
    assert recogniser.labels[0] == "abseiling"
    with torch.no_grad():
        answer = recogniser.logits(torch.rand(1, 16, 3, *recogniser.frame_size))
    assert answer.shape == (1, 400)
    assert torch.isfinite(answer).all()
