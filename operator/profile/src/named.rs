//! Of which mappings is everything known that a resolver could find out?
//!
//! A resolver skips a mapping whose flags say that its locations are resolved. So a flag tells what every
//! location of the mapping in the profile has: a single one without a name, and the mapping is left to who
//! has its symbols. A wrong "yes" loses names for good, a wrong "no" costs a look.

use crate::proto::{Function, Line, Location, Profile};
use crate::view::{UNKNOWN, View};

/// Whether functions, file names, line numbers and inlined functions are known.
pub(crate) type Known = [bool; 4];

/// Sets the flags of every mapping to what all of its locations have. A mapping without locations has none;
/// what its flags said before does not count.
pub(crate) fn set_flags(profile: &mut Profile) {
    let view = View::new(profile);
    let mut known: Vec<Option<Known>> = vec![None; profile.mapping.len()];
    for location in &profile.location {
        let position = view.mapping_position(location.mapping_id);
        if let Some(all) = position.and_then(|position| known.get_mut(position)) {
            let this = of_location(&view, location);
            *all = Some(all.map_or(this, |all| both(all, this)));
        }
    }
    for (mapping, known) in profile.mapping.iter_mut().zip(known) {
        let [functions, filenames, line_numbers, inlined] = known.unwrap_or_default();
        mapping.has_functions = functions;
        mapping.has_filenames = filenames;
        mapping.has_line_numbers = line_numbers;
        mapping.has_inline_frames = inlined;
    }
}

fn both(one: Known, other: Known) -> Known {
    std::array::from_fn(|at| one.get(at) == Some(&true) && other.get(at) == Some(&true))
}

/// What is inlined is known where something is, and where the line is: both are in the debug information.
pub(crate) fn of_location(view: &View<'_>, location: &Location) -> Known {
    let lines = &location.line;
    let every = |has: &dyn Fn(&Line) -> bool| !lines.is_empty() && lines.iter().all(has);
    let functions = every(&|line| view.function(line.function_id).is_some_and(|f| has_name(view, f)));
    let filenames =
        every(&|line| view.function(line.function_id).is_some_and(|f| !view.text(f.filename).is_empty()));
    let line_numbers = every(&|line| line.line > 0);
    [functions, filenames, line_numbers, functions && (line_numbers || lines.len() > 1)]
}

