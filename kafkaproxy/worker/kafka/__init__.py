"""Clients of a cluster: configuration, producing, reachability, offsets, old records, the embedded mock cluster.

Imports ``core``, ``metrics`` and the worker's ``types`` and ``errors``.
"""
