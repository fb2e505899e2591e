//! Bytes from a target and from a server: does what is sent of a profile add up, and is any answer read?

#![no_main]

use fleetprof_profile::otlp::proto::ExportProfilesServiceRequest;
use fleetprof_profile::otlp::{About, answer, refusal, requests, target};
use fleetprof_profile::{Limits, decode_valid, total};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    let _ = (answer(bytes), refusal(bytes));
    let limits = Limits { memory_bytes: 16 << 20, ..Limits::default() };
    let Ok(mut profile) = decode_valid(bytes, &limits) else {
        return;
    };
    let resource = target(&mut profile);
    let about = About { resource: &resource, version: "0.1.0", id: &|_, _| [1; 16] };
    let mut sums = 0_i64;
    requests(&profile, &about, |request| {
        let request = ExportProfilesServiceRequest::decode(request.as_slice()).unwrap_or_default();
        let profiles = request.resource_profiles.iter().flat_map(|of| &of.scope_profiles).flat_map(|of| &of.profiles);
        let values = profiles.flat_map(|profile| &profile.samples).flat_map(|sample| &sample.values);
        sums = values.fold(sums, |sum, value| sum.saturating_add(*value));
    });
    let wanted = (0..profile.sample_type.len()).map(|index| total(&profile, index));
    assert_eq!(sums, wanted.fold(0, i64::saturating_add), "every value is sent once");
});
