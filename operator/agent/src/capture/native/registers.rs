//! Which registers does unwinding need, and where does the kernel put them?

use framehop::UnwindRegsNative;

/// The registers of a thread that its stack is unwound from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer.
    pub fp: u64,
    /// Link register; 0 where the architecture has none.
    pub lr: u64,
}

/// Bits of BP, SP and IP in a perf event's register mask; the kernel writes them in this order.
#[cfg(target_arch = "x86_64")]
pub const PERF_MASK: u64 = 1 << 6 | 1 << 7 | 1 << 8;
/// Bits of x29, lr, sp and pc in a perf event's register mask; the kernel writes them in this order.
#[cfg(target_arch = "aarch64")]
pub const PERF_MASK: u64 = 1 << 29 | 1 << 30 | 1 << 31 | 1 << 32;

/// Results of system calls that the kernel shows to a tracer alone: `ERESTARTSYS`, `ERESTARTNOINTR`,
/// `ERESTARTNOHAND` and `ERESTART_RESTARTBLOCK` of its `include/linux/errno.h`. The call was waiting, and
/// goes on when the thread does.
const RESTARTS: [i64; 4] = [-512, -513, -514, -516];

/// System calls that do nothing but wait. A thread that stops in one has used its CPU time elsewhere: it is
/// about to sleep, sleeps, or has just been woken and waits for a CPU.
const WAITS: [i64; 15] = [
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_futex,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigsuspend,
    libc::SYS_io_getevents,
    libc::SYS_restart_syscall,
    libc::SYS_accept,
    libc::SYS_accept4,
];
/// Those of them that newer architectures leave out.
#[cfg(target_arch = "x86_64")]
const OLD_WAITS: [i64; 4] = [libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_wait, libc::SYS_pause];

/// Whether a stopped thread was waiting in a system call when it was asked to stop. `word` reads the target's
/// memory.
#[cfg(target_arch = "x86_64")]
pub fn was_waiting(regs: &libc::user_regs_struct, _word: impl FnOnce(u64) -> Option<u32>) -> bool {
    let call = regs.orig_rax.cast_signed();
    RESTARTS.contains(&regs.rax.cast_signed()) || WAITS.contains(&call) || OLD_WAITS.contains(&call)
}

/// Whether a stopped thread was waiting in a system call when it was asked to stop. `word` reads the target's
/// memory.
#[cfg(target_arch = "aarch64")]
pub fn was_waiting(regs: &libc::user_regs_struct, word: impl FnOnce(u64) -> Option<u32>) -> bool {
    /// The instruction `svc #0`.
    const SVC: u32 = 0xd400_0001;
    let in_call = || word(regs.pc.wrapping_sub(4)) == Some(SVC);
    RESTARTS.contains(&regs.regs[0].cast_signed())
        || (WAITS.contains(&regs.regs[8].cast_signed()) && in_call())
}

#[cfg(target_arch = "x86_64")]
impl Registers {
    /// From the registers of a perf sample.
    pub fn from_perf(values: &[u64]) -> Option<Self> {
        let [fp, sp, ip] = *values else { return None };
        Some(Self { ip, sp, fp, lr: 0 })
    }

    /// From the registers of a stopped thread.
    pub fn from_user(regs: &libc::user_regs_struct) -> Self {
        Self { ip: regs.rip, sp: regs.rsp, fp: regs.rbp, lr: 0 }
    }

    /// As the unwinder takes them.
    pub fn for_unwinder(&self) -> UnwindRegsNative {
        UnwindRegsNative::new(self.ip, self.sp, self.fp)
    }
}

#[cfg(target_arch = "aarch64")]
impl Registers {
    /// From the registers of a perf sample.
    pub fn from_perf(values: &[u64]) -> Option<Self> {
        let [fp, lr, sp, ip] = *values else { return None };
        Some(Self { ip, sp, fp, lr })
    }

    /// From the registers of a stopped thread.
    pub fn from_user(regs: &libc::user_regs_struct) -> Self {
        Self { ip: regs.pc, sp: regs.sp, fp: regs.regs[29], lr: regs.regs[30] }
    }

    /// As the unwinder takes them.
    pub fn for_unwinder(&self) -> UnwindRegsNative {
        UnwindRegsNative::new(self.lr, self.sp, self.fp)
    }
}
