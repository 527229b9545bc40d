"""Pages of the admin that are no list and no form of a model: try it, topics, live, import and export.

Imports what it shows: the runtime, the worker, and the import of a zilla.yaml.
"""
