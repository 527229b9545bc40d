"""Schemas that the reference checks requests, events and records against. They are not checked here, which is reported."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from django.utils.translation import gettext, gettext_noop

from kafkaproxy.zilla.expand.clients import topic_checks
from kafkaproxy.zilla.expand.operations import Source
from kafkaproxy.zilla.expand.specification import Specification, reported
from kafkaproxy.zilla.report import ImportReport

__all__ = ["Checks"]

_MOST: Final = 20
_ADVICE: Final = gettext_noop(
    "Let the service check them, and use manage.py importzilla --without-schemas; or remove the schemas."
)
_CONVERTED: Final = gettext_noop("Records would have to be converted from and to JSON. Store JSON, or write the API by hand.")


@dataclass(slots=True)
class Checks:
    """Reports for each document, once, what is not checked."""

    report: ImportReport
    accepted: bool
    """True if the import allows schemas that are not checked."""

    def of_sources(self, sources: Iterable[Source]) -> None:
        """Look at what clients send, and at the events of streams."""
        checked: dict[tuple[str, str], list[Source]] = {}
        for source in sources:
            if source.checks:
                checked.setdefault(source.specification.origin, []).append(source)
        for found in checked.values():
            names = _listed(str(each) for each in found)
            message = gettext("Requests or events are not checked against their schemas here: %(names)s.") % {"names": names}
            self._say(found[0].specification, found[0].checks[0], message)

    def of_topics(self, specification: Specification, used: Collection[str]) -> None:
        """Look at the records of topics that a route uses."""
        with reported(self.report):
            found = [each for each in topic_checks(specification) if each[0].text in used]
            for topic, line, _ in (each for each in found if each[2]):
                message = gettext("The records of the topic %(topic)r are not JSON.") % {"topic": topic.text}
                self.report.refuse(specification.at(line), message, gettext(_CONVERTED))
            if plain := [(topic, line) for topic, line, converted in found if not converted]:
                names = _listed(topic.text for topic, _ in plain)
                message = gettext("Records are not checked against the schemas of their topics here: %(names)s.") % {
                    "names": names
                }
                self._say(specification, plain[0][1], message)

    def _say(self, specification: Specification, line: int, message: str) -> None:
        if self.accepted:
            self.report.warn(specification.at(line), message)
        else:
            self.report.refuse(specification.at(line), message, gettext(_ADVICE))


def _listed(names: Iterable[str]) -> str:
    found = list(dict.fromkeys(names))
    return ", ".join(found[:_MOST]) + (f" and {len(found) - _MOST} more" if len(found) > _MOST else "")
