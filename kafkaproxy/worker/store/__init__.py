"""The store: this host's copy of topics in LMDB; reading, writing, quota, capacity and retention, the writer's lock,
generations.

Imports ``core``, ``metrics`` and the worker's ``types`` and ``errors``.
"""
