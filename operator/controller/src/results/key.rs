//! Under which name does a file lie on the volume?
//!
//! ```text
//! slices/SESSION-UID/CAPTURE/TYPE-SEQ.pb.gz
//! profiles/CLUSTER/NAMESPACE/WORKLOAD/DATE/SESSION-UID/POD_CONTAINER_TYPE.pb.gz
//! ```
//! Every part comes from outside, so each is made a harmless path component first. The parts of the last
//! component are joined by `_`, which no Kubernetes name contains: `a-b`+`c` and `a`+`b-c` stay two files,
//! and a pod's files are found by their beginning.

use std::fmt;
use std::path::{Path, PathBuf};

use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::SliceId;
use jiff::Timestamp;

use super::error::ResultsError;
use crate::sha256::sha256;

/// How the name of every stored file ends.
pub(super) const SUFFIX: &str = ".pb.gz";

const MAX_NAME: usize = 63;
const MAX_WORKLOAD: usize = 128;
const MAX_POD: usize = 128;
const MAX_COMPONENT: usize = 255;
/// `~` and 16 hex digits: no harmless text contains `~`, so a text that was changed never equals one that was
/// not.
const MARK: usize = 17;

/// Makes a path component of at most `max` bytes out of any text; different texts give different components.
///
/// A text of letters, digits, `-` and `.` that begins with no `.` stays as it is. Others lose what is not
/// allowed and gain the beginning of their SHA-256.
pub(super) fn component(text: &str, max: usize) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if !text.is_empty() && text.len() <= max && !text.starts_with('.') && text.chars().all(allowed) {
        return text.to_owned();
    }
    let digest = sha256(text);
    let mark: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let kept: String =
        text.chars().take(max.saturating_sub(MARK)).map(|c| if allowed(c) { c } else { '-' }).collect();
    let kept = if kept.starts_with('.') { kept.replacen('.', "-", 1) } else { kept };
    format!("{kept}~{mark}")
}

/// The component of a cluster's name: the first part of every key.
pub(super) fn cluster_component(cluster: &str) -> String {
    component(cluster, MAX_NAME)
}

/// The component of a session's uid.
pub(super) fn session_component(uid: &str) -> String {
    component(uid, MAX_NAME)
}

/// The component of a namespace.
pub(super) fn namespace_component(namespace: &str) -> String {
    component(namespace, MAX_NAME)
}

/// The component of a capture's id.
pub(super) fn capture_component(capture: &str) -> String {
    component(capture, MAX_WORKLOAD)
}

/// What the file name of every profile of a pod begins with.
pub(super) fn pod_prefix(pod: &str) -> String {
    format!("{}_", component(pod, MAX_POD))
}

/// What the file name of every profile of a container begins with.
pub(super) fn container_prefix(pod: &str, container: &str) -> String {
    format!("{}{}_", pod_prefix(pod), component(container, MAX_NAME))
}

/// What a key is made of.
pub(super) struct KeyParts<'a> {
    pub(super) cluster: &'a str,
    pub(super) namespace: &'a str,
    pub(super) workload: &'a str,
    pub(super) day: Timestamp,
    pub(super) session_uid: &'a str,
    pub(super) pod: &'a str,
    pub(super) container: &'a str,
    pub(super) kind: ProfileKind,
}

/// The key of a stored profile: its path under `profiles/`, at most 700 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key(String);

impl Key {
    /// The key of a capture's profile.
    pub(super) fn new(parts: &KeyParts<'_>) -> Self {
        let workload = parts.workload.replacen('/', "-", 1);
        Self(format!(
            "{}/{}/{}/{}/{}/{}{}{SUFFIX}",
            cluster_component(parts.cluster),
            namespace_component(parts.namespace),
            component(&workload, MAX_WORKLOAD),
            component(&parts.day.strftime("%Y-%m-%d").to_string(), MAX_NAME),
            session_component(parts.session_uid),
            container_prefix(parts.pod, parts.container),
            parts.kind.name(),
        ))
    }

