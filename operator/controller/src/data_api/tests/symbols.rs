//! Files with symbols in, a list out; and what is refused.

use axum::body::Body;
use serde_json::Value;

use super::fixtures::{Answer, World};
use crate::sha256::Sha256;

const ALL: &str = "/apis/data.fleetprof.dev/v1alpha1/symbols";
const ID: &str = "abcdef0123456789";
const USABLE: &str = r#"cat >/dev/null; echo '"Usable"'"#;
const MIB: usize = 1 << 20;

fn sum(bytes: &[u8]) -> String {
    let mut digest = Sha256::default();
    digest.update(bytes);
    digest.finish()
}

/// A request of a member of `builders`.
async fn ask(world: &World, who: &str, method: &str, path: &str, body: &[u8]) -> Answer {
    let headers = [("x-remote-user", who), ("x-remote-group", "builders")];
    world.send_body(method, path, &headers, (Some("front-proxy-client"), Body::from(body.to_vec()))).await
}

/// A piece of a file.
async fn piece(world: &World, who: &str, id: &str, file: &[u8], (from, to): (usize, usize)) -> Answer {
    let (size, sha256) = (file.len(), sum(file));
    let path = format!("{ALL}/{id}/content?offset={from}&size={size}&sha256={sha256}&name=shop.debug");
    ask(world, who, "POST", &path, &file[from..to]).await
}

fn told(answer: &Answer) -> (u16, String, u64) {
    let json = answer.json();
    let phase = json["phase"].as_str().unwrap_or_default().to_owned();
    (answer.status.as_u16(), phase, json["offset"].as_u64().unwrap_or(u64::MAX))
}

