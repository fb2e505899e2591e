//! Which of the system's threads runs a thread of an interpreter?
//!
//! Python keeps the system's id since 3.11, as its own pid namespace counts. Older ones and Ruby keep only the
//! address of the thread's control block, in which the C library keeps that id. Where it stands depends on the
//! library, so it is found: the offset at which every control block holds the id of a thread of this process.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::cpu_time::ThreadTimes;
use crate::proc;

/// Bytes of a control block that are searched.
const BLOCK: usize = 1024;
/// Where the id is stored in glibc on `x86_64` and `aarch64`, and in musl on both: asked first.
const USUAL_OFFSETS: [usize; 4] = [0x2d0, 0xd0, 0x30, 0x20];

/// Finds threads of one process.
pub struct ThreadIds {
    pid: i32,
    memory: Option<File>,
    /// Id inside the target's pid namespace → id here.
    outer: HashMap<i32, i32>,
    offset: Option<usize>,
}

impl ThreadIds {
    /// For the threads of a process.
    pub fn new(pid: i32) -> Self {
        Self { pid, memory: File::open(format!("/proc/{pid}/mem")).ok(), outer: HashMap::new(), offset: None }
    }

    /// The system's thread of an interpreter's thread, as seen from here: by its id in the target's pid namespace
    /// where that is known, else by the address of its control block.
    pub fn resolve(&mut self, inner: Option<u64>, block: u64, times: &mut ThreadTimes) -> Option<i32> {
        let inner = match inner {
            Some(id) => i32::try_from(id).ok(),
            None => self.inner_id(block),
        };
        if let Some(tid) = inner.and_then(|i| self.outer.get(&i)).filter(|t| times.knows(**t)) {
            return Some(*tid);
        }
        // A thread that is not known yet: threads were started since.
        times.refresh().ok()?;
        self.outer =
            times.ids().into_iter().filter_map(|tid| Some((proc::inner_tid(self.pid, tid)?, tid))).collect();
        let inner = inner.or_else(|| self.inner_id(block))?;
        self.outer.get(&inner).copied()
    }

    fn inner_id(&mut self, block: u64) -> Option<i32> {
        let mut bytes = [0; BLOCK];
        let n = self.memory.as_ref()?.read_at(&mut bytes, block).ok()?;
        let bytes = bytes.get(..n)?;
        if let Some(id) = self.offset.and_then(|p| id_at(bytes, p)).filter(|id| self.outer.contains_key(id)) {
            return Some(id);
        }
        self.offset = find_offset(bytes, |id| self.outer.contains_key(&id));
        id_at(bytes, self.offset?)
    }
}

fn id_at(block: &[u8], offset: usize) -> Option<i32> {
    let bytes = block.get(offset..offset.checked_add(4)?)?;
    Some(i32::from_ne_bytes(bytes.try_into().ok()?))
}

/// The offset of the id in a control block: a usual one, else the only one.
fn find_offset(block: &[u8], is_thread: impl Fn(i32) -> bool) -> Option<usize> {
    let holds = |offset: &usize| id_at(block, *offset).is_some_and(&is_thread);
    if let Some(offset) = USUAL_OFFSETS.into_iter().find(|p| holds(p)) {
        return Some(offset);
    }
    let mut offsets = (0..block.len()).step_by(4).filter(holds);
    let first = offsets.next()?;
    offsets.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(ids: &[(usize, i32)]) -> Vec<u8> {
        let mut block = vec![0_u8; BLOCK];
        for (offset, id) in ids {
            block[*offset..offset + 4].copy_from_slice(&id.to_ne_bytes());
        }
        block
    }

    #[test]
    fn the_offset_of_the_id_is_found() {
        let is_thread = |id| (100..110).contains(&id);
        assert_eq!(find_offset(&block(&[(0x2d0, 103), (0x44, 104)]), is_thread), Some(0x2d0));
        assert_eq!(find_offset(&block(&[(0x44, 104)]), is_thread), Some(0x44));
        assert_eq!(
            find_offset(&block(&[(0x44, 104), (0x48, 105)]), is_thread),
            None,
            "two candidates: neither is certain"
        );
        assert_eq!(find_offset(&block(&[]), is_thread), None);
        assert_eq!(find_offset(&[1, 2], is_thread), None);
    }

    #[test]
    fn the_control_block_of_a_real_thread_holds_its_id() {
        let (tx, rx) = std::sync::mpsc::channel();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            #[allow(unsafe_code)]
            // SAFETY: pthread_self has no preconditions.
            let block = unsafe { libc::pthread_self() };
            tx.send((block, nix::unistd::gettid().as_raw())).unwrap();
            wait.recv().unwrap();
        });
        let (block, tid) = rx.recv().unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        let mut times = ThreadTimes::start(pid).unwrap();
        assert_eq!(ThreadIds::new(pid).resolve(None, block, &mut times), Some(tid));
        done.send(()).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn python_threads_are_found_by_their_control_blocks() {
        use std::io::{BufRead, BufReader};
        let script = "import threading,time\ndef say():\n print(threading.get_ident(), \
                      threading.get_native_id(), flush=True); time.sleep(60)\nfor _ in range(3): \
                      threading.Thread(target=say, daemon=True).start(); time.sleep(0.05)\nsay()\n";
        let mut child = std::process::Command::new("/usr/bin/python3")
            .args(["-c", script])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let lines: Vec<String> =
            BufReader::new(child.stdout.take().unwrap()).lines().take(4).map(Result::unwrap).collect();
        let mut times = ThreadTimes::start(pid).unwrap();
        let mut ids = ThreadIds::new(pid);
        for line in &lines {
            let (block, native) = line.split_once(' ').unwrap();
            assert_eq!(
                ids.resolve(None, block.parse().unwrap(), &mut times),
                native.parse().ok(),
                "{lines:?}"
            );
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
