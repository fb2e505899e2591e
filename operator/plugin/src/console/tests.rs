//! Does the console hold when it is attacked? Requests to the router, and what of them reaches the API server.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::body::{Body, to_bytes};
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::guard::{Site, TOKEN};
use super::keys::Keys;
use super::serve::{About, Console, router};
use super::upstream::{Answer, Upstream};
use crate::cluster::Ask;
use crate::flags::Flags;

#[test]
fn a_process_in_the_background_is_told_from_one_that_may_read_the_terminal() {
    let stat =
        |group: u32, foreground: i32| format!("70 (a (b) c) S 1 {group} 60 34816 {foreground} 4194304 0");
    assert_eq!(super::in_foreground(&stat(70, 70)), Some(true));
    assert_eq!(super::in_foreground(&stat(70, 60)), Some(false));
    assert_eq!(super::in_foreground(""), None, "where there is no such file");
}

#[test]
fn copied_commands_repeat_the_flags_for_any_folder_but_not_the_token() {
    let flags = Flags {
        kubeconfig: Some("of/the/team".into()),
        as_user: Some("eve".into()),
        namespace: Some("shop".into()),
        token: Some("secret".into()),
        ..Flags::default()
    };
    let words = super::repeated(&flags, "eu");
    let (file, rest) = words.split_at(2);
    assert!(
        file[0] == "--kubeconfig" && file[1].starts_with('/') && file[1].ends_with("/of/the/team"),
        "{file:?}"
    );
    assert_eq!(rest, ["--context", "eu", "--as", "eve"]);
}

/// Stands for the API server: notes what is asked, and answers the same each time.
#[derive(Default)]
struct Recorded {
    asked: Mutex<Vec<String>>,
    answer: Mutex<Option<Response<Body>>>,
}

impl Upstream for Recorded {
    fn send<'a>(&'a self, ask: &'a Ask) -> Answer<'a> {
        self.asked.lock().unwrap().push(ask.path().to_owned());
        let answer = self.answer.lock().unwrap().take();
        Box::pin(async move { answer.ok_or_else(|| "the API server cannot be asked: gone".to_owned()) })
    }
}

struct Rig {
    api: Arc<Recorded>,
    keys: Arc<Keys>,
    console: Console,
}

const SESSIONS: &str = "/api/apis/fleetprof.dev/v1alpha1/namespaces/shop/profilesessions";

impl Rig {
    fn new() -> Self {
        let (api, keys) = (Arc::new(Recorded::default()), Arc::new(Keys::new().unwrap()));
        let about = About {
            namespace: "shop".into(),
            all_namespaces: true,
            context: "demo".into(),
            flags: vec!["--context".into(), "demo".into()],
            version: "0.1.0",
            speedscope: cfg!(feature = "speedscope"),
        };
        let console = Console::new(Site::new(8001), Arc::clone(&keys), about, Arc::clone(&api) as _);
        Self { api, keys, console }
    }

    async fn send(&self, request: http::request::Builder, body: &str) -> Response<Body> {
        router(self.console.clone())
            .oneshot(request.body(Body::from(body.to_owned())).unwrap())
            .await
            .unwrap()
    }

    async fn begin(&self, code: &str) -> (StatusCode, Value) {
        let answer = self.send(own("POST", "/session"), &json!({"code": code}).to_string()).await;
        read(answer).await
    }

    async fn token(&self) -> String {
        let code = self.keys.issue(Instant::now()).unwrap();
        self.begin(&code).await.1["token"].as_str().unwrap().to_owned()
    }

    fn asked(&self) -> Vec<String> {
        self.api.asked.lock().unwrap().clone()
    }

    fn answers(&self, content_type: &str, body: &str) {
        let answer = Response::builder()
            .header("content-type", content_type)
            .header("set-cookie", "a=b")
            .header("access-control-allow-origin", "*")
            .body(Body::from(body.to_owned()));
        *self.api.answer.lock().unwrap() = Some(answer.unwrap());
    }
}

