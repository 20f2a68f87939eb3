"""What a function's start leaves out is there when it is needed."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).parents[4]
CALL = """
import functions.aws.fast_start as fast_start
import asyncio, ssl, sys
import aiohttp, aiohttp.connector

async def call():
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(sys.argv[1])

    async def answer(reader, writer):
        await reader.readuntil(b"\\r\\n\\r\\n")
        writer.write(b"HTTP/1.1 204 No Content\\r\\nConnection: close\\r\\n\\r\\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    async with aiohttp.ClientSession() as session, session.get(f"https://127.0.0.1:{port}/") as response:
        return response.status

context = aiohttp.connector._SSL_CONTEXT_VERIFIED
assert isinstance(context, fast_start.LazyCertificates) and not context.get_ca_certs()
assert not isinstance(ssl.create_default_context(), fast_start.LazyCertificates)
assert context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED
print(asyncio.run(call()))
"""


def certificate(folder: Path) -> Path:
    """Create a certificate of this machine, with its key, that signs itself."""
    key, name, now = ec.generate_private_key(ec.SECP256R1()), x509.Name([]), datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(names, critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "machine.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    file.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


def called(file: Path, trusted: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"SSL_CERT_FILE": str(trusted)}
    command = [sys.executable, "-c", CALL, str(file)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_tls_uses_system_certificates(tmp_path: Path) -> None:
    file = certificate(tmp_path)
    (tmp_path / "other").mkdir()
    other = certificate(tmp_path / "other")
    assert called(file, trusted=file).stdout == "204\n"
    assert "CERTIFICATE_VERIFY_FAILED" in called(file, trusted=other).stderr
