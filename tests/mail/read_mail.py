"""Reads a mail as a mail program would, with Python's email package, and prints it as JSON."""

import email
import email.policy
import json
import pathlib
import sys

message = email.message_from_bytes(pathlib.Path(sys.argv[1]).read_bytes(), policy=email.policy.default)
defects = [repr(defect) for part in message.walk() for defect in part.defects]
defects += [f"{name}: {defect!r}" for name, value in message.items() for defect in getattr(value, "defects", [])]
print(json.dumps({
    "headers": [[name, str(value)] for name, value in message.items()],
    "to": [[address.display_name, address.addr_spec] for address in message["To"].addresses],
    "type": message.get_content_type(),
    "parts": [[part.get_content_type(), part["Content-Transfer-Encoding"], part.get_content()] for part in message.iter_parts()],
    "defects": defects,
}))
