"""A certificate and contexts for TLS over loopback; conftest makes them known to all tests."""
import ssl
import subprocess

import pytest

# In Python 3.10 a TLS transport whose peer has closed it says all the same that nobody has.
older_tls_warns = pytest.mark.filterwarnings(
    'ignore:unclosed transport <asyncio.sslproto:ResourceWarning')


@pytest.fixture(scope='module')
def certificate(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1, as ``(certificate, key)``."""
    where = tmp_path_factory.mktemp('certificate')
    names = str(where / 'certificate.pem'), str(where / 'key.pem')
    subprocess.run(
        ['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256',
         '-nodes', '-days', '2', '-subj', '/CN=localhost',
         '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost',
         '-out', names[0], '-keyout', names[1]], check=True, capture_output=True)
    return names


@pytest.fixture
def contexts(certificate):
    """The server's TLS context and the client's."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*certificate)
    return server, ssl.create_default_context(cafile=certificate[0])
