"""The import page of the admin: what it shows, what it applies, what it leaves in the history, and which users may use it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.messages import get_messages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from django.utils.html import escape

from kafkaproxy.models import Cluster, Gateway, ImportedObject, Route, Topic
from tests.integration.admin_site import Site, make_gateway
from tests.support.zilla_samples import BASE, edited, line_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def site() -> Site:
    return Site(["import_gateway"])


def _post(site: Site, text: Any, **data: Any) -> Any:
    return site.client.post(reverse("admin:kafkaproxy_gateway_import"), {"text": text, **data})


def _apply(site: Site, text: str, seen: str = "", **data: Any) -> Any:
    """Look at the preview, and apply it."""
    seen = seen or _post(site, text, **data).context["form"]["seen"].value()
    return _post(site, text, seen=seen, _apply="Apply", **data)


def _messages(response: Any) -> list[str]:
    return [str(each) for each in get_messages(response.wsgi_request)]


def test_a_preview_shows_everything_and_writes_nothing(site: Site) -> None:
    page = _post(site, BASE).content.decode()
    assert "create gateway shop" in page
    assert escape("PUT /items/{id} → produce items, key ${params.id}") in page
    assert f"zilla.yaml:{line_of(BASE, 'host: 0.0.0.0') - 1}" in page
    assert "BROKERS" in page
    assert (Gateway.objects.count(), ImportedObject.objects.count(), LogEntry.objects.count()) == (0, 0, 0)


def test_what_was_seen_is_applied_and_each_change_is_in_the_history(site: Site) -> None:
    response = _apply(site, BASE)
    assert response.status_code == 302
    gateway = Gateway.objects.get()
    assert gateway.entries.get().routes.count() == 2
    entries = LogEntry.objects.all()
    assert {(str(each.content_type and each.content_type.model), each.object_repr) for each in entries} == {
        ("cluster", "kafka"),
        ("topic", "items"),
        ("gateway", "shop"),
        ("entry", "shop / items-any"),
        ("route", "put-items-id"),
        ("route", "get-items-id"),
    }
    assert {(each.action_flag, each.user_id) for each in entries} == {(ADDITION, site.user.pk)}
    assert entries.get(content_type__model="gateway").get_edited_object() == gateway
    assert _messages(response) == ["Imported: 6 changes."]


def test_an_edited_file_changes_and_removes(site: Site) -> None:
    _apply(site, BASE)
    gone = Route.objects.get(name="get-items-id")
    LogEntry.objects.all().delete()
    start, end = BASE.index("      - when:\n          - method: GET"), BASE.index("  cache_client:")
    text = edited(BASE[:start] + BASE[end:], ("key: ${params.id}", "key: other"))
    page = _post(site, text).content.decode()
    assert "Changed (1)" in page
    assert "Removed (1)" in page
    assert _apply(site, text).status_code == 302
    assert Route.objects.get().key == "other"
    noted = {each.action_flag: each for each in LogEntry.objects.all()}
    assert set(noted) == {CHANGE, DELETION}
    assert noted[CHANGE].change_message == "Changed by an import of a zilla.yaml: key."
    assert (noted[DELETION].object_repr, noted[DELETION].object_id) == ("get-items-id", str(gone.pk))


def test_the_same_file_again_has_nothing_to_apply(site: Site) -> None:
    _apply(site, BASE)
    page = _post(site, BASE).content.decode()
    assert "Nothing to change" in page
    assert 'name="_apply"' not in page


def test_what_is_refused_names_the_line_and_cannot_be_applied(site: Site) -> None:
    text = edited(BASE, ("capability: fetch", "capability: fetsch"))
    page = _post(site, text).content.decode()
    assert f"zilla.yaml:{line_of(text, 'fetsch')}: " in page
    assert 'name="_apply"' not in page
    assert _apply(site, text).status_code == 200
    assert Gateway.objects.count() == 0


def test_a_change_by_hand_is_a_conflict_until_one_says_otherwise(site: Site) -> None:
    _apply(site, BASE)
    Route.objects.filter(name="put-items-id").update(key="by-hand")
    LogEntry.objects.all().delete()
    page = _post(site, BASE).content.decode()
    assert "Changed by hand: key." in page
    response = _apply(site, BASE)
    assert response.status_code == 200
    assert "tick the box" in response.content.decode()
    assert Route.objects.get(name="put-items-id").key == "by-hand"

    seen = _post(site, BASE).context["form"]["seen"].value()
    assert _apply(site, BASE, seen, overwrite="on").status_code == 302
    assert Route.objects.get(name="put-items-id").key == "${params.id}"
    assert LogEntry.objects.get().action_flag == CHANGE


def test_a_text_that_was_not_seen_is_shown_first(site: Site) -> None:
    seen = _post(site, BASE).context["form"]["seen"].value()
    response = _post(site, BASE.replace("name: shop", "name: other"), seen=seen, _apply="Apply")
    assert response.status_code == 200
    assert "This is not what you saw" in response.content.decode()
    assert Gateway.objects.count() == 0


def test_a_change_by_somebody_else_meanwhile_is_shown_first(site: Site) -> None:
    seen = _post(site, BASE).context["form"]["seen"].value()
    Cluster.objects.create(name="kafka", bootstrap_servers="elsewhere:1")
    response = _post(site, BASE, seen=seen, _apply="Apply")
    assert response.status_code == 200
    assert Gateway.objects.count() == 0
    assert "create cluster shop.kafka" in response.content.decode()


def test_a_failure_in_the_middle_leaves_nothing_behind(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: Any) -> None:
        raise RuntimeError("the history is full")

    seen = _post(site, BASE).context["form"]["seen"].value()
    monkeypatch.setattr("kafkaproxy.admin.pages.imports._note", fail)
    with pytest.raises(RuntimeError):
        _post(site, BASE, seen=seen, _apply="Apply")
    assert (Gateway.objects.count(), Topic.objects.count(), LogEntry.objects.count()) == (0, 0, 0)


def test_an_upload_is_previewed_under_its_own_name_and_can_be_applied(site: Site) -> None:
    upload = SimpleUploadedFile("mine.yaml", BASE.encode())
    response = _post(site, "", file=upload)
    form = response.context["form"]
    assert "mine.yaml:" in response.content.decode()
    assert form["text"].value() == BASE
    again = _post(site, BASE, file_name=form["file_name"].value(), seen=form["seen"].value(), _apply="Apply")
    assert again.status_code == 302


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "The text is not UTF-8"),
        (b"#" * (1024 * 1024 + 1), "The file is larger than 1024 KiB."),
    ],
)
def test_an_upload_that_cannot_be_read_is_an_error_beside_the_field(site: Site, content: bytes, message: str) -> None:
    page = _post(site, "", file=SimpleUploadedFile("zilla.yaml", content)).content.decode()
    assert message in page


def test_nothing_at_all_is_an_error(site: Site) -> None:
    assert "Paste a zilla.yaml, or choose a file." in _post(site, " ").content.decode()


@pytest.mark.parametrize("text", ["a: &a [*a]", "\tx: 1", "a: 1\na: 2", "- 1", 'name: "\\ud800"', "name: \x00", "{"])
def test_what_is_no_configuration_is_refused_with_its_line(site: Site, text: str) -> None:
    response = _post(site, text)
    assert response.status_code == 200
    assert response.context["outcome"] is None or response.context["outcome"].refusals


def test_a_name_and_a_cluster_can_be_chosen(site: Site) -> None:
    cluster = Cluster.objects.create(name="main", bootstrap_servers="a:1")
    start, end = BASE.index("  items:\n"), BASE.index("  cache_client:")
    fragment = BASE[start:end]
    _apply(site, fragment, gateway="mine", cluster=cluster.pk)
    assert Gateway.objects.get().name == "mine"
    assert Gateway.objects.get().cluster == cluster


def test_the_page_tells_no_value_of_the_environment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKERS", "hush:not-a-port")
    page = _post(site, BASE).content.decode()
    assert "hush" not in page
    assert "not set" not in page
    monkeypatch.delenv("BROKERS")
    assert "not set" in _post(site, BASE).content.decode()


def test_a_password_is_never_shown_but_in_the_text_itself(site: Site) -> None:
    sasl = (
        "        - ${{env.BROKERS}}\n      sasl:\n        mechanism: plain\n        username: me\n        password: hunter2\n"
    )
    text = edited(BASE, ("        - ${{env.BROKERS}}\n", sasl))
    page = _post(site, text).content.decode()
    assert page.count("hunter2") == 1
    assert _apply(site, text).status_code == 302
    assert not LogEntry.objects.filter(change_message__contains="hunter2").exists()


def test_names_of_a_file_are_shown_as_text(site: Site) -> None:
    page = _post(site, edited(BASE, ("topic: items\n          key", "topic: <b>x</b>\n          key"))).content.decode()
    assert "<b>x" not in page


@pytest.mark.parametrize("permissions", [[], ["change_gateway", "add_gateway", "view_gateway"]])
def test_the_page_needs_a_permission_of_its_own(permissions: list[str]) -> None:
    site = Site(permissions)
    assert _post(site, BASE).status_code == 403
    assert site.client.get(reverse("admin:kafkaproxy_gateway_import")).status_code == 403


def test_the_list_of_gateways_links_to_the_page_for_those_who_may() -> None:
    make_gateway()
    site = Site()
    link = reverse("admin:kafkaproxy_gateway_import")
    assert link in site.get("gateway", "changelist").content.decode()
    site.client.logout()
    assert link not in Site(["view_gateway", "add_gateway"]).get("gateway", "changelist").content.decode()


def test_a_file_that_comes_back_from_the_preview_is_the_file_that_was_seen(site: Site) -> None:
    upload = SimpleUploadedFile("mine.yaml", BASE.encode())
    form = _post(site, "", file=upload).context["form"]
    as_browsers_send_it = form["text"].value().replace("\n", "\r\n")
    response = _apply(site, as_browsers_send_it, form["seen"].value(), file_name=form["file_name"].value())
    assert response.status_code == 302
    assert Gateway.objects.get().name == "shop"
