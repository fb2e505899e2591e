//! What does the reader make of tasks that an attacker wrote? Tasks of Python 3.14 in the memory of the test
//! itself, and what can be wrong with them.

use super::asyncio::TaskFields;
use super::codes::Codes;
use super::hostile::Words;
use super::layout::{self, Awaits, Layout};
use super::memory::Memory;
use super::tasks::{Does, Look, MAX_TASKS, Position, Tasks};

type Object = Words<32>;

const FIELDS: TaskFields =
    TaskFields { size: 48, name: 16, coroutine: 24, node: 32, of_interpreter: 0, of_thread: 8 };
const NODE: usize = 32;
/// Bytes of a coroutine before its frame, and of a frame before its values.
const FRAME: usize = 72;
const VALUES: usize = 80;
/// The words that hold the state of a coroutine's frame.
const STATE: usize = 64;
const SUSPENDED: u64 = 0xfe << 24;
const AWAITS: u64 = 0xff << 24;
const CREATED: u64 = 0xfd << 24;

fn layout() -> Layout {
    let known = layout::known(12).unwrap();
    let frame = layout::Frame { size: 80, code: 0, previous: 8, instruction: 56, owner: Some(74) };
    let awaits = Awaits { type_name: 24, frame: FRAME, state: STATE + 3, values: VALUES, end: 64 };
    Layout { frame, awaits: Some(awaits), ..known }
}

/// A thread with one task: its coroutine awaits another one, which has yielded a future.
struct World {
    thread: Object,
    task: Object,
    outer: Object,
    inner: Object,
    class: Object,
    future: Object,
    _texts: [Object; 2],
}

fn coroutine(class: &Object, state: u64, code: u64) -> Object {
    Object::new(&[(8, class.at()), (STATE, state), (FRAME, code | 1), (FRAME + 56, code + 200)])
}

/// Lets a coroutine await an object.
fn let_await(coroutine: &mut Object, object: u64) {
    let value = coroutine.at() + (FRAME + VALUES) as u64;
    coroutine.set(FRAME + 64, value + 8);
    coroutine.set(FRAME + VALUES, object | 1);
}

impl World {
    fn new() -> Self {
        let texts = ["coroutin", "_asyncio"].map(|text| {
            let word = u64::from_ne_bytes(text.as_bytes().try_into().unwrap());
            Object::new(&[(0, word), (8, if text == "coroutin" { u64::from(b'e') } else { 0 })])
        });
        let class = Object::new(&[(24, texts[0].at())]);
        // It is its own type as well.
        let mut future = Object::new(&[(24, texts[1].at())]);
        let itself = future.at();
        future.set(8, itself);
        let inner = coroutine(&class, SUSPENDED, 0x2000);
        let mut outer = coroutine(&class, AWAITS, 0x1000);
        let_await(&mut outer, inner.at());
        let mut thread = Object::new(&[]);
        let mut task = Object::new(&[(24, outer.at())]);
        ring(&mut thread, &mut [&mut task]);
        Self { thread, task, outer, inner, class, future, _texts: texts }
    }

    fn tasks(&self) -> Tasks {
        Tasks::new(FIELDS, &layout()).unwrap()
    }

    fn look(&self) -> Look<Position> {
        self.look_with(&mut self.tasks())
    }

    fn look_with(&self, tasks: &mut Tasks) -> Look<Position> {
        let memory = Memory::of(std::process::id().cast_signed(), self.thread.at()).unwrap();
        let codes = Codes::new(memory.clone(), layout());
        tasks.look(&memory, &codes, (&[], &[self.thread.at()])).unwrap()
    }

    fn does(&self) -> Does<Position> {
        let look = self.look();
        assert!(!look.is_torn && !look.is_cut && look.tasks.len() == 1, "{look:?}");
        look.tasks.into_iter().next().unwrap().does
    }
}

/// Lets tasks follow one another in the list of a thread.
fn ring(thread: &mut Object, tasks: &mut [&mut Object]) {
    let head = thread.at() + 8;
    let nodes: Vec<u64> = tasks.iter().map(|task| task.at() + NODE as u64).collect();
    thread.set(8, nodes[0]);
    for (n, task) in tasks.iter_mut().enumerate() {
        task.set(NODE, nodes.get(n + 1).copied().unwrap_or(head));
        task.set(NODE + 8, if n == 0 { head } else { nodes[n - 1] });
    }
}

