"""A proxy through which clients that insist on an https host of the CRM's reach the sandbox instead.

It answers CONNECT with a certificate of a throw-away authority, which the client is told to trust by environment
variables, and passes the decrypted bytes on. Nothing of it is used by pipesync itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "api.hubapi.com"


def _certificates(folder: Path, host: str) -> tuple[Path, Path]:
    """Write an authority and a certificate of its for the host; return (authority, certificate with key)."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pipesync benchmark")])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)

    def build(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(name).public_key(public)
        made = made.serial_number(x509.random_serial_number())
        return made.not_valid_before(start).not_valid_after(start + datetime.timedelta(days=30))

    authority = (
        build(name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    leaf = (
        build(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]), key.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    trusted, served = folder / "authority.pem", folder / "server.pem"
    trusted.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    served.write_bytes(private + leaf.public_bytes(serialization.Encoding.PEM))
    return trusted, served


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _serve(started: threading.Event, port: list[int], target: str, served: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(served)
    there = urlsplit(target)

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await writer.drain()
            await writer.start_tls(context)
            onward, back = await asyncio.open_connection(there.hostname, there.port)
            await asyncio.gather(_pass_on(reader, back), _pass_on(onward, writer))

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    port.append(server.sockets[0].getsockname()[1])
    started.set()
    await server.serve_forever()


@contextlib.contextmanager
def intercepting(target: str, folder: Path, host: str = HOST) -> Iterator[dict[str, str]]:
    """Run the proxy; yields the environment variables under which a client reaches `target` as `host`."""
    trusted, served = _certificates(folder, host)
    started, port = threading.Event(), list[int]()
    loop = asyncio.new_event_loop()
    task = loop.create_task(_serve(started, port, target, served))
    thread = threading.Thread(target=_run, args=(loop, task), daemon=True)
    thread.start()
    started.wait(10)
    proxy = f"http://127.0.0.1:{port[0]}"
    try:
        yield {
            "HTTPS_PROXY": proxy,
            "https_proxy": proxy,
            "NO_PROXY": "",
            "SSL_CERT_FILE": str(trusted),
            "REQUESTS_CA_BUNDLE": str(trusted),
        }
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(5)


def _run(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        loop.run_until_complete(task)
