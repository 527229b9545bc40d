"""The KAFKAPROXY setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test.utils import override_settings

from kafkaproxy.conf import Settings, get_settings, read_settings


def test_nothing_has_to_be_set() -> None:
    assert read_settings({}) == Settings()


def test_names_are_upper_case_and_values_typed() -> None:
    given = {"STORE_DIR": "/var/lib/x", "RELOAD_SECONDS": 2, "MAX_TOPICS": 5, "INGEST": False, "SITE_PATHS": ["/live"]}
    settings = read_settings(given)
    assert settings.store_dir == Path("/var/lib/x")
    assert settings.reload_seconds == 2.0
    assert isinstance(settings.reload_seconds, float)
    assert (settings.max_topics, settings.ingest, settings.site_paths) == (5, False, ("/live",))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"STORE": "/x"}, r"KAFKAPROXY\['STORE'\] is not a setting. Known are STORE_DIR, "),
        ({"store_dir": "/x"}, "is not a setting"),
        ({1: 2}, "is not a setting"),
        ({"STORE_DIR": 5}, r"KAFKAPROXY\['STORE_DIR'\] is 5: write a Path"),
        ({"INGEST": "yes"}, "write a bool"),
        ({"MAX_TOPICS": 1.5}, "write a int"),
        ({"MAX_TOPICS": True}, "write a int"),
        ({"MAX_TOPICS": -1}, "not negative"),
        ({"RELOAD_SECONDS": "1"}, "write a float"),
        ({"SITE_PATHS": "/live"}, "write a list of paths that begin with a slash"),
        ({"SITE_PATHS": ["live"]}, "write a list of paths that begin with a slash"),
        ({"SITE_PATHS": [1]}, "write a list of paths that begin with a slash"),
        (["STORE_DIR"], "write a dictionary"),
        (None, "write a dictionary"),
    ],
)
def test_what_cannot_be_read_says_what_to_write(given: Any, message: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=message):
        read_settings(given)


def test_settings_are_read_again_when_they_change() -> None:
    before = get_settings().max_topics
    with override_settings(KAFKAPROXY={"MAX_TOPICS": before + 1}):
        assert get_settings().max_topics == before + 1
    assert get_settings().max_topics == before


def test_other_settings_leave_them_alone() -> None:
    settings = get_settings()
    with override_settings(LANGUAGE_CODE="de"):
        assert get_settings() is settings
