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
