"""Sign a statement with an Ed25519 key, and check such a signature: a DSSE envelope, by securesystemslib.

DSSE (github.com/secure-systems-lab/dsse) signs the payload's type with the payload. Keys are PEM files: the private one
PKCS #8, the public one SubjectPublicKeyInfo, as openssl writes them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert.errors import DependencyError, OptionError, SignatureError, first_line

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, SSlibKey

IN_TOTO = "application/vnd.in-toto+json"  # the payload's type, of in-toto's attestation specification
_MAKE_KEY = "Make one with `openssl genpkey -algorithm ed25519 -out key.pem`."
_MAKE_PUBLIC = "Make it with `openssl pkey -in key.pem -pubout -out key.pub.pem`."


def sign(statement: bytes, private_key: Path) -> bytes:
    """The envelope (JSON) around `statement`. The same key and statement give the same bytes.

    Raises OptionError for a file that is no private Ed25519 key, DependencyError where securesystemslib is missing.
    """
    signer = _signer(private_key)
    from securesystemslib.dsse import Envelope

    envelope = Envelope(statement, IN_TOTO, {})
    envelope.sign(signer)
    return (json.dumps(envelope.to_dict(), indent=2) + "\n").encode()


def check_signature(envelope: bytes, public_key: Path, what: Path) -> bytes:
    """The statement in the envelope that was read from `what`, which the key's owner has signed.

    Raises SignatureError where that is not so, and the errors of `sign` about keys.
    """
    key = _public_key(public_key)
    from securesystemslib.exceptions import VerificationError

    opened = _opened(envelope, what)
    if opened.payload_type != IN_TOTO:
        raise SignatureError(f"{what}: is about a {opened.payload_type}, not an in-toto statement")
    try:
        opened.verify([key], threshold=1)
    except VerificationError as error:
        raise SignatureError(
            f"{what}: the signature is not of the key {public_key}, or what was signed has changed",
            "Do not use the bundle, unless you have given the wrong key.",
        ) from error
    return bytes(opened.payload)


def key_name(envelope: bytes, what: Path) -> str:
    """The id of the key that an envelope names; SignatureError if it is no envelope."""
    return ", ".join(_opened(envelope, what).signatures) or "no key"


def _opened(envelope: bytes, what: Path) -> Any:
    _need_library()
    from securesystemslib.dsse import Envelope

    try:
        return Envelope.from_dict(json.loads(envelope))
    except Exception as error:  # the library checks little of what it is given
        raise SignatureError(f"{what}: is no signed envelope: {first_line(error)}") from error


def _signer(path: Path) -> CryptoSigner:
    _need_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    content = _read(path)
    try:
        key = load_pem_private_key(content, None)
    except TypeError as error:  # it has a password
        advice = "Take the password off with `openssl pkey -in key.pem -out plain.pem`, where only you can read it."
        raise OptionError(f"{path}: the key is encrypted", advice) from error
    except ValueError as error:
        raise OptionError(f"{path}: is no private key in PEM", _MAKE_KEY) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise OptionError(f"{path}: is no Ed25519 key", _MAKE_KEY)
    return CryptoSigner(key)


def _public_key(path: Path) -> SSlibKey:
    _need_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    content = _read(path)
    try:
        key = load_pem_public_key(content)
    except ValueError as error:
        raise OptionError(f"{path}: is no public key in PEM", _MAKE_PUBLIC) from error
    if not isinstance(key, Ed25519PublicKey):
        raise OptionError(f"{path}: is no Ed25519 key", _MAKE_PUBLIC)
    return SSlibKey.from_crypto(key)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OptionError(f"{path}: cannot be read: {error.strerror}") from error


def _need_library() -> None:
    try:
        import cryptography  # noqa: F401
        import securesystemslib.dsse  # noqa: F401
    except ImportError as error:
        raise DependencyError(
            f"signatures need securesystemslib and cryptography: {first_line(error)}",
            'Run `pip install "pspnet-convert[sign]"`.',
        ) from error
