"""A real SMTP server for the tests: STARTTLS or TLS, login, and answers that tests ask for.

Prints one line of JSON when it accepts connections, {"port": 12345}, and ends when its standard input is closed, so that a test that dies
leaves no server behind. Each mail is two files in --dir: NNNN.eml (the bytes between DATA and the dot) and NNNN.json (the envelope).
"""

import argparse
import asyncio
import datetime
import ipaddress
import json
import pathlib
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=pathlib.Path, required=True, help="where mails are stored; ca.pem is written there")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--tls", choices=["none", "starttls", "implicit"], default="none")
    parser.add_argument("--user", help="require a login")
    parser.add_argument("--password")
    parser.add_argument("--answer-data", help="answer the first --times messages so, without storing them: '451 4.7.1 later'")
    parser.add_argument("--times", type=int, default=0, help="0: every message")
    parser.add_argument("--answer-rcpt", action="append", default=[], metavar="ADDRESS=ANSWER", help="answer this recipient so")
    parser.add_argument("--hold", type=float, default=0, metavar="SECONDS", help="store a message, and answer it so much later")
    return parser.parse_args()


def make_certificates(folder):
    """A root in ca.pem and a certificate of this server signed by it, as a company's own authority would."""
    now = datetime.datetime.now(datetime.timezone.utc)

    def certificate(name, key, issuer, issuer_key, extensions):
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(issuer_key, hashes.SHA256())

    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = certificate("Test root", root_key, "Test root", root_key, [(x509.BasicConstraints(ca=True, path_length=0), True)])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    server = certificate("localhost", key, "Test root", root_key, [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.SubjectAlternativeName(names), False),
    ])
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(root.public_bytes(pem))
    (folder / "server.pem").write_bytes(server.public_bytes(pem) + key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


class Handler:
    def __init__(self, args):
        self.args = args
        self.refused = 0
        self.stored = len(list(args.dir.glob("*.eml")))
        self.recipients = dict(answer.split("=", 1) for answer in args.answer_rcpt)

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if address in self.recipients:
            return self.recipients[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if self.args.answer_data and (self.args.times == 0 or self.refused < self.args.times):
            self.refused += 1
            return self.args.answer_data
        self.stored += 1
        name = self.args.dir / f"{self.stored:04}"
        login = session.auth_data if session.authenticated else None
        name.with_suffix(".json").write_text(json.dumps({
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "user": login,
            "encrypted": server.transport.get_extra_info("cipher") is not None,
            "ehlo": session.host_name,
        }))
        # Renamed when whole: a test that sees it may read it.
        name.with_suffix(".part").write_bytes(envelope.original_content)
        name.with_suffix(".part").rename(name.with_suffix(".eml"))
        await asyncio.sleep(self.args.hold)
        return "250 OK: kept"


def authenticator(args):
    def check(server, session, envelope, mechanism, data):
        user, password = data.login.decode(), data.password.decode()
        good = (user, password) == (args.user, args.password)
        return AuthResult(success=good, handled=good, auth_data=user,
                          message=None if good else "535 5.7.8 Authentication credentials invalid")
    return check


async def main():
    args = options()
    args.dir.mkdir(parents=True, exist_ok=True)
    context = make_certificates(args.dir) if args.tls != "none" else None
    handler = Handler(args)
    login = {}
    if args.user:
        login = {"auth_required": True, "auth_require_tls": args.tls == "starttls", "authenticator": authenticator(args)}

    def session():
        return SMTP(handler, hostname="localhost", loop=asyncio.get_running_loop(),
                    tls_context=context if args.tls == "starttls" else None,
                    require_starttls=args.tls == "starttls", **login)

    server = await asyncio.get_running_loop().create_server(
        session, "127.0.0.1", args.port, ssl=context if args.tls == "implicit" else None)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    finally:
        # Sessions that hold their answer would keep the loop.
        sys.stdout.flush()
