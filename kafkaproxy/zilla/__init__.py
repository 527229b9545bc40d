"""From a zilla.yaml to gateways and back. Only ``sync`` and the exporter use the database."""
