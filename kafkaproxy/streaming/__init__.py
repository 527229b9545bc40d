"""Server-Sent Events: an open connection, where it starts, how it catches up, and the live end that streams share.

Imports ``http``, ``guards``, ``routing.table``, ``core`` and ``worker``.
"""
