"""The kind ``session``, with Django's database and middleware; at the end, beside ``simplejwt``, on real routes."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.core.exceptions import ValidationError
from django.db import connection
from django.middleware.csrf import get_token
from django.test import Client, RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext

from kafkaproxy.consumers.forwarded_headers import forwarded_headers
from kafkaproxy.guard_kinds import check_guard
from kafkaproxy.guards.principals import ClientPrincipal, Refusal
from kafkaproxy.guards.session import SessionGuard
from kafkaproxy.http.request import Request
from kafkaproxy.routing.compile import load_configuration
from kafkaproxy.routing.table import Credentials, GuardConfig
from tests.conftest import TopicFactory
from tests.kafka import Cluster
from tests.support.proxy import Proxy, configuration, fetch, gateway, produce
from tests.unit.build import gateway as saved_gateway

pytestmark = pytest.mark.django_db(transaction=True)


class Clock:
    """A clock that stands still until it is moved."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def user() -> Any:
    made = get_user_model().objects.create_user("alice", "alice@example.com", "password")
    made.groups.add(Group.objects.create(name="readers"))
    made.user_permissions.add(Permission.objects.get(codename="view_route"))
    return made


@pytest.fixture
def client(user: Any) -> Client:
    logged_in = Client()
    logged_in.force_login(user)
    return logged_in


