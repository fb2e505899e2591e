//! Where do profiles lie in a bucket, and what is never touched there?

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use fleetprof_core::outbox::Attempt;
use fleetprof_crds::Reason;

use super::parcel;
use super::s3::{self, Objects};
use crate::destinations::bucket::{Bucket, Store};
use crate::destinations::{Archive, ArchiveError, Destination, Identity};
use crate::results::tests::fixtures::hostile_key;

const KEY: &str = "prod/shop/Deployment-orders/2026-11-30/session-1/orders-1_app_cpu.pb.gz";

/// The bucket of a new server as the cluster of that uid sees it.
fn bucket(address: std::net::SocketAddr, uid: &str, credentials: &Path) -> Bucket {
    std::fs::write(credentials.join("access-key-id"), "the-id").unwrap();
    std::fs::write(credentials.join("secret-access-key"), "the-secret-key\n").unwrap();
    let store = Store::S3 {
        bucket: "profiles".into(),
        region: "eu-central-1".into(),
        endpoint: format!("http://{address}"),
    };
    let identity = Identity { cluster: "prod".into(), uid: uid.into() };
    Bucket::new(store, "fleet/a", identity, Some(credentials.to_owned()))
}

fn keys(objects: &Objects) -> Vec<String> {
    objects.0.lock().unwrap().keys().cloned().collect()
}

#[tokio::test]
async fn a_profile_comes_back_as_it_was_put() {
    let (address, objects) = s3::serve().await;
    let folder = tempfile::tempdir().unwrap();
    let bucket = bucket(address, "uid-a", folder.path());
    bucket.check().await.unwrap();
    assert_eq!(keys(&objects), ["fleet/a/prod/.fleetprof"]);
    for _ in 0..2 {
        assert_eq!(bucket.put(&parcel(KEY), Bytes::from_static(b"profile")).await, Attempt::Stored);
    }
    assert_eq!(keys(&objects), ["fleet/a/prod/.fleetprof".to_owned(), format!("fleet/a/{KEY}")]);
    assert_eq!(bucket.get(KEY).await.unwrap(), "profile");
    objects.0.lock().unwrap().insert("fleet/a/prod/not/ours".into(), Bytes::new());
    objects.0.lock().unwrap().insert(format!("fleet/b/{KEY}"), Bytes::new());
    assert_eq!(bucket.list("", &|_| true, Duration::ZERO).await.unwrap(), [KEY]);
    assert!(bucket.list("", &|key| key != KEY, Duration::ZERO).await.unwrap().is_empty());
    assert!(
        bucket.list("", &|_| true, Duration::from_secs(1 << 40)).await.unwrap().is_empty(),
        "all are younger"
    );
    bucket.delete(KEY).await.unwrap();
    bucket.delete(KEY).await.unwrap();
    assert!(matches!(bucket.get(KEY).await, Err(ArchiveError::Missing(_))));
}

#[tokio::test]
async fn no_name_leaves_the_prefix() {
    let (address, objects) = s3::serve().await;
    let folder = tempfile::tempdir().unwrap();
    let bucket = bucket(address, "uid-a", folder.path());
    let names =
        ["../../../etc/passwd", "..", "a/b", "", ".hidden", "%2e%2e%2f", "a\0b", "ü", "x?y#z", "a b", "*"];
    for name in names {
        let key = hostile_key(name);
        assert_eq!(bucket.put(&parcel(&key), Bytes::from_static(b"p")).await, Attempt::Stored, "{name:?}");
        assert_eq!(bucket.get(&key).await.unwrap(), "p", "{name:?}");
        assert!(keys(&objects).contains(&format!("fleet/a/{key}")), "{name:?}: {:?}", keys(&objects));
    }
    let found = keys(&objects);
    assert!(found.iter().all(|key| key.starts_with("fleet/a/prod/")), "{found:?}");
    assert!(found.iter().all(|key| key.split('/').count() == 8 || key.ends_with(".fleetprof")), "{found:?}");
    let forged = [
        "../../other/x".to_owned(),
        "prod/../../b/c/d/e".to_owned(),
        "other/shop/w/d/session/file".to_owned(),
        String::new(),
        "prod//a/b/c/d".to_owned(),
        format!("/{KEY}"),
    ];
    for key in forged {
        let put = bucket.put(&parcel(&key), Bytes::from_static(b"p")).await;
        assert!(matches!(put, Attempt::Failed(Reason::UploadRejected, _)), "{key}: {put:?}");
        assert!(matches!(bucket.get(&key).await, Err(ArchiveError::Missing(_))), "{key}");
        assert!(bucket.delete(&key).await.is_err(), "{key}");
    }
    assert_eq!(keys(&objects), found);
}

#[tokio::test]
async fn two_clusters_of_one_name_do_not_share_a_prefix() {
    let (address, objects) = s3::serve().await;
    let folder = tempfile::tempdir().unwrap();
    let first = bucket(address, "uid-a", folder.path());
    assert_eq!(first.put(&parcel(KEY), Bytes::from_static(b"p")).await, Attempt::Stored);
    let second = bucket(address, "uid-b", folder.path());
    let problem = second.check().await.unwrap_err();
    assert!(problem.contains("names another cluster: set another prefix or clusterName"), "{problem}");
    let put = second.put(&parcel(KEY), Bytes::from_static(b"other")).await;
    assert!(matches!(put, Attempt::Again(..)), "{put:?}");
    assert!(second.delete(KEY).await.is_err() && second.list("", &|_| true, Duration::ZERO).await.is_err());
    assert_eq!(first.get(KEY).await.unwrap(), "p");
    assert_eq!(keys(&objects).len(), 2);
}

#[tokio::test]
async fn no_message_repeats_a_secret_and_new_credentials_need_no_restart() {
    let (address, objects) = s3::serve().await;
    let folder = tempfile::tempdir().unwrap();
    let bucket = bucket(address, "uid-a", folder.path());
    *objects.1.lock().unwrap() = true;
    let Attempt::Again(message, _) = bucket.put(&parcel(KEY), Bytes::new()).await else {
        panic!("it is down")
    };
    assert!(message.starts_with("S3 bucket profiles does not accept the credentials"), "{message}");
    assert!(message.contains("SignatureDoesNotMatch"), "{message}");
    assert!(!message.contains("the-secret-key") && !message.contains("the-id"), "{message}");
    *objects.1.lock().unwrap() = false;
    assert_eq!(bucket.put(&parcel(KEY), Bytes::new()).await, Attempt::Stored);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = bucket("127.0.0.1:1".parse().unwrap(), "uid-a", folder.path());
    let problem = bucket.check().await.unwrap_err();
    assert!(problem.starts_with("S3 bucket profiles failed: ") && problem.contains("refused"), "{problem}");
}
