//! Which waits of a wall-clock profile are those of threads that have nothing to do?
//!
//! A process has dozens of threads that wait for work: pools, event loops, a main thread that waits for the
//! others. Their time would hide the waits that somebody waits for. So a *blocked* sample is idle where
//!
//! 1. the function that waits is a known loop of a pool or an event loop;
//! 2. or it is the one that its thread was started with, or there is none beside the C library's, and it waits
//!    for what pools wait for: a condition variable, a channel, epoll, a signal, a process, a client;
//! 3. or it is the `main` of a program, and sleeps: others work meanwhile.
//!
//! A wait for a mutex, a socket, a file or a timer is not idle by rule 2: somebody may wait for its end.
//!
//! Where the kernel told what a thread waits for, the code on top of its stack is the way into the kernel,
//! whatever its name: a program that is linked statically holds the C library's functions itself.
//! Profiles are folded when they are read; what was captured stays whole.

mod dotnet;
mod go;
mod java;
mod php;
mod ruby;
mod rules;

use crate::kind::ProfileKind;
use crate::proto::{Function, Line, Location, Profile, Sample};
use crate::view::{View, sample_types, text};
use ruby::is_ruby;
pub use rules::ASYNCIO_TASK;
use rules::{Role, Waits, role, waits};

/// The frame that stands for the stacks of idle threads.
pub const IDLE: &str = "[idle]";

/// Replaces the stacks of idle threads of a wall-clock profile by the frame [`IDLE`]; other profiles stay as
/// they are. Samples that become equal stay apart until a merge.
pub fn fold_idle(profile: &mut Profile) {
    if sample_types(profile) != ProfileKind::Wall.sample_types() {
        return;
    }
    let idle = idle_samples(profile);
    if !idle.iter().any(|is_idle| *is_idle) {
        return;
    }
    let Some(location) = add_location(profile) else { return };
    for (sample, _) in profile.sample.iter_mut().zip(idle).filter(|(_, is_idle)| *is_idle) {
        sample.location_id = vec![location];
    }
}

/// Of each sample whether its thread is idle.
fn idle_samples(profile: &Profile) -> Vec<bool> {
    let view = View::new(profile);
    let roles = roles_of_locations(&view);
    let of_sample = |sample: &Sample| {
        let label = |key| label(profile, sample, key);
        if label("thread_state") != "blocked" {
            return false;
        }
        let of_location = |id: &u64| view.location_position(*id).and_then(|at| roles.get(at));
        let mut stack: Vec<Role> =
            sample.location_id.iter().filter_map(of_location).flatten().copied().collect();
        let (why, is_by_kernel) = waits(label("waits_for"));
        if is_by_kernel && is_machine_code(&view, sample) {
            enter_kernel(&mut stack);
        }
        if is_ruby(leaf_file(&view, sample)) {
            // A function in C waits, which its caller stands for.
            stack.insert(0, Role::Wait);
        }
        is_idle(&stack, why)
    };
    profile.sample.iter().map(of_sample).collect()
}

/// Whether the code on top of a sample's stack lies in a file that was mapped, and so made the system call
/// itself.
fn is_machine_code(view: &View<'_>, sample: &Sample) -> bool {
    let leaf = sample.location_id.first().and_then(|id| view.location_position(*id));
    leaf.and_then(|at| view.profile.location.get(at)).is_some_and(|location| location.mapping_id != 0)
}

/// The file of the function on top of a sample's stack, or an empty text.
fn leaf_file<'p>(view: &View<'p>, sample: &Sample) -> &'p str {
    let leaf = sample.location_id.first().and_then(|id| view.location_position(*id));
    let line = leaf.and_then(|at| view.profile.location.get(at)).and_then(|location| location.line.first());
    let function = line.and_then(|line| view.function(line.function_id));
    function.map_or("", |function| view.text(function.filename))
}

/// Takes the code on top of a stack for the way into the kernel. Alone it may be the program's own: then its
/// callers are not known.
fn enter_kernel(stack: &mut [Role]) {
    if let [leaf @ Role::Code, _, ..] = stack {
        *leaf = Role::Wait;
    }
}

/// Whether a blocked thread with these frames, leaf first, is idle.
fn is_idle(stack: &[Role], why: Waits) -> bool {
    let depth = stack.iter().take_while(|role| matches!(role, Role::Wait | Role::Lock)).count();
    let (waits, above) = stack.split_at(depth);
    let may_be = depth > 0 && !waits.contains(&Role::Lock);
    match (above.split_first(), why) {
        (None, _) => may_be && why == Waits::ForWork,
        (Some((Role::Loop, _)), _) => !waits.contains(&Role::Lock),
        (Some((_, rest)), Waits::ForWork) => may_be && is_start(rest),
        (Some((Role::Main, rest)), Waits::ForTime) => may_be && is_start(rest),
        (Some(_), _) => false,
    }
}

/// Whether nothing but the start of a thread or a program is left of a stack. A `main` that was called by what
/// starts programs of another language is a part of that.
fn is_start(rest: &[Role]) -> bool {
    let mut callee = Role::Code;
    rest.iter().all(|role| {
        let before = std::mem::replace(&mut callee, *role);
        matches!((before, role), (_, Role::Wait | Role::Start) | (Role::Start, Role::Main))
    })
}

/// Of each location the roles of its functions, innermost first.
fn roles_of_locations(view: &View<'_>) -> Vec<Vec<Role>> {
    let of_location = |location: &Location| -> Vec<Role> {
        let library = view.mapping(location.mapping_id).map_or("", |mapping| view.text(mapping.filename));
        if location.line.is_empty() {
            // Of a stripped C library the names of functions that are not exported are missing.
            return vec![role("", "", library)];
        }
        location.line.iter().map(|line| of_line(view, line, library)).collect()
    };
    view.profile.location.iter().map(of_location).collect()
}

fn of_line(view: &View<'_>, line: &Line, library: &str) -> Role {
    let function = view.function(line.function_id);
    let (name, file) = function.map_or(("", ""), |f| (view.text(f.name), view.text(f.filename)));
    role(name, file, library)
}

/// The text of a sample's label, or an empty one.
fn label<'p>(profile: &'p Profile, sample: &Sample, key: &str) -> &'p str {
    let strings = &profile.string_table;
    let found = sample.label.iter().find(|label| text(strings, label.key) == key);
    found.map_or("", |label| text(strings, label.str))
}

/// Adds the location of [`IDLE`]; `None` where ids are used up, which no honest profile does.
fn add_location(profile: &mut Profile) -> Option<u64> {
    let name = i64::try_from(profile.string_table.len()).ok()?;
    let function_id =
        profile.function.iter().map(|function| function.id).max().unwrap_or(0).checked_add(1)?;
    let id = profile.location.iter().map(|location| location.id).max().unwrap_or(0).checked_add(1)?;
    profile.string_table.push(IDLE.to_owned());
    profile.function.push(Function { id: function_id, name, system_name: name, ..Function::default() });
    let line = vec![Line { function_id, ..Line::default() }];
    profile.location.push(Location { id, line, ..Location::default() });
    Some(id)
}

#[cfg(test)]
mod runtime_tests;
#[cfg(test)]
mod tests;
