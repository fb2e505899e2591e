//! What does an administrator tell the operator alone? Files of a mounted Secret, read again when they change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long what was read holds: a Secret that changes is noticed within this time.
const FRESH: Duration = Duration::from_secs(10);
/// Longest file, in bytes: a bundle of CAs.
const MOST: u64 = 1 << 20;

/// The files of a Secret by name, without white space at their ends.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Secrets(BTreeMap<String, String>);

impl Secrets {
    /// Reads the files of a folder; none where there is no folder.
    ///
    /// # Errors
    /// A sentence that names the folder.
    pub(super) fn read(folder: &Path) -> Result<Self, String> {
        let failed = |error: std::io::Error| {
            format!("failed to read the credentials in {}: {error}", folder.display())
        };
        let mut files = BTreeMap::new();
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            // The kubelet's own links and folders begin with two dots.
            let name = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.'));
            let (Some(name), Ok(meta)) = (name, std::fs::metadata(&path)) else { continue };
            if meta.is_file() && meta.len() <= MOST {
                let text = std::fs::read_to_string(&path).map_err(failed)?;
                files.insert(name.to_owned(), text.trim().to_owned());
            }
        }
        Ok(Self(files))
    }

    /// The content of a file; `None` where there is none, or nothing in it.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// A text of another server without any of the secrets, should it repeat one.
    pub(crate) fn hide(&self, text: &str) -> String {
        let secret = self.0.iter().filter(|(name, value)| *name != "ca.crt" && value.len() >= 4);
        secret.fold(text.to_owned(), |text, (_, value)| text.replace(value.as_str(), "…"))
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Secrets {
    fn from(files: [(&str, &str); N]) -> Self {
        Self(files.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

/// Something that is made of credentials, and made again when they change.
pub(crate) struct Made<T> {
    folder: Option<PathBuf>,
    held: Mutex<Option<Held<T>>>,
}

struct Held<T> {
    read: Instant,
    secrets: Arc<Secrets>,
    value: Arc<T>,
}

impl<T> Made<T> {
    /// Of the credentials in this folder; of none without a folder.
    pub(crate) const fn of(folder: Option<PathBuf>) -> Self {
        Self { folder, held: Mutex::new(None) }
    }

    /// What `make` makes of the credentials as they are now, and these.
    ///
    /// # Errors
    /// Those of `make`, or that the folder cannot be read.
    pub(crate) fn get(
        &self,
        make: impl FnOnce(&Secrets) -> Result<T, String>,
    ) -> Result<(Arc<T>, Arc<Secrets>), String> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held.as_ref().filter(|held| held.read.elapsed() < FRESH) {
            return Ok((held.value.clone(), held.secrets.clone()));
        }
        let secrets = self.folder.as_deref().map_or_else(|| Ok(Secrets::default()), Secrets::read)?;
        let read = Instant::now();
        if let Some(held) = held.as_mut().filter(|held| *held.secrets == secrets) {
            held.read = read;
            return Ok((held.value.clone(), held.secrets.clone()));
        }
        let value = Arc::new(make(&secrets).map_err(|error| secrets.hide(&error))?);
        let secrets = Arc::new(secrets);
        *held = Some(Held { read, secrets: secrets.clone(), value: value.clone() });
        Ok((value, secrets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounted_secret_is_read_as_the_kubelet_writes_it() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("..2026_11_30");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("token"), "s3cr3t\n").unwrap();
        std::os::unix::fs::symlink(&data, folder.path().join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/token", folder.path().join("token")).unwrap();
        let secrets = Secrets::read(folder.path()).unwrap();
        assert_eq!((secrets.get("token"), secrets.get("ca.crt")), (Some("s3cr3t"), None));
        assert_eq!(secrets.hide("401: s3cr3t is wrong"), "401: … is wrong");
        assert_eq!(format!("{secrets:?}"), "[\"token\"]", "no value is printed");
        assert_eq!(Secrets::read(&folder.path().join("none")).unwrap(), Secrets::default());
    }
}
