//! Lines of JSON that say which span they were written in.

use std::fmt;
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext,
        format::{FormatEvent, FormatFields, Writer},
    },
    registry::LookupSpan,
};

/// Adds `trace_id` and `span_id` to what another formatter of JSON writes.
pub(super) struct Traced<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for Traced<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(parent) = almanac_traces::current() else {
            return self.0.format_event(context, writer, event);
        };
        let mut line = String::with_capacity(512);
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let (trace, span) = parent.ids();
        match line.strip_suffix("}\n") {
            Some(open) => {
                writeln!(writer, "{open},\"trace_id\":\"{trace}\",\"span_id\":\"{span}\"}}")
            }
            None => writer.write_str(&line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::written::Written;
    use almanac_traces::{Hop, Parent};
    use serde_json::Value;
    use tracing::instrument::WithSubscriber;
    use tracing_subscriber::{fmt, prelude::*};

    #[tokio::test]
    async fn lines_name_the_span_that_they_are_written_in() {
        let written = Written::default();
        let writer = written.clone();
        let layer = fmt::layer().json().map_event_format(Traced);
        let layer = layer.with_writer(move || writer.clone());
        let log = tracing_subscriber::registry().with(layer);
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let hop = Hop::handing_on(Parent::read(|name| (name == "traceparent").then_some(text)));
        async {
            tracing::warn!("before");
            hop.scope(async { tracing::warn!(request_id = "7", "within {}", "}") }).await;
            tracing::warn!("after");
        }
        .with_subscriber(log)
        .await;
        let lines = written.text();
        let lines: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [before, within, after] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(within["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(within["span_id"], "00f067aa0ba902b7");
        let fields = &within["fields"];
        assert_eq!((&fields["request_id"], &fields["message"]), (&"7".into(), &"within }".into()));
        for other in [before, after] {
            assert_eq!((&other["trace_id"], &other["span_id"]), (&Value::Null, &Value::Null));
        }
    }
}
