//! What is the name, file and line of an address in a file? Each address of a file is looked up once in a
//! capture.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;

use blazesym::symbolize::source::{Elf as ElfSource, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolizer};
use fleetprof_profile::demangle::demangle;
use fleetprof_profile::{Frame, Line, MappingId};

use super::elf::Elf;

/// Most addresses that are remembered, about 200 bytes each.
const MAX_REMEMBERED: usize = 100_000;

/// A function, its source file and line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceLocation {
    /// Its name, demangled.
    pub function: String,
    /// Its name as the linker knows it, where that differs.
    pub system_name: String,
    /// Source file, or empty.
    pub file: String,
    /// Line, or 0.
    pub line: i64,
}

impl SourceLocation {
    fn line(&self) -> Line<'_> {
        Line {
            function: &self.function,
            system_name: &self.system_name,
            file: &self.file,
            line: self.line,
            start_line: 0,
        }
    }
}

/// What stands at an address: the function, and what is inlined into it there, innermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbol {
    /// The function that the machine code belongs to.
    pub outer: SourceLocation,
    /// Functions inlined at the address, innermost first.
    pub inlined: Vec<SourceLocation>,
}

impl Symbol {
    /// As a frame of a profile.
    pub fn frame(&self, address: u64, mapping: Option<MappingId>) -> Frame<'_> {
        let mut frame =
            Frame::named(&self.outer.function, &self.outer.file, self.outer.line).at(address, mapping);
        frame.system_name = &self.outer.system_name;
        frame.inlined = self.inlined.iter().map(SourceLocation::line).collect();
        frame
    }
}

/// Looks up addresses in files.
pub struct Symbols {
    symbolizer: Symbolizer,
    known: HashMap<(u32, u64), Option<Rc<Symbol>>>,
    /// Files that made the library panic or fail; they stay without names.
    broken: Vec<u32>,
}

impl Default for Symbols {
    /// Nothing is known yet.
    fn default() -> Self {
        Self { symbolizer: symbolizer(), known: HashMap::new(), broken: Vec::new() }
    }
}

impl Symbols {
    /// The symbol at an offset of a file.
    pub fn lookup(&mut self, elf: &Elf, offset: u64) -> Option<Rc<Symbol>> {
        if let Some(known) = self.known.get(&(elf.id, offset)) {
            return known.clone();
        }
        if self.known.len() >= MAX_REMEMBERED {
            self.known.clear();
        }
        let asked = if self.broken.contains(&elf.id) { None } else { self.ask(elf, offset) };
        let go = || elf.go_location(offset).map(|outer| Symbol { outer, inlined: Vec::new() });
        let symbol = asked.or_else(go).map(Rc::new);
        self.known.insert((elf.id, offset), symbol.clone());
        symbol
    }

    fn ask(&mut self, elf: &Elf, offset: u64) -> Option<Symbol> {
        let attempt = |debug: bool| {
            let mut source = ElfSource::new(elf.path());
            source.debug_syms = debug;
            let found = self.symbolizer.symbolize_single(&Source::Elf(source), Input::FileOffset(offset));
            found.map(|s| s.as_sym().map(symbol_of))
        };
        // Damaged debug information must cost the lines only, damaged symbols the names of this file only.
        let guarded = catch_unwind(AssertUnwindSafe(|| match attempt(elf.debug) {
            Err(_) if elf.debug => attempt(false),
            result => result,
        }));
        match guarded {
            Ok(Ok(symbol)) => symbol,
            Ok(Err(error)) => {
                tracing::debug!(file.build_id = %elf.build_id, %error, "failed to read the symbols of a file");
                self.broken.push(elf.id);
                None
            }
            Err(_) => {
                self.broken.push(elf.id);
                self.symbolizer = symbolizer();
                None
            }
        }
    }
}

