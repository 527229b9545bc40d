"""What may stand in a zilla.yaml: the grammar of bindings, and the graph that they make.

Imports ``yaml``. Checks each part by itself, without regard to what the import makes of it.
"""
