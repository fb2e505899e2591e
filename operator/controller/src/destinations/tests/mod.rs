//! Destinations against receivers of this process that are as strict as the real ones; tests/tests has the real
//! ones.

mod buckets;
mod delivery;
pub(crate) mod memory;
mod otlp;
mod pushes;
mod s3;

use fleetprof_crds::ProfileKind;

use super::{Parcel, Target};

/// A profile of CPU time of the session `now` in `shop`.
fn parcel(key: &str) -> Parcel {
    let (namespace, session) = ("shop".to_owned(), "now".to_owned());
    let target = Target::default();
    Parcel { key: key.to_owned(), kind: ProfileKind::Cpu, namespace, session, bytes: 1, target }
}
