"""Pages of the admin that are neither a list nor a form of a model: try it, topics, live, import and export.

Imports the runtime, the worker and ``zilla``.
"""