fn has_name(view: &View<'_>, function: &Function) -> bool {
    let names = [function.name, function.system_name].map(|name| view.text(name));
    names.into_iter().any(|name| !name.is_empty() && name != UNKNOWN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::builder::{Frame, Line as SourceLine, MappingInfo, ProfileBuilder};
    use crate::kind::ProfileKind;
    use crate::merge::{Overlap, merge};
    use crate::proto::Mapping;
    use crate::testing::{PERIOD, profiles};

    /// A profile of two mappings; of the library all is known, of the program what the frames say.
    fn of_program(frames: &[Frame<'_>]) -> Profile {
        let mut builder = ProfileBuilder::new(ProfileKind::Cpu, PERIOD, 0);
        let mut mapping =
            |file| builder.mapping(&MappingInfo { memory_limit: 0x9000, file, ..MappingInfo::default() });
        let (program, library) = (mapping("/app/main"), mapping("/lib/libc.so.6"));
        let named = Frame::named("memcpy", "memcpy.c", 3).at(0x10, Some(library));
        builder.add_hits(&[named], 1, &[]).expect("a sample");
        for (address, frame) in (0x100..).zip(frames) {
            builder.add_hits(&[frame.clone().at(address, Some(program))], 1, &[]).expect("a sample");
        }
        builder.finish(1, &[])
    }

    fn flags(mapping: &Mapping) -> Known {
        [mapping.has_functions, mapping.has_filenames, mapping.has_line_numbers, mapping.has_inline_frames]
    }

    fn flags_with(more: Frame<'_>) -> Known {
        let profile = of_program(&[Frame::named("main", "main.c", 7), more]);
        assert_eq!(flags(&profile.mapping[1]), [true; 4], "the other mapping has nothing to do with it");
        flags(&profile.mapping[0])
    }

    #[test]
    fn a_flag_is_set_where_every_location_has_it() {
        assert_eq!(flags_with(Frame::named("work", "work.c", 9)), [true; 4]);
        assert_eq!(flags_with(Frame::named("work", "work.c", 0)), [true, true, false, false]);
        assert_eq!(flags_with(Frame::named("work", "", 9)), [true, false, true, true]);
        assert_eq!(flags_with(Frame::named("exported", "", 0)), [true, false, false, false]);
        assert_eq!(flags_with(Frame::default()), [false; 4], "one without a name is enough");
    }

    #[test]
    fn a_function_inlined_without_a_name_leaves_the_mapping_unresolved() {
        let inlined = vec![SourceLine { file: "work.h", line: 2, ..SourceLine::default() }];
        let frame = Frame { inlined, ..Frame::named("work", "work.c", 9) };
        assert_eq!(flags_with(frame), [false, true, true, false]);
    }

    #[test]
    fn a_function_with_another_one_inlined_needs_a_name_of_its_own() {
        let inlined = vec![SourceLine { function: "add", file: "work.h", line: 2, ..SourceLine::default() }];
        let profile = of_program(&[Frame { inlined, file: "work.c", line: 9, ..Frame::default() }]);
        assert_eq!(profile.location[1].line.len(), 2);
        assert_eq!(flags(&profile.mapping[0]), [false, true, true, false]);
    }

    #[test]
    fn a_mapping_without_locations_says_nothing() {
        assert_eq!(flags(&of_program(&[]).mapping[0]), [false; 4]);
    }

    #[test]
    fn what_a_file_says_of_itself_does_not_count() {
        let mut profile = of_program(&[Frame::default()]);
        profile.mapping[0].has_functions = true;
        let named = of_program(&[Frame::named("main", "main.c", 7)]);
        for pair in [[&profile, &named], [&named, &profile]] {
            let merged = merge(pair, Overlap::Sequential).expect("they merge");
            assert_eq!(merged.mapping.len(), 2);
            assert_eq!(merged.mapping.iter().map(flags).collect::<Vec<_>>(), [[false; 4], [true; 4]]);
        }
    }

    /// Flags by the file and offset of their mappings.
    fn all_flags(profile: &Profile) -> Vec<(&str, u64, Known)> {
        let file = |m: &Mapping| profile.string_table[m.filename as usize].as_str();
        let mut all: Vec<_> = profile.mapping.iter().map(|m| (file(m), m.memory_start, flags(m))).collect();
        all.sort_unstable();
        all
    }

    /// What they should be, from the texts that a reader would show.
    fn wanted(profile: &Profile, mapping: &Mapping) -> Known {
        let text = |index: i64| profile.string_table[index as usize].as_str();
        let mut wanted = [true; 4];
        let mut any = false;
        for location in profile.location.iter().filter(|location| location.mapping_id == mapping.id) {
            any = true;
            wanted = if location.line.is_empty() { [false; 4] } else { wanted };
            for line in &location.line {
                let function = &profile.function[line.function_id as usize - 1];
                wanted[0] &= text(function.name) != "[unknown]";
                wanted[1] &= !text(function.filename).is_empty();
                wanted[2] &= line.line != 0;
                wanted[3] &=
                    text(function.name) != "[unknown]" && (line.line != 0 || location.line.len() > 1);
            }
        }
        wanted.map(|wanted| wanted && any)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn flags_tell_what_all_locations_have(one in profiles(), two in profiles()) {
            let merged = merge([&one, &two], Overlap::Sequential).expect("they merge");
            for profile in [&one, &two, &merged] {
                for mapping in &profile.mapping {
                    prop_assert_eq!(flags(mapping), wanted(profile, mapping));
                }
            }
        }

        #[test]
        fn the_order_of_a_merge_does_not_matter(one in profiles(), two in profiles(), three in profiles()) {
            let forth = merge([&one, &two, &three], Overlap::Sequential).expect("they merge");
            let back = merge([&three, &two, &one], Overlap::Sequential).expect("they merge");
            let left = merge([&one, &two], Overlap::Sequential).expect("they merge");
            let left = merge([&left, &three], Overlap::Sequential).expect("they merge");
            prop_assert_eq!(all_flags(&forth), all_flags(&back));
            prop_assert_eq!(all_flags(&forth), all_flags(&left));
        }
    }
}