const OUTER: Position = (0x1000, 0x1000 + 200);
const INNER: Position = (0x2000, 0x2000 + 200);

#[test]
fn what_is_right_is_read_and_read_again() {
    let mut world = World::new();
    assert_eq!(world.does(), Does::Awaits(vec![INNER, OUTER]));
    let mut tasks = world.tasks();
    let first = world.look_with(&mut tasks);
    assert_eq!(world.look_with(&mut tasks), first);
    // One more task.
    let mut other = Object::new(&[(24, world.inner.at())]);
    ring(&mut world.thread, &mut [&mut world.task, &mut other]);
    let second = world.look_with(&mut tasks);
    assert_eq!((second.tasks.len(), second.tasks[1].does.clone()), (2, Does::Awaits(vec![INNER])));
    // None: the list leads to itself.
    let head = world.thread.at() + 8;
    world.thread.set(8, head);
    assert_eq!(world.look_with(&mut tasks).tasks, []);
}

#[test]
fn what_a_task_does_is_told_by_its_coroutines() {
    let mut world = World::new();
    let future = world.future.at();
    let_await(&mut world.outer, future);
    assert_eq!(world.does(), Does::Awaits(vec![OUTER]), "a future");
    world.outer.set(STATE, CREATED);
    assert_eq!(world.does(), Does::Starts(vec![OUTER]));
    world.outer.set(STATE, 0);
    assert_eq!(world.does(), Does::Runs);
    world.outer.set(STATE, 4 << 24);
    assert_eq!(world.does(), Does::Torn, "it is done");
}

#[test]
fn coroutines_that_cannot_be_are_not_followed() {
    type Change = fn(&mut World);
    let changes: [(&str, Change); 7] = [
        ("no coroutine", |w| w.task.set(24, 0)),
        ("a coroutine nowhere", |w| w.task.set(24, u64::MAX - 3)),
        ("a type nowhere", |w| w.outer.set(8, 16)),
        ("values before the frame", |w| {
            let before = w.outer.at();
            w.outer.set(FRAME + 64, before);
        }),
        ("values far from the frame", |w| w.outer.set(FRAME + 64, u64::MAX - 7)),
        ("a coroutine that awaits itself", |w| {
            let itself = w.outer.at();
            let_await(&mut w.outer, itself);
        }),
        ("an awaited object nowhere", |w| let_await(&mut w.outer, 64)),
    ];
    for (what, change) in changes {
        let mut world = World::new();
        change(&mut world);
        assert_eq!(world.does(), Does::Torn, "{what}");
    }
    let mut unnamed = World::new();
    unnamed.class.set(24, 8);
    assert_eq!(unnamed.does(), Does::Awaits(vec![]), "a type without a name");
}

#[test]
fn lists_that_cannot_be_are_given_up() {
    let mut back = World::new();
    back.task.set(NODE + 8, 64);
    assert!(back.look().is_torn && back.look().tasks.is_empty());
    let mut nowhere = World::new();
    nowhere.thread.set(8, 4096);
    assert!(nowhere.look().is_torn);
    let mut cut_off = World::new();
    cut_off.task.set(NODE, 7);
    assert!(cut_off.look().is_torn && cut_off.look().tasks.len() == 1);
    // A list that never leads back to its head.
    let mut endless = World::new();
    let node = endless.task.at() + NODE as u64;
    endless.task.set(NODE, node);
    assert!(endless.look().is_torn);
}

#[test]
fn many_tasks_that_await_in_circles_end() {
    let mut world = World::new();
    let itself = world.outer.at();
    let_await(&mut world.outer, itself);
    let mut others: Vec<Object> = (0..=MAX_TASKS).map(|_| Object::new(&[(24, itself)])).collect();
    ring(&mut world.thread, &mut others.iter_mut().collect::<Vec<_>>());
    let before = std::time::Instant::now();
    let look = world.look();
    assert!(look.is_cut && look.tasks.len() == MAX_TASKS);
    assert!(look.tasks.iter().all(|task| task.does == Does::Torn));
    assert!(before.elapsed() < std::time::Duration::from_secs(20), "{:?}", before.elapsed());
}
