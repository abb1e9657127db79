#!/usr/bin/env bash
# Real Kafka, Cassandra and a schema registry on loopback, without containers.
#
#   tests/stack/stack.sh up        download what is missing, start all three, wait until ready;
#                                  empty, unless one of them runs already
#   tests/stack/stack.sh down      stop what `up` started
#   tests/stack/stack.sh start|stop|kill kafka|cassandra|registry
#   tests/stack/stack.sh password NEW   of Kafka's user almanac, where all three want credentials
#   tests/stack/stack.sh env       print the addresses as shell assignments
#
# Needs Java 17 and Maven. Everything lives in .stack (or $ALMANAC_STACK_DIR); `up` twice is fine.
# With ALMANAC_STACK_SECURED (and another folder), all three want TLS and credentials: secured.sh.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
dir=${ALMANAC_STACK_DIR:-$root/.stack}
lib=${ALMANAC_STACK_LIB:-$dir/lib}
secured=${ALMANAC_STACK_SECURED:-}
registry_version=3.0.9

say() { printf 'stack: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# shellcheck source=tests/stack/secured.sh
. "$here/secured.sh"

need() { command -v "$1" >/dev/null || die "$1 is missing; install $2 (Debian: apt-get install $3)"; }

fetch() {
  [ -e "$lib/complete" ] && return
  need java "Java 17" openjdk-17-jre-headless
  need mvn "Maven" maven
  say "downloading Kafka, Cassandra and Apicurio Registry (about 330 MB, once)"
  mkdir -p "$lib"
  local pom
  for pom in kafka cassandra; do
    mvn -q -B -f "$here/$pom.pom.xml" dependency:copy-dependencies \
      -DoutputDirectory="$lib/$pom" || die "Maven could not fetch $pom"
  done
  mvn -q -B dependency:copy -DoutputDirectory="$lib" \
    -Dartifact="io.apicurio:apicurio-registry-app:$registry_version:tar.gz:all" \
    || die "Maven could not fetch the registry"
  mkdir -p "$lib/registry"
  tar xzf "$lib/apicurio-registry-app-$registry_version-all.tar.gz" -C "$lib/registry"
  rm "$lib/apicurio-registry-app-$registry_version-all.tar.gz"
  touch "$lib/complete"
}

# Below the ports that clients get: one that tries to reach a stopped server again and again may be
# given that server's port, connect to itself, and keep the server from starting.
free_port() {
  python3 - <<'P'
import random, socket
while True:
    try:
        s = socket.socket(); s.bind(("127.0.0.1", random.randrange(15000, 32000)))
        print(s.getsockname()[1])
        break
    except OSError:
        s.close()
P
}

configure() {
  [ -e "$dir/env" ] && return
  need python3 "Python 3" python3
  mkdir -p "$dir/kafka" "$dir/cassandra" "$dir/registry"
  local kafka controller cql storage registry
  kafka=$(free_port) controller=$(free_port) cql=$(free_port) storage=$(free_port)
  registry=$(free_port)
  cat > "$dir/kafka/server.properties" <<P
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:$kafka,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$kafka
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:$controller
log.dirs=$dir/kafka/data
num.partitions=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
num.recovery.threads.per.data.dir=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
P
  cat > "$dir/cassandra/cassandra.yaml" <<P
cluster_name: almanac
num_tokens: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{seeds: "127.0.0.1:$storage"}]
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
native_transport_port: $cql
storage_port: $storage
endpoint_snitch: SimpleSnitch
data_file_directories: [$dir/cassandra/data]
commitlog_directory: $dir/cassandra/commitlog
commitlog_sync: periodic
commitlog_sync_period: 1000ms
hints_directory: $dir/cassandra/hints
saved_caches_directory: $dir/cassandra/saved_caches
cdc_raw_directory: $dir/cassandra/cdc
auto_snapshot: false
P
  cat > "$dir/cassandra/logback.xml" <<'P'
<configuration><appender name="OUT" class="ch.qos.logback.core.ConsoleAppender"><encoder><pattern>%level %date %msg%n</pattern></encoder></appender><root level="INFO"><appender-ref ref="OUT"/></root></configuration>
P
  cat > "$dir/kafka/log4j2.properties" <<'P'
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = OUT
appender.out.type = Console
appender.out.name = OUT
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %p %d %m%n
P
  if [ -n "$secured" ]; then
    certificates
    secure_kafka "$kafka" "$(free_port)" "$controller"
    secure_cassandra
  fi
  cat > "$dir/env" <<P
ALMANAC_TEST_KAFKA=127.0.0.1:$kafka
ALMANAC_TEST_SCYLLA=127.0.0.1:$cql
ALMANAC_TEST_REGISTRY=http${secured:+s}://127.0.0.1:$registry/apis/ccompat/v7
P
}

