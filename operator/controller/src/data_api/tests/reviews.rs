//! Is the cluster's authorizer asked, and not more often than needed?

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::data_api::{Access, AccessReviews, Authorize, User};

/// A client whose API server allows Ann, fails for "nobody", and notes what it was asked.
fn client(asked: &Arc<Mutex<Vec<Value>>>) -> kube::Client {
    let asked = Arc::clone(asked);
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let asked = Arc::clone(&asked);
        async move {
            assert_eq!(request.uri().path(), "/apis/authorization.k8s.io/v1/subjectaccessreviews");
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let mut review: Value = serde_json::from_slice(&body).unwrap();
            asked.lock().unwrap().push(review["spec"].clone());
            let user = review["spec"]["user"].clone();
            review["status"] =
                json!({"allowed": user == "ann" || user == "denied", "denied": user == "denied"});
            let code = if user == "nobody" { 500 } else { 201 };
            Ok::<_, std::convert::Infallible>(
                Response::builder().status(code).body(Body::from(review.to_string())).unwrap(),
            )
        }
    });
    kube::Client::new(service, "default")
}

fn access(name: &str) -> Access {
    Access::view("shop".into(), name.into(), "profile")
}

fn user(name: &str) -> User {
    User {
        name: name.into(),
        groups: vec!["devs".into()],
        extra: [("scope".into(), vec!["a".into()])].into(),
        ..User::default()
    }
}

#[tokio::test]
async fn an_answer_is_believed_for_a_while() {
    let asked = Arc::default();
    let reviews = AccessReviews::new(client(&asked));
    let count = || asked.lock().unwrap().len();
    for _ in 0..3 {
        assert_eq!(reviews.allows(&user("ann"), &access("now")).await, Ok(true));
    }
    assert_eq!(count(), 1);
    assert_eq!(reviews.allows(&user("ann"), &access("other")).await, Ok(true));
    assert_eq!(reviews.allows(&user("bob"), &access("now")).await, Ok(false));
    assert_eq!(reviews.allows(&User { groups: vec![], ..user("ann") }, &access("now")).await, Ok(true));
    assert_eq!(count(), 4, "another name, user or group is another question");

    let forgetful = AccessReviews::believing(client(&asked), Duration::ZERO);
    for _ in 0..2 {
        assert_eq!(forgetful.allows(&user("ann"), &access("now")).await, Ok(true));
    }
    assert_eq!(count(), 6);
}

#[tokio::test]
async fn the_whole_caller_and_the_subresource_are_asked_about() {
    let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
    AccessReviews::new(client(&asked)).allows(&user("ann"), &access("now")).await.unwrap();
    let wanted = json!({
        "user": "ann",
        "groups": ["devs"],
        "extra": {"scope": ["a"]},
        "resourceAttributes": {
            "group": "data.fleetprof.dev", "version": "v1alpha1", "resource": "profilesessions", "subresource": "profile",
            "namespace": "shop", "name": "now", "verb": "get",
        },
    });
    assert_eq!(asked.lock().unwrap()[0], wanted);
}

#[tokio::test]
async fn what_has_no_namespace_is_asked_about_without_one() {
    let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
    let reviews = AccessReviews::new(client(&asked));
    reviews.allows(&user("ann"), &Access::symbols("list", String::new(), "")).await.unwrap();
    reviews.allows(&user("ann"), &Access::symbols("create", "abcd".into(), "content")).await.unwrap();
    let all =
        json!({"group": "data.fleetprof.dev", "version": "v1alpha1", "resource": "symbols", "verb": "list"});
    let one = json!({"group": "data.fleetprof.dev", "version": "v1alpha1", "resource": "symbols", "verb": "create",
        "subresource": "content", "name": "abcd"});
    let asked = asked.lock().unwrap();
    assert_eq!((&asked[0]["resourceAttributes"], &asked[1]["resourceAttributes"]), (&all, &one));
}

#[tokio::test]
async fn a_denial_wins_and_a_failure_is_neither() {
    let asked = Arc::default();
    let reviews = AccessReviews::new(client(&asked));
    assert_eq!(reviews.allows(&user("denied"), &access("now")).await, Ok(false));
    assert!(reviews.allows(&user("nobody"), &access("now")).await.unwrap_err().contains("try again"));
}
