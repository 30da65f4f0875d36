"""The room's names, which are imported on first use."""

import pytest

from videopure import purifier

pytestmark = pytest.mark.unit


def test_every_name_is_found() -> None:
    assert {name for names in purifier._HOMES.values() for name in names} == {*purifier.__all__}
    for name in purifier.__all__:
        assert getattr(purifier, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = purifier.Nothing
