//! How is a profile told in OTLP? As requests to `/v1development/profiles`, each of which a server takes whole.
//!
//! ```text
//! Profile ─► target() ─► what is the same for all samples is the resource
//!    └─► split ─► Dictionary + samples ─► one profile for each sample type ─► request, at most 2 MiB
//! ```
//! The signal is alpha, and its messages changed in most releases: a server of another release may misread numbers
//! instead of refusing them. So the release is pinned, and said wherever something goes wrong ([`PROTOCOL`]).
//!
//! Guarantees: values add up to those of the profile for every stack and label. Entry 0 of every table of a request is
//! the zero value, no entry stands twice, and none is there that nothing refers to. No profile without samples is made.

mod answer;
mod dictionary;
pub mod proto;
mod samples;
mod target;
#[cfg(test)]
mod tests;

use prost::Message;

pub use answer::{Answer, answer, refusal};
pub use target::target;

use crate::proto::Profile;
use crate::view::{View, default_value_index};
use dictionary::Dictionary;
use proto::{
    ExportProfilesServiceRequest, InstrumentationScope, KeyValue, Resource, ResourceProfiles, ScopeProfiles,
    ValueType,
};
use samples::Samples;

/// The release of opentelemetry-proto whose messages are written and read.
pub const RELEASE: &str = "1.11.0";
/// What is spoken, for people.
pub const PROTOCOL: &str = "OTLP profiles 1.11.0 (alpha)";
/// Most bytes of a request before it is compressed, unless one sample alone takes more: half of what gRPC servers,
/// which collectors forward to, take by default.
pub const MOST_BYTES: usize = 2 << 20;
/// Bytes that are kept for what is around tables and samples.
const ENVELOPE: usize = 16 << 10;
/// Between the times of two requests of one profile, in nanoseconds: some servers take profiles of one time as one.
const APART: u64 = 1_000_000;

/// What is said of a profile beside what it says itself.
#[derive(Clone, Copy)]
pub struct About<'a> {
    /// Attributes of its resource, such as `service.name`; empty values are left out.
    pub resource: &'a [(String, String)],
    /// Version of the program that made it.
    pub version: &'a str,
    /// The id of the profile of a request and a sample type, both counted from 0: 16 bytes, not all of them 0.
    pub id: &'a dyn Fn(usize, usize) -> [u8; 16],
}

/// Gives `take` the requests for a valid profile, in order, before they are compressed; none when it has no samples, or
/// all of its values are 0. Beside the profile and a request, it needs memory for a single sample.
pub fn requests(profile: &Profile, about: &About<'_>, mut take: impl FnMut(Vec<u8>)) {
    let (view, room) = (View::new(profile), room(about));
    let (mut rest, mut made) = (profile.sample.as_slice(), 0);
    while !rest.is_empty() {
        let mut dictionary = Dictionary::new(&view);
        let (mut samples, fitting) = Samples::fill(rest, &mut dictionary, room);
        let (some, others) = rest.split_at(fitting);
        if !others.is_empty() {
            // The one that did not fit left its entries in the tables.
            dictionary = Dictionary::new(&view);
            (samples, _) = Samples::fill(some, &mut dictionary, room);
        }
        rest = others;
        let profiles = profiles(&samples, &mut dictionary, about, made);
        if !profiles.is_empty() {
            take(request(profiles, dictionary, about).encode_to_vec());
            made += 1;
        }
    }
}

/// Bytes that are left for tables and samples.
fn room(about: &About<'_>) -> usize {
    let resource = about.resource.iter().map(|(key, value)| key.len() + value.len() + 16);
    MOST_BYTES.saturating_sub(resource.sum::<usize>() + ENVELOPE)
}

fn request(
    profiles: Vec<proto::Profile>,
    dictionary: Dictionary<'_>,
    about: &About<'_>,
) -> ExportProfilesServiceRequest {
    let scope = InstrumentationScope { name: "fleetprof".to_owned(), version: about.version.to_owned() };
    let of_scope = ScopeProfiles { scope: Some(scope), profiles, ..ScopeProfiles::default() };
    let known = about.resource.iter().filter(|(_, value)| !value.is_empty());
    let attributes =
        known.map(|(key, value)| KeyValue { key: key.clone(), value: Some(value.as_str().into()) });
    let resource = Resource { attributes: attributes.collect(), dropped_attributes_count: 0 };
    let of_resource = ResourceProfiles {
        resource: Some(resource),
        scope_profiles: vec![of_scope],
        ..ResourceProfiles::default()
    };
    ExportProfilesServiceRequest {
        resource_profiles: vec![of_resource],
        dictionary: Some(dictionary.finish()),
    }
}

/// One profile for each sample type that has values; the one to show first is the first.
fn profiles(
    samples: &Samples,
    dictionary: &mut Dictionary<'_>,
    about: &About<'_>,
    n: usize,
) -> Vec<proto::Profile> {
    let profile = dictionary.view.profile;
    let first = default_value_index(profile);
    let others = (0..profile.sample_type.len()).filter(|position| *position != first);
    let mut profiles = Vec::new();
    for position in std::iter::once(first).chain(others) {
        let (Some(of_type), samples) = (profile.sample_type.get(position), samples.of_type(position)) else {
            continue;
        };
        if samples.is_empty() {
            continue;
        }
        profiles.push(proto::Profile {
            sample_type: Some(value_type(*of_type, dictionary)),
            samples,
            profile_id: (about.id)(n, position).to_vec(),
            ..head(dictionary, n)
        });
    }
    profiles
}

/// What the profiles of a request have in common.
fn head(dictionary: &mut Dictionary<'_>, n: usize) -> proto::Profile {
    let profile = dictionary.view.profile;
    let start = u64::try_from(profile.time_nanos).unwrap_or(0);
    let later = u64::try_from(n).unwrap_or(u64::MAX).saturating_mul(APART);
    proto::Profile {
        time_unix_nano: start.saturating_add(later),
        duration_nano: u64::try_from(profile.duration_nanos).unwrap_or(0),
        period_type: profile.period_type.map(|of_period| value_type(of_period, dictionary)),
        period: profile.period,
        attribute_indices: dictionary.of_profile(),
        ..proto::Profile::default()
    }
}

fn value_type(of_value: crate::proto::ValueType, dictionary: &mut Dictionary<'_>) -> ValueType {
    let view = dictionary.view;
    ValueType {
        type_strindex: dictionary.string(view.text(of_value.r#type)),
        unit_strindex: dictionary.string(view.text(of_value.unit)),
    }
}
