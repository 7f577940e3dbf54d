"""Stands in for the providers of models: OpenAI's chat completions and Anthropic's messages, plain and streamed, always with the same usage.

    models.py

Prints its port, and then each request to a model on a line. The same request has the same id of its answer; Anthropic's request ids are numbered from the start.
"""

import hashlib
import itertools
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OPENAI_USAGE = {
    "prompt_tokens": 1200, "completion_tokens": 120, "total_tokens": 1320,
    "prompt_tokens_details": {"cached_tokens": 300, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 40, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
}
ANTHROPIC_USAGE = {"input_tokens": 4, "cache_creation_input_tokens": 300, "cache_read_input_tokens": 15000, "output_tokens": 120}
# Long, and not only ASCII, so that it comes in many pieces that cut through characters. It talks of usage, too.
ANSWER = 'Überall heißt es "usage": {"prompt_tokens": 1}. 日本語 🙂 ' * 2000
numbers = itertools.count(1)


class Models(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer("application/json", b"")

    def do_GET(self):
        self.answer("application/json", json.dumps({"object": "list", "data": []}).encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        asked = json.loads(body or b"{}")
        path = self.path.split("?")[0]
        if path.endswith("/chat/completions"):
            print(f"openai {asked['model']}", flush=True)
            self.chat(asked)
        elif path.endswith("/messages"):
            print(f"anthropic {asked['model']}", flush=True)
            self.messages(asked)
        elif path.endswith("/count_tokens"):
            self.answer("application/json", b'{"input_tokens": 4}')
        else:
            self.answer("application/json", b"{}")

    def chat(self, asked):
        seen = json.dumps([asked["messages"], asked.get("stream", False)], sort_keys=True)
        answer = {"id": "chatcmpl-" + hashlib.sha256(seen.encode()).hexdigest()[:24], "created": 1, "model": asked["model"]}
        if not asked.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}
            answer.update(object="chat.completion", choices=[choice], usage=OPENAI_USAGE)
            return self.answer("application/json", json.dumps(answer, ensure_ascii=False).encode())
        answer["object"] = "chat.completion.chunk"
        deltas = [{"role": "assistant", "content": ""}] + [{"content": ANSWER[at : at + 4000]} for at in range(0, len(ANSWER), 4000)] + [{}]
        parts = [{**answer, "choices": [{"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}], "usage": None} for delta in deltas]
        parts.append({**answer, "choices": [], "usage": OPENAI_USAGE})
        lines = [b"data: " + json.dumps(part, ensure_ascii=False).encode() + b"\n\n" for part in parts]
        self.answer("text/event-stream", b"".join(lines) + b"data: [DONE]\n\n")

    def messages(self, asked):
        number = next(numbers)
        answer = {"id": f"msg_{number:024}", "type": "message", "role": "assistant", "model": asked["model"]}
        ids = {"request-id": f"req_{number:024}"}
        content = {"type": "text", "text": "Hello."}
        if not asked.get("stream"):
            answer.update(content=[content], stop_reason="end_turn", stop_sequence=None, usage=ANTHROPIC_USAGE)
            return self.answer("application/json", json.dumps(answer).encode(), ids)
        start = {**answer, "content": [], "stop_reason": None, "stop_sequence": None, "usage": {**ANTHROPIC_USAGE, "output_tokens": 1}}
        events = [
            {"type": "message_start", "message": start},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello."}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 120}},
            {"type": "message_stop"},
        ]
        lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
        self.answer("text/event-stream", b"".join(lines), ids)

    def answer(self, content_type, body, headers=()):
        self.send_response(200)
        for name, value in {"content-type": content_type, "content-length": str(len(body)), **dict(headers)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Models)
    print(server.server_address[1], flush=True)
    sys.exit(server.serve_forever())