/// Without directories for debug files: those of the agent's image have nothing to do with the target.
fn symbolizer() -> Symbolizer {
    let no_directories: Option<[&Path; 0]> = Some([]);
    Symbolizer::builder()
        .enable_code_info(true)
        .enable_inlined_fns(true)
        .enable_auto_reload(false)
        .enable_demangling(false)
        .set_debug_dirs(no_directories)
        .build()
}

fn symbol_of(sym: &Sym<'_>) -> Symbol {
    let outer = location(&sym.name, sym.code_info.as_deref());
    let inlined = sym.inlined.iter().rev().map(|f| location(&f.name, f.code_info.as_ref())).collect();
    Symbol { outer, inlined }
}

fn location(name: &str, code: Option<&CodeInfo<'_>>) -> SourceLocation {
    let demangled = demangle(name);
    SourceLocation {
        system_name: demangled.as_ref().map(|_| name.to_owned()).unwrap_or_default(),
        function: demangled.unwrap_or_else(|| name.to_owned()),
        file: code.map(|c| c.to_path().to_string_lossy().into_owned()).unwrap_or_default(),
        line: code.and_then(|c| c.line).map_or(0, i64::from),
    }
}

#[cfg(test)]
mod tests {
    use super::super::space::AddressSpace;
    use super::super::space::Files;
    use super::*;

    #[inline(never)]
    fn landmark() -> usize {
        std::hint::black_box(7)
    }

    #[test]
    fn a_function_of_this_program_has_name_file_and_line() {
        let space = AddressSpace::of(i32::try_from(std::process::id()).unwrap(), &Files::default()).unwrap();
        let address = landmark as *const () as u64;
        let region = space.find(address).unwrap();
        let offset = region.file_offset(address).unwrap();
        let mut symbols = Symbols::default();
        let elf = region.elf.as_ref().unwrap();
        let symbol = symbols.lookup(elf, offset).unwrap();
        assert!(symbol.outer.function.contains("landmark"), "{symbol:?}");
        assert!(symbol.outer.file.ends_with("symbols.rs") && symbol.outer.line > 0, "{symbol:?}");
        assert!(
            Rc::ptr_eq(&symbol, &symbols.lookup(elf, offset).unwrap()),
            "the second time it is remembered"
        );
        assert_eq!(symbols.lookup(elf, u64::MAX / 2), None);
        assert!(landmark() == 7);
    }

    #[test]
    fn a_frame_keeps_inlined_functions_innermost_first() {
        let location = |name: &str, line| SourceLocation {
            function: name.into(),
            file: "a.c".into(),
            line,
            ..SourceLocation::default()
        };
        let symbol = Symbol {
            outer: location("outer", 1),
            inlined: vec![location("innermost", 3), location("middle", 2)],
        };
        let frame = symbol.frame(0x1234, None);
        assert_eq!((frame.function, frame.line, frame.address), ("outer", 1, Some(0x1234)));
        assert_eq!(
            frame.inlined.iter().map(|l| (l.function, l.line)).collect::<Vec<_>>(),
            [("innermost", 3), ("middle", 2)]
        );
    }

    #[test]
    fn damaged_files_cost_names_and_nothing_else() {
        let whole = Elf::vdso_image().unwrap();
        let mut seed = 7_u64;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize
        };
        let mut symbols = Symbols::default();
        let mut read = 0;
        for round in 0..400 {
            let mut image = whole.clone();
            for _ in 0..1 + round % 8 {
                // Every other damage hits the headers.
                let at = if round % 2 == 0 { next() % 1024 } else { next() % whole.len() };
                image[at] = next() as u8;
            }
            let Ok(elf) = Elf::of_image(round, &image) else { continue };
            read += 1;
            for offset in [0x400, 0x900, whole.len() as u64 - 1] {
                let _any = symbols.lookup(&elf, offset);
            }
            let base = 0x7000_0000;
            let module =
                framehop::Module::new("damaged".into(), base..base + 0x2000, base, elf.unwind_info());
            drop(module);
        }
        assert!(read > 50, "some damaged files can still be read: {read}");
    }
}
