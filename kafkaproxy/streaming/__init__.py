"""Server-Sent Events: the connection of a stream, its start position, catching up, and the live end that streams share.

Imports ``http``, ``guards``, ``routing.table``, ``core`` and ``worker``.
"""
