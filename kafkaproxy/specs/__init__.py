"""The one shape of what an operator writes: gateways, entries, routes, guards, clusters and topics, as frozen dataclasses.

Admin, importer, exporter, diff, lint and compiler all speak it. ``types`` imports nothing of the project; ``from_rows`` and
``to_rows`` are the only converters between it and the models.
"""
