"""Serving: the runtime of a process, the dispatch of requests, prepared handlers and the response cache.

Imports everything below it: ``consumers``, ``streaming``, ``guards``, ``http``, ``routing``, ``worker``.
"""
