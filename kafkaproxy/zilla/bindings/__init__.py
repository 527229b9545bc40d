"""What may stand in a zilla.yaml: the grammar of bindings, and the graph that they make.

Imports ``yaml``; judges each part by itself and knows nothing of what becomes of it.
"""
