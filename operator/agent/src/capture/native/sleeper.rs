//! Which process can a test look into? A copy of `sleep` under a path of its own.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::proc;

/// A process that sleeps; it ends, and its file goes, with the test.
pub struct Sleeper {
    child: Child,
    /// Its program, of which no other test has a copy with this name.
    pub program: PathBuf,
}

impl Sleeper {
    /// Starts one; those of the same name have the same program.
    pub fn start(name: &str) -> Self {
        let program = std::env::temp_dir().join(format!("fleetprof-{name}-{}", std::process::id()));
        if !program.exists() {
            std::fs::copy("/bin/sleep", &program).unwrap();
        }
        let child = Command::new(&program).arg("600").spawn().unwrap();
        let sleeper = Self { child, program };
        // Until then its libraries may not be mapped.
        let by = Instant::now() + Duration::from_secs(30);
        while proc::stat(sleeper.pid()).unwrap().state != b'S' {
            assert!(Instant::now() < by, "it does not sleep");
            std::thread::sleep(Duration::from_millis(1));
        }
        sleeper
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        let _gone = std::fs::remove_file(&self.program);
    }
}
