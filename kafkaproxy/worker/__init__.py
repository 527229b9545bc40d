"""The Kafka worker: producers, ingest and the store, for each cluster. It imports neither Django's HTTP nor the models."""
