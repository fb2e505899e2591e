//! Is every value counted where it belongs, and once?

use super::*;
use crate::builder::{Frame, Line, MappingInfo, ProfileBuilder};
use crate::kind::ProfileKind;
use crate::testing::{PERIOD, cpu};

fn values(top: &Top) -> Vec<(&str, i64, i64)> {
    top.rows.iter().map(|row| (row.name.as_str(), row.self_value, row.cum_value)).collect()
}

#[test]
fn leaves_count_as_self_and_all_frames_as_cumulative() {
    let profile = cpu(&[(&["b", "a", "main"], 3), (&["a", "main"], 1), (&["main"], 2)]);
    let top = top(&profile, 0, 10);
    assert_eq!(values(&top), [("b", 3, 3), ("main", 2, 6), ("a", 1, 4)]);
    assert_eq!((top.total, top.functions), (6, 3));
    assert_eq!((top.rows[0].self_percent, top.rows[1].cum_percent), (50.0, 100.0));
}

#[test]
fn recursion_counts_once_a_sample() {
    let profile = cpu(&[(&["f", "g", "f", "f", "main"], 4), (&["f"], 1)]);
    assert_eq!(values(&top(&profile, 0, 10)), [("f", 5, 5), ("g", 0, 4), ("main", 0, 4)][..].to_vec());
}

#[test]
fn an_inlined_leaf_counts_as_itself() {
    let mut builder = ProfileBuilder::new(ProfileKind::Cpu, PERIOD, 0);
    let inlined = vec![
        Line { function: "innermost", file: "i.rs", line: 4, ..Line::default() },
        Line { function: "middle", file: "m.rs", line: 5, ..Line::default() },
    ];
    let leaf = Frame { inlined, ..Frame::named("outer", "o.rs", 6) };
    builder.add_hits(&[leaf, Frame::named("main", "main.rs", 1)], 2, &[]).expect("a sample");
    let top = top(&builder.finish(1, &[]), 0, 10);
    assert_eq!(values(&top), [("innermost", 2, 2), ("main", 0, 2), ("middle", 0, 2), ("outer", 0, 2)]);
    assert_eq!((top.rows[0].file.as_str(), top.rows[0].line), ("i.rs", 4));
}

#[test]
fn the_line_is_the_hottest_or_else_the_first_of_the_function() {
    let mut builder = ProfileBuilder::new(ProfileKind::Cpu, PERIOD, 0);
    let at = |line| Frame { start_line: 10, ..Frame::named("f", "f.rs", line) };
    let main = Frame { start_line: 40, ..Frame::named("main", "main.rs", 44) };
    for (line, hits) in [(12, 2), (13, 5), (14, 5)] {
        builder.add_hits(&[at(line), main.clone()], hits, &[]).expect("a sample");
    }
    let top = top(&builder.finish(1, &[]), 0, 10);
    assert_eq!((top.rows[0].line, top.rows[1].line), (13, 40));
}

#[test]
fn functions_of_one_name_in_two_files_are_two() {
    let mut builder = ProfileBuilder::new(ProfileKind::Cpu, PERIOD, 0);
    builder.add_hits(&[Frame::named("run", "a.py", 1)], 1, &[]).expect("a sample");
    builder.add_hits(&[Frame::named("run", "b.py", 1)], 2, &[]).expect("a sample");
    assert_eq!(top(&builder.finish(1, &[]), 0, 10).functions, 2);
}

#[test]
fn what_has_no_symbol_is_named_by_its_file() {
    let mut builder = ProfileBuilder::new(ProfileKind::Cpu, PERIOD, 0);
    let info = MappingInfo { file: "/usr/lib/libc.so.6", memory_limit: 9, ..MappingInfo::default() };
    let mapping = builder.mapping(&info);
    builder.add_hits(&[Frame::unsymbolized(1, Some(mapping))], 1, &[]).expect("a sample");
    builder.add_hits(&[Frame::unsymbolized(2, Some(mapping))], 1, &[]).expect("a sample");
    builder.add_hits(&[Frame::unsymbolized(3, None)], 1, &[]).expect("a sample");
    let top = top(&builder.finish(1, &[]), 0, 10);
    assert_eq!(values(&top), [("[libc.so.6]", 2, 2), ("[unknown]", 1, 1)]);
}

#[test]
fn only_the_heaviest_are_kept_and_nothing_is_divided_by_nothing() {
    let profile = cpu(&[(&["a"], 1), (&["b"], 2), (&["c"], 3)]);
    let two = top(&profile, 0, 2);
    assert_eq!(values(&two), [("c", 3, 3), ("b", 2, 2)]);
    assert_eq!(two.functions, 3);
    let none = top(&cpu(&[]), 0, 2);
    assert_eq!((none.total, none.rows.len()), (0, 0));
    assert!(render_top(&none).contains("0 (0.00%) of 0 total"));
}

#[test]
fn the_table_reads_like_that_of_pprof() {
    let profile = cpu(&[(&["b\u{1b}[2J", "main"], 120), (&["a", "main"], 29), (&["main"], 1)]);
    insta::assert_snapshot!(render_top(&top(&profile, 1, 2)), @"
    Type: cpu
    Duration: 10s
    Showing 2 of 3 functions, 1.49s (99.33%) of 1.50s total
          flat  flat%   sum%        cum   cum%
         1.20s 80.00% 80.00%      1.20s 80.00%  b�[2J b�[2J.rs:7
         290ms 19.33% 99.33%      290ms 19.33%  a a.rs:7
    ");
}

#[test]
fn it_is_read_back_from_json() {
    let top = top(&cpu(&[(&["a", "main"], 3)]), 1, 5);
    let json = serde_json::to_string(&top).expect("json");
    assert!(json.contains("\"selfPercent\":100.0"), "{json}");
    assert_eq!(serde_json::from_str::<Top>(&json).expect("a table"), top);
}
