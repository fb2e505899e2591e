//! What does a session's status mean for the person who waits for it? The code of the command, one line of
//! progress, and what can be done next.

use fleetprof_core::capture::rate;
use fleetprof_core::text::printable;
use fleetprof_crds::session_status::Phase;
use fleetprof_crds::{ProfileKind, ProfileSession, ProfileSessionStatus};
use jiff::Timestamp;

use crate::age;
use crate::exit::Exit;

/// The code for a session; nothing while it goes on.
pub(crate) fn exit(status: &ProfileSessionStatus) -> Option<Exit> {
    match status.phase {
        Phase::Succeeded if status.samples > 0 => Some(Exit::Data),
        Phase::PartiallySucceeded if status.samples > 0 => Some(Exit::Partial),
        phase if phase.is_terminal() => Some(Exit::Error),
        _ => None,
    }
}

/// How far a session is, in one line.
pub(crate) fn progress(session: &ProfileSession, now: Timestamp) -> String {
    let default = ProfileSessionStatus::default();
    let status = session.status.as_ref().unwrap_or(&default);
    let mut said = vec![status.phase.as_str().to_owned()];
    if let (Phase::Running, Some(start)) = (status.phase, &status.running_time) {
        let passed = now.as_second().saturating_sub(start.0.as_second()).max(0);
        said.push(format!("{passed} s of {} s", seconds(session)));
    }
    let counts = status.counts;
    if counts.desired > 0 {
        said.push(match counts.failed + counts.skipped {
            0 => format!("{} targets", counts.desired),
            lost => format!("{} targets, {lost} failed or skipped", counts.desired),
        });
    }
    if !status.message.is_empty() {
        said.push(printable(&status.message));
    } else if let Some(reason) = status.reason {
        said.push(reason.as_str().to_owned());
    }
    said.join(" · ")
}

/// How long the longest capture of the session takes: a policy with a goal for samples may need less than it allows.
fn seconds(session: &ProfileSession) -> u32 {
    let targets = session.status.iter().flat_map(|status| &status.targets);
    let longest = targets.map(|target| rate(session, target).seconds).max();
    longest.unwrap_or_else(|| session.spec.duration.as_secs())
}

/// How much of the capture has passed, in percent; nothing before it begins.
pub(crate) fn percent(session: &ProfileSession, now: Timestamp) -> Option<u64> {
    let status = session.status.as_ref()?;
    let start = status.running_time.as_ref()?;
    if status.phase > Phase::Running {
        return Some(100);
    }
    let passed = now.as_second().saturating_sub(start.0.as_second()).max(0);
    let whole = i64::from(seconds(session)).max(1);
    u64::try_from(passed.min(whole) * 100 / whole).ok()
}

/// The commands to go on with, for the session of this name. `flags` begin with a space.
pub(crate) fn next_steps(
    name: &str,
    kinds: &[ProfileKind],
    last_good: Option<&str>,
    flags: &str,
) -> Vec<String> {
    let command = |verb: &str, more: &str| format!("kubectl fleetprof {verb} {name}{more}{flags}");
    let mut steps = vec![command("top", ""), command("flame", &format!(" -o {name}.html"))];
    steps.extend(kinds.iter().skip(1).take(1).map(|kind| command("top", &format!(" --type {kind}"))));
    steps.extend(last_good.map(|base| command("diff", &format!(" --base {base}"))));
    steps
}

