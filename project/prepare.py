"""Puts the demo's data in place. Everything here may run again and changes nothing then."""

from __future__ import annotations

from typing import Final

from django.contrib.auth.models import User
from django.core.management import call_command

from kafkaproxy.models import Gateway, Topic
from project.keeping import BASE_DIR, DEMO_DIR, kept
from project.topics import COMPACTED, create_topics, is_embedded, sample_clusters

__all__ = ["ADMIN", "SAMPLES", "admin_account", "import_samples", "set_up_topics"]

ADMIN: Final = "admin"
SAMPLES: Final = ("crud", "cache", "oneway", "sync", "async", "sse")


def import_samples() -> None:
    """Make gateways of ``fixtures/*.yaml``; those that are there stay, as they may have been changed."""
    there = set(Gateway.objects.values_list("name", flat=True))
    for name in (name for name in SAMPLES if name not in there):
        call_command("importzilla", str(BASE_DIR / "fixtures" / f"{name}.yaml"), verbosity=0)


def admin_account() -> str:
    """Make the admin account and return its password, which is random and stays the same for this checkout."""
    password = kept(DEMO_DIR / "admin-password", 16)
    user, created = User.objects.get_or_create(username=ADMIN, defaults={"is_staff": True, "is_superuser": True})
    if created or not user.check_password(password):
        user.set_password(password)
        user.save()
    return password


def set_up_topics(bootstrap: str) -> None:
    """Create the topics, and say for the embedded broker which are compacted: it does not know."""
    create_topics(bootstrap)
    policy = Topic.CleanupPolicy.COMPACT if is_embedded() else Topic.CleanupPolicy.BROKER
    for cluster in sample_clusters():
        for name in COMPACTED:
            Topic.objects.update_or_create(cluster=cluster, name=name, defaults={"cleanup_policy": policy})
