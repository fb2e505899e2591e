//! What is logged?

use tracing_subscriber::EnvFilter;

/// Events of this target may print whole answers of the API server: names, users and groups of everybody.
const PRINTS_ANSWERS: &str = "kube_client::client";

/// The filter that `directives` ask for, such as `info` or `fleetprof_operator=debug,info`, without what would
/// print objects.
#[must_use]
pub fn filter(directives: &str) -> EnvFilter {
    let filter = EnvFilter::new(directives);
    match format!("{PRINTS_ANSWERS}=error").parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    }
}
