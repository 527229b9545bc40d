"""Serving: what runs in a process, and the way of a request from a table to the consumer that answers it.

Imports everything below it: ``consumers``, ``streaming``, ``guards``, ``http``, ``routing``, ``worker``.
"""
