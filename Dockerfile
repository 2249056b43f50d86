FROM rust:1-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends clang libclang-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
RUN cargo build --release --locked --bin lockkeeper

FROM debian:bookworm-slim
# The audit log's directory is the only place that lockkeeper writes to.
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin lockkeeper \
 && install -d -o lockkeeper -g lockkeeper -m 0750 /var/log/lockkeeper
COPY --from=build /build/target/release/lockkeeper /usr/local/bin/lockkeeper
USER 10001
EXPOSE 6432
# As a sidecar, the default address 127.0.0.1:6432 is the pod's own loopback. On its own, add --listen 0.0.0.0:6432.
ENTRYPOINT ["lockkeeper"]
CMD ["--help"]
