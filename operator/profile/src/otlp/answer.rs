//! What does a server answer to profiles? Its bytes are anything: those who call have bounded them.

use prost::Message;

use super::proto::{ExportProfilesServiceResponse, Status};

/// What a server says that took a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It took everything.
    Taken,
    /// It took everything, and has a remark.
    Remark(String),
    /// It took so many profiles of the request not (above 0), and why.
    Rejected(i64, String),
    /// It is not an answer of OTLP: something else listens there.
    Foreign,
}

/// Reads the body of an answer of success. An empty one is one without remarks.
#[must_use]
pub fn answer(body: &[u8]) -> Answer {
    let Ok(response) = ExportProfilesServiceResponse::decode(body) else { return Answer::Foreign };
    // Unknown fields are skipped when messages are read, and a text may look like some.
    if response.partial_success.is_none() && !body.is_empty() {
        return Answer::Foreign;
    }
    let said = response.partial_success.unwrap_or_default();
    match (said.rejected_profiles, said.error_message.as_str()) {
        (1.., _) => Answer::Rejected(said.rejected_profiles, said.error_message),
        (_, "") => Answer::Taken,
        _ => Answer::Remark(said.error_message),
    }
}

/// The message in the body of a refusal; `None` where there is none.
#[must_use]
pub fn refusal(body: &[u8]) -> Option<String> {
    let status = Status::decode(body).ok()?;
    Some(status.message).filter(|message| !message.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::otlp::proto::ExportProfilesPartialSuccess;

    fn body(rejected: i64, message: &str) -> Vec<u8> {
        let said =
            ExportProfilesPartialSuccess { rejected_profiles: rejected, error_message: message.to_owned() };
        ExportProfilesServiceResponse { partial_success: Some(said) }.encode_to_vec()
    }

    #[test]
    fn a_server_that_took_a_part_says_what_it_did_not_take() {
        assert_eq!(answer(b""), Answer::Taken);
        assert_eq!(answer(&body(0, "")), Answer::Taken);
        assert_eq!(answer(&body(0, "use gzip")), Answer::Remark("use gzip".into()));
        assert_eq!(answer(&body(2, "too old")), Answer::Rejected(2, "too old".into()));
        assert_eq!(answer(&body(-1, "what")), Answer::Remark("what".into()));
    }

    #[test]
    fn a_page_or_json_is_not_taken_for_success() {
        for text in ["<!doctype html>", "{}", "{\"partialSuccess\":{}}", "ok", "OK\n"] {
            assert_eq!(answer(text.as_bytes()), Answer::Foreign, "{text}");
        }
    }

    #[test]
    fn a_refusal_has_a_message() {
        let status = Status { code: 3, message: "no dictionary".into() };
        assert_eq!(refusal(&status.encode_to_vec()), Some("no dictionary".into()));
        assert_eq!(refusal(b""), None);
        assert_eq!(refusal(b"404 page not found"), None);
    }

    proptest! {
        #[test]
        fn whatever_is_answered_is_read(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let rejected = match answer(&body) {
                Answer::Rejected(rejected, _) => rejected,
                _ => 1,
            };
            prop_assert!(rejected > 0);
            prop_assert!(refusal(&body).is_none_or(|message| !message.is_empty()));
        }
    }
}
