"""Writes ``settings.md`` from ``kafkaproxy/conf.py``: ``python docs/reference/make_settings.py``."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from kafkaproxy.conf import Settings

_MIB = 1024 * 1024
_HERE = Path(__file__).resolve().parent
_SOURCE = _HERE.parents[1] / "kafkaproxy" / "conf.py"
_HEAD = """\
# Settings

One dictionary in the site's settings. Every name has a default, and an unknown name or a wrong type is an error:

```python
KAFKAPROXY = {
    "STORE_DIR": "/var/lib/mysite/kafkaproxy",
    "MAX_BODY_BYTES": 1024 * 1024,
}
```

Clusters, gateways, routes and guards are not settings: they are in the database.

<!-- Written by `python docs/reference/make_settings.py` from kafkaproxy/conf.py. -->

| name | default | meaning |
|---|---|---|
"""


def page() -> str:
    """Return the page."""
    defaults = {field.name: field.default for field in dataclasses.fields(Settings)}
    rows = [f"| `{name.upper()}` | {_shown(defaults[name])} | {meaning} |" for name, meaning in _meanings()]
    return _HEAD + "\n".join(rows) + "\n"


def _meanings() -> Iterator[tuple[str, str]]:
    """Yield each field with the docstring below it, which only the source has."""
    tree = ast.parse(_SOURCE.read_text())
    (settings,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings"]
    for field, docstring in pairwise(settings.body):
        if isinstance(field, ast.AnnAssign) and isinstance(docstring, ast.Expr) and isinstance(field.target, ast.Name):
            meaning: str = ast.literal_eval(docstring.value)
            yield field.target.id, " ".join(meaning.split()).replace("``", "`")


def _shown(default: object) -> str:
    match default:
        case bool():
            return f"`{default}`"
        case ():
            return "none"
        case int() if default >= _MIB and default % _MIB == 0:
            return f"{default // _MIB:,} MiB"
        case int() | float():
            return f"{default:,}" if isinstance(default, int) else f"{default:g}"
    return "a folder of the user's in the system's temporary one"


if __name__ == "__main__":
    (_HERE / "settings.md").write_text(page())
