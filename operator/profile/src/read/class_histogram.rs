//! What does the heap of a Java process hold, by class, as Java prints it (`GC.class_histogram`)?
//!
//! ```text
//!  num     #instances         #bytes  class name (module)
//! -------------------------------------------------------
//!    1:       1000000       40000000  com.acme.Order
//!    2:       1007310       24336784  [B (java.base@17.0.15)
//! Total       3025715       94023368
//! ```
//! There are no stacks: a class is the only frame of its sample. Classes that Java makes while it runs lose the
//! numbers in their names, so that profiles of two processes, or of two days, can be compared.

use std::collections::BTreeMap;

use super::ReadError;
use super::jfr::readable;
use crate::builder::{Frame, ProfileBuilder};
use crate::kind::ProfileKind;
use crate::proto::Profile;

const FORMAT: &str = "class histogram";
/// The heading of the table, which every version prints.
const HEADING: &str = "#instances";

/// Bounds of [`read`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistogramLimits {
    /// Bytes of the text.
    pub bytes: usize,
    /// Rows of the table.
    pub classes: usize,
}

impl Default for HistogramLimits {
    /// A large program has 50,000 classes, each with a row of some 80 bytes.
    fn default() -> Self {
        Self { bytes: 16 << 20, classes: 200_000 }
    }
}

/// A profile of kind heap: of each class how many objects there are, and how many bytes they take.
///
/// # Errors
/// The text is beyond the limits, or no histogram.
pub fn read(text: &str, limits: &HistogramLimits) -> Result<Profile, ReadError> {
    if text.len() > limits.bytes {
        return Err(too_large("bytes", text.len(), limits.bytes));
    }
    let Some((_, table)) = text.split_once(HEADING) else {
        return Err(ReadError::Damaged { format: FORMAT, at: 0, what: "it has no heading" });
    };
    let (mut classes, mut rows) = (BTreeMap::<String, [i64; 2]>::new(), 0);
    for row in table.lines().filter_map(row) {
        rows += 1;
        if rows > limits.classes {
            return Err(too_large("classes", rows, limits.classes));
        }
        let sums = classes.entry(class_name(row.class)).or_default();
        for (sum, value) in sums.iter_mut().zip([row.objects, row.bytes]) {
            *sum = sum.saturating_add(value);
        }
    }
    Ok(profile(classes))
}

/// The largest classes first, so that those beyond what a profile holds are the smallest.
fn profile(classes: BTreeMap<String, [i64; 2]>) -> Profile {
    let mut classes: Vec<(String, [i64; 2])> = classes.into_iter().collect();
    classes.sort_by_key(|(_, [_, bytes])| std::cmp::Reverse(*bytes));
    let mut builder = ProfileBuilder::new(ProfileKind::Heap, 1, 0);
    for (class, values) in &classes {
        // It refuses only values that are negative or too few.
        let _added = builder.add(&[Frame::named(class, "", 0)], values, &[]);
    }
    builder.finish(1, &[])
}

fn too_large(what: &'static str, have: usize, limit: usize) -> ReadError {
    ReadError::TooLarge { format: FORMAT, what, have, limit }
}

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
struct Row<'a> {
    objects: i64,
    bytes: i64,
    class: &'a str,
}

/// `   2:       1007310       24336784  [B (java.base@17.0.15)`; other lines are no rows.
fn row(line: &str) -> Option<Row<'_>> {
    let (number, rest) = line.trim_start().split_once(':')?;
    number.parse::<u64>().ok()?;
    let (objects, rest) = rest.trim_start().split_once(' ')?;
    let (bytes, class) = rest.trim_start().split_once(' ')?;
    let count = |text: &str| text.parse::<i64>().ok().filter(|value| *value >= 0);
    // A module, where there is one, comes last.
    let class = class.trim().split(" (").next().unwrap_or_default();
    Some(Row { objects: count(objects)?, bytes: count(bytes)?, class }).filter(|row| !row.class.is_empty())
}

/// The name of a class as people write it: `[B` is `byte[]`, `[[Ljava.lang.String;` is `java.lang.String[][]`.
fn class_name(class: &str) -> String {
    let element = class.trim_start_matches('[');
    let dimensions = class.len() - element.len();
    if dimensions == 0 {
        return readable(class);
    }
    let name = match element.strip_prefix('L') {
        Some(name) => readable(name.trim_end_matches(';')),
        None => primitive(element).unwrap_or(element).to_owned(),
    };
    name + &"[]".repeat(dimensions.min(255))
}

/// The type of a letter.
fn primitive(letter: &str) -> Option<&'static str> {
    const LETTERS: [(&str, &str); 8] = [
        ("B", "byte"),
        ("C", "char"),
        ("D", "double"),
        ("F", "float"),
        ("I", "int"),
        ("J", "long"),
        ("S", "short"),
        ("Z", "boolean"),
    ];
    LETTERS.iter().find(|(known, _)| *known == letter).map(|(_, name)| *name)
}

/// Bytes of the heap that are in use, by what Java prints of it (`GC.heap_info`), whichever collector it has; `None`
/// where that does not say so.
#[must_use]
pub fn heap_used(text: &str) -> Option<u64> {
    let is_of_heap =
        |line: &&str| !["Metaspace", "class space", "data space"].iter().any(|m| line.contains(m));
    let used = text.lines().filter(is_of_heap).filter_map(used_in);
    used.fold(None, |sum: Option<u64>, bytes| Some(sum.unwrap_or(0).saturating_add(bytes)))
}