# Every run makes topics and keyspaces of its own, and a Cassandra with thousands of tables does
# nothing but collect garbage.
forget() {
  for server in cassandra kafka registry; do
    running "$server" && return
  done
  rm -rf "$dir"/kafka/data "$dir"/cassandra/{data,commitlog,hints,saved_caches,cdc} "$dir"/*/log
}

running() { [ -e "$dir/$1/pid" ] && kill -0 "$(cat "$dir/$1/pid")" 2>/dev/null; }

launch() { # name, command...
  local name=$1; shift
  (cd "$dir/$name" && exec setsid "$@" >>"$dir/$name/log" 2>&1 </dev/null) &
  echo $! > "$dir/$name/pid"
  disown
}

kafka_tool() { java -Xmx256m -cp "$lib/kafka/*" "$@"; }

start() {
  running "$1" && return
  case $1 in
    kafka)
      if [ ! -e "$dir/kafka/data/meta.properties" ]; then
        local id; id=$(kafka_tool kafka.tools.StorageTool random-uuid 2>/dev/null | tail -1)
        kafka_tool kafka.tools.StorageTool format -t "$id" -c "$dir/kafka/server.properties" \
          --standalone ${secured:+"${secured_logins[@]}"} >"$dir/kafka/log" 2>&1 \
          || die "formatting failed, see $dir/kafka/log"
      fi
      launch kafka java -Xms256m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=4 \
        -Dlog4j2.configurationFile="$dir/kafka/log4j2.properties" \
        -cp "$lib/kafka/*" kafka.Kafka "$dir/kafka/server.properties" ;;
    cassandra)
      launch cassandra java -Xms512m -Xmx1g -XX:+UseSerialGC \
        -Dcassandra.config="file://$dir/cassandra/cassandra.yaml" \
        -Dcassandra.storagedir="$dir/cassandra" -Dcassandra-foreground=yes \
        -Dlogback.configurationFile="$dir/cassandra/logback.xml" \
        -Dcassandra.ring_delay_ms=0 -Dcassandra.skip_wait_for_gossip_to_settle=0 \
        -Djdk.attach.allowAttachSelf=true \
        --add-exports java.base/jdk.internal.misc=ALL-UNNAMED \
        --add-exports java.base/jdk.internal.ref=ALL-UNNAMED \
        --add-exports java.base/sun.nio.ch=ALL-UNNAMED \
        --add-exports java.management.rmi/com.sun.jmx.remote.internal.rmi=ALL-UNNAMED \
        --add-exports java.rmi/sun.rmi.registry=ALL-UNNAMED \
        --add-exports java.rmi/sun.rmi.server=ALL-UNNAMED \
        --add-exports java.sql/java.sql=ALL-UNNAMED \
        --add-exports jdk.unsupported/sun.misc=ALL-UNNAMED \
        --add-opens java.base/java.lang.module=ALL-UNNAMED \
        --add-opens java.base/java.net=ALL-UNNAMED \
        --add-opens java.base/jdk.internal.loader=ALL-UNNAMED \
        --add-opens java.base/jdk.internal.ref=ALL-UNNAMED \
        --add-opens java.base/jdk.internal.reflect=ALL-UNNAMED \
        --add-opens java.base/jdk.internal.math=ALL-UNNAMED \
        --add-opens java.base/jdk.internal.module=ALL-UNNAMED \
        --add-opens java.base/jdk.internal.util.jar=ALL-UNNAMED \
        --add-opens java.base/sun.nio.ch=ALL-UNNAMED \
        --add-opens java.base/java.io=ALL-UNNAMED \
        --add-opens java.base/java.nio=ALL-UNNAMED \
        --add-opens java.base/java.util.concurrent=ALL-UNNAMED \
        --add-opens java.base/java.util=ALL-UNNAMED \
        --add-opens java.base/java.util.concurrent.atomic=ALL-UNNAMED \
        --add-opens java.base/java.lang=ALL-UNNAMED \
        --add-opens jdk.management/com.sun.management.internal=ALL-UNNAMED \
        -cp "$lib/cassandra/*" org.apache.cassandra.service.CassandraDaemon ;;
    registry)
      local port; port=$(sed -n 's|^ALMANAC_TEST_REGISTRY=.*127.0.0.1:\([0-9]*\)/.*|\1|p' "$dir/env")
      export QUARKUS_HTTP_HOST=127.0.0.1
      if [ -n "$secured" ]; then
        secure_registry "$port"
      else
        export QUARKUS_HTTP_PORT=$port
      fi
      launch registry java -Xmx256m -XX:+UseSerialGC \
        -jar "$lib/registry/apicurio-registry-app-$registry_version-runner.jar" ;;
    *) die "no server is called $1" ;;
  esac
}

answers() {
  # shellcheck disable=SC1091
  . "$dir/env"
  case $1 in
    registry) curl -fsS ${secured:+--cacert "$dir/tls/ca.pem"} -o /dev/null --max-time 2 "$ALMANAC_TEST_REGISTRY/subjects" 2>/dev/null ;;
    kafka) (exec 3<>"/dev/tcp/127.0.0.1/${ALMANAC_TEST_KAFKA##*:}") 2>/dev/null ;;
    cassandra) (exec 3<>"/dev/tcp/127.0.0.1/${ALMANAC_TEST_SCYLLA##*:}") 2>/dev/null ;;
  esac
}

wait_for() {
  local tries=0
  until answers "$1"; do
    running "$1" || die "$1 ended while starting; its log is $dir/$1/log"
    tries=$((tries + 1))
    [ $tries -gt 1200 ] && die "$1 does not answer; its log is $dir/$1/log"
    sleep 0.25
  done
}

end() { # name, signal
  running "$1" || return 0
  local pid; pid=$(cat "$dir/$1/pid")
  kill "-$2" "$pid" 2>/dev/null || true
  local tries=0
  while kill -0 "$pid" 2>/dev/null; do
    tries=$((tries + 1))
    [ $tries -gt 120 ] && { kill -9 "$pid" 2>/dev/null || true; }
    sleep 0.25
  done
  rm -f "$dir/$1/pid"
}

case ${1:-} in
  up)
    fetch; configure; forget
    for server in cassandra kafka registry; do start "$server"; done
    for server in kafka registry cassandra; do wait_for "$server"; done
    [ -z "$secured" ] || grant
    cat "$dir/env" ;;
  down) for server in registry kafka cassandra; do end "$server" TERM; done ;;
  start) start "${2:?which server}"; wait_for "$2" ;;
  stop) end "${2:?which server}" TERM ;;
  kill) end "${2:?which server}" KILL ;;
  password) password "${2:?which password}" ;;
  env) cat "$dir/env" ;;
  *) sed -n '2,14p' "$0"; exit 2 ;;
esac