/// Status and message of a refusal.
fn refused(answer: &Answer) -> (u16, String) {
    let json = answer.json();
    assert_eq!((&json["kind"], &json["status"]), (&"Status".into(), &"Failure".into()), "{json}");
    (answer.status.as_u16(), json["message"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_file_comes_in_pieces_and_goes_on_where_it_broke_off() {
    let world = World::with_uploads(USABLE, 64 << 20).await;
    let file: Vec<u8> = (0..3 * MIB).map(|n| (n % 251) as u8).collect();
    let send = async |from, to| told(&piece(&world, "ann", ID, &file, (from, to)).await);
    assert_eq!(send(2 * MIB, 3 * MIB).await, (200, "Receiving".into(), 0), "it has not begun");
    assert_eq!(send(0, 2 * MIB).await, (200, "Receiving".into(), 2 * MIB as u64));
    assert_eq!(send(0, MIB).await, (200, "Receiving".into(), 2 * MIB as u64), "a piece that comes twice");
    assert_eq!(send(2 * MIB, 3 * MIB).await, (200, "Stored".into(), 3 * MIB as u64));
    assert_eq!(send(0, MIB).await, (200, "Stored".into(), 3 * MIB as u64), "it is there already");
    let list = ask(&world, "bob", "GET", ALL, b"").await.json();
    let one = &list["items"][0];
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&"SymbolsList".into(), 1));
    assert_eq!((&one["metadata"]["name"], &one["file"]), (&ID.into(), &"shop.debug".into()));
    assert_eq!((&one["bytes"], &one["uploadedBy"]), (&(3 * MIB).into(), &"ann".into()));
    assert_eq!(&ask(&world, "bob", "GET", &format!("{ALL}/{ID}"), b"").await.json(), one);
    let other =
        ask(&world, "bob", "GET", &format!("{ALL}?fieldSelector=metadata.name%3Dabcd0123"), b"").await;
    assert_eq!(other.json()["items"], Value::Array(Vec::new()), "kubectl waits for what it deleted");
    let gone = ask(&world, "bob", "DELETE", &format!("{ALL}/{ID}"), b"").await;
    assert_eq!(gone.json()["status"], "Success");
    for method in ["DELETE", "GET"] {
        let (code, why) = refused(&ask(&world, "bob", method, &format!("{ALL}/{ID}"), b"").await);
        assert!(code == 404 && why.contains("not found"), "{method} {code} {why}");
    }
}

#[tokio::test]
async fn what_was_uploaded_survives_the_process_and_what_is_unfinished_does_not() {
    let world = World::with_uploads(USABLE, 64 << 20).await;
    assert_eq!(told(&piece(&world, "ann", ID, b"whole", (0, 5)).await).1, "Stored");
    assert_eq!(told(&piece(&world, "ann", "abcd0123", b"half", (0, 2)).await).2, 2);
    let world = world.restarted(USABLE, 64 << 20);
    let list = ask(&world, "ann", "GET", ALL, b"").await.json();
    let names: Vec<&Value> =
        list["items"].as_array().unwrap().iter().map(|one| &one["metadata"]["name"]).collect();
    assert_eq!(names, [ID], "{list}");
    assert_eq!(told(&piece(&world, "ann", "abcd0123", b"half", (2, 4)).await), (200, "Receiving".into(), 0));
}

#[tokio::test]
async fn who_has_no_right_is_told_the_role() {
    let world = World::with_uploads(USABLE, 64 << 20).await;
    let devs = [("x-remote-user", "eve"), ("x-remote-group", "devs")];
    let content = format!("{ALL}/{ID}/content?offset=0&size=1&sha256=00&name=x");
    for (method, path, what) in [
        ("GET", ALL.to_owned(), "list resource \"symbols\""),
        ("GET", format!("{ALL}/{ID}"), "get resource \"symbols\""),
        ("DELETE", format!("{ALL}/{ID}"), "delete resource \"symbols\""),
        ("POST", content, "create resource \"symbols/content\""),
    ] {
        let (code, why) = refused(&world.send(method, &path, &devs, Some("front-proxy-client")).await);
        assert_eq!(code, 403, "{method} {path}");
        assert!(why.contains(what) && why.ends_with("ask for the ClusterRole fleetprof-symbols"), "{why}");
    }
    assert_eq!(world.send("GET", ALL, &devs, None).await.status, 401, "straight to the port");
}

#[tokio::test]
async fn what_cannot_be_right_is_refused_with_a_sentence() {
    let world = World::with_uploads(USABLE, 4 << 20).await;
    let sha = sum(b"x");
    let content = |id: &str, query: &str| format!("{ALL}/{id}/content?{query}");
    let good = format!("offset=0&size=1&name=x&sha256={sha}");
    let big = vec![0; 2 * MIB + 1];
    let cases: [(String, &[u8], u16, &str); 11] = [
        (content("..%2f..%2fetc", &good), b"x", 404, "lower-case hex digits"),
        (content("ABCDEF0123", &good), b"x", 404, "lower-case hex digits"),
        (content("abc", &good), b"x", 404, "lower-case hex digits"),
        (content(ID, ""), b"x", 400, "offset is missing"),
        (content(ID, "offset=0&size=-1"), b"x", 400, "size is missing"),
        (content(ID, "offset=0&size=1&sha256=zz"), b"x", 400, "64 hex digits"),
        (content(ID, &good), b"xy", 400, "ends behind"),
        (content(ID, &good), b"", 400, "is empty"),
        (content(ID, &good.replace("size=1", "size=9000000000")), &big, 413, "several requests"),
        (content(ID, &good.replace("size=1", "size=2097153")), b"x", 413, "the most is 2048 KiB"),
        (content(ID, &good.replace(&sha, &sum(b"y"))), b"x", 400, "changed while it was sent"),
    ];
    for (path, body, code, word) in cases {
        let (got, why) = refused(&ask(&world, "ann", "POST", &path, body).await);
        assert!(got == code && why.contains(word), "{path}: {got} {why}");
    }
    let list = ask(&world, "ann", "GET", ALL, b"").await.json();
    assert_eq!(list["items"], Value::Array(Vec::new()));
    assert_eq!(world.uploaded_files(), 0, "nothing is left on the volume");
}

#[tokio::test]
async fn a_file_that_fails_its_check_is_not_kept() {
    for (script, code, word) in [
        (
            r#"cat >/dev/null; echo '{"Refused":"it is the file of build id 00ff00ff"}'"#,
            400,
            "build id 00ff00ff",
        ),
        ("kill -ABRT $$", 400, "memory"),
        ("exit 3", 500, "could not be checked"),
        (r#"cat >/dev/null; echo '{"Named":{"texts":[],"places":[]}}'"#, 500, "not asked for"),
    ] {
        let world = World::with_uploads(script, 64 << 20).await;
        let (got, why) = refused(&piece(&world, "ann", ID, b"file", (0, 4)).await);
        assert!(got == code && why.contains(word), "{script}: {got} {why}");
        assert_eq!(world.uploaded_files(), 0, "{script}");
        let (got, _) = refused(&piece(&world, "ann", "00ff00ff", b"other", (0, 5)).await);
        assert_eq!(got, code, "its sender may go on at once");
    }
}

#[tokio::test]
async fn one_person_sends_one_file_at_a_time_and_few_do_so_at_once() {
    let world = World::with_uploads(USABLE, 64 << 20).await;
    let begin = async |who: &str, id: &str, file: &[u8]| piece(&world, who, id, file, (0, 1)).await;
    assert_eq!(told(&begin("ann", ID, b"one").await).2, 1);
    let (code, why) = refused(&begin("ann", "00ff00ff", b"two").await);
    assert!(code == 429 && why.contains("uploading another file"), "{code} {why}");
    assert_eq!(told(&begin("ann", ID, b"other content").await).2, 1, "the same one may begin again");
    for who in ["bob", "eve", "joe"] {
        assert_eq!(told(&begin(who, "00ff00ff", b"two").await).2, 1, "{who}");
    }
    let (code, why) = refused(&begin("sue", "00ff00ff", b"two").await);
    assert!(code == 429 && why.contains("4 others"), "{code} {why}");
    assert_eq!(world.uploaded_files(), 4);
}

#[tokio::test]
async fn uploads_take_no_more_than_an_administrator_allows() {
    let world = World::with_uploads(USABLE, 10).await;
    assert_eq!(told(&piece(&world, "ann", ID, b"12345", (0, 5)).await).1, "Stored");
    assert_eq!(told(&piece(&world, "ann", "00ff00ff", b"1234", (0, 1)).await).2, 1);
    let (code, why) = refused(&piece(&world, "bob", "11ff11ff", b"12", (0, 1)).await);
    assert!(code == 413 && why.contains("symbols.uploads.size"), "{code} {why}");
    assert_eq!(told(&piece(&world, "bob", ID, b"54321", (0, 5)).await).1, "Stored", "it replaces the first");
    let off = World::new().await;
    let (code, why) = refused(&piece(&off, "ann", ID, b"1", (0, 1)).await);
    assert!(code == 404 && why.contains("symbols.uploads.size"), "{code} {why}");
}
