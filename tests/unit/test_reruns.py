"""CI tries a test that fails again, but not the tests that show that nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import NOTHING_IS_LOST, pytest_collection_modifyitems

_TESTS = Path(__file__).resolve().parents[1]


class _Item:
    """As much of a test as the hook looks at."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.markers: list[pytest.MarkDecorator] = []

    def add_marker(self, marker: pytest.MarkDecorator) -> None:
        self.markers.append(marker)

    def get_closest_marker(self, _name: str) -> None:
        return None


@pytest.mark.parametrize("pattern", NOTHING_IS_LOST)
def test_tests_that_show_that_nothing_is_lost_are_not_run_again(pattern: str) -> None:
    items = [_Item(path) for path in _TESTS.glob(pattern)]
    assert items  # they were not renamed
    pytest_collection_modifyitems(items)  # type: ignore[arg-type]
    assert [item.markers for item in items] == [[pytest.mark.flaky(reruns=0)]] * len(items)


def test_other_tests_may_be(request: pytest.FixtureRequest) -> None:
    item = _Item(request.path)
    pytest_collection_modifyitems([item])  # type: ignore[list-item]
    assert item.markers == []
