//! What came of a check, and where is it explained?

use fleetprof_core::text::{is_unprintable, printable};
use fleetprof_crds::Reason;
use serde::Serialize;

use crate::exit::Failure;

/// The guide whose entries name reasons; compiled in, so that every hint leads to a heading that there is.
const GUIDE: &str = include_str!("../../../../docs/known-issues.md");

/// How serious it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it should be.
    Passed,
    /// Worth knowing; nothing fails.
    Warning,
    /// Something does not work.
    Failed,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// Stable: the reason as in conditions and events, or what was looked at.
    pub(super) id: &'static str,
    pub(super) level: Level,
    pub(super) message: String,
    /// What to do; empty if nothing.
    pub(super) advice: String,
    /// Where it is explained; empty where no guide has more to say.
    pub(super) hint: String,
}

impl Check {
    /// What was looked at is as it should be.
    pub(super) fn passed(id: &'static str, message: impl Into<String>) -> Self {
        Self { id, level: Level::Passed, message: message.into(), advice: String::new(), hint: String::new() }
    }

    /// It is not.
    pub(super) fn of(
        id: &'static str,
        level: Level,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { level, advice: advice.into(), ..Self::passed(id, message) }
    }

    /// It could not be looked at.
    pub(super) fn failure(id: &'static str, error: &Failure) -> Self {
        let said = error.to_string();
        let (message, advice) = said.split_once('\n').unwrap_or((&said, ""));
        Self::of(id, Level::Failed, message, advice.trim())
    }

    /// It is not, for a reason of the API.
    pub(super) fn reason(reason: Reason, level: Level, message: impl Into<String>) -> Self {
        let check = Self::of(reason.as_str(), level, message, reason.advice());
        Self { hint: hint(reason, GUIDE).unwrap_or_default(), ..check }
    }

    /// A line, and below it what to do.
    pub(super) fn text(&self) -> String {
        let (mark, colour) = match self.level {
            Level::Passed => ("√", "\x1b[32m"),
            Level::Warning => ("‼", "\x1b[33m"),
            Level::Failed => ("×", "\x1b[31m"),
        };
        let plain =
            |text: &str| text.chars().map(|c| if is_unprintable(c) { ' ' } else { c }).collect::<String>();
        let mut text = format!("{colour}{mark}\x1b[0m {}: {}\n", self.id, plain(&self.message));
        for (label, more) in [("what to do", &self.advice), ("see", &self.hint)] {
            if !more.is_empty() {
                text.push_str(&format!("    {label}: {}\n", indented(more)));
            }
        }
        text
    }
}

/// Lines below the first one under a label. Advice quotes names that others chose.
fn indented(text: &str) -> String {
    text.trim_end().lines().map(printable).collect::<Vec<_>>().join("\n    ")
}

/// The heading of the guide whose entry names the reason, as a link.
fn hint(reason: Reason, guide: &str) -> Option<String> {
    let name = format!("`{reason}`");
    let mut heading = None;
    for line in guide.lines() {
        match line.strip_prefix("### ") {
            Some(text) => heading = Some(text),
            None if line.starts_with("- **Reason**:") && line.contains(&name) => {
                return heading.map(|heading| format!("docs/known-issues.md#{}", anchor(heading)));
            }
            None => {}
        }
    }
    None
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_lead_to_headings_of_the_guide() {
        assert_eq!(
            hint(Reason::UnknownUser, GUIDE).as_deref(),
            Some("docs/known-issues.md#the-apps-image-sets-the-user-so-the-pod-has-no-sidecar")
        );
        let found = Reason::ALL.iter().filter(|reason| hint(**reason, GUIDE).is_some()).count();
        assert!(found > 30, "{found} reasons have an entry");
    }

    #[test]
    fn what_cannot_be_looked_at_is_a_failed_check_with_the_command_that_helps() {
        let error =
            Failure::refused(403, "user ada may not list it, ask for:\n  kubectl create rolebinding x");
        let check = Check::failure("Policies", &error);
        assert_eq!((check.id, check.level), ("Policies", Level::Failed));
        assert_eq!(check.message, "user ada may not list it, ask for:");
        assert_eq!(check.advice, "kubectl create rolebinding x");
    }

    #[test]
    fn a_check_says_what_to_do_and_cannot_move_the_cursor() {
        let check = Check::reason(Reason::UnknownUser, Level::Failed, "orders-1\u{1b}[2J");
        let text = check.text();
        assert!(
            text.contains("UnknownUser: orders-1 [2J\n    what to do: set securityContext.runAsUser"),
            "{text:?}"
        );
        assert!(text.contains("    see: docs/known-issues.md#"), "{text:?}");
    }
}
