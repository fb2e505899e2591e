//! How is a session created under a name that is made of what it is for, and what if the name is taken?
//!
//! ```text
//! create NAME ─409─► the same session? ─ yes ─► there already: by this leader or the one before it
//!                          └─ no, somebody else's ─► create NAME-b, then NAME-c, then say so
//! ```
//! Anybody who may create sessions in a namespace can take a name there. The next names are fixed too, so that
//! whoever leads finds what was created.

use fleetprof_core::session::same_purpose;
use fleetprof_crds::ProfileSession;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};

use crate::events;
use crate::watched::Guarded;

/// What is appended to a name that is taken.
const ENDINGS: [&str; 3] = ["", "-b", "-c"];

/// The session that was to be created.
pub enum Created {
    /// It was created.
    New(Box<ProfileSession>),
    /// It was there already.
    Before,
}

/// Why a session was not created.
#[derive(Debug, thiserror::Error)]
pub enum NotCreated {
    /// Other sessions have its name, and the next ones.
    #[error("the name {0} is taken by another session; delete that one, and find out who creates such")]
    Taken(String),
    /// The API server refused or did not answer.
    #[error("Kubernetes API error: {0}")]
    Kube(#[from] kube::Error),
}

impl NotCreated {
    /// Whether another try at once would end as this one did.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Taken(_) => true,
            Self::Kube(error) => events::is_refusal(error),
        }
    }
}

/// Creates the session, under the next name where its own is taken.
///
/// # Errors
/// When there is none in the end.
pub async fn create(client: &Client, session: &ProfileSession) -> Result<Created, NotCreated> {
    named(client, session, &ENDINGS).await
}

/// Creates the session under its own name or not at all, for those that are found by their name.
///
/// # Errors
/// When there is none in the end.
pub async fn create_exactly(client: &Client, session: &ProfileSession) -> Result<Created, NotCreated> {
    named(client, session, &ENDINGS[..1]).await
}

async fn named(client: &Client, session: &ProfileSession, endings: &[&str]) -> Result<Created, NotCreated> {
    let namespace = session.namespace().unwrap_or_default();
    let api = Api::<ProfileSession>::namespaced(client.clone(), &namespace);
    let taken = Api::<Guarded<ProfileSession>>::namespaced(client.clone(), &namespace);
    for ending in endings {
        let mut wanted = session.clone();
        wanted.metadata.name = Some(format!("{}{ending}", session.name_any()));
        match api.create(&PostParams::default(), &wanted).await {
            Ok(created) => return Ok(Created::New(Box::new(created))),
            Err(error) if is_taken(&error) => {}
            Err(error) => return Err(error.into()),
        }
        // One that cannot be read is not ours; one that was deleted meanwhile leaves the next name as good.
        if let Some(Guarded(Ok(found))) = taken.get_opt(&wanted.name_any()).await?
            && same_purpose(&found, &wanted)
        {
            return Ok(Created::Before);
        }
    }
    Err(NotCreated::Taken(session.name_any()))
}

/// Whether the name is taken. A conflict of another kind, such as of two requests for one quota, is none.
fn is_taken(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(answer) if answer.code == 409 && answer.reason == "AlreadyExists")
}
