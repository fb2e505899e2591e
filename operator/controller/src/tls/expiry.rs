//! When does the current certificate expire? A metric computed on each scrape.

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::TlsSource;

#[derive(Debug)]
struct Expiry(TlsSource);

impl Collector for Expiry {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Some(end) = self.0.not_after() else { return Ok(()) };
        let left = ConstGauge::new(end.duration_since(Timestamp::now()).as_secs());
        let help = "Seconds until the current TLS certificate expires; negative afterwards, absent before \
                    one is loaded";
        left.encode(encoder.encode_descriptor(
            "fleetprof_certificate_expiry_seconds",
            help,
            None,
            left.metric_type(),
        )?)
    }
}

/// Registers `fleetprof_certificate_expiry_seconds`.
pub fn register_expiry(registry: &mut Registry, tls: TlsSource) {
    registry.register_collector(Box::new(Expiry(tls)));
}
