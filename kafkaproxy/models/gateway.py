"""Gateways, their entries (the outer rule) and their CORS policy."""

from __future__ import annotations

from typing import Any

from django.db import models, transaction
from django.utils.translation import gettext_lazy as _

from kafkaproxy.models.base import ChildManager, ConfigModel, Named, NamedManager, Ordered
from kafkaproxy.models.cluster import Cluster
from kafkaproxy.models.guard import Guard
from kafkaproxy.validators import (
    validate_field_map,
    validate_field_name,
    validate_method,
    validate_name,
    validate_pattern,
    validate_string_list,
)

__all__ = ["AccessControl", "Entry", "EntryCondition", "EntryGuard", "Gateway"]


class GatewayManager(NamedManager["Gateway"]):
    """Makes gateways that serve at once."""

    def create_with_entry(self, **fields: Any) -> Gateway:
        """Create a gateway with the entry that matches everything, as one made by hand has (``objects.create`` makes none)."""
        with transaction.atomic(using=self.db):
            gateway = self.create(**fields)
            gateway.ensure_entry()
        return gateway


class Gateway(Named, Ordered):
    """One namespace of routes: its cluster, where credentials are found, and the names of its special headers."""

    enabled = models.BooleanField(_("enabled"), default=True)
    cluster = models.ForeignKey(Cluster, on_delete=models.PROTECT, related_name="gateways", verbose_name=_("cluster"))
    idempotency_header = models.CharField(
        _("idempotency field"), max_length=100, default="idempotency-key", validators=[validate_field_name]
    )
    reply_to_header = models.CharField(
        _("reply-to header"), max_length=100, default="zilla:reply-to", validators=[validate_field_name]
    )
    correlation_header = models.CharField(
        _("correlation id header"), max_length=100, default="zilla:correlation-id", validators=[validate_field_name]
    )
    forwarded_fields = models.JSONField(
        _("forwarded fields"),
        null=True,
        blank=True,
        default=None,
        validators=[validate_string_list],
        help_text=_("Request fields that go into a record with reply-to, one a line. Empty: all but the dropped ones."),
    )
    dropped_fields = models.JSONField(
        _("dropped fields"),
        default=list,
        blank=True,
        validators=[validate_string_list],
        help_text=_("More request fields that never go into a record, one a line."),
    )
    forward_credentials = models.BooleanField(
        _("forward credentials"),
        default=False,
        help_text=_("Put authorization, cookie and the like into Kafka, as the reference does. Think twice."),
    )
    guard = models.ForeignKey(
        Guard,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="gateways",
        verbose_name=_("guard of the credentials"),
        help_text=_("Which guard the credentials below belong to. It protects nothing by itself."),
    )
    credentials_cookies = models.JSONField(
        _("credential cookies"),
        default=dict,
        blank=True,
        validators=[validate_field_map],
        help_text=_("name: pattern, such as access_token: {credentials}."),
    )
    credentials_headers = models.JSONField(
        _("credential fields"),
        default=dict,
        blank=True,
        validators=[validate_field_map],
        help_text=_("name: pattern, such as authorization: Bearer {credentials}."),
    )
    credentials_query = models.JSONField(
        _("credential query parameters"),
        default=dict,
        blank=True,
        validators=[validate_field_map],
        help_text=_("name: pattern, such as access_token: {credentials}."),
    )

    objects = GatewayManager()

    class Meta(Ordered.Meta):
        verbose_name = _("gateway")
        verbose_name_plural = _("gateways")
        ordering = ["position", "name"]
        permissions = [
            ("watch_gateway", _("Can watch streams, requests and errors live")),
            ("import_gateway", _("Can import a zilla.yaml: gateways, clusters, guards")),
        ]

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Compare names as HTTP does: the special request field is kept in lower case."""
        self.idempotency_header = self.idempotency_header.lower()
        super().save(*args, **kwargs)

    def ensure_entry(self) -> Entry:
        """Return the first entry; make one that matches everything where there is none."""
        return self.entries.first() or Entry.objects.create(gateway=self)


class Entry(Ordered):
    """The outer rule of a gateway, as the reference's http server has: the first that matches is the only one tried."""

    gateway = models.ForeignKey(Gateway, on_delete=models.CASCADE, related_name="entries", verbose_name=_("gateway"))
    name = models.CharField(_("name"), max_length=100, default="all", validators=[validate_name])
    enabled = models.BooleanField(_("enabled"), default=True)

    sibling_fields = ("gateway",)
    natural_lookups = ("gateway__name", "name")
    objects = ChildManager["Entry"]()

    class Meta(Ordered.Meta):
        verbose_name = _("entry")
        verbose_name_plural = _("entries")
        constraints = [models.UniqueConstraint(fields=["gateway", "name"], name="kafkaproxy_entry_unique")]

    def __str__(self) -> str:
        return f"{self.gateway.name} / {self.name}"

    def natural_key(self) -> tuple[str, ...]:
        """Gateway name, entry name."""
        return (*self.gateway.natural_key(), self.name)

    natural_key.dependencies = ["kafkaproxy.gateway"]  # type: ignore[attr-defined]


