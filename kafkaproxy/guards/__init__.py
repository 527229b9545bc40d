"""Guards: one small class a kind. See :mod:`kafkaproxy.guards.base` for how another app adds one."""
