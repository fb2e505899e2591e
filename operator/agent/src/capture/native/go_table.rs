//! What is the function, file and line of an address in a Go program without symbols?
//!
//! Every Go program carries the table that its own tracebacks use (`.gopclntab`), stripped or not: names,
//! lines, and how far the stack pointer has moved at each instruction. Read here since Go 1.18; layouts are
//! those of `runtime/symtab.go`.

use super::symbols::SourceLocation;

/// Header of Go 1.20 and newer, and of 1.18 and 1.19: they differ in the fields of a function that are not
/// read here.
const MAGICS: [u32; 2] = [0xffff_fff1, 0xffff_fff0];
/// Most bytes of a name or path that are kept.
const MAX_TEXT: usize = 1024;
/// Most steps in a table of one function.
const MAX_STEPS: usize = 100_000;
/// Index of the table that says which inlined call an instruction belongs to.
const INLINE_TABLE: u64 = 2;

/// Where the parts of the table are, in bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoTable {
    quantum: u64,
    functions: u64,
    /// Address of the first function, as linked.
    text: u64,
    names: u64,
    units: u64,
    files: u64,
    values: u64,
    index: u64,
}

/// A function in the table.
#[derive(Clone, Copy)]
struct Function {
    entry: u64,
    record: u64,
}

impl GoTable {
    /// Reads the header. `text_section` and `entry` are the addresses of `.text` and of the program's start.
    ///
    /// None where the layout is another one, or where it is not sure at which address the first function was
    /// linked.
    pub fn parse(table: &[u8], text_section: u64, entry: u64) -> Option<Self> {
        if !MAGICS.contains(&read_u32(table, 0)?) || table.get(7) != Some(&8) {
            return None;
        }
        let field = |n: u64| read_u64(table, 8 + 8 * n);
        let mut parsed = Self {
            quantum: u64::from(*table.get(6)?).max(1),
            functions: field(0)?,
            text: field(2)?,
            names: field(3)?,
            units: field(4)?,
            files: field(5)?,
            values: field(6)?,
            index: field(7)?,
        };
        if parsed.text == 0 {
            // Since Go 1.26 the header does not say it: the first function starts `.text`, unless C code
            // stands before it. Then the program does not start in a function of Go.
            parsed.text = text_section;
            let start = parsed.function(table, entry)?;
            let name = parsed.name(table, start)?;
            (start.entry == entry && name.starts_with("_rt0_")).then_some(())?;
        }
        Some(parsed)
    }

    /// The function at an address as linked, with file and line where no inlined call hides them.
    pub fn lookup(&self, table: &[u8], address: u64) -> Option<SourceLocation> {
        let function = self.function(table, address)?;
        let field = |n: u64| read_u32(table, function.record + 4 * n).map(u64::from);
        let value = |start: u64| self.value(table, start, function.entry, address);
        let inlined = field(7)? > INLINE_TABLE
            && field(11 + INLINE_TABLE).is_some_and(|t| t != 0 && value(t).is_some_and(|v| v >= 0));
        let line = if inlined { None } else { value(field(6)?) };
        let file = field(5).filter(|_| !inlined).and_then(value).and_then(|n| self.file(table, field(8)?, n));
        Some(SourceLocation {
            function: self.name(table, function)?,
            system_name: String::new(),
            file: file.unwrap_or_default(),
            line: line.map_or(0, |l| i64::from(l.max(0))),
        })
    }

    /// How far the stack pointer is below the return address at an address as linked.
    pub fn stack_depth(&self, table: &[u8], address: u64) -> Option<u64> {
        let function = self.function(table, address)?;
        let start = read_u32(table, function.record + 16)?;
        u64::try_from(self.value(table, u64::from(start), function.entry, address)?).ok()
    }

    /// The last function that starts at or before an address.
    fn function(&self, table: &[u8], address: u64) -> Option<Function> {
        let wanted = u32::try_from(address.checked_sub(self.text)?).ok()?;
        let start_of = |n: u64| read_u32(table, self.index.checked_add(8 * n)?);
        let (mut low, mut high) = (0, self.functions.min(table.len() as u64 / 8));
        // One entry more marks the end of the last function.
        if wanted >= start_of(high)? {
            return None;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if start_of(middle)? <= wanted { low = middle } else { high = middle }
        }
        let first = start_of(low)?;
        let record = self.index.checked_add(u64::from(read_u32(table, self.index + 8 * low + 4)?))?;
        (first <= wanted).then_some(Function { entry: self.text + u64::from(first), record })
    }

    fn name(&self, table: &[u8], function: Function) -> Option<String> {
        read_text(table, self.names.checked_add(u64::from(read_u32(table, function.record + 4)?))?)
    }

    fn file(&self, table: &[u8], unit: u64, number: i32) -> Option<String> {
        let number = u64::try_from(number).ok()?;
        let offset = read_u32(table, self.units.checked_add(4 * (unit + number))?)?;
        read_text(table, self.files.checked_add(u64::from(offset))?)
    }

    /// The value at an address in a table of steps: pairs of a change of value and the bytes of code it holds
    /// for.
    fn value(&self, table: &[u8], start: u64, entry: u64, address: u64) -> Option<i32> {
        if start == 0 {
            return None;
        }
        let mut cursor = usize::try_from(self.values.checked_add(start)?).ok()?;
        let (mut value, mut code) = (-1_i32, entry);
        for step in 0..MAX_STEPS {
            let change = read_varint(table, &mut cursor)?;
            if change == 0 && step > 0 {
                return None;
            }
            value = value.wrapping_add((change >> 1) as i32 ^ -((change & 1) as i32));
            code =
                code.checked_add(u64::from(read_varint(table, &mut cursor)?).checked_mul(self.quantum)?)?;
            if address < code {
                return Some(value);
            }
        }
        None
    }
}

