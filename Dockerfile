# Builds the one binary and ships it without a toolchain, as a user without rights.
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
 && install -d -o almanac /var/lib/almanac
COPY --from=build /almanac/target/release/almanac /usr/local/bin/almanac
USER almanac
WORKDIR /var/lib/almanac
VOLUME /var/lib/almanac
ENV ALMANAC__DATA_DIR=/var/lib/almanac
EXPOSE 8080
ENTRYPOINT ["almanac"]
CMD ["up"]
