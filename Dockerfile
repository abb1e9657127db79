# Builds the one binary and ships it without a toolchain, as a user without rights.
# Debian keeps only the newest version of a package, so that none can be named here.
# hadolint global ignore=DL3008
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends pkg-config libssl-dev zlib1g-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /almanac
COPY . .
RUN cargo build --release --locked --bin almanac

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libssl3 zlib1g \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --create-home almanac \
 && install -d -o almanac /var/lib/almanac /var/lib/almanac-key
COPY --from=build /almanac/target/release/almanac /usr/local/bin/almanac
USER 10001
WORKDIR /var/lib/almanac
VOLUME /var/lib/almanac
# Loopback of a container is nobody else's; writes from outside need a token:
#   docker exec CONTAINER almanac token --scope recipes:write
ENV ALMANAC__DATA_DIR=/var/lib/almanac ALMANAC__HTTP__LISTEN=0.0.0.0:8080
EXPOSE 8080
ENTRYPOINT ["almanac"]
CMD ["up"]
