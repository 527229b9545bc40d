"""From a zilla.yaml to a plan, which consists of specs, and a report of everything that is refused, doubtful or left out.

Imports ``yaml``, ``bindings``, ``expand`` and the rules of routing. Nothing here reads or writes the database.
"""
