//! What is the page? Three files that are built from `operator/plugin/console` and are part of this program; with
//! the feature `speedscope`, one more that the page frames.

use axum::body::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// A file of the page.
pub(super) struct Asset {
    /// Its media type.
    pub(super) media: &'static str,
    /// What is in it.
    pub(super) content: Bytes,
    /// Headers of its own, in place of those of every answer.
    pub(super) own: Vec<(HeaderName, HeaderValue)>,
}

/// The file of a path.
pub(super) fn find(path: &str) -> Option<Asset> {
    let (media, content): (_, &'static [u8]) = match path {
        "/" => ("text/html; charset=utf-8", include_bytes!("../../console/dist/index.html")),
        "/app.js" => ("text/javascript; charset=utf-8", include_bytes!("../../console/dist/app.js")),
        "/style.css" => ("text/css; charset=utf-8", include_bytes!("../../console/dist/style.css")),
        #[cfg(feature = "speedscope")]
        "/speedscope" => return speedscope(),
        _ => return None,
    };
    Some(Asset { media, content: Bytes::from_static(content), own: Vec::new() })
}

/// Speedscope, which its own page may frame, and which may do less than this one but set styles.
#[cfg(feature = "speedscope")]
fn speedscope() -> Option<Asset> {
    let page = &*super::speedscope::PAGE;
    let policy = HeaderValue::try_from(&page.policy).ok()?;
    let own = vec![
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN")),
    ];
    Some(Asset { media: "text/html; charset=utf-8", content: page.html.clone(), own })
}

/// What the page may do: run its own script, ask its own server, and nothing else. Text never becomes code.
macro_rules! policy {
    ($more:literal) => {
        concat!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; ",
            $more,
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; ",
            "trusted-types 'none'"
        )
    };
}
#[cfg(not(feature = "speedscope"))]
const POLICY: &str = policy!("");
/// Where speedscope is framed, what is in the frame cannot lead it elsewhere.
#[cfg(feature = "speedscope")]
const POLICY: &str = policy!("frame-src 'self'; ");

/// The headers of every answer that does not have them yet.
pub(super) fn secure(headers: &mut HeaderMap) {
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in fixed {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    for name in ["cross-origin-opener-policy", "cross-origin-resource-policy"] {
        headers.insert(name, HeaderValue::from_static("same-origin"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_nobody_else_and_has_no_code_of_its_own_in_it() {
        let page = String::from_utf8(find("/").unwrap().content.to_vec()).unwrap();
        for outside in ["http:", "https:", "//", " on", "<style", "javascript:"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("<script").count(), 1);
        assert!(page.contains("<script type=\"module\" src=\"/app.js\"></script>"));
    }

    #[test]
    fn nothing_makes_html_of_text() {
        let script = String::from_utf8(find("/app.js").unwrap().content.to_vec()).unwrap();
        for unsafe_way in
            ["insertAdjacentHTML", "outerHTML", "document.write", "eval(", "new Function", "DOMParser"]
        {
            assert!(!script.contains(unsafe_way), "{unsafe_way}");
        }
    }

    #[test]
    fn other_paths_are_no_files() {
        #[cfg(not(feature = "speedscope"))]
        assert!(find("/speedscope").is_none() && !POLICY.contains("frame-src"));
        for path in ["", "/index.html", "/app.js/", "//app.js", "/../Cargo.toml", "/%2e%2e/app.js"] {
            assert!(find(path).is_none(), "{path}");
        }
    }
}
