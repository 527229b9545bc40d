"""zilla.yaml to gateways: read, resolve, flatten, compare, apply. Everything before the comparison needs no database."""
