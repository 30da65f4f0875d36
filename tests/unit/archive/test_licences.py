"""Licences: where they are found, and which of them restrict use."""

from pathlib import Path

import pytest

from videopure.archive.licences import find_licence, is_restricted

pytestmark = pytest.mark.unit


def card(folder: Path, front_matter: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(f"---\n{front_matter}\n---\n# A model\n---\n")


@pytest.mark.parametrize(
    ("front_matter", "licence", "restricted"),
    [
        ("license: cc-by-nc-4.0", "cc-by-nc-4.0", True),
        ("license: cc-by-nc-sa-4.0\ntags: [a]", "cc-by-nc-sa-4.0", True),
        ("license: apache-2.0", "apache-2.0", False),
        ("license: mit", "mit", False),
        ("license: creativeml-openrail-m", "creativeml-openrail-m", False),
        ("license: cc-by-4.0", "cc-by-4.0", False),
        ("license: [mit, cc-by-nc-4.0]", "mit, cc-by-nc-4.0", True),
        (
            "license: other\nlicense_name: our-terms\nlicense_link: https://example.org/terms",
            "other (our-terms, https://example.org/terms)",
            True,
        ),
        ("license: fair-noncommercial-research-license", "fair-noncommercial-research-license", 1),
        ("license: bigscience-openrail-m", "bigscience-openrail-m", False),
    ],
)
def test_the_model_card_speaks(
    tmp_path: Path, front_matter: str, licence: str, restricted: bool
) -> None:
    card(tmp_path / "model", front_matter)
    assert find_licence(tmp_path / "model") == licence
    assert is_restricted(licence) == restricted


def test_the_card_above_speaks_for_the_folders_of_a_model(tmp_path: Path) -> None:
    card(tmp_path, "license: mit")
    (tmp_path / "pipeline").mkdir()
    assert find_licence(tmp_path / "pipeline") == "mit"
    card(tmp_path / "pipeline", "license: apache-2.0")
    assert find_licence(tmp_path / "pipeline") == "apache-2.0"


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("   Apache License\n   Version 2.0, January 2004", "apache-2.0"),
        ("Attribution-NonCommercial 4.0 International\n\n===", "cc-by-nc-4.0"),
        ("Attribution 4.0 International", "cc-by-4.0"),
        ("Ask us first.", "other (see LICENSE.txt)"),
    ],
)
def test_without_a_card_the_text_speaks(tmp_path: Path, text: str, licence: str) -> None:
    (tmp_path / "LICENSE.txt").write_text(text)
    assert find_licence(tmp_path) == licence


@pytest.mark.parametrize(
    "card_text", ["# no front matter", "---\nlicense: [\n---\n", "---\nx: 1\n"]
)
def test_no_licence_is_none(tmp_path: Path, card_text: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "README.md").write_text(card_text)
    assert find_licence(tmp_path / "model") is None
