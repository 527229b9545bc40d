"""The Django application of the demo page."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["ProjectConfig"]


class ProjectConfig(AppConfig):
    """Finds the demo's templates, static files and commands."""

    name = "project"
    verbose_name = "kafkaproxy demo"
