"""The configuration that is kept on disk: it compiles to the same, and holds nothing that the admin would not show."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from kafkaproxy.models import Cluster, ConfigVersion, Guard
from kafkaproxy.routing.compile import Compiler, read_unchanged
from kafkaproxy.routing.kept import find_kept, keep, kept_path
from kafkaproxy.specs.from_rows import configuration_spec
from tests.unit.build import everything, gateway

pytestmark = pytest.mark.django_db(transaction=True)

ENVIRON = {"ISSUER": "i", "KID": "1", "SERVERS": "s:1", "SECRET": "hush", "RACK": "r", "HOST": "h", "STAGE": "t", "ROLE": "x"}


@pytest.fixture(autouse=True)
def _own_store(settings: Any, tmp_path: Path) -> None:
    settings.KAFKAPROXY = {"STORE_DIR": tmp_path / "store"}


def keep_now() -> None:
    keep(*read_unchanged())


def test_what_is_kept_compiles_to_the_same() -> None:
    everything()
    rows, stamp = read_unchanged()
    keep(rows, stamp)
    found = find_kept()
    assert found is not None
    assert found[1] == stamp == ConfigVersion.stamp()
    assert Compiler(ENVIRON).compile(configuration_spec(found[0]), 1) == Compiler(ENVIRON).compile(configuration_spec(rows), 1)


def test_it_is_of_its_user_alone_and_holds_references_as_they_were_written() -> None:
    everything()
    keep_now()
    path = kept_path()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert "${{env.SECRET}}" in path.read_text()
    assert os.listdir(path.parent) == [path.name]


def test_nothing_is_there_before_anything_was_kept() -> None:
    assert find_kept() is None


def test_what_is_kept_already_is_not_written_again() -> None:
    gateway()
    keep_now()
    before = kept_path().stat().st_ino
    keep_now()
    assert kept_path().stat().st_ino == before
    gateway("another")
    keep_now()
    assert kept_path().stat().st_ino != before


@pytest.mark.parametrize(
    "fields",
    [
        {"sasl_password": "hush"},
        {"sasl_password": "${{env.A}}hush"},
        {"ssl_key": "-----BEGIN PRIVATE KEY-----"},
        {"ssl_key_password": "hush"},
        {"options": {"sasl.oauthbearer.client.secret": "hush"}},
    ],
)
def test_a_secret_of_a_cluster_in_clear_is_never_kept_nor_is_what_was_before(
    fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    gateway()
    keep_now()
    Cluster.objects.update(**fields)
    ConfigVersion.bump()
    with caplog.at_level("INFO"):
        keep_now()
    assert find_kept() is None
    assert not list(kept_path().parent.iterdir())
    assert "Cluster main holds a secret in clear" in caplog.text
    assert "hush" not in caplog.text


def test_a_secret_of_a_guard_in_clear_is_never_kept() -> None:
    gateway()
    Guard.objects.create(name="g", options={"keys": [{"kty": "oct", "k": "aHVzaA"}]})
    keep_now()
    assert not kept_path().exists()
    Guard.objects.update(options={"keys": [{"kty": "oct", "k": "${{env.KEY}}"}]})
    keep_now()
    assert kept_path().exists()


def test_the_path_of_a_key_is_no_secret() -> None:
    gateway()
    Cluster.objects.update(ssl_key="/etc/key.pem")
    keep_now()
    assert find_kept() is not None


def test_switched_off_nothing_is_kept_and_what_was_is_removed(settings: Any) -> None:
    gateway()
    keep_now()
    settings.KAFKAPROXY = {**settings.KAFKAPROXY, "KEEP_CONFIGURATION": False}
    assert find_kept() is None
    keep_now()
    assert not kept_path().exists()


def _damage(path: Path, how: str) -> None:
    lines = path.read_text().splitlines(keepends=True)
    head = json.loads(lines[0])
    match how:
        case "empty":
            path.write_text("")
        case "cut":
            path.write_text("".join(lines[:-1]))
        case "garbage":
            path.write_text("".join([lines[0], "{", *lines[2:]]))
        case "of other models":
            head["fields"]["routes"].append("new")
            path.write_text("".join([json.dumps(head) + "\n", *lines[1:]]))
        case "of another format":
            path.write_text("".join([json.dumps({**head, "format": 0}) + "\n", *lines[1:]]))
        case "readable by others":
            path.chmod(0o644)
        case "a link":
            path.rename(path.with_suffix(".real"))
            path.symlink_to(path.with_suffix(".real"))


@pytest.mark.parametrize(
    "how", ["empty", "cut", "garbage", "of other models", "of another format", "readable by others", "a link"]
)
def test_a_file_that_cannot_be_trusted_or_understood_is_left_alone_and_replaced(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    gateway()
    keep_now()
    _damage(kept_path(), how)
    assert find_kept() is None
    assert "kept_configuration_unusable" in caplog.text
    gateway("another")
    keep_now()
    assert find_kept() is not None


def test_what_another_version_of_the_models_kept_is_written_again_though_nothing_changed() -> None:
    gateway()
    keep_now()
    _damage(kept_path(), "of other models")
    keep_now()
    assert find_kept() is not None


def test_a_folder_in_which_another_user_may_write_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gateway()
    (tmp_path / "store").mkdir()
    (tmp_path / "store").chmod(0o777)
    keep_now()
    assert "configuration_not_kept" in caplog.text
    assert not kept_path().exists()


def test_each_database_has_a_file_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {kept_path()}
    for name, value in {"NAME": "other", "HOST": "db.example", "PORT": "5433", "OPTIONS": {"service": "other"}}.items():
        monkeypatch.setitem(connection.settings_dict, name, value)
        paths.add(kept_path())
    monkeypatch.setitem(connection.settings_dict, "PASSWORD", "other")
    assert len({*paths, kept_path()}) == 5
