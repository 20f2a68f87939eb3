"""The service's signing certificate: that of the settings, or a self-signed one that all processes share."""

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import SigningCertificate
from pipeline.environment import SettingsError, pem
from pipeline.errors import Unavailable
from pipeline.marking.manifest import SERVICE, Credentials
from pipeline.settings import Settings

_VALID_FOR = timedelta(days=3650)
_CLOCK_SKEW = timedelta(days=1)


def configured(settings: Settings) -> Credentials:
    """Return the certificate of the settings.

    Raises
    ------
    SettingsError
        One of the two settings is missing, or a file can't be read.
    """
    certificate, key = settings.mark_certificate, settings.mark_private_key
    if certificate is None or key is None:
        raise SettingsError("MARK_CERTIFICATE and MARK_PRIVATE_KEY should be set together")
    return Credentials(
        pem(certificate, "MARK_CERTIFICATE"),
        pem(key.get_secret_value(), "MARK_PRIVATE_KEY"),
        settings.mark_timestamp_url,
    )


async def shared(resources: Resources) -> Credentials:
    """Return the self-signed certificate in the bucket of the voices. The first process creates it.

    Raises
    ------
    Unavailable
        The storage does not respond, or the record is damaged.
    """
    body = await resources.voices.get(layout.SIGNING_CERTIFICATE)
    if body is None:
        created = self_signed(resources.clock())
        if await resources.voices.put_once(layout.SIGNING_CERTIFICATE, created.to_json(), JSON):
            body = created.to_json()
        else:
            body = await resources.voices.get(layout.SIGNING_CERTIFICATE)
    stored = SigningCertificate.parse_stored(body)
    if stored is None:
        raise Unavailable(f"The signing certificate {layout.SIGNING_CERTIFICATE} can't be read.")
    return Credentials(stored.certificate, stored.private_key, resources.settings.mark_timestamp_url)


def self_signed(now: datetime) -> SigningCertificate:
    """Create a certificate that C2PA allows for signing: P-256, email protection, valid for ten years.

    Requirements: section "X.509 Certificates" of the C2PA specification.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, SERVICE),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{SERVICE} (self-signed)"),
        ]
    )
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALID_FOR)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return SigningCertificate(
        certificate=certificate.public_bytes(Encoding.PEM).decode(),
        private_key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
    )
