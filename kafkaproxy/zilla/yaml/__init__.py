"""zilla.yaml as text: read with line numbers, split into documents, and written.

Imports the core, and nothing of the database.
"""
