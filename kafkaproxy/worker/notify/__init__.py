"""Notification: requests and streams that wait for replies, changes and new records.

Imports ``worker.store``.
"""