/// The sentence on what a session came to.
pub(crate) fn outcome(name: &str, status: &ProfileSessionStatus, now: Timestamp) -> String {
    let mut said = format!("Session {name}: {}", status.phase.as_str());
    if let Some(reason) = status.reason.filter(|reason| reason.as_str() != status.phase.as_str()) {
        said.push_str(&format!(" ({reason})"));
    }
    if let (Some(start), Some(end)) = (&status.start_time, &status.end_time) {
        said.push_str(&format!(" after {}", age::age(end.0.min(now), start.0)));
    }
    if !status.message.is_empty() {
        said.push_str(&format!(". {}", printable(&status.message).trim_end_matches('.')));
    }
    if let Some(advice) = status.reason.map(|reason| reason.advice()).filter(|advice| !advice.is_empty()) {
        said.push_str(&format!(". What to do: {advice}"));
    }
    said
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn session(status: &serde_json::Value) -> ProfileSession {
        let mut session = ProfileSession::new(
            "now-1",
            serde_json::from_value(json!({"policyRef": {"name": "shop"}, "duration": "30s"})).unwrap(),
        );
        session.status = serde_json::from_value(status.clone()).unwrap();
        session
    }

    #[test]
    fn the_code_tells_data_from_none_and_from_a_part() {
        let cases = [
            ("Succeeded", 10, Some(Exit::Data)),
            ("Succeeded", 0, Some(Exit::Error)),
            ("PartiallySucceeded", 10, Some(Exit::Partial)),
            ("Failed", 0, Some(Exit::Error)),
            ("Cancelled", 10, Some(Exit::Error)),
            ("Expired", 0, Some(Exit::Error)),
            ("Processing", 10, None),
            ("Pending", 0, None),
            ("OfANewerVersion", 0, None),
        ];
        for (phase, samples, wanted) in cases {
            let status = session(&json!({"phase": phase, "samples": samples, "counts": {"desired": 1, "started": 1, "succeeded": 0, "failed": 0, "skipped": 0}})).status.unwrap();
            assert_eq!(exit(&status), wanted, "{phase} {samples}");
        }
    }

    #[test]
    fn progress_is_one_line_with_time_and_targets() {
        let running = session(
            &json!({"phase": "Running", "runningTime": "1970-01-01T00:00:10Z", "reason": "Capturing",
            "counts": {"desired": 3, "started": 3, "succeeded": 0, "failed": 1, "skipped": 0}}),
        );
        let now = Timestamp::from_second(22).unwrap();
        assert_eq!(
            progress(&running, now),
            "Running · 12 s of 30 s · 3 targets, 1 failed or skipped · Capturing"
        );
        assert_eq!(percent(&running, now), Some(40));
        assert_eq!(percent(&running, Timestamp::from_second(500).unwrap()), Some(100));
        let short = session(&json!({"phase": "Running", "runningTime": "1970-01-01T00:00:10Z",
            "targets": [{"pod": "a", "effectiveDuration": "15s"}, {"pod": "b", "effectiveDuration": "20s"}],
            "counts": {"desired": 2, "started": 2, "succeeded": 0, "failed": 0, "skipped": 0}}));
        assert_eq!(progress(&short, now), "Running · 12 s of 20 s · 2 targets");
        assert_eq!(percent(&short, now), Some(60));
        let pending = session(&json!(null));
        assert_eq!((progress(&pending, now).as_str(), percent(&pending, now)), ("Pending", None));
    }

    #[test]
    fn the_next_steps_can_be_pasted() {
        let steps = next_steps("now-1", &[ProfileKind::Cpu], Some("old"), " -n shop --context 'a b'");
        assert_eq!(
            steps,
            [
                "kubectl fleetprof top now-1 -n shop --context 'a b'",
                "kubectl fleetprof flame now-1 -o now-1.html -n shop --context 'a b'",
                "kubectl fleetprof diff now-1 --base old -n shop --context 'a b'",
            ]
        );
        let kinds = [ProfileKind::Cpu, ProfileKind::Wall];
        assert_eq!(next_steps("a", &kinds, None, "")[2], "kubectl fleetprof top a --type wall");
    }

    #[test]
    fn a_message_of_others_stays_on_its_line_and_drives_no_terminal() {
        let status = json!({"phase": "Failed", "message": "pod \u{1b}[2Kx\u{202e}\nSession now-1: Succeeded",
            "counts": {"desired": 0, "started": 0, "succeeded": 0, "failed": 0, "skipped": 0}});
        let session = session(&status);
        assert_eq!(progress(&session, Timestamp::UNIX_EPOCH), "Failed · pod [2Kx Session now-1: Succeeded");
        assert_eq!(
            outcome("now-1", &session.status.unwrap(), Timestamp::UNIX_EPOCH),
            "Session now-1: Failed. pod [2Kx Session now-1: Succeeded"
        );
    }

    #[test]
    fn the_outcome_says_what_to_do() {
        let failed =
            session(&json!({"phase": "Failed", "reason": "NoMatchingPods", "message": "No pod matches.",
            "counts": {"desired": 0, "started": 0, "succeeded": 0, "failed": 0, "skipped": 0}}));
        let said = outcome("now-1", &failed.status.unwrap(), Timestamp::UNIX_EPOCH);
        assert!(
            said.starts_with(
                "Session now-1: Failed (NoMatchingPods). No pod matches. What to do: check the selector"
            ),
            "{said}"
        );
    }
}
