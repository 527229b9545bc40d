"""Zilla's own JSON schema, where it is at hand: it is not ours to keep."""

from __future__ import annotations

import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
from ruamel.yaml import YAML

__all__ = ["schema_errors"]

_FOLDER: Final = Path(os.environ.get("KAFKAPROXY_SHARED") or Path(__file__).resolve().parents[3] / "shared")
_REFERENCE: Final = re.compile(r"\$\{\{\s*env\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")


def schema_errors(text: str) -> list[str]:
    """Return what the schema of 1.x says against a zilla.yaml, its variables filled in; skip the test without the schema."""
    path = _FOLDER / "zilla" / "zilla-1.x.schema.json"
    if not path.exists():
        pytest.skip("no schema of Zilla: set KAFKAPROXY_SHARED to the folder that holds zilla/zilla-1.x.schema.json")
    document = YAML(typ="safe", pure=True).load(_REFERENCE.sub("sample:1", text))
    return [f"{'/'.join(map(str, each.absolute_path))}: {each.message}" for each in _validator(path).iter_errors(document)]


@cache
def _validator(path: Path) -> Any:
    schema = json.loads(path.read_text())
    return jsonschema.Draft7Validator(schema)
