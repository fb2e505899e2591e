//! How much of a profile has names, and what lacks them?

use std::collections::HashMap;

use crate::named::of_location;
use crate::proto::Profile;
use crate::view::{View, value};

/// How well a profile is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Frames with a function, in % of all frames, each weighted by the first value of its sample: 0 to 100, and 100
    /// only when all of them have one. `None` for a profile without native code.
    pub named: Option<u8>,
    /// The files of the other frames, those with the most weight first.
    pub missing: Vec<Missing>,
}

/// A file with functions that have no name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its path, as the process saw it.
    pub file: String,
    /// Its build id, or empty.
    pub build_id: String,
}

/// How well the profile is named, with at most `most` files.
#[must_use]
pub fn standing(profile: &Profile, most: usize) -> Standing {
    let view = View::new(profile);
    let unnamed: Vec<bool> =
        profile.location.iter().map(|location| !of_location(&view, location)[0]).collect();
    let (mut all, mut without, mut native) = (0_u128, 0_u128, false);
    let mut files: HashMap<(&str, &str), u128> = HashMap::new();
    for sample in &profile.sample {
        let weight = u128::try_from(value(sample, 0)).unwrap_or(0).max(1);
        for position in sample.location_id.iter().filter_map(|id| view.location_position(*id)) {
            let mapping =
                profile.location.get(position).and_then(|location| view.mapping(location.mapping_id));
            native |= mapping.is_some();
            all += weight;
            if unnamed.get(position) == Some(&true) {
                without += weight;
                let file = mapping.map_or(("", ""), |m| (view.text(m.filename), view.text(m.build_id)));
                *files.entry(file).or_default() += weight;
            }
        }
    }
    let percent = |all: u128| u8::try_from((all - without) * 100 / all).unwrap_or(100);
    Standing { named: (native && all > 0).then(|| percent(all)), missing: heaviest(files, most) }
}

fn heaviest(files: HashMap<(&str, &str), u128>, most: usize) -> Vec<Missing> {
    let mut files: Vec<_> = files.into_iter().filter(|((file, _), _)| file.starts_with('/')).collect();
    files.sort_unstable_by(|(a, heavy), (b, heavier)| heavier.cmp(heavy).then(a.cmp(b)));
    let missing = |((file, build_id), _): ((&str, &str), u128)| Missing {
        file: file.to_owned(),
        build_id: build_id.to_owned(),
    };
    files.into_iter().take(most).map(missing).collect()
}
