//! Delivers spans to a collector. Nothing waits for it: what does not fit into the queue is dropped and
//! counted, and the end of the process waits no longer than one delivery may take.

use crate::config::{Config, Engine, OtlpConfig};
use almanac_errors::chain;
use almanac_traces::Traces;
use anyhow::Context;
use async_trait::async_trait;
use opentelemetry::{Context as SpanContext, KeyValue, trace::TracerProvider};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData,
        SpanExporter, SpanProcessor,
    },
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::runtime::Handle;

/// Of the collector's answer, which only says what of a delivery it did not take.
const MAX_ANSWER: usize = 64 << 10;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
}

/// What came of spans.
#[derive(Clone, Debug, Default)]
struct Counts {
    spans: Family<Labels, Counter>,
    waiting: Gauge,
}

impl Counts {
    fn add(&self, outcome: &'static str, spans: usize) {
        self.spans.get_or_create(&Labels { outcome }).inc_by(spans as u64);
    }
}

/// The way of spans out of this process, if there is one.
#[derive(Default)]
pub(crate) struct Spans(Option<Running>);

struct Running {
    provider: SdkTracerProvider,
    counts: Counts,
    timeout: Duration,
}

impl Spans {
    /// From here on requests are traced, if a collector is configured. Deliveries run on `background`.
    pub(crate) fn start(
        config: &Config,
        role: &'static str,
        background: &Handle,
    ) -> anyhow::Result<Self> {
        let otlp = &config.telemetry.otlp;
        let Some(address) = otlp.address()? else { return Ok(Self::default()) };
        let exporter = exporter(otlp, address.as_str(), background)?;
        let counts = Counts::default();
        let waiting = Arc::new(AtomicUsize::new(0));
        let exporter = Counting {
            exporter,
            counts: counts.clone(),
            waiting: waiting.clone(),
            is_failing: AtomicBool::new(false),
        };
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(otlp.queue_spans)
            .with_max_export_batch_size(otlp.batch_spans)
            .with_scheduled_delay(otlp.delay)
            .build();
        let batches = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let queue = Queue { batches, most: otlp.queue_spans, waiting, counts: counts.clone() };
        let resource = Resource::builder()
            .with_service_name(otlp.service_name.clone())
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", config.instance()),
                KeyValue::new("almanac.role", role),
            ])
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(queue)
            // Whoever starts a span without a parent has drawn already.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .with_resource(resource)
            .build();
        almanac_traces::start(Traces {
            tracer: provider.tracer("almanac"),
            sample_ratio: otlp.sample_ratio,
            trust_parents: otlp.trust_parents,
            messaging_system: match config.engine {
                Engine::Cluster => "kafka",
                Engine::Embedded => "almanac",
            },
        });
        let endpoint = otlp.endpoint.as_ref().map(ToString::to_string).unwrap_or_default();
        tracing::info!(endpoint, sample_ratio = otlp.sample_ratio, "tracing requests");
        Ok(Self(Some(Running { provider, counts, timeout: otlp.timeout })))
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        let Some(running) = &self.0 else { return };
        let Counts { spans, waiting } = running.counts.clone();
        registry.register(
            "almanac_trace_spans",
            "Spans by what came of them: exported, failed (the collector did not take them), dropped \
             (the queue was full)",
            spans,
        );
        registry.register(
            "almanac_trace_spans_waiting",
            "Spans that wait for their delivery, or are being delivered",
            waiting,
        );
    }

    /// Delivers what is left, within the time for one delivery.
    pub(crate) async fn end(self) {
        let Some(Running { provider, counts, timeout }) = self.0 else { return };
        // It blocks.
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(timeout));
        if let Ok(Err(error)) = ended.await {
            let waiting = counts.waiting.get();
            tracing::warn!(error = %chain(&error), waiting, "spans are lost: the collector did not take them in time");
        }
    }
}

fn exporter(
    otlp: &OtlpConfig,
    address: &str,
    background: &Handle,
) -> anyhow::Result<opentelemetry_otlp::SpanExporter> {
    let client = reqwest::Client::builder()
        .timeout(otlp.timeout)
        .user_agent(concat!("almanac/", env!("CARGO_PKG_VERSION")))
        // Credentials go to the configured host only.
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let client = Client { client, background: background.clone() };
    let headers = otlp.headers.iter();
    let headers = headers.map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
    opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_headers(headers)
        .with_endpoint(address)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(otlp.timeout)
        .build()
        .context("spans cannot be exported")
}

/// The workspace's HTTP client, for a thread that is none of a runtime.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    background: Handle,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let client = self.client.clone();
        // All of it there: its timer, too, wants a runtime.
        let answered = self.background.spawn(async move {
            let mut answer = client.execute(request).await.map_err(reqwest::Error::without_url)?;
            let mut body = Vec::new();
            while let Some(part) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
                if body.len() + part.len() > MAX_ANSWER {
                    break;
                }
                body.extend_from_slice(&part);
            }
            let mut response = Response::new(Bytes::from(body));
            *response.status_mut() = answer.status();
            std::mem::swap(response.headers_mut(), answer.headers_mut());
            Ok::<_, HttpError>(response)
        });
        answered.await?
    }
}

/// Says what comes of deliveries, once when they begin to fail and once when they do not any more.
#[derive(Debug)]
struct Counting<E> {
    exporter: E,
    counts: Counts,
    waiting: Arc<AtomicUsize>,
    is_failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Counting<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.exporter.export(batch).await;
        self.waiting.fetch_sub(spans, Ordering::AcqRel);
        self.counts.waiting.dec_by(spans as i64);
        let was_failing = self.is_failing.swap(exported.is_err(), Ordering::AcqRel);
        match &exported {
            Ok(()) => {
                self.counts.add("exported", spans);
                if was_failing {
                    tracing::info!("the collector takes spans again");
                }
            }
            Err(error) => {
                self.counts.add("failed", spans);
                if !was_failing {
                    tracing::warn!(error = %chain(error), spans, "the collector does not take spans; requests go on");
                }
            }
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Holds spans to the bound of the queue and counts those beyond it: the library's own bound is silent
/// after its first, and leaves out what is being delivered.
#[derive(Debug)]
struct Queue {
    batches: BatchSpanProcessor,
    most: usize,
    waiting: Arc<AtomicUsize>,
    counts: Counts,
}

impl SpanProcessor for Queue {
    fn on_start(&self, span: &mut Span, context: &SpanContext) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= self.most {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            self.counts.add("dropped", 1);
            return;
        }
        self.counts.waiting.inc();
        self.batches.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}
