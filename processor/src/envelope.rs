//! CloudEvents attributes as record headers (Kafka protocol binding, binary mode).

use crate::traced;
use almanac_event_log::{Headers, HeadersBuilder};
use almanac_traces::Parent;

/// What an event says about itself beside its data.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// Unique with the source; the same event written again has the same id.
    pub id: &'a str,
    pub source: &'a str,
    /// Such as `plan.listed`.
    pub event_type: &'a str,
    pub subject: &'a str,
    /// RFC 3339.
    pub time: &'a str,
    /// Number of the event among those of its subject.
    pub sequence: Option<u64>,
    /// Id of what caused the event, such as a fetch.
    pub causation: Option<&'a str>,
    /// Id of the whole chain that the event belongs to.
    pub correlation: Option<&'a str>,
    /// Where what caused the event stands, as readers' clients name it.
    pub consistency_token: Option<&'a str>,
    /// What the event is written in, where that is traced.
    pub parent: Option<&'a Parent>,
}

impl Envelope<'_> {
    pub fn headers(&self) -> Headers {
        let mut headers = HeadersBuilder::with_capacity(384);
        headers
            .push("ce_specversion", b"1.0")
            .push("ce_id", self.id.as_bytes())
            .push("ce_source", self.source.as_bytes())
            .push("ce_type", self.event_type.as_bytes())
            .push("ce_subject", self.subject.as_bytes())
            .push("ce_time", self.time.as_bytes())
            .push("content-type", b"application/avro");
        if let Some(sequence) = self.sequence {
            headers.push("ce_sequence", sequence.to_string().as_bytes());
        }
        if let Some(causation) = self.causation {
            headers.push("ce_causationid", causation.as_bytes());
        }
        if let Some(correlation) = self.correlation {
            headers.push("ce_correlationid", correlation.as_bytes());
        }
        if let Some(token) = self.consistency_token {
            headers.push("ce_consistencytoken", token.as_bytes());
        }
        traced::put(self.parent, &mut headers);
        headers.build()
    }
}
