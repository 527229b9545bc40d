"""Kafka clusters and the topics that need tuning."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from kafkaproxy.core.env import env_names
from kafkaproxy.models.base import ChildManager, ConfigModel, Named, NamedManager
from kafkaproxy.validators import validate_topic_name

__all__ = ["Cluster", "Topic"]


class Cluster(Named):
    """A Kafka cluster: where it is and how to authenticate. Values may hold ``${{env.NAME}}``."""

    class SecurityProtocol(models.TextChoices):
        PLAINTEXT = "PLAINTEXT", _("plain text")
        SSL = "SSL", _("TLS")
        SASL_PLAINTEXT = "SASL_PLAINTEXT", _("SASL, plain text")
        SASL_SSL = "SASL_SSL", _("SASL over TLS")

    class SaslMechanism(models.TextChoices):
        PLAIN = "PLAIN", "PLAIN"
        SCRAM_SHA_256 = "SCRAM-SHA-256", "SCRAM-SHA-256"
        SCRAM_SHA_512 = "SCRAM-SHA-512", "SCRAM-SHA-512"
        OAUTHBEARER = "OAUTHBEARER", "OAUTHBEARER (client credentials)"

    SECRET_FIELDS = ("sasl_password", "ssl_key", "ssl_key_password")

    bootstrap_servers = models.TextField(
        _("bootstrap servers"),
        help_text=_(
            "host:port, separated by commas; ${{env.NAME}} is filled in when used. "
            "The word 'embedded' starts librdkafka's in-process mock cluster, for demos and tests only."
        ),
    )
    security_protocol = models.CharField(
        _("security protocol"), max_length=20, choices=SecurityProtocol.choices, default=SecurityProtocol.PLAINTEXT
    )
    sasl_mechanism = models.CharField(_("SASL mechanism"), max_length=20, choices=SaslMechanism.choices, blank=True)
    sasl_username = models.CharField(_("SASL user name"), max_length=255, blank=True)
    sasl_password = models.CharField(
        _("SASL password"), max_length=1000, blank=True, help_text=_("Better a reference: ${{env.NAME}}.")
    )
    ssl_ca = models.TextField(
        _("CA certificates"), blank=True, help_text=_("PEM text, or the path of a PEM file. Empty: the system's CAs.")
    )
    ssl_certificate = models.TextField(_("client certificate"), blank=True, help_text=_("PEM text, or the path of a PEM file."))
    ssl_key = models.TextField(_("client key"), blank=True, help_text=_("PEM text, or the path of a PEM file."))
    ssl_key_password = models.CharField(_("client key password"), max_length=1000, blank=True)
    ssl_verify_hostname = models.BooleanField(_("verify the broker's host name"), default=True)
    options = models.JSONField(
        _("librdkafka options"),
        default=dict,
        blank=True,
        help_text=_('More librdkafka settings as JSON, such as {"client.rack": "eu-1"}. They win over the fields above.'),
    )

    objects = NamedManager["Cluster"]()

    class Meta:
        verbose_name = _("cluster")
        verbose_name_plural = _("clusters")
        ordering = ["name"]

    def clean(self) -> None:
        """Check that a SASL protocol has a mechanism, and that a mechanism has a SASL protocol."""
        super().clean()
        sasl = self.security_protocol.startswith("SASL")
        if sasl and not self.sasl_mechanism:
            raise ValidationError({"sasl_mechanism": _("Choose a mechanism, or a security protocol without SASL.")})
        if self.sasl_mechanism and not sasl:
            raise ValidationError({"security_protocol": _("A SASL mechanism needs SASL_PLAINTEXT or SASL_SSL.")})
        if not isinstance(self.options, dict) or not all(
            isinstance(value, (str, int, float, bool)) for value in self.options.values()
        ):
            raise ValidationError({"options": _('Write a JSON object of names and plain values: {"name": "value"}.')})
        self._check_options()

    def _check_options(self) -> None:
        """Check the options with librdkafka, without connecting. Environment references are checked when used."""
        from kafkaproxy.worker.kafka.client import check_client

        fixed = {name: value for name, value in self.options.items() if not (isinstance(value, str) and env_names(value))}
        try:
            check_client(fixed)
        except ValueError as error:
            raise ValidationError({"options": str(error)}) from error


class Topic(ConfigModel):
    """Optional tuning of one topic; a topic without a row gets the defaults."""

    class DefaultOffset(models.TextChoices):
        HISTORICAL = "historical", _("historical: from the start of the log")
        LIVE = "live", _("live: from the end of the log at first sight")

    class CleanupPolicy(models.TextChoices):
        BROKER = "broker", _("what the broker says")
        COMPACT = "compact", _("compact: the newest record of a key counts")
        DELETE = "delete", _("delete: every retained record counts")

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="topics", verbose_name=_("cluster"))
    name = models.CharField(_("name"), max_length=249, validators=[validate_topic_name])
    bootstrap = models.BooleanField(
        _("bootstrap"), default=False, help_text=_("Read it from the start of the worker, though no route names it.")
    )
    default_offset = models.CharField(
        _("default offset"),
        max_length=20,
        choices=DefaultOffset.choices,
        default=DefaultOffset.HISTORICAL,
        help_text=_("Where reading starts while the store holds nothing of the topic."),
    )
    cleanup_policy = models.CharField(
        _("cleanup policy"), max_length=20, choices=CleanupPolicy.choices, default=CleanupPolicy.BROKER
    )
    store_bytes = models.PositiveBigIntegerField(
        _("store budget, bytes"),
        null=True,
        blank=True,
        help_text=_("How much of a streamed topic the store keeps. Older records are read from Kafka. Empty: the setting."),
    )
    sensitive = models.BooleanField(_("sensitive"), default=False, help_text=_("Its records are never shown in the admin."))

    natural_lookups = ("cluster__name", "name")
    objects = ChildManager["Topic"]()

    class Meta:
        verbose_name = _("topic")
        verbose_name_plural = _("topics")
        ordering = ["cluster__name", "name"]
        constraints = [models.UniqueConstraint(fields=["cluster", "name"], name="kafkaproxy_topic_unique")]
        permissions = [("browse_topic", _("Can see the records of topics"))]

    def __str__(self) -> str:
        return self.name

    def natural_key(self) -> tuple[str, ...]:
        """Cluster name, topic name."""
        return (*self.cluster.natural_key(), self.name)

    natural_key.dependencies = ["kafkaproxy.cluster"]  # type: ignore[attr-defined]
