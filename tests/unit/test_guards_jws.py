"""Signatures: the case list of the public JWS test vectors, as a guard sees them. RFC 7515 appendix A has the valid ones."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from kafkaproxy.guards.jwt import JwtGuard
from kafkaproxy.guards.principals import ClientPrincipal, Refusal
from kafkaproxy.routing.table import GuardConfig
from tests.support.tokens import NOW, b64, claims, jwk, options, private_key, sign, token, unb64

ALL = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512"]
_PAYLOAD = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"


async def ask(credential: str, *keys: dict[str, Any], now: float = NOW, **more: Any) -> ClientPrincipal | Refusal:
    config = GuardConfig(name="g", kind="jwt", options=options(*keys, **more))
    return await JwtGuard(config, clock=lambda: now).authenticate(None, credential)  # type: ignore[arg-type]


async def is_valid(credential: str, *keys: dict[str, Any], **more: Any) -> bool:
    answer = await ask(credential, *keys, **more)
    assert isinstance(answer, ClientPrincipal) or answer is Refusal.INVALID
    return isinstance(answer, ClientPrincipal)


@pytest.mark.parametrize("algorithm", ALL)
async def test_a_signature_of_every_algorithm_is_valid(algorithm: str) -> None:
    assert await is_valid(token(algorithm), jwk(algorithm))


@pytest.mark.parametrize(
    ("key", "head", "signature"),
    [
        (
            {
                "kty": "oct",
                "alg": "HS256",
                "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
            },
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        ),
        (
            {
                "kty": "EC",
                "alg": "ES256",
                "crv": "P-256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            },
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
    ],
    ids=["A.1", "A.3"],
)
async def test_the_examples_of_rfc_7515_are_valid(key: dict[str, Any], head: str, signature: str) -> None:
    credential = f"{head}.{_PAYLOAD}.{signature}"
    party = {"issuer": "joe", "audience": None}
    assert isinstance(await ask(credential, key, now=1300819379, **party), ClientPrincipal)
    assert await ask(credential, key, now=1300819380, **party) is Refusal.INVALID  # its exp
    broken = signature[:-3] + ("AAA" if not signature.endswith("AAA") else "BBB")
    assert await ask(f"{head}.{_PAYLOAD}.{broken}", key, now=1300819379, **party) is Refusal.INVALID


def _parts(credential: str) -> tuple[str, str, str]:
    head, payload, signature = credential.split(".")
    return head, payload, signature


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "ES512", "EdDSA", "HS256"])
class TestABrokenSignature:
    """Every way to touch a signature makes the token invalid."""

    async def test_one_bit_flipped(self, algorithm: str) -> None:
        head, payload, signature = _parts(token(algorithm))
        raw = bytearray(unb64(signature))
        for at in (0, len(raw) // 2, len(raw) - 1):
            raw[at] ^= 1
            assert not await is_valid(f"{head}.{payload}.{b64(bytes(raw))}", jwk(algorithm))
            raw[at] ^= 1
        assert await is_valid(f"{head}.{payload}.{b64(bytes(raw))}", jwk(algorithm))

    async def test_truncated_or_longer(self, algorithm: str) -> None:
        head, payload, signature = _parts(token(algorithm))
        raw = unb64(signature)
        for other in (raw[:-1], raw[1:], raw[:16], raw + b"\0", b"\0" + raw, raw + raw, b"\0"):
            assert not await is_valid(f"{head}.{payload}.{b64(other)}", jwk(algorithm))

    async def test_none_at_all(self, algorithm: str) -> None:
        head, payload, _ = _parts(token(algorithm))
        for other in (f"{head}.{payload}.", f"{head}.{payload}", f"{head}..", f"..{payload}", ".", "", head):
            assert not await is_valid(other, jwk(algorithm))

    async def test_all_zero(self, algorithm: str) -> None:
        head, payload, signature = _parts(token(algorithm))
        assert not await is_valid(f"{head}.{payload}.{b64(bytes(len(unb64(signature))))}", jwk(algorithm))

    async def test_of_another_payload_or_header(self, algorithm: str) -> None:
        head, payload, signature = _parts(token(algorithm))
        other_head, other_payload, _ = _parts(sign(claims(sub="mallory"), algorithm, typ="JWT"))
        assert not await is_valid(f"{head}.{other_payload}.{signature}", jwk(algorithm))
        assert not await is_valid(f"{other_head}.{payload}.{signature}", jwk(algorithm))

    async def test_spelled_differently(self, algorithm: str) -> None:
        credential = token(algorithm)
        head, payload, signature = _parts(credential)
        standard = base64.b64encode(unb64(signature)).decode()
        spellings = [
            f"{credential}=",
            f"{credential}==",
            f"{head}=.{payload}.{signature}",
            f"{head}.{payload}==.{signature}",
            f" {credential}",
            f"{credential}\n",
            f"{head}.{payload}. {signature}",
            f"{head}.{payload}.{signature}.{signature}",
            f"{head}.{payload}.{signature[:4]}\n{signature[4:]}",
            f"{head}.{payload}.{signature}!",
            f"{head}.{payload}.{signature}\0",
            credential.replace(".", "..", 1),
        ]
        if standard.rstrip("=") != signature:
            spellings.append(f"{head}.{payload}.{standard}")
            spellings.append(f"{head}.{payload}.{standard.rstrip('=')}")
        for other in spellings:
            assert not await is_valid(other, jwk(algorithm)), other

    async def test_with_bits_that_base64_does_not_need(self, algorithm: str) -> None:
        head, payload, signature = _parts(token(algorithm))
        if len(signature) % 4 == 0:
            pytest.skip("no spare bits in a signature of this length")
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        last = alphabet[alphabet.index(signature[-1]) | 1]
        assert unb64(signature[:-1] + last) == unb64(signature)
        assert not await is_valid(f"{head}.{payload}.{signature[:-1]}{last}", jwk(algorithm))

    async def test_by_another_key_of_that_kind(self, algorithm: str) -> None:
        kinds: dict[str, Callable[[], Any]] = {
            "RS": lambda: rsa.generate_private_key(65537, 2048),
            "PS": lambda: rsa.generate_private_key(65537, 2048),
            "ES": lambda: ec.generate_private_key(private_key(algorithm).curve),
            "Ed": ed25519.Ed25519PrivateKey.generate,
            "HS": lambda: "another-secret-that-is-long-enough-for-any-of-them-all-of-64-bytes!",
        }
        other = kinds[algorithm[:2]]()
        assert not await is_valid(sign(claims(), algorithm, key=other), jwk(algorithm))


class TestAlgorithmConfusion:
    """A token does not choose how it is verified."""

    @pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", ""])
    @pytest.mark.parametrize("signature", ["", "AAAA"])
    async def test_none_is_no_algorithm(self, name: str, signature: str) -> None:
        head = b64(json.dumps({"alg": name, "kid": "one"}).encode())
        credential = f"{head}.{b64(json.dumps(claims()).encode())}.{signature}"
        assert not await is_valid(credential, jwk("RS256"))
        assert not await is_valid(credential, jwk("HS256"))

    @pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
    async def test_a_public_key_is_no_hmac_secret(self, algorithm: str) -> None:
        public = private_key("RS256").public_key()
        formats = serialization.PublicFormat
        secrets = [
            public.public_bytes(serialization.Encoding.PEM, formats.SubjectPublicKeyInfo),
            public.public_bytes(serialization.Encoding.DER, formats.SubjectPublicKeyInfo),
            public.public_bytes(serialization.Encoding.PEM, formats.PKCS1),
            json.dumps(jwk("RS256")).encode(),
            jwk("RS256")["n"].encode(),
            unb64(jwk("RS256")["n"]),
            b"",
        ]
        digest = {"HS256": hashes.SHA256(), "HS384": hashes.SHA384(), "HS512": hashes.SHA512()}[algorithm]
        for secret in secrets:
            signed = f"{b64(json.dumps({'alg': algorithm, 'kid': 'one'}).encode())}.{b64(json.dumps(claims()).encode())}"
            mac = hmac.HMAC(secret or b"\0", digest)
            mac.update(signed.encode())
            assert not await is_valid(f"{signed}.{b64(mac.finalize())}", jwk("RS256"))

    @pytest.mark.parametrize(
        ("key", "signed"),
        [
            ("RS256", "RS512"),
            ("RS256", "PS256"),
            ("PS256", "RS256"),
            ("RS512", "RS256"),
            ("HS256", "HS512"),
            ("HS512", "HS256"),
        ],
    )
    async def test_the_algorithm_of_the_key_counts(self, key: str, signed: str) -> None:
        declared = jwk(key)
        assert not await is_valid(token(signed), declared)
        assert not await is_valid(token(signed, kid=None), declared)

    @pytest.mark.parametrize(
        "name", ["rs256", "RS256 ", "RS1", "ES256K", "ES521", "HS1", "dir", "RSA-OAEP", "A128GCM", "EdDSA448"]
    )
    async def test_an_unknown_algorithm_is_none_of_ours(self, name: str) -> None:
        _, payload, signature = _parts(token("RS256"))
        head = b64(json.dumps({"alg": name, "kid": "one"}).encode())
        assert not await is_valid(f"{head}.{payload}.{signature}", jwk("RS256"), jwk("ES256", kid="two"))

    @pytest.mark.parametrize("alg", [None, 256, ["RS256"], {"RS256": 1}, True])
    async def test_an_algorithm_is_a_text(self, alg: Any) -> None:
        _, payload, signature = _parts(token("RS256"))
        head = b64(json.dumps({"alg": alg, "kid": "one"}).encode())
        assert not await is_valid(f"{head}.{payload}.{signature}", jwk("RS256"))

    async def test_a_key_in_the_header_is_not_looked_at(self) -> None:
        own = ec.generate_private_key(ec.SECP256R1())
        public = jwk("ES256", key=own)
        for header in ({"jwk": public}, {"jku": "http://127.0.0.1:1/keys"}, {"x5u": "http://127.0.0.1:1/"}, {"x5c": ["AAAA"]}):
            assert not await is_valid(sign(claims(), "ES256", key=own, **header), jwk("ES256"))

    async def test_an_extension_that_nobody_understands_is_refused(self) -> None:
        assert not await is_valid(sign(claims(), "ES256", crit=["exp"], exp=1), jwk("ES256"))
        assert not await is_valid(sign(claims(), "ES256", crit=[]), jwk("ES256"))
        assert not await is_valid(sign(claims(), "ES256", b64=False, crit=["b64"]), jwk("ES256"))
        assert not await is_valid(sign(claims(), "ES256", b64=False), jwk("ES256"))


class TestKeysOfTheWrongKind:
    """What a key says about itself has to fit."""

    async def test_a_signature_on_another_curve_is_invalid(self) -> None:
        other = ec.generate_private_key(ec.SECP384R1())
        signature = other.sign(b"x", ec.ECDSA(hashes.SHA256()))
        head, payload, _ = _parts(token("ES256"))
        assert not await is_valid(f"{head}.{payload}.{b64(signature)}", jwk("ES256"))

    async def test_an_ecdsa_signature_in_der_is_invalid(self) -> None:
        head, payload, _ = _parts(token("ES256"))
        der = private_key("ES256").sign(f"{head}.{payload}".encode(), ec.ECDSA(hashes.SHA256()))
        assert not await is_valid(f"{head}.{payload}.{b64(der)}", jwk("ES256"))

    @pytest.mark.parametrize(
        ("r", "s"), [(0, 0), (0, 1), (1, 0), (1, 1), ("n", "n"), ("n", 1), (1, "n"), ("n-1", "n-1"), ("p", 1)]
    )
    async def test_the_psychic_signatures_are_invalid(self, r: int | str, s: int | str) -> None:
        n = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
        p = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
        numbers = {"n": n, "n-1": n - 1, "p": p}
        raw = b"".join((numbers[each] if isinstance(each, str) else each).to_bytes(32, "big") for each in (r, s))
        head, payload, _ = _parts(token("ES256"))
        assert not await is_valid(f"{head}.{payload}.{b64(raw)}", jwk("ES256"))

    async def test_the_kid_is_exact(self) -> None:
        keys = (jwk("ES256", kid="one"), jwk("ES384", kid="two"))
        assert await is_valid(token("ES256", kid="one"), *keys)
        for kid in ("two", "One", "one ", "", "on", "../one", "one\0"):
            assert not await is_valid(token("ES256", kid=kid), *keys)

    @pytest.mark.parametrize("kid", [1, True, ["one"], {"one": 1}])
    async def test_a_kid_is_a_text(self, kid: Any) -> None:
        assert not await is_valid(sign(claims(), "ES256", kid=kid), jwk("ES256"))

    async def test_without_a_kid_the_only_key_of_the_algorithm_counts(self) -> None:
        credential = token("ES256", kid=None)
        assert await is_valid(credential, jwk("ES256"))
        assert await is_valid(credential, jwk("ES256"), jwk("ES384", kid="two"))
        assert not await is_valid(
            credential, jwk("ES256"), jwk("ES256", kid="two", key=ec.generate_private_key(ec.SECP256R1()))
        )
        assert not await is_valid(credential, jwk("ES384"))

    async def test_a_token_with_a_kid_needs_a_key_with_it(self) -> None:
        assert not await is_valid(token("ES256", kid="one"), jwk("ES256", kid=None))
        assert await is_valid(token("ES256", kid=None), jwk("ES256", kid=None))

    async def test_two_keys_of_one_kid_are_told_apart_by_their_algorithm(self) -> None:
        keys = (jwk("RS256"), jwk("PS256"), jwk("ES256"))
        for algorithm in ("RS256", "PS256", "ES256"):
            assert await is_valid(token(algorithm), *keys)

    async def test_a_key_without_algorithm_verifies_nothing_unless_the_guard_says_for_what_it_is(self) -> None:
        silent = jwk("RS256", alg=None)
        assert not await is_valid(token("RS256"), silent, jwk("ES256", kid="two"))
        assert await is_valid(token("RS256"), silent, algorithm="RS256")
        assert not await is_valid(token("PS256"), silent, algorithm="RS256")
        assert not await is_valid(token("HS256"), silent, algorithm="RS256")

    async def test_numbers_may_be_base64_or_base64url_padded_or_not(self) -> None:
        key = jwk("RS256")
        raw = unb64(key["n"])
        for spelling in (base64.b64encode(raw), base64.urlsafe_b64encode(raw), base64.b64encode(b"\0" + raw)):
            assert await is_valid(token("RS256"), key | {"n": spelling.decode()})
        point = jwk("ES256")
        standard = {name: base64.b64encode(unb64(point[name])).decode() for name in ("x", "y")}
        assert await is_valid(token("ES256"), point | standard)

    async def test_a_private_key_by_mistake_is_used_as_the_public_one(self) -> None:
        numbers = private_key("ES256").private_numbers().private_value.to_bytes(32, "big")
        assert await is_valid(token("ES256"), jwk("ES256", d=b64(numbers)))


@pytest.mark.parametrize(
    "header",
    [b"", b"x", b"[]", b"null", b'"alg"', b"{", b'{"alg": "ES256"', b"\xff", b"[" * 100_000, b'{"alg":' * 50_000, b"1" * 5000],
)
async def test_a_header_that_is_none_is_invalid(header: bytes) -> None:
    _, payload, signature = _parts(token("ES256"))
    assert not await is_valid(f"{b64(header)}.{payload}.{signature}", jwk("ES256"))


@pytest.mark.parametrize(
    "payload", [b"x", b"[]", b"null", b'"sub"', b"1", b"{", b"\xff\xfe", b"[" * 100_000, b'{"exp":' + b"9" * 5000 + b"}"]
)
async def test_a_payload_that_is_no_object_is_invalid_however_well_signed(payload: bytes) -> None:
    assert not await is_valid(sign(payload, "ES256"), jwk("ES256"))
