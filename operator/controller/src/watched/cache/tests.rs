//! Is what a watch brings found, told, and waited for?

use std::cell::RefCell;
use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use super::*;

/// An object such as `a/one=x`; one whose value is `!` cannot be read.
fn object(text: &str) -> Guarded<ConfigMap> {
    let (namespace, rest) = text.split_once('/').unwrap();
    let (name, value) = rest.split_once('=').unwrap();
    let data = if value == "!" { json!(7) } else { json!({"v": value}) };
    let meta = json!({"namespace": namespace, "name": name, "uid": format!("uid-{name}")});
    serde_json::from_value(json!({"metadata": meta, "data": data})).unwrap()
}

fn value(object: Option<&ConfigMap>) -> String {
    object.map_or("-".to_owned(), |o| o.data.as_ref().unwrap()["v"].clone())
}

fn names(objects: &[Arc<ConfigMap>]) -> BTreeSet<String> {
    objects
        .iter()
        .map(|o| format!("{}/{}={}", o.namespace().unwrap(), o.name_any(), value(Some(o))))
        .collect()
}

/// A cache, and what was told of it.
struct Rig {
    cache: Cache<ConfigMap>,
    writer: Writer<ConfigMap>,
    told: RefCell<Vec<String>>,
}

impl Rig {
    fn new() -> Self {
        let (cache, writer) = Cache::new(WatchMetrics::default());
        Self { cache, writer, told: RefCell::default() }
    }

    fn take(&mut self, event: Event<Guarded<ConfigMap>>) {
        let told = &self.told;
        self.writer.take(event, &|change| {
            told.borrow_mut().push(match change {
                Told::Object { before, now } => {
                    format!("{} {}>{}", now.name_any(), value(before), value(Some(now)))
                }
                Told::Unreadable(object) => format!("{} unreadable", object.name()),
                Told::Gone { uid, before } => format!("{uid} {}>", value(before)),
            });
        });
    }

    fn list(&mut self, objects: &[&str]) {
        self.take(Event::Init);
        objects.iter().for_each(|o| self.take(Event::InitApply(object(o))));
        self.take(Event::InitDone);
    }

    fn told(&self) -> BTreeSet<String> {
        self.told.take().into_iter().collect()
    }
}

fn set<const N: usize>(texts: [&str; N]) -> BTreeSet<String> {
    texts.map(String::from).into()
}

#[test]
fn what_a_watch_brings_is_found_by_namespace_and_told_once() {
    let mut rig = Rig::new();
    rig.list(&["a/one=listed", "a/two=listed", "b/three=listed"]);
    assert_eq!(names(&rig.cache.of("a")), set(["a/one=listed", "a/two=listed"]));
    assert_eq!(rig.told().len(), 3);

    rig.take(Event::Apply(object("a/one=new")));
    rig.take(Event::Apply(object("c/four=new")));
    rig.take(Event::Delete(object("b/three=old")));
    assert_eq!(rig.told(), set(["one listed>new", "four ->new", "uid-three listed>"]));
    assert_eq!(names(&rig.cache.all()), set(["a/one=new", "a/two=listed", "c/four=new"]));
    let found = (rig.cache.of("b").len(), rig.cache.get("b", "three"), rig.cache.store().len());
    assert_eq!(found, (0, None, 3));
    assert!(Arc::ptr_eq(
        &rig.cache.get("a", "one").unwrap(),
        &rig.cache.store().get(&ObjectRef::new("one").within("a")).unwrap()
    ));

    rig.list(&["a/two=listed"]);
    assert_eq!(names(&rig.cache.all()), set(["a/two=listed"]), "a new list replaces the old one");
    let told = set(["two listed>listed", "uid-one new>", "uid-four new>"]);
    assert_eq!(rig.told(), told, "what is gone is told too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_the_first_list_finds_what_it_holds() {
    for _ in 0..20 {
        let (cache, mut writer) = Cache::<ConfigMap>::new(WatchMetrics::default());
        let found = tokio::spawn(async move {
            cache.synced().await.unwrap();
            (cache.all().len(), cache.is_listed())
        });
        tokio::task::spawn_blocking(move || {
            writer.take(Event::Init, &|_| ());
            for n in 0..2000 {
                writer.take(Event::InitApply(object(&format!("a/{n}=x"))), &|_| ());
            }
            writer.take(Event::InitDone, &|_| ());
        })
        .await
        .unwrap();
        assert_eq!(found.await.unwrap(), (2000, true));
    }
}

#[tokio::test]
async fn nobody_waits_for_a_list_that_never_comes() {
    let (cache, writer) = Cache::<ConfigMap>::new(WatchMetrics::default());
    drop(writer);
    assert!(cache.synced().await.is_err());
}

#[test]
fn an_object_that_cannot_be_read_exists_and_hides_no_other() {
    let mut rig = Rig::new();
    rig.list(&["a/good=x", "a/bad=!"]);
    assert_eq!(names(&rig.cache.all()), set(["a/good=x"]));
    assert_eq!(rig.cache.uids(), set(["uid-good", "uid-bad"]).into_iter().collect());
    assert_eq!(rig.told(), set(["good ->x", "bad unreadable"]));

    rig.take(Event::Apply(object("a/good=!")));
    let left = (rig.cache.get("a", "good"), rig.cache.store().len(), rig.cache.unreadable().len());
    assert_eq!(left, (None, 0, 2), "what it asked for last is not worked on");
    assert_eq!(rig.cache.uids().len(), 2);

    rig.take(Event::Apply(object("a/good=y")));
    rig.take(Event::Delete(object("a/bad=!")));
    assert_eq!(rig.told(), set(["good unreadable", "good ->y", "uid-bad ->"]));
    assert_eq!(
        (rig.cache.uids(), rig.cache.unreadable().len()),
        (set(["uid-good"]).into_iter().collect(), 0)
    );
}

#[test]
fn a_new_list_tells_of_what_became_unreadable_and_of_what_is_gone() {
    let mut rig = Rig::new();
    rig.list(&["a/one=x", "a/two=!", "a/three=!"]);
    rig.told();
    rig.list(&["a/one=!", "a/two=x"]);
    assert_eq!(rig.told(), set(["one unreadable", "two ->x", "uid-three ->"]));
    assert_eq!(rig.cache.store().len(), 1);
}
