"""Runs a broker in the foreground for a developer: ``python -m tests.kafka [--port PORT]``, ``make kafka``."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path

from tests.kafka import KAFKA_VERSION, Broker, Unavailable


def main() -> None:
    """Start, say where, and stay until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Run Apache Kafka in the foreground until Ctrl-C.")
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--secure", action="store_true", help="add SASL and TLS listeners")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kafka-") as folder:
        try:
            broker = Broker(Path(folder), secure=options.secure, port=options.port)
        except Unavailable as error:
            parser.exit(1, f"{error}\n")
        with broker, contextlib.suppress(KeyboardInterrupt):
            print(f"Apache Kafka {KAFKA_VERSION} runs. Ctrl-C stops it and forgets its data.")
            for name, address in broker.listeners.items():
                if name != "CONTROLLER":
                    print(f"  {name:15} {address}")
            print(f"  export KAFKA_BOOTSTRAP_SERVERS={broker.bootstrap}", flush=True)
            broker.wait()


if __name__ == "__main__":
    main()
