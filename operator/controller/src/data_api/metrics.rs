//! What does the read API tell Prometheus?

use fleetprof_crds::names::{DATA_GROUP, SYMBOLS};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::views::View;

/// What a path is for: the name of a view, `symbols`, `discovery` or `other`. Bounded, whatever is asked.
pub(super) fn resource(path: &str) -> &'static str {
    let parts: Vec<&str> = path.split('/').skip(1).take(10).collect();
    match parts.as_slice() {
        ["openapi", ..] | ["apis"] | ["apis", DATA_GROUP] | ["apis", DATA_GROUP, _] => "discovery",
        ["apis", _, _, "namespaces", _, "profilesessions", _, view] => {
            View::find(view).map_or("other", |view| view.name)
        }
        ["apis", _, _, SYMBOLS, ..] => SYMBOLS,
        _ => "other",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    resource: &'static str,
    code: u16,
}

/// The metrics of the read API.
#[derive(Clone, Debug, Default)]
pub struct DataApiMetrics {
    requests: Family<Labels, Counter>,
}

impl DataApiMetrics {
    /// Registers `fleetprof_data_api_requests_total`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Requests to the read API, by view and HTTP status code";
        registry.register("fleetprof_data_api_requests", help, metrics.requests.clone());
        metrics
    }

    pub(super) fn count(&self, resource: &'static str, code: u16) {
        self.requests.get_or_create(&Labels { resource, code }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_counts_as_its_view_or_as_discovery_or_other() {
        let cases = [
            ("/apis", "discovery"),
            ("/apis/data.fleetprof.dev", "discovery"),
            ("/apis/data.fleetprof.dev/v1alpha1", "discovery"),
            ("/openapi/v2", "discovery"),
            ("/apis/data.fleetprof.dev/v1alpha1/namespaces/n/profilesessions/s/profile", "profile"),
            ("/apis/data.fleetprof.dev/v1alpha1/namespaces/n/profilesessions/s/top", "top"),
            ("/apis/data.fleetprof.dev/v1alpha1/namespaces/n/profilesessions/s/top/x", "other"),
            ("/apis/data.fleetprof.dev/v1alpha1/symbols", "symbols"),
            ("/apis/data.fleetprof.dev/v1alpha1/symbols/abcd/content", "symbols"),
            ("/apisx", "other"),
            ("/", "other"),
        ];
        for (path, wanted) in cases {
            assert_eq!(resource(path), wanted, "{path}");
        }
    }
}
