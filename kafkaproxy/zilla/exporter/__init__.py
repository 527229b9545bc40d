"""From a stored gateway to a zilla.yaml, with a report of everything that Zilla cannot say.

Imports the specs and the importer, which has to read back what was written.
"""
