"""Fails if a test that needs a real Kafka was skipped, or if none ran: reads pytest's JUnit report."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET


def main(path: str) -> None:
    """Say how many ran, or which did not."""
    tests = [case for case in ET.parse(path).iter("testcase") if _needs_kafka(case)]
    skipped = [f"{case.get('classname')}::{case.get('name')}" for case in tests if case.find("skipped") is not None]
    if skipped:
        sys.exit("\n  ".join(["real-Kafka tests that were skipped:", *skipped]))
    if not tests:
        sys.exit("no test that needs a real Kafka ran: has the marker changed?")
    sys.stdout.write(f"all {len(tests)} tests that need a real Kafka ran\n")


def _needs_kafka(case: ET.Element) -> bool:
    return any(each.get("name") == "kafka" for each in case.iter("property"))


if __name__ == "__main__":
    main(sys.argv[1])
