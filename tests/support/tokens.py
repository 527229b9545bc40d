"""Keys, tokens and a place that serves keys, for tests of guards."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

ISSUER: Final = "https://auth.example.com"
AUDIENCE: Final = "https://api.example.com"
NOW: Final = 1_700_000_000.0
SECRET: Final = "the-secret-of-the-tests-which-has-64-bytes-and-is-good-for-HS512"


@lru_cache
def private_key(algorithm: str) -> Any:
    """Return a key for signing with the algorithm, the same for the whole run."""
    if algorithm[:2] in {"RS", "PS"}:
        return _rsa()
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm.startswith("HS"):
        return SECRET
    return ec.generate_private_key({"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}[algorithm])


@lru_cache
def _rsa() -> Any:
    return rsa.generate_private_key(65537, 2048)


def jwk(algorithm: str, *, kid: str | None = "one", key: Any = None, **members: Any) -> dict[str, Any]:
    """Return the public JSON Web Key of an algorithm's key; a member that is None is left out."""
    key = key or private_key(algorithm)
    public = key if isinstance(key, str) else key.public_key()
    made: dict[str, Any] = get_default_algorithms()[algorithm].to_jwk(public, as_dict=True)
    made.pop("key_ops", None)
    made |= {"kid": kid, "alg": algorithm, **members}
    return {name: value for name, value in made.items() if value is not None}


def claims(**more: Any) -> dict[str, Any]:
    """Return claims that a guard of :func:`options` accepts for a minute from NOW; a claim that is None is left out."""
    made = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": NOW + 60, "scope": "read:stream write:stream", **more}
    return {name: value for name, value in made.items() if value is not None}


def sign(
    payload: Mapping[str, Any] | bytes, algorithm: str = "ES256", *, kid: str | None = "one", key: Any = None, **header: Any
) -> str:
    """Return a token. A member of the header that is None is left out."""
    head = {"alg": algorithm, "kid": kid, **header}
    head = {name: value for name, value in head.items() if value is not None}
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    signed = f"{b64(json.dumps(head).encode())}.{b64(body)}"
    signer = get_default_algorithms()[algorithm]
    return f"{signed}.{b64(signer.sign(signed.encode(), signer.prepare_key(key or private_key(algorithm))))}"


def token(algorithm: str = "ES256", *, kid: str | None = "one", **more: Any) -> str:
    """Return a token with :func:`claims`."""
    return sign(claims(**more), algorithm, kid=kid)


def fresh(**more: Any) -> str:
    """Return a token that a guard with the real clock accepts for an hour."""
    return token(**{"exp": time.time() + 3600, **more})


def options(*keys: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the options of a jwt guard."""
    return {"issuer": ISSUER, "audience": AUDIENCE, "keys": list(keys) or [jwk("ES256")], **more}


def b64(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """Return the bytes of base64url without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


assert jwt.algorithms.has_crypto


@dataclass
class KeyServer:
    """Serves a JWKS on loopback; ``answer`` is replaced to misbehave."""

    url: str
    answer: Callable[[BaseHTTPRequestHandler], object]
    asked: list[str] = field(default_factory=list)

    def serve(self, *keys: dict[str, Any]) -> None:
        """Serve these keys from now on."""
        self.say(json.dumps({"keys": keys}).encode())

    def say(self, body: bytes, status: int = 200, **fields: str) -> None:
        """Serve this from now on."""

        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(status)
            for name, value in fields.items():
                request.send_header(name.replace("_", "-"), value)
            request.send_header("content-length", str(len(body)))
            request.end_headers()
            request.wfile.write(body)

        self.answer = answer


@contextlib.contextmanager
def key_server(*keys: dict[str, Any], certificate: Path | None = None) -> Iterator[KeyServer]:
    """Run a server until the block ends; with a certificate (and its key, in one file) it speaks TLS."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            serving.asked.append(self.path)
            serving.answer(self)

        def handle(self) -> None:
            with contextlib.suppress(OSError):  # a client that hangs up in the middle is no error here
                super().handle()

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        scheme = "https"
    serving = KeyServer(f"{scheme}://127.0.0.1:{server.server_port}", lambda _request: None)
    serving.serve(*keys)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield serving
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
