//! How are the programs linked? So that their start touches little: a static program that may lie anywhere adds its
//! address to each pointer in its tables, and the list of those is read from its first to its last page. Packed,
//! it is a twentieth as long.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |part: &str| std::env::var(format!("CARGO_CFG_TARGET_{part}")).unwrap_or_default();
    // Others link without the linker that comes with the compiler, which knows this.
    if (target("ARCH"), target("OS"), target("ENV")) == ("x86_64".into(), "linux".into(), "gnu".into()) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
