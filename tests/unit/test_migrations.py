"""Migrations keep up with the models, and touch nothing but the database."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection

import kafkaproxy.migrations

NAMES = sorted(path.stem for path in Path(kafkaproxy.migrations.__path__[0]).glob("[0-9]*.py"))


@pytest.mark.django_db
def test_no_migration_is_missing() -> None:
    call_command("makemigrations", "kafkaproxy", check=True, dry_run=True, verbosity=0)


def test_numbers_are_given_once_and_names_are_chosen() -> None:
    numbers = [name.split("_")[0] for name in NAMES]
    assert numbers == [f"{number:04}" for number in range(1, len(NAMES) + 1)]
    assert not [name for name in NAMES if re.search(r"_(auto_|alter_\w+_and_more)", name)]


@pytest.mark.django_db(transaction=True)
def test_they_run_backwards_and_forwards() -> None:
    call_command("migrate", "kafkaproxy", "zero", verbosity=0)
    try:
        assert not [name for name in connection.introspection.table_names() if name.startswith("kafkaproxy_")]
    finally:
        call_command("migrate", "kafkaproxy", verbosity=0)
    assert "kafkaproxy_route" in connection.introspection.table_names()
