//! How is a usual message decoded without a detour?
//!
//! A general decoder lets every list of every sample grow from a few elements on. Here a list is counted before
//! it is read, and asks for memory once. What all writers of pprof write is decoded; on anything else, such as a
//! field that pprof does not have or broken text, this gives up, and prost alone says what it is or what is
//! wrong with it.

use super::wire::{Field, Measure, field, packed, varint};
use crate::proto::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};

/// The profile in `message`, exactly as prost decodes it, or nothing where that is for prost to say.
pub(super) fn decode(message: &[u8], measure: &Measure) -> Option<Profile> {
    let mut profile = Profile {
        sample: Vec::with_capacity(measure.samples),
        string_table: Vec::with_capacity(measure.strings),
        ..Profile::default()
    };
    fields(message, |number, field| match field {
        Field::Bytes(body) => profile_part(&mut profile, number, body),
        Field::Number(value) => profile_number(&mut profile, number, value as i64),
        Field::Fixed => None,
    })?;
    Some(profile)
}

fn profile_part(profile: &mut Profile, number: u64, body: &[u8]) -> Option<()> {
    match number {
        1 => profile.sample_type.push(value_type(ValueType::default(), body)?),
        2 => profile.sample.push(sample(body)?),
        3 => profile.mapping.push(mapping(body)?),
        4 => profile.location.push(location(body)?),
        5 => profile.function.push(function(body)?),
        6 => profile.string_table.push(std::str::from_utf8(body).ok()?.to_owned()),
        // Of a part that comes twice, later fields replace earlier ones.
        11 => profile.period_type = Some(value_type(profile.period_type.unwrap_or_default(), body)?),
        13 => numbers(body, &mut profile.comment, |value| value as i64)?,
        _ => return None,
    }
    Some(())
}

fn profile_number(profile: &mut Profile, number: u64, value: i64) -> Option<()> {
    match number {
        7 => profile.drop_frames = value,
        8 => profile.keep_frames = value,
        9 => profile.time_nanos = value,
        10 => profile.duration_nanos = value,
        12 => profile.period = value,
        13 => profile.comment.push(value),
        14 => profile.default_sample_type = value,
        15 => profile.doc_url = value,
        _ => return None,
    }
    Some(())
}

