"""Calls models' APIs through their own SDKs, with the instrumentations that people use, and sends the spans with OTLP over HTTP.

    instrumented.py --endpoint URL --key KEY

The providers are played by a server in this process, whose answers hold the usage that `ANSWERS` shows. Each instrumentation has a service
name of its own.
"""

import argparse
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

ANSWERS = {
    "/chat/completions": {
        "id": "chatcmpl-BxYz0123456789abcdef",
        "object": "chat.completion",
        "created": 1795255200,
        "model": "gpt-5.1-2026-10-01",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 1200,
            "completion_tokens": 120,
            "total_tokens": 1320,
            "prompt_tokens_details": {"cached_tokens": 300},
            "completion_tokens_details": {"reasoning_tokens": 40},
        },
    },
    "/v1/messages": {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": [{"type": "text", "text": "hi"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 47, "cache_creation_input_tokens": 248, "cache_read_input_tokens": 1800, "output_tokens": 503},
    },
    "/converse": {
        "output": {"message": {"role": "assistant", "content": [{"text": "hi"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 12, "outputTokens": 40, "totalTokens": 1057, "cacheReadInputTokens": 1000, "cacheWriteInputTokens": 5},
        "metrics": {"latencyMs": 5},
    },
}


class Provider(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        answer = next(answer for path, answer in ANSWERS.items() if self.path.endswith(path))
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def anthropic_call(url):
    import anthropic

    client = anthropic.Anthropic(api_key="k", base_url=url)
    client.messages.create(model="claude-sonnet-4-5", max_tokens=9, messages=[{"role": "user", "content": "x"}])


def openai_call(url):
    import openai

    openai.OpenAI(api_key="k", base_url=f"{url}/v1").chat.completions.create(model="gpt-5.1", messages=[{"role": "user", "content": "x"}])


def bedrock_call(url):
    import boto3

    client = boto3.client("bedrock-runtime", endpoint_url=url, region_name="us-east-1")
    client.converse(modelId="anthropic.claude-sonnet-4-5-v1:0", messages=[{"role": "user", "content": [{"text": "x"}]}])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--key", required=True)
    args = parser.parse_args()
    os.environ.update(AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"

    from openinference.instrumentation.anthropic import AnthropicInstrumentor as OpenInferenceAnthropic
    from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor as OpenLLMetryAnthropic
    from opentelemetry.instrumentation.bedrock import BedrockInstrumentor as OpenLLMetryBedrock
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor as OpenLLMetryOpenAI

    for name, instrumentor, call in [
        ("openllmetry-anthropic", OpenLLMetryAnthropic(), anthropic_call),
        ("openinference-anthropic", OpenInferenceAnthropic(), anthropic_call),
        ("openllmetry-openai", OpenLLMetryOpenAI(), openai_call),
        ("openllmetry-bedrock", OpenLLMetryBedrock(), bedrock_call),
    ]:
        provider = TracerProvider(resource=Resource.create({"service.name": name, "outlay.namespace": "support"}))
        exporter = OTLPSpanExporter(endpoint=f"{args.endpoint}/v1/traces", headers={"authorization": f"Bearer {args.key}"}, timeout=60)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        instrumentor.instrument(tracer_provider=provider)
        call(url)
        instrumentor.uninstrument()
        provider.shutdown()
    print(json.dumps({"done": True}))


if __name__ == "__main__":
    main()
