"""Sends spans, log records and metrics with OpenTelemetry's own Python SDK and exporters, and says what the exporters answered.

    export.py --protocol grpc|http --endpoint URL --key KEY --compression none|gzip|deflate [--again]

Prints one JSON object: the result of each export. `--again` exports everything twice, as a retry after a lost answer does.
"""

import argparse
import json
import logging

from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

RESOURCE = Resource.create(
    {"service.name": "helpdesk-bot", "outlay.namespace": "support", "team.name": "helpdesk", "vcs.repository.name": "acme/bot"}
)
CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5.1",
    "gen_ai.response.model": "gpt-5.1-2026-10-01",
    "gen_ai.response.id": "chatcmpl-8f0c2c1e4a7b4d0f",
    "gen_ai.conversation.id": "conv-9",
    "gen_ai.usage.input_tokens": 1200,
    "gen_ai.usage.output_tokens": 120,
    "gen_ai.usage.cache_read.input_tokens": 300,
    "gen_ai.usage.reasoning.output_tokens": 40,
}
CLAUDE_CODE = {
    "event.name": "api_request",
    "session.id": "8f0c2c1e-sess",
    "user.email": "ada@example.com",
    "model": "claude-sonnet-4-5-20250929",
    "input_tokens": 4,
    "output_tokens": 120,
    "cache_read_tokens": 15000,
    "cache_creation_tokens": 300,
    "cost_usd": 0.0074295,
    "request_id": "req_011CUabcdef",
}


def exporters(args):
    headers = {"authorization": f"Bearer {args.key}"}
    if args.protocol == "grpc":
        import grpc
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        compression = {"none": grpc.Compression.NoCompression, "gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
        options = {"endpoint": args.endpoint, "insecure": True, "headers": headers, "timeout": 60, "compression": compression[args.compression]}
        return OTLPSpanExporter(**options), OTLPLogExporter(**options), OTLPMetricExporter(**options)
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    options = {"headers": headers, "timeout": 60, "compression": Compression(args.compression)}
    return (
        OTLPSpanExporter(endpoint=f"{args.endpoint}/v1/traces", **options),
        OTLPLogExporter(endpoint=f"{args.endpoint}/v1/logs", **options),
        OTLPMetricExporter(endpoint=f"{args.endpoint}/v1/metrics", **options),
    )


def watch(exporter, results, times):
    """Keeps what the exporter answers, and exports so many times."""
    export = exporter.export

    def watched(batch, *args, **kwargs):
        for _ in range(times):
            result = export(batch, *args, **kwargs)
            results.append(result.name)
        return result

    exporter.export = watched
    return exporter


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--protocol", choices=["grpc", "http"], required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--compression", choices=["none", "gzip", "deflate"], default="none")
    parser.add_argument("--again", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    times = 2 if args.again else 1
    results = {"traces": [], "logs": [], "metrics": []}
    spans, logs, metrics = exporters(args)

    tracers = TracerProvider(resource=RESOURCE)
    # Nothing goes out before the end: one export of each.
    at_the_end = {"schedule_delay_millis": 3_600_000}
    tracers.add_span_processor(BatchSpanProcessor(watch(spans, results["traces"], times), **at_the_end))
    loggers = LoggerProvider(resource=RESOURCE)
    loggers.add_log_record_processor(BatchLogRecordProcessor(watch(logs, results["logs"], times), **at_the_end))
    tracer, logger = tracers.get_tracer("tests"), loggers.get_logger("tests")

    with tracer.start_as_current_span("GET /tickets"):
        agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 1207, "gen_ai.usage.output_tokens": 120}
        with tracer.start_as_current_span("invoke_agent triage", attributes=agent):
            with tracer.start_as_current_span("chat gpt-5.1", attributes=CALL):
                # The same call once more, as the conventions' log record.
                logger.emit(LogRecord(event_name="gen_ai.client.inference.operation.details", attributes=CALL))
            embeddings = {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "text-embedding-3-small", "gen_ai.usage.input_tokens": 7}
            with tracer.start_as_current_span("embeddings text-embedding-3-small", attributes=embeddings):
                pass
            with tracer.start_as_current_span("chat broken", attributes={"gen_ai.usage.input_tokens": -1}):
                pass
    logger.emit(LogRecord(body="claude_code.api_request", attributes=CLAUDE_CODE))
    logger.emit(LogRecord(body="a ticket was opened"))
    tracers.shutdown()
    loggers.shutdown()

    meters = MeterProvider(resource=RESOURCE, metric_readers=[PeriodicExportingMetricReader(watch(metrics, results["metrics"], times))])
    meters.get_meter("tests").create_counter("claude_code.token.usage").add(15424, {"type": "input"})
    meters.shutdown()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
