"""HTTP and Server-Sent Events in front of Apache Kafka, as a Django app configured in the admin."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
