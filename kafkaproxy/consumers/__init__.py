"""Channels consumers: they turn a matched request into calls of the worker, and the outcome into a response.

Imports ``http``, ``guards``, ``routing``, ``streaming``, ``core`` and ``worker``.
"""
