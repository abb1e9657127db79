//! Names of attributes: OpenTelemetry's semantic conventions, version 1.37, and a few of our own.

use opentelemetry::{KeyValue, Value};

pub const ERROR_TYPE: &str = "error.type";
pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
pub const HTTP_RESEND_COUNT: &str = "http.request.resend_count";
pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
pub const HTTP_ROUTE: &str = "http.route";
pub const MESSAGING_BATCH_MESSAGE_COUNT: &str = "messaging.batch.message_count";
pub const MESSAGING_CONSUMER_GROUP_NAME: &str = "messaging.consumer.group.name";
pub const MESSAGING_DESTINATION_NAME: &str = "messaging.destination.name";
pub const MESSAGING_DESTINATION_PARTITION_ID: &str = "messaging.destination.partition.id";
pub const MESSAGING_KAFKA_MESSAGE_KEY: &str = "messaging.kafka.message.key";
pub const MESSAGING_KAFKA_OFFSET: &str = "messaging.kafka.offset";
pub const MESSAGING_MESSAGE_BODY_SIZE: &str = "messaging.message.body.size";
pub const MESSAGING_OPERATION_NAME: &str = "messaging.operation.name";
pub const MESSAGING_OPERATION_TYPE: &str = "messaging.operation.type";
pub const MESSAGING_SYSTEM: &str = "messaging.system";
pub const NETWORK_PROTOCOL_VERSION: &str = "network.protocol.version";
pub const SERVER_ADDRESS: &str = "server.address";
pub const SERVER_PORT: &str = "server.port";
pub const URL_FULL: &str = "url.full";
pub const URL_PATH: &str = "url.path";
pub const URL_SCHEME: &str = "url.scheme";

pub const ANALYSIS_ID: &str = "almanac.analysis.id";
pub const ATTEMPT: &str = "almanac.attempt";
pub const COMMAND_VERB: &str = "almanac.command.verb";
pub const EVENT_TYPE: &str = "almanac.event.type";
pub const GENERATION: &str = "almanac.projection.generation";
pub const OUTCOME: &str = "almanac.outcome";
pub const PROJECTION: &str = "almanac.projection.name";
pub const PROVIDER: &str = "almanac.provider.name";
pub const REQUEST_ID: &str = "almanac.request.id";
pub const SUBSCRIPTION_ID: &str = "almanac.subscription.id";

/// Of a text that others made: spans wait in memory by the thousand.
const LONGEST: usize = 512;

/// An attribute with a text of any length, which is cut.
pub fn text(name: &'static str, value: &str) -> KeyValue {
    KeyValue::new(name, value[..value.floor_char_boundary(LONGEST)].to_owned())
}

pub fn of(name: &'static str, value: impl Into<Value>) -> KeyValue {
    KeyValue::new(name, value)
}

/// Offsets and sizes: attributes hold signed numbers.
pub fn number(name: &'static str, value: impl TryInto<i64>) -> KeyValue {
    KeyValue::new(name, value.try_into().unwrap_or(i64::MAX))
}
