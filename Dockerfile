# syntax=docker/dockerfile:1
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin outlay && cp target/release/outlay /outlay

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/outlay outlay
COPY --from=build /outlay /usr/local/bin/outlay
USER outlay
ENV OUTLAY_DATA=/var/lib/outlay OUTLAY_HTTP=0.0.0.0:7878
VOLUME /var/lib/outlay
EXPOSE 7878
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD curl -fsS http://127.0.0.1:7878/healthz || exit 1
ENTRYPOINT ["outlay"]
CMD ["serve"]