/// The part of the table that holds the names of functions, in bytes from its start, by its header of 72
/// bytes.
pub fn names(header: &[u8]) -> Option<std::ops::Range<u64>> {
    if !MAGICS.contains(&read_u32(header, 0)?) || header.get(7) != Some(&8) {
        return None;
    }
    let (names, units) = (read_u64(header, 8 + 8 * 3)?, read_u64(header, 8 + 8 * 4)?);
    (names <= units).then_some(names..units)
}

fn read_u32(bytes: &[u8], at: u64) -> Option<u32> {
    let at = usize::try_from(at).ok()?;
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn read_u64(bytes: &[u8], at: u64) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn read_text(bytes: &[u8], at: u64) -> Option<String> {
    let rest = bytes.get(usize::try_from(at).ok()?..)?;
    let rest = rest.get(..MAX_TEXT).unwrap_or(rest);
    let text = rest.split(|b| *b == 0).next().filter(|t| !t.is_empty())?;
    Some(String::from_utf8_lossy(text).into_owned())
}

fn read_varint(bytes: &[u8], cursor: &mut usize) -> Option<u32> {
    let mut value = 0_u32;
    for shift in (0..35).step_by(7) {
        let byte = *bytes.get(*cursor)?;
        *cursor += 1;
        value |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: u64 = 0x40_1000;

    /// A table of two functions, `main.a` of 32 bytes and `main.b` of 16, in one file.
    fn table(text: u64) -> Vec<u8> {
        let mut t = Vec::new();
        t.extend(0xffff_fff1_u32.to_le_bytes());
        t.extend([0, 0, 1, 8]);
        for field in [2, 1, text, 72, 100, 104, 120, 140] {
            t.extend(u64::to_le_bytes(field));
        }
        t.extend(b"\0main.a\0main.b\0"); // names at 72
        t.resize(100, 0);
        t.extend(1_u32.to_le_bytes()); // unit 0, file 0 at 100
        t.extend(b"\0/src/main.go\0"); // files at 104
        t.resize(120, 0);
        // values at 120: depth −1 + 1 = 0 for 4 bytes, then 24 for 28; file 0 for 32; line 7 for 16, then 9
        // for 16
        t.extend([0, 2, 4, 48, 28, 0, 2, 32, 0, 16, 16, 4, 16, 0]);
        t.resize(140, 0);
        for (entry, record) in [(0_u32, 24_u32), (32, 72), (48, 0)] {
            t.extend(entry.to_le_bytes()); // index at 140
            t.extend(record.to_le_bytes());
        }
        for name in [1_u32, 8] {
            // entry, name, args, deferreturn, pcsp, pcfile, pcln, npcdata, unit, start line, flags, end
            for field in [0, name, 0, 0, 1, 6, 9, 0, 0, 5, 0, 0] {
                t.extend(field.to_le_bytes());
            }
        }
        t
    }

    #[test]
    fn functions_files_and_lines() {
        let bytes = table(TEXT);
        let go = GoTable::parse(&bytes, 0, 0).unwrap();
        let location = |address| go.lookup(&bytes, address).map(|p| (p.function, p.file, p.line));
        assert_eq!(location(TEXT), Some(("main.a".into(), "/src/main.go".into(), 7)));
        assert_eq!(location(TEXT + 31), Some(("main.a".into(), "/src/main.go".into(), 9)));
        assert_eq!(location(TEXT + 32).unwrap().0, "main.b");
        assert_eq!(
            (location(TEXT + 48), location(TEXT - 1), location(0), location(u64::MAX)),
            (None, None, None, None)
        );
    }

    #[test]
    fn the_names_stand_where_the_header_says() {
        assert_eq!(names(&table(TEXT)[..72]), Some(72..100));
        assert_eq!((names(&table(TEXT)[..40]), names(&[0; 72]), names(&[])), (None, None, None));
    }

    #[test]
    fn the_depth_of_the_stack_changes_within_a_function() {
        let bytes = table(TEXT);
        let go = GoTable::parse(&bytes, 0, 0).unwrap();
        assert_eq!((go.stack_depth(&bytes, TEXT + 3), go.stack_depth(&bytes, TEXT + 4)), (Some(0), Some(24)));
    }

    #[test]
    fn without_the_address_of_the_first_function_nothing_is_guessed() {
        let bytes = table(0);
        assert_eq!(GoTable::parse(&bytes, TEXT, TEXT), None, "main.a is not where a Go program starts");
    }

    #[test]
    fn damaged_tables_are_read_to_an_end() {
        let whole = table(TEXT);
        let mut seed = 1_u64;
        for round in 0..20_000_usize {
            let mut bytes = whole.clone();
            bytes.truncate(whole.len() - round % 64);
            for _ in 0..1 + round % 4 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let n = bytes.len();
                bytes[(seed >> 33) as usize % n] = (seed >> 20) as u8;
            }
            if let Some(go) = GoTable::parse(&bytes, TEXT, TEXT) {
                for address in [TEXT, TEXT + 20, TEXT + 40, u64::MAX] {
                    let _any = (go.lookup(&bytes, address), go.stack_depth(&bytes, address));
                }
            }
        }
    }
}
