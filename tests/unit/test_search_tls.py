"""Whom the search service trusts to be Elasticsearch."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from elastic_transport import TlsError

from search_service.elastic import Elastic
from search_service.overload import Breaker
from search_service.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate of its own authority for a host of that name, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / f"{name}.crt", folder / f"{name}.key"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return public, private


@asynccontextmanager
async def elasticsearch(public: Path, private: Path) -> AsyncIterator[int]:
    """A server with that certificate, which answers one request of each connection; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        content = b'{"status":"green"}'
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(content), content))
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(public, private)
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


async def status(host: str, port: int, trusted: Path | None) -> str:
    settings = Settings(es_host=host, es_port=port, es_use_ssl=True, es_ca_certs=trusted)
    async with Elastic(settings, Breaker()) as elastic:
        health = await elastic.ask("GET", "/_cluster/health")
    return str(health["status"])


async def test_the_given_authority_is_trusted_and_the_name_has_to_be_the_hosts(
    tmp_path: Path,
) -> None:
    public, private = certificate(tmp_path, "localhost")
    async with elasticsearch(public, private) as port:
        assert await status("localhost", port, public) == "green"
        # An address has no name: the authority is enough, as for Elasticsearch's own client.
        assert await status("127.0.0.1", port, public) == "green"


async def test_nobody_else_is_trusted(tmp_path: Path) -> None:
    public, private = certificate(tmp_path, "localhost")
    another, _ = certificate(tmp_path, "another.example")
    async with elasticsearch(public, private) as port:
        for trusted in (None, another):
            with pytest.raises(TlsError):
                await status("localhost", port, trusted)
    async with elasticsearch(*certificate(tmp_path, "another.example")) as port:
        with pytest.raises(TlsError, match="localhost"):
            await status("localhost", port, tmp_path / "another.example.crt")
