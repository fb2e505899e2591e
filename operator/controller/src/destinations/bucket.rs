//! How do profiles lie in an object store? Each under its key, below the prefix of the administrator.
//!
//! ```text
//! PREFIX/CLUSTER/NAMESPACE/WORKLOAD/DATE/SESSION-UID/POD_CONTAINER_TYPE.pb.gz
//! PREFIX/CLUSTER/.intake/SESSION-UID/CAPTURE/TYPE-SEQ.pb.gz          slices that wait to be assembled
//! PREFIX/CLUSTER/.symbols/BUILD-ID/SHA-256/FILE                     uploaded files with symbols, in pieces
//! PREFIX/CLUSTER/.fleetprof                                          the uid of the cluster whose profiles lie beside it
//! ```
//! What has no session any more is deleted, so two clusters of one name below one prefix would delete each
//! other's profiles: the second one finds the first one's uid, and neither writes nor deletes anything.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use fleetprof_core::outbox::Attempt;
use fleetprof_core::text::{cut, printable};
use fleetprof_crds::Reason;
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{
    ClientOptions, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
};
use tokio::time::timeout;

use super::client::{Plug, chain, connector};
use super::config::Identity;
use super::credentials::{Made, Secrets};
use super::{Archive, ArchiveError, Destination, Parcel, SYMBOLS_PIECE, is_of_symbols, session_of};

/// Longest time to write or read a profile.
const TRANSFER: Duration = Duration::from_secs(60);
/// Longest time for anything else but a list.
const CALL: Duration = Duration::from_secs(20);
/// Longest time to list everything.
const LIST: Duration = Duration::from_secs(1800);
/// Largest object that is read, in bytes: more than a profile can have.
const MOST: u64 = 256 << 20;
/// Longest text of a server in a message, in bytes.
const MAX_CAUSE: usize = 240;
/// The file that names the cluster.
const OWNER: &str = ".fleetprof";

/// Which object store it is.
#[derive(Clone, Debug)]
pub(super) enum Store {
    /// S3, or what speaks its protocol at `endpoint`.
    S3 { bucket: String, region: String, endpoint: String },
    /// Google Cloud Storage.
    Gs { bucket: String, endpoint: String },
    /// Azure Blob Storage.
    Az { account: String, container: String, endpoint: String },
}

/// A bucket, or container.
pub(super) struct Bucket {
    store: Store,
    /// Of the profiles of this cluster.
    root: Path,
    prefix: String,
    identity: Identity,
    made: Made<Box<dyn ObjectStore>>,
    /// Whether the file with the uid was found to be this cluster's.
    owned: AtomicBool,
    /// Whether the last object that was written arrived. While it has, a check need not write: in a bucket with
    /// versions each would stay.
    wrote: AtomicBool,
}

struct Handle {
    store: Arc<Box<dyn ObjectStore>>,
    secrets: Arc<Secrets>,
}

impl Bucket {
    /// The bucket with the credentials in that folder; without one, with those of the pod (workload identity).
    pub(super) fn new(store: Store, prefix: &str, identity: Identity, credentials: Option<PathBuf>) -> Self {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let root = Path::parse(format!("{prefix}{}", identity.cluster)).unwrap_or_default();
        let (owned, wrote) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { store, root, prefix, identity, made: Made::of(credentials), owned, wrote }
    }

    fn handle(&self) -> Result<Handle, String> {
        let (store, secrets) = self.made.get(|secrets| self.store.open(secrets))?;
        Ok(Handle { store, secrets })
    }

    /// Where the profile with that key lies. Keys are made of harmless parts; anything else is refused.
    fn path(&self, key: &str) -> Result<Path, String> {
        let ours = is_key(key) && key.split('/').next() == Some(self.identity.cluster.as_str());
        let path = ours.then(|| Path::parse(format!("{}{key}", self.prefix)));
        path.and_then(Result::ok).ok_or_else(|| format!("{key:?} is not a key of this cluster"))
    }

