# For stack.sh, with ALMANAC_STACK_SECURED: TLS everywhere, a password for Kafka and Cassandra, a
# certificate that these two ask of their clients, and on Kafka no more rights than are needed. For clients: $dir/tls/{ca.pem,client.pem,client.key},
# for Kafka the logins below, for Cassandra its first user, cassandra with the password cassandra.
# shellcheck shell=bash disable=SC2154,SC2034

secured_logins=(
  --add-scram 'SCRAM-SHA-512=[name=almanac,password=open-sesame]'
  --add-scram 'SCRAM-SHA-512=[name=tenant,password=open-sesame]'
)

certificates() {
  need openssl OpenSSL openssl
  local tls=$dir/tls name
  mkdir -p "$tls"
  openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=almanac tests" \
    -keyout "$tls/ca.key" -out "$tls/ca.pem" 2>/dev/null
  for name in server client; do
    openssl req -newkey rsa:2048 -nodes -subj "/CN=$name" \
      -keyout "$tls/$name.key" -out "$tls/$name.csr" 2>/dev/null
    openssl x509 -req -in "$tls/$name.csr" -CA "$tls/ca.pem" -CAkey "$tls/ca.key" -CAcreateserial \
      -days 30 -extfile <(echo "subjectAltName=IP:127.0.0.1") -out "$tls/$name.pem" 2>/dev/null
  done
  cat "$tls/server.key" "$tls/server.pem" > "$tls/server.both.pem"
}

secure_kafka() { # the ports of clients, of brokers and of controllers
  local properties=$dir/kafka/server.properties
  sed -i -E '/^(advertised\.)?listeners=/d' "$properties"
  cat >> "$properties" <<P
listeners=SASL_SSL://127.0.0.1:$1,INSIDE://127.0.0.1:$2,CONTROLLER://127.0.0.1:$3
advertised.listeners=SASL_SSL://127.0.0.1:$1,INSIDE://127.0.0.1:$2
listener.security.protocol.map=SASL_SSL:SASL_SSL,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=INSIDE
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.ssl.client.auth=required
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
ssl.keystore.type=PEM
ssl.keystore.location=$dir/tls/server.both.pem
ssl.truststore.type=PEM
ssl.truststore.location=$dir/tls/ca.pem
P
}

# Where Kafka asks for no password.
inside() { sed -n 's|^listeners=.*INSIDE://\([^,]*\),.*|\1|p' "$dir/kafka/server.properties"; }

# What docs/operating.md says that Almanac needs; the tenant may not make topics.
grant() {
  allow() {
    kafka_tool org.apache.kafka.tools.AclCommand --bootstrap-server "$(inside)" --add \
      --allow-principal User:almanac --resource-pattern-type prefixed "$@" >>"$dir/kafka/log" 2>&1 \
      || die "granting failed, see $dir/kafka/log"
  }
  local tenant=(--allow-principal User:tenant)
  allow --topic secured. --operation Create
  allow "${tenant[@]}" --topic secured. --operation Describe --operation DescribeConfigs \
    --operation Read --operation Write
  allow "${tenant[@]}" --group secured.almanac- --operation Read
  allow "${tenant[@]}" --transactional-id secured.almanac- --operation Write
}

# Another password for the user almanac.
password() {
  kafka_tool kafka.admin.ConfigCommand --bootstrap-server "$(inside)" --alter --entity-type users \
    --entity-name almanac --add-config "SCRAM-SHA-512=[password=$1]" >>"$dir/kafka/log" 2>&1 \
    || die "changing a password failed, see $dir/kafka/log"
}

secure_cassandra() {
  cat >> "$dir/cassandra/cassandra.yaml" <<P
authenticator: PasswordAuthenticator
role_manager: CassandraRoleManager
client_encryption_options:
  enabled: true
  optional: false
  require_client_auth: true
  ssl_context_factory:
    class_name: org.apache.cassandra.security.PEMBasedSslContextFactory
  keystore: $dir/tls/server.both.pem
  truststore: $dir/tls/ca.pem
P
}

secure_registry() { # port
  export QUARKUS_HTTP_SSL_PORT=$1 QUARKUS_HTTP_INSECURE_REQUESTS=disabled
  export QUARKUS_HTTP_SSL_CERTIFICATE_FILES=$dir/tls/server.pem
  export QUARKUS_HTTP_SSL_CERTIFICATE_KEY_FILES=$dir/tls/server.key
}
