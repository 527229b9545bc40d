"""The Kafka worker: producer, ingest and store. It knows neither Django's HTTP nor the models."""
