//! Stacks of made up interpreters, and of broken ones.

use proptest::prelude::*;

use super::*;

/// Memory from address 0 on.
#[derive(Clone)]
struct Fake(Vec<u8>);

impl Memory for Fake {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let from = usize::try_from(address).ok();
        let bytes = from.and_then(|from| self.0.get(from..from.checked_add(buffer.len())?));
        bytes.map(|bytes| buffer.copy_from_slice(bytes)).is_some()
    }
}

const GLOBALS: u64 = 0x1000;

impl Fake {
    fn put(&mut self, at: u64, value: u64) {
        let at = usize::try_from(at).unwrap();
        self.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    fn text(&mut self, at: u64, text: &str) {
        self.put(at + TEXT_LENGTH, text.len() as u64);
        let from = usize::try_from(at + TEXT).unwrap();
        self.0[from..from + text.len()].copy_from_slice(text.as_bytes());
    }

    /// A method, called by the script, which is called by nobody; with PHP itself on top.
    fn with_stack(current: u64, file: u64) -> Self {
        let mut fake = Self(vec![0; 0x9000]);
        fake.put(GLOBALS + current, 0x2000);
        let lines = |first: u64, last: u64| first | last << 32;
        for (call, function, caller, instruction) in
            [(0x2000, 0x3000, 0x2100, 1), (0x2100, 0x3200, 0x2200, 0x4000), (0x2200, 0x3400, 0, 0x4100)]
        {
            fake.put(call, instruction);
            fake.put(call + 24, function);
            fake.put(call + 48, caller);
        }
        for (function, kind, name, class) in
            [(0x3000, 1, 0x5000, 0), (0x3200, 2, 0x5100, 0x6000), (0x3400, 2, 0, 0)]
        {
            fake.put(function, kind);
            fake.put(function + 8, name);
            fake.put(function + 16, class);
        }
        for function in [0x3200, 0x3400] {
            fake.put(function + file, 0x5300);
            fake.put(function + file + 8, lines(3, 95));
        }
        fake.put(0x6000 + CLASS_NAME, 0x5200);
        for (at, text) in [(0x5000, "md5"), (0x5100, "price"), (0x5200, "Order"), (0x5300, "/app/order.php")]
        {
            fake.text(at, text);
        }
        fake.put(0x4000 + LINE, 17);
        fake.put(0x4100 + LINE, 90);
        fake
    }
}

fn rows(look: Look) -> Vec<(String, String, u32)> {
    let Look::Stack(stack) = look else { panic!("{look:?}") };
    stack.iter().map(|called| (called.name(), called.function.file.clone(), called.line)).collect()
}

#[test]
fn functions_and_lines_are_found_in_every_layout() {
    let row = |name: &str, file: &str, line| (name.to_owned(), file.to_owned(), line);
    let wanted =
        [row("md5", "", 0), row("Order::price", "/app/order.php", 17), row("{main}", "/app/order.php", 90)];
    for (current, file) in [(488, 144), (488, 152), (504, 136)] {
        let mut fake = Fake::with_stack(current, file);
        if current != USUAL_CURRENT {
            fake.put(GLOBALS + USUAL_CURRENT, 0x7000);
        }
        let mut frames = Frames::new(fake, GLOBALS);
        let found = (0..5).map(|_| frames.look()).find(|look| matches!(look, Look::Stack(_)));
        assert_eq!(rows(found.unwrap()), wanted, "{current} {file}");
        assert_eq!(rows(frames.look()), wanted, "what is known is used");
    }
}

#[test]
fn a_process_that_waits_has_no_stack_and_a_stack_is_found_later() {
    let mut fake = Fake::with_stack(488, 144);
    fake.put(GLOBALS + 488, 0);
    let mut frames = Frames::new(fake, GLOBALS);
    assert!(matches!(frames.look(), Look::Idle));
    frames.memory.put(GLOBALS + 488, 0x2000);
    assert_eq!(rows(frames.look()).len(), 3);
    frames.memory.put(GLOBALS + 488, 0);
    assert!(matches!(frames.look(), Look::Idle));
}

#[test]
fn what_cannot_be_is_refused_and_a_ring_of_calls_ends() {
    let changes: [(&str, u64, u64); 5] = [
        ("a call outside of memory", GLOBALS + 488, 1 << 40),
        ("a function of no type", 0x3000, 9),
        ("a name at an odd address", 0x3000 + 8, 0x5001),
        ("a text without an end", 0x5000 + TEXT_LENGTH, 2),
        ("a text that is too long", 0x5000 + TEXT_LENGTH, 1 << 40),
    ];
    for (what, at, value) in changes {
        let mut fake = Fake::with_stack(488, 144);
        fake.put(at, value);
        assert!(matches!(Frames::new(fake, GLOBALS).look(), Look::Torn), "{what}");
    }
    let mut ring = Fake::with_stack(488, 144);
    ring.put(0x2200 + 48, 0x2000);
    assert_eq!(rows(Frames::new(ring, GLOBALS).look()).len(), MAX_DEPTH);
}

#[test]
fn an_instruction_of_another_function_gives_no_line() {
    for (at, value) in [(0x4000 + LINE, 96), (0x4000 + LINE, 2), (0x2100, 1 << 40)] {
        let mut fake = Fake::with_stack(488, 144);
        fake.put(at, value);
        let row = &rows(Frames::new(fake, GLOBALS).look())[1];
        assert_eq!((row.0.as_str(), row.2), ("Order::price", 0), "{at:#x}");
    }
}

#[test]
fn another_function_at_the_same_place_is_read_again() {
    let mut frames = Frames::new(Fake::with_stack(488, 144), GLOBALS);
    assert_eq!(rows(frames.look())[0].0, "md5");
    frames.memory.put(0x3000 + 8, 0x5100);
    assert_eq!(rows(frames.look())[0].0, "price");
}

proptest! {
    #[test]
    fn no_memory_makes_it_panic(
        changes in prop::collection::vec((0_u64..0x8ff8, prop_oneof![any::<u64>(), 0_u64..0x9000]), 0..40),
    ) {
        let mut fake = Fake::with_stack(488, 144);
        changes.into_iter().for_each(|(at, value)| fake.put(at, value));
        let mut frames = Frames::new(fake, GLOBALS);
        let _any = (frames.look(), frames.look());
    }
}
