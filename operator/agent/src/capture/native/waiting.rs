//! What is the stack of a thread that waits, where only its stack pointer and instruction pointer are known?
//!
//! `/proc/PID/task/TID/syscall` tells no more, and the thread must not be stopped: that would end the wait. The
//! frame pointer, which code needs that is compiled with one, is found on the stack: each of its functions
//! leaves a record there of the caller's frame pointer, which lies above it, and of the return address.

use super::registers::Registers;
use super::space::{AddressSpace, read_word};

/// What a function with a frame pointer leaves on the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    /// Where it is: the function's frame pointer.
    at: u64,
    /// The caller's frame pointer.
    caller: u64,
    /// Where the caller goes on.
    returns_to: u64,
}

/// The lowest record on a stack whose bytes start at `sp`.
fn lowest_record(stack: &[u8], sp: u64, is_code: impl Fn(u64) -> bool) -> Option<Record> {
    let end = sp.checked_add(stack.len() as u64)?;
    let words = (0..stack.len().saturating_sub(8) as u64).step_by(8);
    words
        .filter_map(|offset| {
            let at = sp.checked_add(offset)?;
            let (caller, returns_to) = (read_word(stack, sp, at)?, read_word(stack, sp, at.checked_add(8)?)?);
            let is_above = caller > at && caller < end && caller % 8 == 0;
            (is_above && is_code(returns_to)).then_some(Record { at, caller, returns_to })
        })
        .next()
}

impl AddressSpace {
    /// The addresses on the stack of a thread that waits, leaf first. `stack` starts at the stack pointer.
    pub fn unwind_waiting(&mut self, pc: u64, sp: u64, stack: &[u8]) -> Vec<u64> {
        let record = lowest_record(stack, sp, |address| self.find(address).is_some());
        let fp = record.map_or(0, |record| record.at);
        let addresses = self.unwind(&Registers { ip: pc, sp, fp, lr: 0 }, stack);
        match record {
            Some(record) if addresses.len() < 2 => self.callers_by_record(pc, record, sp, stack),
            _ => addresses,
        }
    }

    /// Where nothing tells how the leaf was called, its nearest caller with a frame pointer comes next.
    fn callers_by_record(&mut self, pc: u64, record: Record, sp: u64, stack: &[u8]) -> Vec<u64> {
        let above = record.at.saturating_add(16);
        let rest = usize::try_from(above.saturating_sub(sp)).ok().and_then(|from| stack.get(from..));
        let registers =
            Registers { ip: record.returns_to.saturating_sub(1), sp: above, fp: record.caller, lr: 0 };
        let mut addresses = vec![pc];
        addresses.extend(self.unwind(&registers, rest.unwrap_or_default()));
        addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn the_lowest_record_is_a_pointer_up_the_stack_before_an_address_of_code() {
        let is_code = |address: u64| (0x400_000..0x500_000).contains(&address);
        let found = |words: &[u64]| lowest_record(&stack(words), 0x7000, is_code).map(|record| record.at);
        let cases: [(&str, &[u64], Option<u64>); 7] = [
            ("a record", &[1, 0x7028, 0x400_010, 0, 0, 0, 0], Some(0x7008)),
            ("code alone is none", &[0x400_010, 0x400_020, 0x400_030], None),
            ("a pointer down is none", &[0, 0, 0x7008, 0x400_010, 0, 0], None),
            ("a pointer beyond the stack is none", &[0x7100, 0x400_010, 0, 0], None),
            ("no code follows", &[0x7010, 0x300_000, 0, 0], None),
            ("the lower one of two", &[0x7010, 0x400_010, 0x7020, 0x400_020, 0, 0], Some(0x7000)),
            ("nothing", &[], None),
        ];
        for (what, words, wanted) in cases {
            assert_eq!(found(words), wanted, "{what}");
        }
    }

    #[test]
    fn a_stack_at_the_end_of_the_address_space_is_no_trap() {
        let words = stack(&[u64::MAX - 7, 0x400_010]);
        let found = [u64::MAX, u64::MAX - 15, u64::MAX - 16].map(|sp| lowest_record(&words, sp, |_| true));
        assert_eq!(found.map(|record| record.is_some()), [false, false, true]);
    }
}