class EntryCondition(Ordered):
    """One alternative of an entry. Conditions of one level are OR-ed, levels are AND-ed, parts are AND-ed.

    A hand-made entry has one level; an imported one has a level for each binding on the way (http, sse).
    """

    entry = models.ForeignKey(Entry, on_delete=models.CASCADE, related_name="conditions", verbose_name=_("entry"))
    level = models.PositiveSmallIntegerField(
        _("level"), default=0, help_text=_("Conditions of one level are alternatives; every level has to match.")
    )
    scheme = models.CharField(_("scheme"), max_length=100, blank=True, validators=[validate_pattern])
    authority = models.CharField(
        _("authority"),
        max_length=300,
        blank=True,
        validators=[validate_pattern],
        help_text=_("With its port: example.com:443."),
    )
    path = models.CharField(_("path"), max_length=2000, blank=True, validators=[validate_pattern])
    method = models.CharField(_("method"), max_length=100, blank=True, validators=[validate_method])
    headers = models.JSONField(
        _("fields"),
        default=dict,
        blank=True,
        validators=[validate_field_map],
        help_text=_("name: pattern, one a line."),
    )

    sibling_fields = ("entry", "level")
    natural_lookups = ("entry__gateway__name", "entry__name", "level", "position")
    objects = ChildManager["EntryCondition"]()

    class Meta(Ordered.Meta):
        verbose_name = _("entry condition")
        verbose_name_plural = _("entry conditions")
        ordering = ["level", "position", "pk"]

    def __str__(self) -> str:
        parts = [self.method, f"{self.scheme}://" if self.scheme else "", self.authority, self.path]
        return " ".join(part for part in parts if part) or "*"

    def natural_key(self) -> tuple[Any, ...]:
        """Entry, level, position."""
        return (*self.entry.natural_key(), self.level, self.position)

    natural_key.dependencies = ["kafkaproxy.entry"]  # type: ignore[attr-defined]


class EntryGuard(ConfigModel):
    """A guard that has to pass before the entry is taken. All guards of an entry have to pass."""

    entry = models.ForeignKey(Entry, on_delete=models.CASCADE, related_name="guarded", verbose_name=_("entry"))
    guard = models.ForeignKey(Guard, on_delete=models.PROTECT, related_name="+", verbose_name=_("guard"))
    roles = models.JSONField(
        _("roles"),
        default=list,
        blank=True,
        validators=[validate_string_list],
        help_text=_("All of them are needed, one a line. Empty: a valid credential is enough."),
    )

    natural_lookups = ("entry__gateway__name", "entry__name", "guard__name")
    objects = ChildManager["EntryGuard"]()

    class Meta:
        verbose_name = _("entry guard")
        verbose_name_plural = _("entry guards")
        constraints = [models.UniqueConstraint(fields=["entry", "guard"], name="kafkaproxy_entryguard_unique")]

    def __str__(self) -> str:
        return self.guard.name

    def natural_key(self) -> tuple[str, ...]:
        """Entry, guard name."""
        return (*self.entry.natural_key(), self.guard.name)

    natural_key.dependencies = ["kafkaproxy.entry", "kafkaproxy.guard"]  # type: ignore[attr-defined]


class AccessControl(ConfigModel):
    """The CORS policy of a gateway. A gateway without one follows the site's django-cors-headers settings."""

    class Policy(models.TextChoices):
        SAME_ORIGIN = "same-origin", _("same-origin: requests of other origins are refused")
        CROSS_ORIGIN = "cross-origin", _("cross-origin: what is allowed below")

    gateway = models.OneToOneField(Gateway, on_delete=models.CASCADE, related_name="access_control", verbose_name=_("gateway"))
    policy = models.CharField(_("policy"), max_length=20, choices=Policy.choices, default=Policy.SAME_ORIGIN)
    allow_origins = models.JSONField(
        _("origins"), null=True, blank=True, validators=[validate_string_list], help_text=_("One a line. Empty: any.")
    )
    allow_methods = models.JSONField(
        _("methods"), null=True, blank=True, validators=[validate_string_list], help_text=_("One a line. Empty: any.")
    )
    allow_headers = models.JSONField(
        _("fields"), null=True, blank=True, validators=[validate_string_list], help_text=_("One a line. Empty: any.")
    )
    allow_credentials = models.BooleanField(_("credentials"), default=False)
    max_age = models.PositiveIntegerField(
        _("max age, seconds"), null=True, blank=True, help_text=_("How long a browser may keep a preflight's answer.")
    )
    expose_headers = models.JSONField(
        _("exposed fields"), null=True, blank=True, validators=[validate_string_list], help_text=_("Empty: all.")
    )

    natural_lookups = ("gateway__name",)
    objects = ChildManager["AccessControl"]()

    class Meta:
        verbose_name = _("access control (CORS)")
        verbose_name_plural = _("access control (CORS)")

    def __str__(self) -> str:
        return self.policy

    def natural_key(self) -> tuple[str, ...]:
        """Gateway name."""
        return self.gateway.natural_key()

    natural_key.dependencies = ["kafkaproxy.gateway"]  # type: ignore[attr-defined]