    /// Makes sure that what lies below the root is this cluster's.
    async fn own(&self) -> Result<(), String> {
        if self.owned.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.look_at_owner().await?;
        self.owned.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn look_at_owner(&self) -> Result<(), String> {
        let handle = self.handle()?;
        let said = |error: &Error| self.said(error, &handle.secrets);
        let path = Path::parse(format!("{}/{OWNER}", self.root)).map_err(|error| error.to_string())?;
        let owner = async || match handle.store.get(&path).await {
            Ok(found) => found.bytes().await.map(Some).map_err(|error| said(&error)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(said(&error)),
        };
        let uid = match owner().await? {
            Some(uid) => uid,
            None => {
                let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                let uid = PutPayload::from(self.identity.uid.clone());
                match handle.store.put_opts(&path, uid, create).await {
                    Ok(_) => return Ok(()),
                    // Somebody was faster: the check of another profile, or another cluster.
                    Err(Error::AlreadyExists { .. }) => owner().await?.unwrap_or_default(),
                    Err(error) => return Err(said(&error)),
                }
            }
        };
        if uid == self.identity.uid.as_bytes() {
            if self.wrote.load(Ordering::Relaxed) {
                return Ok(());
            }
            // What can be read may still not be written.
            let again = PutPayload::from(self.identity.uid.clone());
            handle.store.put(&path, again).await.map_err(|error| said(&error))?;
            self.wrote.store(true, Ordering::Relaxed);
            return Ok(());
        }
        Err(format!(
            "{path} in {} names another cluster: set another prefix or clusterName, or delete it if that cluster \
             is gone",
            self.store.place()
        ))
    }

    /// What an error says, for people: no secret, no page of XML.
    fn said(&self, error: &Error, secrets: &Secrets) -> String {
        let place = self.store.place();
        match error {
            Error::NotFound { .. } => format!("{place} or the object in it does not exist"),
            Error::Unauthenticated { .. } | Error::PermissionDenied { .. } => {
                format!("{place} does not accept the credentials: {}", brief(error, secrets))
            }
            error => format!("{place} failed: {}", brief(error, secrets)),
        }
    }

    async fn put_profile(&self, key: &str, profile: Bytes) -> Attempt {
        let path = match self.path(key) {
            Ok(path) => path,
            Err(error) => return Attempt::Failed(Reason::UploadRejected, error),
        };
        let put = async {
            self.own().await?;
            let handle = self.handle()?;
            let put = handle.store.put(&path, PutPayload::from_bytes(profile)).await;
            put.map_err(|error| self.said(&error, &handle.secrets))
        };
        let put = timeout(TRANSFER, put).await;
        self.wrote.store(matches!(put, Ok(Ok(_))), Ordering::Relaxed);
        match put {
            Ok(Ok(_)) => Attempt::Stored,
            Ok(Err(error)) => Attempt::Again(error, None),
            Err(_) => Attempt::Again(self.late(TRANSFER), None),
        }
    }

    async fn get_profile(&self, key: &str) -> Result<Bytes, ArchiveError> {
        let path = self.path(key).map_err(ArchiveError::Missing)?;
        let get = async {
            let handle = self.handle().map_err(ArchiveError::Failed)?;
            let failed = |error: Error| ArchiveError::Failed(self.said(&error, &handle.secrets));
            let found = match handle.store.get(&path).await {
                Err(Error::NotFound { .. }) => {
                    let place = self.store.place();
                    return Err(ArchiveError::Missing(format!("{place} does not hold {path} any more")));
                }
                found => found.map_err(failed)?,
            };
            if found.meta.size > most(key) {
                return Err(ArchiveError::Failed(format!(
                    "{path} has {} bytes, which is too many",
                    found.meta.size
                )));
            }
            found.bytes().await.map_err(failed)
        };
        timeout(TRANSFER, get).await.unwrap_or_else(|_| Err(ArchiveError::Failed(self.late(TRANSFER))))
    }

    async fn delete_profile(&self, key: &str) -> Result<(), ArchiveError> {
        let path = self.path(key).map_err(ArchiveError::Missing)?;
        let delete = async {
            self.own().await?;
            let handle = self.handle()?;
            match handle.store.delete(&path).await {
                Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(self.said(&error, &handle.secrets)),
            }
        };
        let done = timeout(CALL, delete).await.unwrap_or_else(|_| Err(self.late(CALL)));
        done.map_err(ArchiveError::Failed)
    }

    async fn list_keys(
        &self,
        below: &str,
        picks: &(dyn Fn(&str) -> bool + Send + Sync),
        age: Duration,
    ) -> Result<Vec<String>, ArchiveError> {
        let before = older_than(age);
        let list = async {
            self.own().await?;
            let handle = self.handle()?;
            let mut keys = Vec::new();
            let folder =
                if below.is_empty() { self.root.to_string() } else { format!("{}/{below}", self.root) };
            let folder = Path::parse(folder).map_err(|error| error.to_string())?;
            let mut objects = handle.store.list(Some(&folder));
            while let Some(object) =
                objects.try_next().await.map_err(|error| self.said(&error, &handle.secrets))?
            {
                let key = object.location.as_ref().strip_prefix(&self.prefix).unwrap_or_default();
                let ours = is_key(key) && object.last_modified.timestamp() < before;
                if ours && picks(key) {
                    keys.push(key.to_owned());
                }
            }
            Ok(keys)
        };
        let done = timeout(LIST, list).await.unwrap_or_else(|_| Err(self.late(LIST)));
        done.map_err(ArchiveError::Failed)
    }

    fn late(&self, within: Duration) -> String {
        format!("{} did not answer within {} s", self.store.place(), within.as_secs())
    }
}

/// The second before which an object of that age was written. Where any age will do, the store's clock is not asked: it may be
/// ahead.
fn older_than(age: Duration) -> i64 {
    if age.is_zero() {
        return i64::MAX;
    }
    let before = SystemTime::now().checked_sub(age).and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    before.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// Whether something of fleetprof can have this key.
fn is_key(key: &str) -> bool {
    session_of(key).is_some() || is_of_symbols(key)
}

/// Most bytes that are read of what lies under a key.
fn most(key: &str) -> u64 {
    if is_of_symbols(key) { SYMBOLS_PIECE as u64 } else { MOST }
}

/// The root cause of an error of the crate; servers repeat in it what they were sent.
fn brief(error: &Error, secrets: &Secrets) -> String {
    let text = printable(&chain(error));
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    let message = text.split_once("<Message>").and_then(|(_, rest)| rest.split_once("</Message>"));
    let text = match (code, message) {
        (Some((code, _)), Some((message, _))) => format!("{code}: {message}"),
        (Some((code, _)), None) => code.to_owned(),
        // The crate begins with the address of the request, which has the names of other tenants' objects, and with
        // how long it took.
        _ => text.rsplit_once(" - ").map_or(text.as_str(), |(_, cause)| cause).to_owned(),
    };
    cut(&secrets.hide(&text), MAX_CAUSE)
}

impl Store {
    /// How messages name it.
    fn place(&self) -> String {
        match self {
            Self::S3 { bucket, .. } => format!("S3 bucket {bucket}"),
            Self::Gs { bucket, .. } => format!("GCS bucket {bucket}"),
            Self::Az { account, container, .. } => format!("Azure container {account}/{container}"),
        }
    }

    fn open(&self, secrets: &Secrets) -> Result<Box<dyn ObjectStore>, String> {
        let plug = Plug(connector(secrets)?);
        let options = ClientOptions::new().with_allow_http(true);
        // The outbox tries again, and says so.
        let retry = RetryConfig { max_retries: 1, retry_timeout: CALL, ..RetryConfig::default() };
        let failed =
            |error: Error| format!("{} is not configured right: {}", self.place(), brief(&error, secrets));
        match self {
            Self::S3 { bucket, region, endpoint } => {
                let builder =
                    s3(secrets, region, endpoint).with_bucket_name(bucket).with_http_connector(plug);
                let store = builder.with_client_options(options).with_retry(retry).build().map_err(failed)?;
                Ok(Box::new(store))
            }
            Self::Gs { bucket, endpoint } => {
                let builder = gs(secrets, endpoint).with_bucket_name(bucket).with_http_connector(plug);
                let store = builder.with_client_options(options).with_retry(retry).build().map_err(failed)?;
                Ok(Box::new(store))
            }
            Self::Az { account, container, endpoint } => {
                let builder = az(secrets, account, endpoint).with_container_name(container);
                let builder = builder.with_http_connector(plug).with_allow_http(true);
                let store = builder.with_client_options(options).with_retry(retry).build().map_err(failed)?;
                Ok(Box::new(store))
            }
        }
    }
}

fn s3(secrets: &Secrets, region: &str, endpoint: &str) -> AmazonS3Builder {
    let mut builder = match (secrets.get("access-key-id"), secrets.get("secret-access-key")) {
        (Some(id), Some(key)) => AmazonS3Builder::new().with_access_key_id(id).with_secret_access_key(key),
        _ => AmazonS3Builder::from_env(),
    };
    if let Some(token) = secrets.get("session-token") {
        builder = builder.with_token(token);
    }
    if !region.is_empty() {
        builder = builder.with_region(region);
    }
    if !endpoint.is_empty() {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
    }
    // Few servers beside Amazon's know how to delete several at once, and there is no hurry.
    builder.with_allow_http(true).with_disable_bulk_delete(true)
}

fn gs(secrets: &Secrets, endpoint: &str) -> GoogleCloudStorageBuilder {
    let mut builder = match secrets.get("service-account.json") {
        Some(account) => GoogleCloudStorageBuilder::new().with_service_account_key(account),
        None => GoogleCloudStorageBuilder::from_env(),
    };
    if !endpoint.is_empty() {
        builder = builder.with_base_url(endpoint.trim_end_matches('/'));
    }
    builder
}

fn az(secrets: &Secrets, account: &str, endpoint: &str) -> MicrosoftAzureBuilder {
    let mut builder = match (secrets.get("account-key"), secrets.get("sas-token")) {
        (Some(key), _) => MicrosoftAzureBuilder::new().with_access_key(key),
        (None, Some(token)) => MicrosoftAzureBuilder::new().with_config(AzureConfigKey::SasKey, token),
        (None, None) => MicrosoftAzureBuilder::from_env(),
    };
    builder = builder.with_account(account);
    if !endpoint.is_empty() {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    builder
}

impl Destination for Bucket {
    fn put<'a>(&'a self, parcel: &'a Parcel, profile: Bytes) -> BoxFuture<'a, Attempt> {
        self.put_profile(&parcel.key, profile).boxed()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), String>> {
        async { timeout(CALL, self.look_at_owner()).await.unwrap_or_else(|_| Err(self.late(CALL))) }.boxed()
    }

    fn archive(&self) -> Option<&dyn Archive> {
        Some(self)
    }
}

impl Archive for Bucket {
    fn keep<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<(), ArchiveError>> {
        self.put_profile(key, body).map(ArchiveError::of).boxed()
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Bytes, ArchiveError>> {
        self.get_profile(key).boxed()
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), ArchiveError>> {
        self.delete_profile(key).boxed()
    }

    fn list<'a>(
        &'a self,
        below: &'a str,
        picks: &'a (dyn Fn(&str) -> bool + Send + Sync),
        age: Duration,
    ) -> BoxFuture<'a, Result<Vec<String>, ArchiveError>> {
        self.list_keys(below, picks, age).boxed()
    }
}
