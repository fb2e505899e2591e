//! How much memory may answers take until they were taken? A share for each reader, and a sum for all; a stored
//! file is not read into memory at all.

use std::io::Error;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use tokio::io::AsyncReadExt;

use super::front_proxy::User;
use super::status::Refusal;
use crate::results::StoredFile;
use crate::server::{Bodies, HeldAnswer, Holder, Proof};

/// Bytes of answers that were not taken yet. One reader may have them all, and is cut off for others: whoever
/// reads slowly holds nobody up.
const MEMORY: usize = 64 << 20;
/// Bytes that are handed on at a time.
const CHUNK: usize = 64 << 10;

/// The memory for answers. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Answers(Bodies);

impl Default for Answers {
    fn default() -> Self {
        Self(Bodies::new(MEMORY, MEMORY))
    }
}

impl Answers {
    /// Hands on what is in memory.
    ///
    /// # Errors
    /// 413: nobody may read so much at once. 429: others read.
    pub(super) fn whole(&self, user: &User, proof: &Proof, bytes: Bytes) -> Result<Body, Refusal> {
        if bytes.len() > MEMORY {
            return Err(Refusal::too_large(format!(
                "the answer has {} MiB, and the limit is {} MiB: request single pods with ?pod=NAME",
                bytes.len() >> 20,
                MEMORY >> 20
            )));
        }
        Ok(self.hold(user, proof, bytes.len())?.body(bytes))
    }

    /// Hands on a stored file, a part at a time.
    ///
    /// # Errors
    /// 429: others read.
    pub(super) fn file(&self, user: &User, proof: &Proof, file: StoredFile) -> Result<Body, Refusal> {
        let held = self.hold(user, proof, 2 * CHUNK)?;
        let file = tokio::fs::File::from_std(file.file);
        let parts = stream::try_unfold((file, held), |(mut file, held)| async move {
            let mut part = Vec::with_capacity(CHUNK);
            (&mut file).take(CHUNK as u64).read_to_end(&mut part).await?;
            Ok::<_, Error>((!part.is_empty()).then(|| (Bytes::from(part), (file, held))))
        });
        Ok(Body::from_stream(parts))
    }

    fn hold(&self, user: &User, proof: &Proof, bytes: usize) -> Result<HeldAnswer, Refusal> {
        let busy = |_| {
            Refusal::busy(format!(
                "user {:?} and others are reading more than {} MiB of profiles: try again in a few seconds",
                user.name,
                MEMORY >> 20
            ))
        };
        self.0.answer(&Holder::User(user.name.clone()), bytes, proof).map_err(busy)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn user(name: &str) -> User {
        User { name: name.into(), ..User::default() }
    }

    async fn read(body: Body) -> Vec<u8> {
        body.collect().await.unwrap().to_bytes().to_vec()
    }

    #[tokio::test]
    async fn an_answer_comes_whole_whether_it_lies_in_memory_or_in_a_file() {
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let (answers, ann, proof) = (Answers::default(), user("ann"), Proof::default());
        assert_eq!(read(answers.whole(&ann, &proof, bytes.clone().into()).unwrap()).await, bytes);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profile");
        std::fs::write(&path, &bytes).unwrap();
        let file = StoredFile { file: std::fs::File::open(&path).unwrap(), length: bytes.len() as u64 };
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read(answers.file(&ann, &proof, file).unwrap()).await, bytes);
    }

    #[tokio::test]
    async fn who_takes_nothing_makes_room_for_others() {
        let answers = Answers::default();
        let whole =
            |name: &str, mib: usize| answers.whole(&user(name), &Proof::default(), vec![0; mib << 20].into());
        let slow: Vec<Body> = (0..8).map(|_| whole("slow", 8).unwrap()).collect();
        assert_eq!(whole("slow", 1).unwrap_err().code(), 429, "all that there is");
        let ann = whole("ann", 9).unwrap();
        assert_eq!(read(ann).await.len(), 9 << 20);
        drop(slow);
        assert_eq!(whole("slow", 65).unwrap_err().code(), 413);
        assert!(whole("slow", 64).is_ok());
    }
}
