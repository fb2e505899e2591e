//! What does the read API show to Prometheus?

use fleetprof_crds::names::DATA_GROUP;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// A profile.
    Profile,
    /// A table of functions.
    Top,
    /// A document about the API.
    Discovery,
    /// Anything else.
    Other,
}

impl Resource {
    /// What a path is for; bounded, whatever is asked.
    pub(super) fn of(path: &str) -> Self {
        let parts: Vec<&str> = path.split('/').skip(1).take(10).collect();
        match parts.as_slice() {
            ["openapi", ..] | ["apis"] | ["apis", DATA_GROUP] | ["apis", DATA_GROUP, _] => Self::Discovery,
            ["apis", _, _, "namespaces", _, "profilesessions", _, "profile"] => Self::Profile,
            ["apis", _, _, "namespaces", _, "profilesessions", _, "top"] => Self::Top,
            _ => Self::Other,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Top => "top",
            Self::Discovery => "discovery",
            Self::Other => "other",
        }
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
        let help = "Requests to the read API, by what they were for and how they were answered";
        registry.register("fleetprof_data_api_requests", help, metrics.requests.clone());
        metrics
    }

    pub(super) fn count(&self, resource: Resource, code: u16) {
        self.requests.get_or_create(&Labels { resource: resource.as_str(), code }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_fall_into_four_kinds() {
        let cases = [
            ("/apis", Resource::Discovery),
            ("/apis/data.fleetprof.dev", Resource::Discovery),
            ("/apis/data.fleetprof.dev/v1alpha1", Resource::Discovery),
            ("/openapi/v2", Resource::Discovery),
            ("/apis/data.fleetprof.dev/v1alpha1/namespaces/n/profilesessions/s/profile", Resource::Profile),
            ("/apis/data.fleetprof.dev/v1alpha1/namespaces/n/profilesessions/s/top", Resource::Top),
            ("/apis/data.fleetprof.dev/v1alpha1/namespaces/n/profilesessions/s/top/x", Resource::Other),
            ("/apisx", Resource::Other),
            ("/", Resource::Other),
        ];
        for (path, wanted) in cases {
            assert_eq!(Resource::of(path), wanted, "{path}");
        }
    }
}
