"""Guards: one class per kind (``jwt``, ``simplejwt``, ``session``), credentials, and continuous authorization of streams.

Imports ``http``, ``routing`` and ``core``. :mod:`kafkaproxy.guards.base` says how another app adds a kind.
"""
