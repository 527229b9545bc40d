"""From a plan to the database: what would change, what conflicts with changes by hand, and applying it.

Imports the specs and the models; the only room of ``zilla`` that writes.
"""
