"""The store: this host's copy of topics in LMDB. Reading, writing, what bounds it, who may write, generations.

Imports ``core``, ``metrics`` and the worker's ``types`` and ``errors``.
"""
