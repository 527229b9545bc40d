"""Random secrets that the demo makes for itself, and the folder where it keeps what is its own."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

__all__ = ["BASE_DIR", "DEMO_DIR", "kept"]

BASE_DIR: Final = Path(__file__).resolve().parent.parent
DEMO_DIR: Final = BASE_DIR / ".demo"


def kept(path: Path, length: int) -> str:
    """Return the secret in ``path``; make one of ``length`` characters the first time, readable by its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text()
    with os.fdopen(descriptor, "w") as file:
        secret = secrets.token_urlsafe(length)[:length]
        file.write(secret)
    return secret