fn own(method: &str, path: &str) -> http::request::Builder {
    let origin = "http://127.0.0.1:8001";
    Request::builder().method(method).uri(path).header("host", "127.0.0.1:8001").header("origin", origin)
}

async fn read(answer: Response<Body>) -> (StatusCode, Value) {
    let status = answer.status();
    let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&body))))
}

#[tokio::test]
async fn the_page_gets_a_token_for_its_code_and_reads_with_it() {
    let rig = Rig::new();
    let token = rig.token().await;
    rig.answers("application/json", r#"{"items": []}"#);
    let (status, list) = read(rig.send(own("GET", SESSIONS).header(TOKEN, &token), "").await).await;
    assert_eq!((status, list), (StatusCode::OK, json!({"items": []})));
    assert_eq!(rig.asked(), [SESSIONS.strip_prefix("/api").unwrap()]);
}

#[tokio::test]
async fn a_spent_or_guessed_code_gets_nothing() {
    let rig = Rig::new();
    let code = rig.keys.issue(Instant::now()).unwrap();
    let (status, told) = rig.begin(&code).await;
    assert_eq!(
        (status, &told["namespace"], &told["allNamespaces"]),
        (StatusCode::OK, &json!("shop"), &json!(true))
    );
    assert_eq!(told["flags"], json!(["--context", "demo"]), "for commands that are copied");
    for code in [code.as_str(), "", "guessed"] {
        let (status, told) = rig.begin(code).await;
        assert_eq!((status, told.get("token")), (StatusCode::UNAUTHORIZED, None), "{code}");
        assert!(told["message"].as_str().unwrap().contains("press Enter"), "{told}");
    }
    for body in ["", "code", "[]", r#"{"code": null}"#] {
        assert_eq!(
            rig.send(own("POST", "/session"), body).await.status(),
            StatusCode::UNAUTHORIZED,
            "{body}"
        );
    }
}

#[tokio::test]
async fn nothing_of_an_attack_reaches_the_api_server() {
    let rig = Rig::new();
    let token = rig.token().await;
    let plain = |method: &str, path: &str| Request::builder().method(method).uri(path);
    let here = "127.0.0.1:8001";
    let attacks = [
        (
            "a name that resolves to this machine",
            plain("GET", SESSIONS).header("host", "evil.example:8001").header(TOKEN, &token),
            403,
        ),
        (
            "another page",
            plain("GET", SESSIONS)
                .header("host", here)
                .header("origin", "http://evil.example")
                .header(TOKEN, &token),
            403,
        ),
        (
            "a form of another page",
            plain("POST", SESSIONS).header("host", here).header("origin", "http://evil.example"),
            403,
        ),
        (
            "a sandboxed frame",
            plain("POST", SESSIONS).header("host", here).header("origin", "null").header(TOKEN, &token),
            403,
        ),
        (
            "an image",
            plain("GET", SESSIONS)
                .header("host", here)
                .header("sec-fetch-site", "cross-site")
                .header(TOKEN, &token),
            403,
        ),
        ("no token", own("GET", SESSIONS), 401),
        ("a wrong token", own("GET", SESSIONS).header(TOKEN, "guessed"), 401),
        ("a token in the address", own("GET", &format!("{SESSIONS}?token={token}")), 401),
        ("a secret", own("GET", "/api/api/v1/namespaces/shop/secrets").header(TOKEN, &token), 403),
        (
            "a way out",
            own("GET", &format!("{SESSIONS}/../../../../../api/v1/secrets")).header(TOKEN, &token),
            403,
        ),
        (
            "an encoded way out",
            own("GET", &format!("{SESSIONS}/%2e%2e/%2e%2e/secrets")).header(TOKEN, &token),
            403,
        ),
        (
            "another host in the target",
            plain("GET", "http://evil.example/api/x").header("host", "evil.example").header(TOKEN, &token),
            403,
        ),
        (
            "a change of all of a policy",
            own("PATCH", &SESSIONS.replace("profilesessions", "profilingpolicies/all")).header(TOKEN, &token),
            403,
        ),
        ("deletion", own("DELETE", &format!("{SESSIONS}/now-1")).header(TOKEN, &token), 403),
    ];
    for (name, request, wanted) in attacks {
        let answer = rig.send(request, r#"{"kind": "ProfileSession"}"#).await;
        assert_eq!(answer.status().as_u16(), wanted, "{name}");
        assert!(answer.headers().get("access-control-allow-origin").is_none(), "{name}");
    }
    assert_eq!(rig.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn every_answer_forbids_code_of_others_and_says_nothing_to_other_pages() {
    let rig = Rig::new();
    let token = rig.token().await;
    rig.answers("text/html", "<script>alert(1)</script>");
    let view = SESSIONS.replace("fleetprof.dev", "data.fleetprof.dev") + "/now-1/flamegraph";
    let requests = [
        own("GET", "/"),
        own("GET", "/app.js"),
        own("GET", "/nowhere"),
        own("GET", SESSIONS),
        own("GET", &view).header(TOKEN, &token),
    ];
    for request in requests {
        let answer = rig.send(request, "").await;
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let policy = header("content-security-policy").unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header("x-content-type-options").as_deref(), Some("nosniff"));
        assert_eq!(header("referrer-policy").as_deref(), Some("no-referrer"));
        assert_eq!(header("cross-origin-resource-policy").as_deref(), Some("same-origin"));
        assert_eq!((header("access-control-allow-origin"), header("set-cookie")), (None, None));
        if header("content-type").as_deref() == Some("text/html") {
            assert_eq!(header("content-disposition").as_deref(), Some("attachment"), "a file to save");
        }
    }
    assert_eq!(rig.asked().len(), 1);
}

#[cfg(feature = "speedscope")]
#[tokio::test]
async fn speedscope_has_no_origin_and_only_the_page_frames_it() {
    let rig = Rig::new();
    let answer = rig.send(own("GET", "/speedscope"), "").await;
    assert_eq!(answer.status(), StatusCode::OK);
    let header =
        |name: &str| answer.headers().get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
    let policy = header("content-security-policy");
    assert_eq!(policy.len(), 1, "two policies would forbid what either does");
    assert!(policy[0].contains("sandbox allow-scripts") && policy[0].contains("frame-ancestors 'self'"));
    assert_eq!(header("x-frame-options"), ["SAMEORIGIN"]);
    assert_eq!(header("x-content-type-options"), ["nosniff"]);
    let page = rig.send(own("GET", "/"), "").await;
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("frame-src 'self'"), "{policy}");
    // What is in the frame has the origin null, and no token.
    let token = rig.token().await;
    let here = "127.0.0.1:8001";
    for path in [SESSIONS, "/session"] {
        let request =
            Request::builder().method("POST").uri(path).header("host", here).header("origin", "null");
        assert_eq!(
            rig.send(request.header(TOKEN, &token), "").await.status(),
            StatusCode::FORBIDDEN,
            "{path}"
        );
    }
    assert_eq!(rig.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_before_it_is_read() {
    let rig = Rig::new();
    let token = rig.token().await;
    let body = format!(r#"{{"kind": "ProfileSession", "x": "{}"}}"#, "x".repeat(70_000));
    let answer = rig.send(own("POST", SESSIONS).header(TOKEN, &token), &body).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(rig.asked().is_empty());
}

#[tokio::test]
async fn without_an_api_server_the_page_is_told_so() {
    let rig = Rig::new();
    let token = rig.token().await;
    let (status, told) = read(rig.send(own("GET", SESSIONS).header(TOKEN, &token), "").await).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(
        told["message"].as_str().unwrap().starts_with("the API server cannot be asked: gone (/apis/"),
        "{told}"
    );
}

#[tokio::test]
async fn it_listens_on_the_loopback_address_alone() {
    let (listener, port) = super::listen(0).await.unwrap();
    assert!(listener.local_addr().unwrap().ip().is_loopback() && port > 0);
    let taken = super::listen(port).await.unwrap_err().to_string();
    assert!(taken.contains("use another --port"), "{taken}");
}
