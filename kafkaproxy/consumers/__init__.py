"""Channels consumers: what happens between an HTTP request and the worker."""
