"""Fetches Apache Kafka's jars with Maven, once, into the checkout's cache."""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["KAFKA_VERSION", "Unavailable", "java", "kafka_classpath"]

KAFKA_VERSION: Final = "4.2.2"
_CACHE: Final = Path(__file__).resolve().parents[2] / ".cache" / "kafka"
_OLDEST_JAVA: Final = 17
_POM: Final = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>kafkaproxy</groupId>
  <artifactId>test-broker</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""


class Unavailable(Exception):
    """No broker can be started here; the message says why and what to do."""


def java() -> str:
    """Return the path of a Java that runs Kafka."""
    found = shutil.which("java")
    if found is None:
        raise Unavailable(f"no java: install Java {_OLDEST_JAVA} or newer, or set KAFKA_BOOTSTRAP_SERVERS")
    shown = subprocess.run([found, "-version"], capture_output=True, text=True, check=False, timeout=60).stderr
    version = re.search(r'version "(\d+)', shown)
    if version is None or int(version[1]) < _OLDEST_JAVA:
        raise Unavailable(f"java is too old: install Java {_OLDEST_JAVA} or newer, or set KAFKA_BOOTSTRAP_SERVERS")
    return found


def kafka_classpath() -> str:
    """Return the class path of the broker; fetch the jars the first time."""
    home = _CACHE / KAFKA_VERSION
    lib = home / "lib"
    if not lib.is_dir():
        home.mkdir(parents=True, exist_ok=True)
        with _locked(home / "lock"):
            if not lib.is_dir():
                _fetch(home, lib)
    return f"{lib}/*"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process fetch while the others wait for it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(home: Path, lib: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise Unavailable("no mvn to fetch Apache Kafka with: install Maven, or set KAFKA_BOOTSTRAP_SERVERS")
    pom, partial = home / "pom.xml", home / "lib.partial"
    shutil.rmtree(partial, ignore_errors=True)
    pom.write_text(_POM)
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={partial}", "-DincludeScope=runtime"]
    done = subprocess.run([maven, "-q", "-B", "-f", str(pom), *goal], capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        raise Unavailable(f"Maven could not fetch Apache Kafka {KAFKA_VERSION}: {tail}")
    partial.rename(lib)