/// `total 1173504K, used 110516K [0x…`, or `256M committed, 12M used`. A part that is used by so many percent is
/// in the total of its line before.
fn used_in(line: &str) -> Option<u64> {
    let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let at = words.iter().position(|word| *word == "used")?;
    let after = words.get(at + 1).and_then(|word| size(word));
    after.or_else(|| words.get(at.checked_sub(1)?).and_then(|word| size(word)))
}

/// `110516K` in bytes.
fn size(word: &str) -> Option<u64> {
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match word.get(digits.len()..)? {
        "B" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{sample_types, top};

    const HISTOGRAM: &str = " num     #instances         #bytes  class name (module)
-------------------------------------------------------
   1:       1000000       40000000  com.acme.Order
   2:       1007310       24336784  [B (java.base@17.0.15)
   3:          1054        4957328  [[Ljava.lang.Object; (java.base@17.0.15)
   4:             1             16  com.acme.Shop$$Lambda$14/0x0000000800c03000
   5:             2             32  com.acme.Shop$$Lambda/0x00007f0c01001800
   6:             1             24  <methodKlass>
Total       2008368       69294184
";

    fn rows(text: &str) -> Vec<(String, i64)> {
        let profile = read(text, &HistogramLimits::default()).unwrap();
        assert_eq!(sample_types(&profile), ProfileKind::Heap.sample_types());
        top(&profile, 1, 99).rows.into_iter().map(|row| (row.name, row.self_value)).collect()
    }

    #[test]
    fn each_class_has_its_bytes_and_objects() {
        let row = |name: &str, bytes| (name.to_owned(), bytes);
        let wanted = [
            row("com.acme.Order", 40_000_000),
            row("byte[]", 24_336_784),
            row("java.lang.Object[][]", 4_957_328),
            row("com.acme.Shop$$Lambda", 48),
            row("<methodKlass>", 24),
        ];
        assert_eq!(rows(HISTOGRAM), wanted);
        let profile = read(HISTOGRAM, &HistogramLimits::default()).unwrap();
        let objects: i64 = profile.sample.iter().map(|sample| sample.value[0]).sum();
        assert_eq!(objects, 2_008_368, "as Java's own total");
        assert_eq!(rows(" num     #instances         #bytes  class name\n"), []);
    }

    #[test]
    fn rows_that_are_none_are_left_out_and_sums_are_bounded() {
        for line in
            ["", "Total 1 2", "1: 2", "1: 2 3", "1: -2 3 A", "x: 2 3 A", "1: 2 99999999999999999999 A"]
        {
            assert_eq!(row(line), None, "{line}");
        }
        let huge = format!("#instances\n 1: 1 {0}  A\n 2: 1 {0}  A\n", i64::MAX);
        assert_eq!(rows(&huge), [("A".to_owned(), i64::MAX)]);
    }

    #[test]
    fn what_is_no_histogram_or_too_large_is_refused() {
        let limits = HistogramLimits { bytes: 2000, classes: 3 };
        let refused = |text: &str| read(text, &limits).map(|_| ()).unwrap_err();
        assert!(matches!(refused("Insufficient memory"), ReadError::Damaged { .. }));
        assert!(matches!(refused(&"x".repeat(2001)), ReadError::TooLarge { what: "bytes", .. }));
        assert!(matches!(refused(HISTOGRAM), ReadError::TooLarge { what: "classes", .. }));
    }

    #[test]
    fn the_use_of_the_heap_is_read_of_every_collector() {
        let metaspace =
            " Metaspace       used 208K, committed 384K, reserved 1114112K\n  class space    used 8K\n";
        let cases = [
            (
                " garbage-first heap   total 1173504K, used 110516K [0x0740000000, 0x0800000000)\n  region size 2048K, \
              10 young (20480K), 2 survivors (4096K)\n",
                Some(110_516 << 10),
            ),
            (
                " def new generation   total 9792K, used 1234K [0x1, 0x2)\n  eden space 8704K,  14% used [0x1, 0x2)\n \
              tenured generation   total 21888K, used 10K [0x1, 0x2)\n   the space 21888K,   0% used [0x1)\n",
                Some(1244 << 10),
            ),
            (
                " PSYoungGen      total 76288K, used 5244K [0x1)\n ParOldGen       total 175104K, used 1K [0x1)\n",
                Some(5245 << 10),
            ),
            (" ZHeap           used 12M, capacity 258M, max capacity 4096M\n", Some(12 << 20)),
            ("Shenandoah Heap\n 4096M max, 4096M soft max, 256M committed, 3M used\n", Some(3 << 20)),
            ("", None),
            ("the heap is used by 7 threads", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(heap_used(&format!("{text}{metaspace}")), wanted, "{text}");
        }
        assert_eq!(heap_used("used 18446744073709551615G"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_an_end(text in "[ 0-9:KMG%used,\\[L;/$()A-Z\n#]{0,300}") {
            let _any = (read(&format!("#instances\n{text}"), &HistogramLimits::default()), heap_used(&text));
        }
    }
}
