"""The store: this host's copy of topics in LMDB. Reading, writing, its bounds, the writer's lock, generations.

Imports ``core``, ``metrics`` and the worker's ``types`` and ``errors``.
"""
