"""A certificate for servers of tests, with its key, which protects nothing: good.example and below, for a century.

Made by `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 -subj ... -addext ...`.
"""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBvTCCAWSgAwIBAgIUA/DHA+4u9yveqwIpB6C70TtQfgkwCgYIKoZIzj0EAwIw
GzEZMBcGA1UEAwwQbGl0aG9waG9uZSB0ZXN0czAgFw0yNjExMjkxMTUzMTdaGA8y
MTI2MTEwNTExNTMxN1owGzEZMBcGA1UEAwwQbGl0aG9waG9uZSB0ZXN0czBZMBMG
ByqGSM49AgEGCCqGSM49AwEHA0IABPa/eHY1EBI1ov7Lt+m+JxmVKzHr9eyeC4ng
5pk6QHgs+D/G1iuDFjvBhMmawVHomGafnnIft1Wa5nDU9M23kIijgYMwgYAwHQYD
VR0OBBYEFMXmGCoMSTFjLHHCnseez31QQjgHMB8GA1UdIwQYMBaAFMXmGCoMSTFj
LHHCnseez31QQjgHMA8GA1UdEwEB/wQFMAMBAf8wLQYDVR0RBCYwJIIMZ29vZC5l
eGFtcGxlgg4qLmdvb2QuZXhhbXBsZYcEfwAAATAKBggqhkjOPQQDAgNHADBEAiBC
JRtZbVqw5ZK3+fB9YTduLhtyp+p7cboACgOk7nN2wwIgc3xwiYcf8bZCHybRFtxm
NM0TQCoutDMohH+ViymWR3o=
-----END CERTIFICATE-----
"""
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg/2eWkQSIu1gjIkOs
aRLP17hoq0IAAnAYGQNIPIlZ+UuhRANCAAT2v3h2NRASNaL+y7fpvicZlSsx6/Xs
nguJ4OaZOkB4LPg/xtYrgxY7wYTJmsFR6Jhmn55yH7dVmuZw1PTNt5CI
-----END PRIVATE KEY-----
"""


def server_context() -> ssl.SSLContext:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "both.pem")
        path.write_text(CERTIFICATE + KEY, encoding="ascii")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
    return context


def client_context() -> ssl.SSLContext:
    """Trusts that certificate alone."""
    return ssl.create_default_context(cadata=CERTIFICATE)
