"""The demo site: kafkaproxy around a small Django site, configured by the environment."""
