"""Signed files for tests: certificates made on the fly, and c2pa-python's own signer."""

import datetime
import functools
import io
import json
from collections.abc import Sequence
from typing import Any

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.dataset.declared.files import saved

SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
_END = datetime.datetime(2046, 1, 1, tzinfo=datetime.UTC)


@functools.cache
def authority() -> tuple[str, str, bytes]:
    """PEM of a root, PEM of a signer's chain (signer first), and the signer's key."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _certificate("Tests' root", None, root_key, root_key, is_root=True)
    leaf = _certificate("Tests' signer", root, root_key, key, is_root=False)
    pem = serialization.Encoding.PEM
    root_pem, leaf_pem = (one.public_bytes(pem).decode() for one in (root, leaf))
    kind = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(pem, kind, serialization.NoEncryption())
    return root_pem, leaf_pem + root_pem, secret


def _certificate(
    name: str,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
    *,
    is_root: bool,
) -> x509.Certificate:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, name),
        ]
    )
    unused = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    usage = dict.fromkeys([*unused, "encipher_only", "decipher_only"], False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_START)
        .not_valid_after(_END)
        .add_extension(x509.BasicConstraints(is_root, None), True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not is_root, key_cert_sign=is_root, crl_sign=is_root, **usage
            ),
            True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False
        )
    )
    if not is_root:
        email = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(email, False)
    return builder.sign(issuer_key, hashes.SHA256())


def action(name: str, source: str | None = None, **more: Any) -> dict[str, Any]:
    """An action, with the digital source type of that name."""
    return {"action": name, **({"digitalSourceType": SOURCE + source} if source else {}), **more}


OPENED = action("c2pa.opened", parameters={"ingredientIds": ["parent"]})


def signed(
    data: bytes,
    mime: str,
    actions: Sequence[dict[str, Any]],
    *,
    generator: str = "Tests",
    parent: bytes | None = None,
) -> bytes:
    """The file with a manifest that claims these actions, made from a parent where one is given."""
    _, chain, key = authority()
    manifest = {
        "claim_generator_info": [{"name": generator, "version": "1"}],
        "assertions": [{"label": "c2pa.actions", "data": {"actions": list(actions)}}],
    }
    info = c2pa.C2paSignerInfo(b"es256", chain.encode(), key, None)
    with c2pa.Signer.from_info(info) as signer, c2pa.Builder(json.dumps(manifest)) as builder:
        if parent is not None:
            named = json.dumps({"title": "parent", "relationship": "parentOf", "label": "parent"})
            builder.add_ingredient(named, mime, io.BytesIO(parent))
        sink = io.BytesIO()
        builder.sign(signer, mime, io.BytesIO(data), sink)
    return sink.getvalue()


KINDS = ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "AVIF"]
GENERATED = [action("c2pa.created", "trainedAlgorithmicMedia")]


@functools.cache
def generated(kind: str) -> bytes:
    """A small file of that format whose manifest claims that it is AI-generated."""
    return signed(saved(kind), f"image/{kind.lower()}", GENERATED, generator="A generator")