fn value_type(mut kind: ValueType, body: &[u8]) -> Option<ValueType> {
    values(body, |number, value| match number {
        1 => set(&mut kind.r#type, value as i64),
        2 => set(&mut kind.unit, value as i64),
        _ => None,
    })?;
    Some(kind)
}

fn sample(body: &[u8]) -> Option<Sample> {
    let mut sample = Sample::default();
    fields(body, |number, field| match (number, field) {
        (1, Field::Bytes(body)) => numbers(body, &mut sample.location_id, |id| id),
        (1, Field::Number(id)) => push(&mut sample.location_id, id),
        (2, Field::Bytes(body)) => numbers(body, &mut sample.value, |value| value as i64),
        (2, Field::Number(value)) => push(&mut sample.value, value as i64),
        (3, Field::Bytes(body)) => push(&mut sample.label, label(body)?),
        _ => None,
    })?;
    Some(sample)
}

fn label(body: &[u8]) -> Option<Label> {
    let mut label = Label::default();
    values(body, |number, value| match number {
        1 => set(&mut label.key, value as i64),
        2 => set(&mut label.str, value as i64),
        3 => set(&mut label.num, value as i64),
        4 => set(&mut label.num_unit, value as i64),
        _ => None,
    })?;
    Some(label)
}

fn mapping(body: &[u8]) -> Option<Mapping> {
    let mut mapping = Mapping::default();
    values(body, |number, value| match number {
        1 => set(&mut mapping.id, value),
        2 => set(&mut mapping.memory_start, value),
        3 => set(&mut mapping.memory_limit, value),
        4 => set(&mut mapping.file_offset, value),
        5 => set(&mut mapping.filename, value as i64),
        6 => set(&mut mapping.build_id, value as i64),
        7 => set(&mut mapping.has_functions, value != 0),
        8 => set(&mut mapping.has_filenames, value != 0),
        9 => set(&mut mapping.has_line_numbers, value != 0),
        10 => set(&mut mapping.has_inline_frames, value != 0),
        _ => None,
    })?;
    Some(mapping)
}

fn location(body: &[u8]) -> Option<Location> {
    let mut location = Location::default();
    fields(body, |number, field| match (number, field) {
        (1, Field::Number(value)) => set(&mut location.id, value),
        (2, Field::Number(value)) => set(&mut location.mapping_id, value),
        (3, Field::Number(value)) => set(&mut location.address, value),
        (4, Field::Bytes(body)) => {
            if location.line.is_empty() {
                // Most have one alone.
                location.line.reserve_exact(1);
            }
            push(&mut location.line, line(body)?)
        }
        (5, Field::Number(value)) => set(&mut location.is_folded, value != 0),
        _ => None,
    })?;
    Some(location)
}

fn line(body: &[u8]) -> Option<Line> {
    let mut line = Line::default();
    values(body, |number, value| match number {
        1 => set(&mut line.function_id, value),
        2 => set(&mut line.line, value as i64),
        3 => set(&mut line.column, value as i64),
        _ => None,
    })?;
    Some(line)
}

fn function(body: &[u8]) -> Option<Function> {
    let mut function = Function::default();
    values(body, |number, value| match number {
        1 => set(&mut function.id, value),
        2 => set(&mut function.name, value as i64),
        3 => set(&mut function.system_name, value as i64),
        4 => set(&mut function.filename, value as i64),
        5 => set(&mut function.start_line, value as i64),
        _ => None,
    })?;
    Some(function)
}

/// A packed list, which comes in one piece from all writers, but may come in many.
fn numbers<T>(body: &[u8], list: &mut Vec<T>, of: impl Fn(u64) -> T) -> Option<()> {
    if list.is_empty() {
        list.reserve_exact(packed(body));
    }
    let mut rest = body;
    while !rest.is_empty() {
        let (value, after) = varint(rest)?;
        list.push(of(value));
        rest = after;
    }
    Some(())
}

fn set<T>(field: &mut T, value: T) -> Option<()> {
    *field = value;
    Some(())
}

fn push<T>(list: &mut Vec<T>, value: T) -> Option<()> {
    list.push(value);
    Some(())
}

/// Calls `visit` for every field of a message that holds numbers alone.
fn values(bytes: &[u8], mut visit: impl FnMut(u64, u64) -> Option<()>) -> Option<()> {
    fields(bytes, |number, field| match field {
        Field::Number(value) => visit(number, value),
        Field::Bytes(_) | Field::Fixed => None,
    })
}

/// Calls `visit` for every field of a message, until one is not usual.
fn fields<'a>(mut bytes: &'a [u8], mut visit: impl FnMut(u64, Field<'a>) -> Option<()>) -> Option<()> {
    while !bytes.is_empty() {
        let (number, field, rest) = field(bytes)?;
        visit(number, field)?;
        bytes = rest;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::codec::Limits;
    use crate::codec::wire::measure;
    use crate::labels::set_labels;
    use crate::testing::profiles;

    fn decoded(message: &[u8]) -> Option<Profile> {
        decode(message, &measure(message, &Limits::default()).ok()?)
    }

    /// What is decoded, whether there is anything, is what prost decodes.
    fn agrees_with_prost(message: &[u8]) -> Option<Profile> {
        let usual = decoded(message);
        if let Some(usual) = &usual {
            assert_eq!(Profile::decode(message).as_ref(), Ok(usual), "{message:?}");
        }
        usual
    }

    #[test]
    fn lists_in_pieces_and_parts_that_come_twice_are_read_as_prost_reads_them() {
        // Location ids alone, packed, and alone again; a period type in two parts; comments either way.
        let sample = [0x12, 11, 0x08, 1, 0x0a, 3, 2, 0x80, 1, 0x08, 3, 0x10, 4];
        let message = [&sample[..], &[0x5a, 2, 8, 1, 0x5a, 2, 16, 2, 0x68, 1, 0x6a, 2, 2, 3]].concat();
        let profile = agrees_with_prost(&message).expect("nothing unusual");
        assert_eq!(profile.sample[0].location_id, [1, 2, 128, 3]);
        assert_eq!(profile.period_type, Some(ValueType { r#type: 1, unit: 2 }));
        assert_eq!(profile.comment, [1, 2, 3]);
    }

    /// Names every field without a default, so that a new one does not compile here until it is decoded.
    #[test]
    fn every_field_is_decoded() {
        let (key, str, num, num_unit) = (1, 2, 3, 4);
        let line = Line { function_id: 1, line: 2, column: -3 };
        let (has_functions, has_filenames, has_line_numbers, has_inline_frames) = (true, true, true, true);
        let profile = Profile {
            sample_type: vec![ValueType { r#type: 1, unit: 2 }],
            sample: vec![Sample {
                location_id: vec![u64::MAX, 1],
                value: vec![i64::MIN, 1],
                label: vec![Label { key, str, num, num_unit }; 2],
            }],
            mapping: vec![Mapping {
                id: 1,
                memory_start: 2,
                memory_limit: 3,
                file_offset: 4,
                filename: 5,
                build_id: 6,
                has_functions,
                has_filenames,
                has_line_numbers,
                has_inline_frames,
            }],
            location: vec![Location {
                id: 1,
                mapping_id: 2,
                address: 3,
                line: vec![line; 2],
                is_folded: true,
            }],
            function: vec![Function { id: 1, name: 2, system_name: 3, filename: 4, start_line: 5 }],
            string_table: vec![String::new(), "größe".to_owned()],
            drop_frames: 1,
            keep_frames: 2,
            time_nanos: 3,
            duration_nanos: 4,
            period_type: Some(ValueType { r#type: 3, unit: 4 }),
            period: 5,
            comment: vec![6, 7],
            default_sample_type: 8,
            doc_url: 9,
        };
        assert_eq!(agrees_with_prost(&profile.encode_to_vec()), Some(profile));
    }

    #[test]
    fn what_is_unusual_is_left_to_prost() {
        let unknown_field = [0xa0, 1, 1];
        let number_as_text = [0x4a, 0];
        let fixed_number = [0x49, 0, 0, 0, 0, 0, 0, 0, 0];
        let broken_text = [0x32, 1, 0xff];
        let cut_list = [0x6a, 1, 0x80];
        let messages = [&unknown_field[..], &number_as_text, &fixed_number, &broken_text, &cut_list];
        assert!(messages.iter().all(|message| decoded(message).is_none()));
        assert!(Profile::decode(&unknown_field[..]).is_ok(), "prost skips it");
    }

    proptest! {
        #[test]
        fn profiles_are_decoded_as_prost_does(profile in profiles()) {
            let mut profile = profile;
            set_labels(&mut profile, &[("pod", "cart-0"), ("node", "n")]);
            prop_assert_eq!(agrees_with_prost(&profile.encode_to_vec()), Some(profile));
        }

        #[test]
        fn changed_bytes_are_decoded_as_prost_does_or_not_at_all(
            profile in profiles(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut message = profile.encode_to_vec();
            for (at, byte) in changes {
                let at = at.index(message.len());
                message[at] = byte;
                agrees_with_prost(&message);
            }
            agrees_with_prost(&message[..cut.index(message.len())]);
        }

        #[test]
        fn any_bytes_are_decoded_as_prost_does_or_not_at_all(
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            agrees_with_prost(&bytes);
        }
    }
}