def request(client: Client | None = None, method: str = "GET", **fields: str) -> Request:
    """Return a request with the client's cookies."""
    cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items()) if client is not None else ""
    headers = [(b"host", b"testserver")] + ([(b"cookie", cookies.encode())] if cookies else [])
    headers += [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    scope = {"method": method, "scheme": "http", "path": "/items", "raw_path": b"/items", "headers": headers}
    return Request({"type": "http", "query_string": b"\xff=\xfe", **scope}, None)  # type: ignore[arg-type]


def guard(clock: Clock, **options: Any) -> SessionGuard:
    return SessionGuard(GuardConfig(name="site", kind="session", options=options), clock=clock)


async def ask(guard: SessionGuard, asked: Request) -> ClientPrincipal | Refusal:
    return await guard.authenticate(asked, None)


async def queries_of(work: Coroutine[Any, Any, object]) -> int:
    """Return how many queries it makes, in whatever thread."""
    captured = CaptureQueriesContext(connection)
    await sync_to_async(captured.__enter__)()
    await work
    await sync_to_async(captured.__exit__)(None, None, None)
    return await sync_to_async(lambda: len(captured))()


def _own(asked: Request) -> list[bytes]:
    return [line.encode() for line in asked.lines(b"cookie")]


class TestASession:
    """A user that is logged in to the site."""

    async def test_groups_and_permissions_are_roles(self, clock: Clock, client: Client, user: Any) -> None:
        who = await ask(guard(clock), request(client))
        assert isinstance(who, ClientPrincipal)
        assert who.identity == str(user.pk)
        assert who.roles == {"readers", "kafkaproxy.view_route"}

    async def test_identity_and_attributes_are_fields_of_the_user(self, clock: Clock, client: Client) -> None:
        options = {"identity": "username", "attributes": {"mail": "email", "active": "is_active", "none": "profile.x"}}
        who = await ask(guard(clock, **options), request(client))
        assert isinstance(who, ClientPrincipal)
        assert who.identity == "alice"
        assert who.attributes == {"mail": "alice@example.com", "active": "true"}

    async def test_nobody_without_a_session(self, clock: Clock) -> None:
        assert await ask(guard(clock), request()) is Refusal.MISSING
        for key in ("x" * 32, "../../etc/passwd", "a b", "x" * 5000, "\x00"):
            answer = await ask(guard(clock), request(cookie=f"sessionid={key}"))
            assert answer in (Refusal.INVALID, Refusal.MISSING)

    async def test_a_visitor_who_is_not_logged_in_is_nobody(self, clock: Clock) -> None:
        def visitor() -> Client:
            visiting = Client()
            session = visiting.session
            session["basket"] = 1
            session.save()
            return visiting

        assert await ask(guard(clock), request(await sync_to_async(visitor)())) is Refusal.INVALID

    async def test_an_inactive_user_is_nobody(self, clock: Clock, client: Client, user: Any) -> None:
        user.is_active = False
        await user.asave()
        assert await ask(guard(clock), request(client)) is Refusal.INVALID

    async def test_a_changed_password_ends_sessions(self, clock: Clock, client: Client, user: Any) -> None:
        user.set_password("another")
        await user.asave()
        assert await ask(guard(clock), request(client)) is Refusal.INVALID
        # What Django would do to the session is left to the site: a new cookie could not be sent from here.
        assert await sync_to_async(lambda: "_auth_user_id" in client.session)()

    async def test_a_rotated_secret_key_leaves_sessions_alone(self, clock: Clock, user: Any) -> None:
        def log_in() -> Client:
            logged_in = Client()
            logged_in.force_login(user)
            return logged_in

        with override_settings(SECRET_KEY="the old one"):
            client = await sync_to_async(log_in)()
        with override_settings(SECRET_KEY="the new one", SECRET_KEY_FALLBACKS=["the old one"]):
            for _ in range(2):
                assert isinstance(await ask(guard(clock), request(client)), ClientPrincipal)

    async def test_a_credential_elsewhere_is_not_looked_at(self, clock: Clock, client: Client) -> None:
        key = client.cookies["sessionid"].value
        for fields in ({"authorization": f"Bearer {key}"}, {"x_sessionid": key}, {"cookie": f"xsessionid={key}"}):
            assert await ask(guard(clock), request(**fields)) is Refusal.MISSING
        assert await guard(clock).authenticate(request(), key) is Refusal.MISSING

    @pytest.mark.parametrize("engine", ["signed_cookies", "cached_db", "cache", "file"])
    async def test_every_kind_of_session_store_works(self, clock: Clock, user: Any, engine: str, tmp_path: Any) -> None:
        def log_in() -> Client:
            logged_in = Client()
            logged_in.force_login(user)
            return logged_in

        with override_settings(SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}", SESSION_FILE_PATH=str(tmp_path)):
            client = await sync_to_async(log_in)()
            assert isinstance(await ask(guard(clock), request(client)), ClientPrincipal)
            client.cookies["sessionid"] = "tampered" + client.cookies["sessionid"].value
            assert await ask(guard(clock), request(client)) is Refusal.INVALID


class TestHowStaleItMayBe:
    """The database is left alone for ``cache`` seconds."""

    async def test_the_database_is_asked_once(self, clock: Clock, client: Client) -> None:
        one = guard(clock)
        assert await queries_of(ask(one, request(client))) > 0
        assert await queries_of(ask(one, request(client))) == 0
        clock.now += 9.9
        assert await queries_of(ask(one, request(client))) == 0
        clock.now += 0.1
        assert await queries_of(ask(one, request(client))) > 0

    async def test_a_change_is_seen_after_that_time(self, clock: Clock, client: Client, user: Any) -> None:
        one = guard(clock, cache=2)
        assert isinstance(await ask(one, request(client)), ClientPrincipal)
        await user.groups.aclear()
        user.is_active = False
        await user.asave()
        clock.now += 1.9
        assert isinstance(await ask(one, request(client)), ClientPrincipal)
        clock.now += 0.1
        assert await ask(one, request(client)) is Refusal.INVALID

    async def test_a_logout_in_this_process_is_seen_at_once(self, clock: Clock, client: Client) -> None:
        one, asked = guard(clock), request(client)
        assert isinstance(await ask(one, asked), ClientPrincipal)
        await sync_to_async(client.logout)()
        assert await ask(one, asked) is Refusal.INVALID

    async def test_a_stream_asks_again(self, clock: Clock, client: Client) -> None:
        one, asked = guard(clock), request(client)
        who = await ask(one, asked)
        assert isinstance(who, ClientPrincipal)
        assert who.expires_at == clock.now + 10
        assert who.renew is not None
        clock.now += 10
        again = await who.renew()
        assert again is not None
        assert again.expires_at == clock.now + 10
        await sync_to_async(client.session.flush)()
        clock.now += 10
        assert await who.renew() is None

    async def test_without_a_cache_a_stream_still_takes_its_time(self, clock: Clock, client: Client) -> None:
        one = guard(clock, cache=0)
        who = await ask(one, request(client))
        assert isinstance(who, ClientPrincipal)
        assert who.expires_at == clock.now + 5
        assert await queries_of(ask(one, request(client))) > 0


class TestCrossSiteForgery:
    """What changes something has to come from the site's own pages."""

    @pytest.fixture
    def secret(self, client: Client) -> str:
        made = RequestFactory().get("/")
        token = get_token(made)
        client.cookies["csrftoken"] = made.META["CSRF_COOKIE"]
        return token

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "QUERY"])
    async def test_without_the_token_it_is_refused(self, clock: Clock, client: Client, secret: str, method: str) -> None:
        one = guard(clock)
        assert await ask(one, request(client, method)) is Refusal.FORBIDDEN
        assert await ask(one, request(client, method, x_csrftoken="x" * 64)) is Refusal.FORBIDDEN
        assert await ask(one, request(client, method, content_type="multipart/form-data; boundary=x")) is Refusal.FORBIDDEN
        assert isinstance(await ask(one, request(client, method, x_csrftoken=secret)), ClientPrincipal)
        cookie = client.cookies["csrftoken"].value
        assert isinstance(await ask(one, request(client, method, x_csrftoken=cookie)), ClientPrincipal)

    async def test_a_token_without_the_cookie_is_refused(self, clock: Clock, client: Client, secret: str) -> None:
        del client.cookies["csrftoken"]
        assert await ask(guard(clock), request(client, "POST", x_csrftoken=secret)) is Refusal.FORBIDDEN

    async def test_a_foreign_origin_is_refused_whatever_it_brings(self, clock: Clock, client: Client, secret: str) -> None:
        one = guard(clock)
        evil = request(client, "POST", x_csrftoken=secret, origin="https://evil.example")
        assert await ask(one, evil) is Refusal.FORBIDDEN
        own = request(client, "POST", x_csrftoken=secret, origin="http://testserver")
        assert isinstance(await ask(one, own), ClientPrincipal)
        with override_settings(CSRF_TRUSTED_ORIGINS=["https://evil.example"]):
            assert isinstance(await ask(guard(clock), evil), ClientPrincipal)

    @override_settings(CSRF_HEADER_NAME="HTTP_X_XSRF_TOKEN")
    async def test_a_field_of_the_sites_own_holds_the_token_and_stays_out_of_records(
        self, clock: Clock, client: Client, secret: str
    ) -> None:
        assert await ask(guard(clock), request(client, "POST", x_csrftoken=secret)) is Refusal.FORBIDDEN
        sent = request(client, "POST", x_xsrf_token=secret, x_copy=f"<{secret}>", x_csrftoken="y", accept="*/*")
        assert isinstance(await ask(guard(clock), sent), ClientPrincipal)
        await sync_to_async(saved_gateway)()
        [compiled] = (await sync_to_async(load_configuration)()).gateways
        assert [name for name, _ in forwarded_headers(sent, compiled, None) if not name.startswith(":")] == ["accept"]

    async def test_cookies_may_stand_in_several_lines(self, clock: Clock, client: Client, secret: str) -> None:
        sent = request(client, "POST", x_csrftoken=secret)
        [cookies] = sent.lines(b"cookie")
        rest = [field for field in sent.fields if field[0] != b"cookie"]
        sent.scope["headers"] = rest + [(b"cookie", each.encode()) for each in ("a=1", *cookies.split("; "), "b=2")]
        split = Request(sent.scope, None)  # type: ignore[arg-type]
        assert len(split.lines(b"cookie")) == 4
        assert isinstance(await ask(guard(clock), split), ClientPrincipal)

    async def test_of_two_session_cookies_the_one_counts_that_counts_for_django(self, clock: Clock, client: Client) -> None:
        sent = request(client)
        for lines, known in (([b"sessionid=x", *_own(sent)], True), ([*_own(sent), b"sessionid=x"], False)):
            doubled = Request({**sent.scope, "headers": [(b"cookie", line) for line in lines]}, None)  # type: ignore[arg-type]
            assert isinstance(await ask(guard(clock), doubled), ClientPrincipal) is known

    async def test_what_the_log_says_of_it_is_no_address(
        self, clock: Clock, client: Client, secret: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG")
        evil = request(client, "POST", x_csrftoken=secret, referer="https://evil.example/?access_token=hunter2")
        evil.scope["scheme"] = evil.scheme = "https"
        assert await ask(guard(clock), evil) is Refusal.FORBIDDEN
        assert "csrf_failed reason='Referer checking failed'" in caplog.text
        assert "hunter2" not in caplog.text

    async def test_reading_needs_no_token(self, clock: Clock, client: Client) -> None:
        for method in ("GET", "HEAD"):
            assert isinstance(await ask(guard(clock), request(client, method)), ClientPrincipal)

    async def test_the_secret_may_be_in_the_session(self, clock: Clock, client: Client) -> None:
        with override_settings(CSRF_USE_SESSIONS=True):

            def store() -> str:
                made = RequestFactory().get("/")
                token = get_token(made)
                session = client.session
                session["_csrftoken"] = made.META["CSRF_COOKIE"]
                session.save()
                return token

            token = await sync_to_async(store)()
            one = guard(clock)
            assert isinstance(await ask(one, request(client, "POST", x_csrftoken=token)), ClientPrincipal)
            assert await ask(one, request(client, "POST")) is Refusal.FORBIDDEN
            assert await ask(one, request(client, "POST", x_csrftoken="y" * 64)) is Refusal.FORBIDDEN


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"identity": "password"}, "password must not"),
        ({"attributes": {"hash": "user.password"}}, "must not be written"),
        ({"identity": "_state"}, "must not be written"),
        ({"cache": -1}, "cache: Write a number"),
        ({"challenge": 3}, "challenge is not an option. Known are attributes, cache, identity."),
    ],
)
def test_options_of_session_are_checked(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        check_guard("session", options)


async def test_the_sites_users_on_real_routes(
    user: Any, client: Client, kafka: Cluster, topic: TopicFactory, tmp_path: Path
) -> None:
    from rest_framework_simplejwt.tokens import AccessToken

    notes = topic(name="notes", config={"cleanup.policy": "compact"})
    own = "${guarded['site'].identity}"
    places = Credentials(guard="api", cookies={}, headers={"authorization": "Bearer {credentials}"}, query={})
    routes = gateway(
        produce("/mine", topic=notes, key=own, guarded={"site": ["readers"]}, name="write"),
        fetch("/mine", topic=notes, filters=[{"key": own}], guarded={"site": []}),
        fetch("/api/notes", topic=notes, filters=[{"key": "${guarded['api'].identity}"}], guarded={"api": []}, name="api"),
        credentials=places,
    )
    guards = {
        "site": GuardConfig(name="site", kind="session", options={}),
        "api": GuardConfig(name="api", kind="simplejwt", options={}),
    }
    proxy = Proxy(tmp_path, replace(configuration(kafka.bootstrap, routes), guards=guards))
    made = RequestFactory().get("/")
    token = get_token(made)
    cookies = f"sessionid={client.cookies['sessionid'].value}; csrftoken={made.META['CSRF_COOKIE']}"
    try:
        anonymous = await proxy.request("PUT", "/mine", content=b"x")
        assert (anonymous.status_code, anonymous.headers["www-authenticate"]) == (401, 'Session realm="gateway"')
        forged = await proxy.request("PUT", "/mine", content=b"x", headers={"cookie": cookies})
        assert (forged.status_code, forged.json()["type"]) == (403, "urn:kafkaproxy:problem:csrf")
        assert forged.json()["detail"].endswith(" in the field x-csrftoken.")
        with override_settings(CSRF_HEADER_NAME="HTTP_X_XSRF_TOKEN"):
            forged = await proxy.request("PUT", "/mine", content=b"x", headers={"cookie": cookies, "x-csrftoken": token})
        assert forged.json()["detail"].endswith(" in the field x-xsrf-token.")
        headers = {"cookie": cookies, "x-csrftoken": token, "referer": "https://example.com:9090/page"}
        assert (await proxy.request("PUT", "/mine", content=b"note", headers=headers)).status_code == 204
        read = await proxy.request("GET", "/mine", headers={"cookie": cookies})
        assert (read.text, read.headers["vary"]) == ("note", "cookie")
        access = str(await sync_to_async(AccessToken.for_user)(user))
        by_token = await proxy.request("GET", "/api/notes", headers={"authorization": f"Bearer {access}"})
        assert (by_token.text, by_token.headers["vary"]) == ("note", "authorization")
        assert (await proxy.request("GET", "/api/notes", headers={"cookie": cookies})).status_code == 401
    finally:
        await proxy.client.aclose()
        proxy.close()
    [record] = kafka.consume(notes)
    assert (record.key, record.headers) == (str(user.pk), [])
