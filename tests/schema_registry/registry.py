"""A stand-in for a schema registry: as much of its API as serializers and readers ask for, in memory and a file.

    python registry.py HOST:PORT FILE [USER:PASSWORD]

What is registered is kept in FILE, so that it is there again at the next start. The tests run it where no real registry can be
installed from a package registry.
"""

import base64
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

address, path = sys.argv[1:3]
password = sys.argv[3] if len(sys.argv) > 3 else None
schemas = json.load(open(path)) if os.path.exists(path) else []


class Registry(BaseHTTPRequestHandler):
    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def is_allowed(self):
        expected = password and "Basic " + base64.b64encode(password.encode()).decode()
        if expected and self.headers.get("Authorization") != expected:
            self.answer(401, {"error_code": 401, "message": "Unauthorized"})
        return not expected or self.headers.get("Authorization") == expected

    def parts(self):
        return [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]

    def do_GET(self):
        if not self.is_allowed():
            return
        match self.parts():
            case ["schemas", "ids", number] if 0 < int(number) <= len(schemas):
                self.answer(200, {key: value for key, value in schemas[int(number) - 1].items() if key not in ("subject", "version")})
            case ["schemas", "ids", _]:
                self.answer(404, {"error_code": 40403, "message": "Schema not found"})
            case ["subjects", subject, "versions", version]:
                found = [s for s in schemas if s["subject"] == subject and version in ("latest", str(s["version"]))]
                self.answer(200, found[-1] | {"id": schemas.index(found[-1]) + 1}) if found else self.answer(404, {"error_code": 40401, "message": "no"})
            case _:
                self.answer(404, {"error_code": 404, "message": "HTTP 404 Not Found"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.is_allowed():
            return
        subject = self.parts()[1]
        wanted = {"subject": subject} | {key: body[key] for key in ("schema", "schemaType", "references") if body.get(key)}
        for at, known in enumerate(schemas):
            if wanted == {key: value for key, value in known.items() if key != "version"}:
                return self.answer(200, known | {"id": at + 1})
        version = 1 + sum(s["subject"] == subject for s in schemas)
        schemas.append(wanted | {"version": version})
        json.dump(schemas, open(path, "w"))
        self.answer(200, wanted | {"version": version, "id": len(schemas)})

    def log_message(self, *_):
        pass


host, port = address.split(":")
ThreadingHTTPServer((host, int(port)), Registry).serve_forever()