    /// Reads a key back from the names of five folders and a file; nothing when one of them is not ours.
    pub(super) fn read(components: &[String]) -> Option<Self> {
        let ours = |c: &String| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-.~_".contains(&b);
            !c.is_empty() && c.len() <= MAX_COMPONENT && !c.starts_with('.') && c.bytes().all(allowed)
        };
        let whole = components.len() == 6 && components.iter().all(ours) && components[5].ends_with(SUFFIX);
        whole.then(|| Self(components.join("/")))
    }

    /// Reads a key back from a status.
    ///
    /// # Errors
    /// `Missing`: it is none.
    pub(super) fn parse(text: &str) -> Result<Self, ResultsError> {
        let components: Vec<String> = text.split('/').map(str::to_owned).collect();
        Self::read(&components)
            .ok_or_else(|| ResultsError::Missing(format!("{text:?} is not the key of a profile")))
    }

    /// The key as used in a status.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The session's component.
    pub(super) fn session(&self) -> &str {
        self.0.rsplit('/').nth(1).unwrap_or_default()
    }

    /// The file's name.
    pub(super) fn file(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// What the profile counts; `Unknown` for a file of a newer version.
    pub(super) fn kind(&self) -> ProfileKind {
        let name = self.file().strip_suffix(SUFFIX).and_then(|name| name.rsplit('_').next());
        name.and_then(|name| name.parse().ok()).unwrap_or(ProfileKind::Unknown)
    }

    /// The namespace's component.
    pub(super) fn namespace(&self) -> &str {
        self.0.split('/').nth(1).unwrap_or_default()
    }

    /// The workload's component.
    pub(super) fn workload(&self) -> &str {
        self.0.split('/').nth(2).unwrap_or_default()
    }

    /// Where the file lies.
    pub(super) fn path(&self, profiles: &Path) -> PathBuf {
        profiles.join(&self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads the number of a slice back from the name of its file.
pub(super) fn slice_id(name: &str) -> Option<SliceId> {
    let kind = slice_kind(name).filter(|kind| kind.is_known())?;
    let seq = name.strip_suffix(SUFFIX)?.rsplit_once('-')?.1.parse().ok()?;
    Some(SliceId::new(kind, seq))
}

/// The name of a slice's file.
pub(super) fn slice_file(slice: SliceId) -> String {
    format!("{}-{}{SUFFIX}", slice.kind, slice.seq)
}

/// What the slice in the file of this name counts, `Unknown` for a kind of a newer version; nothing when the
/// name is not ours.
pub(super) fn slice_kind(name: &str) -> Option<ProfileKind> {
    let (kind, seq) = name.strip_suffix(SUFFIX)?.rsplit_once('-')?;
    let seq: u32 = seq.parse().ok()?;
    let ours = !kind.is_empty() && format!("{kind}-{seq}{SUFFIX}") == name;
    ours.then(|| kind.parse().unwrap_or(ProfileKind::Unknown))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts<'a>(names: &'a [String]) -> KeyParts<'a> {
        KeyParts {
            cluster: &names[0],
            namespace: &names[1],
            workload: &names[2],
            day: Timestamp::from_second(1_700_000_000).unwrap(),
            session_uid: &names[3],
            pod: &names[4],
            container: &names[5],
            kind: ProfileKind::Wall,
        }
    }

    #[test]
    fn an_ordinary_key_reads_as_the_layout_says() {
        let names: Vec<String> =
            ["prod", "shop", "Deployment/orders", "0b5e7e26-uid", "orders-5d8f-x2x", "app"]
                .map(Into::into)
                .into();
        let key = Key::new(&parts(&names));
        assert_eq!(
            key.as_str(),
            "prod/shop/Deployment-orders/2023-11-14/0b5e7e26-uid/orders-5d8f-x2x_app_wall.pb.gz"
        );
        assert_eq!(
            (key.namespace(), key.session(), key.workload()),
            ("shop", "0b5e7e26-uid", "Deployment-orders")
        );
        assert_eq!(key.kind(), ProfileKind::Wall);
        assert!(
            key.file().starts_with(&pod_prefix("orders-5d8f-x2x"))
                && !key.file().starts_with(&pod_prefix("orders-5d8f"))
        );
    }

    #[test]
    fn hostile_names_become_one_harmless_component() {
        for text in [
            "",
            ".",
            "..",
            "../../etc/passwd",
            "a/b",
            "a\0b",
            "~",
            "_",
            "ü",
            ".hidden",
            &"x".repeat(5000),
            "a\\b",
            "a\nb",
        ] {
            let made = component(text, 63);
            assert!(
                made.len() <= 63 && !made.starts_with('.') && !made.contains(['/', '\0', '\\', '\n', '_']),
                "{text:?} {made}"
            );
        }
        assert_ne!(component("a/b", 63), component("a-b", 63));
        assert_ne!(component(&"x".repeat(64), 63), component(&"x".repeat(65), 63));
    }

    #[test]
    fn a_slice_reads_back() {
        for kind in ProfileKind::ALL {
            let slice = SliceId::new(kind, 17);
            assert_eq!(slice_file(slice), format!("{kind}-17.pb.gz"));
            assert_eq!(slice_kind(&slice_file(slice)), Some(kind));
            assert_eq!(slice_id(&slice_file(slice)), Some(slice));
        }
        assert_eq!(slice_kind("energy-1.pb.gz"), Some(ProfileKind::Unknown), "of a newer version");
        for name in
            ["cpu-017.pb.gz", "cpu.pb.gz", "cpu-1.pb", "-1.pb.gz", "cpu-+1.pb.gz", "cpu-99999999999.pb.gz"]
        {
            assert_eq!(slice_kind(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_name_escapes_its_folder(names in prop::collection::vec("(\\PC|[./\\x00\\\\~_-]){0,300}", 6)) {
            let key = Key::new(&parts(&names));
            let components: Vec<String> = key.as_str().split('/').map(Into::into).collect();
            prop_assert!(Key::read(&components) == Some(key.clone()));
            prop_assert!(key.as_str().len() <= 700);
            let path = key.path(Path::new("/root/profiles"));
            let normal = path.components().skip(1).all(|c| matches!(c, std::path::Component::Normal(_)));
            prop_assert!(normal, "{}", path.display());
            prop_assert_eq!(path.components().count(), 3 + 6);
            prop_assert_eq!(key.kind(), ProfileKind::Wall);
        }

        #[test]
        fn different_names_stay_different(a in "[a-zA-Z0-9./~_-]{0,80}", b in "[a-zA-Z0-9./~_-]{0,80}") {
            prop_assert_eq!(component(&a, 63) == component(&b, 63), a == b);
        }

        #[test]
        fn pods_are_told_apart(a in "[a-z0-9.-]{1,200}", b in "[a-z0-9.-]{1,200}", c in "[a-z0-9-]{1,63}") {
            let name = |pod: &str| format!("{}{c}_cpu{SUFFIX}", pod_prefix(pod));
            prop_assert_eq!(name(&a).starts_with(&pod_prefix(&b)), a == b);
        }
    }
}
