"""The ASGI application: the site, with kafkaproxy around it. Any ASGI server runs it as ``project.asgi:application``."""

from __future__ import annotations

import os

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

from kafkaproxy.asgi import KafkaProxy

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

# The static files handler is for the demo only; see docs/how-to/deploy.md.
application = KafkaProxy(ASGIStaticFilesHandler(get_asgi_application()))
