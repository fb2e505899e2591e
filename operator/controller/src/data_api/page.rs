//! How is a call tree shown in a browser without trusting anything in it? As one file that needs no other.
//!
//! ```text
//! page/flame.css ─┐ hashed: the policy allows these two, and nothing else
//! page/flame.js ──┼─► page ◄── the columns, as JSON in a script that no browser runs
//! ```
//! The policy is in the header and in the page, so that it holds for saved pages too. The script puts names
//! on a canvas and into text nodes only.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::bounded;
use super::status::Refusal;
use super::views::Rendered;
use crate::sha256::sha256;

const STYLE: &str = include_str!("page/flame.css");
const SCRIPT: &str = include_str!("page/flame.js");

/// What a page may do. `frame-ancestors` counts in the header only.
static POLICY: LazyLock<String> = LazyLock::new(|| format!("{}; frame-ancestors 'none'", of_page()));

/// What stands before the data.
static HEAD: LazyLock<String> = LazyLock::new(|| {
    format!(
        r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{}">
<meta name="viewport" content="width=device-width">
<title>fleetprof</title>
<style>{STYLE}</style>
<header>
<h1 id="title"></h1>
<label>Search <input id="search" type="search" autocomplete="off"></label>
<p id="info" role="status" aria-live="polite"></p>
</header>
<div id="graph"><canvas id="canvas" tabindex="0" aria-describedby="info"></canvas></div>
<script id="data" type="application/json">"#,
        of_page()
    )
});

/// What comes after the data.
static TAIL: LazyLock<String> = LazyLock::new(|| format!("</script>\n<script>{SCRIPT}</script>\n</html>\n"));

fn of_page() -> String {
    let hash = |text: &str| STANDARD.encode(sha256(text.as_bytes()));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; base-uri 'none'; \
         form-action 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
}

/// The page that shows these columns.
///
/// # Errors
/// 413: they are too large.
pub(super) fn page(columns: &impl Serialize) -> Result<Rendered, Refusal> {
    let data = bounded::json_for_html(columns)?;
    let body = [HEAD.as_bytes(), &data, TAIL.as_bytes()].concat();
    Ok(Rendered {
        content_type: "text/html; charset=utf-8",
        extension: None,
        policy: Some(POLICY.as_str()),
        body: body.into(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(data: &serde_json::Value) -> String {
        String::from_utf8(page(data).unwrap().body.to_vec()).unwrap()
    }

    #[test]
    fn hostile_names_are_only_data() {
        let name = "</script><script>alert(1)</script><!--";
        let text = text(&json!({"names": [name]}));
        assert_eq!(text.matches("</script>").count(), 2, "one of the data, one of the script");
        assert_eq!(text.matches("<script").count(), 2);
        assert!(!text.contains("<!--"), "{text}");
    }

    #[test]
    fn the_policy_allows_what_is_in_the_page_and_nothing_else() {
        let text = text(&json!({}));
        let between = |start: &str, end: &str| {
            let (_, rest) = text.split_once(start).unwrap();
            rest.split_once(end).unwrap().0.to_owned()
        };
        for (source, code) in
            [("script-src", between("<script>", "</script>")), ("style-src", between("<style>", "</style>"))]
        {
            let hash = STANDARD.encode(sha256(code.as_bytes()));
            assert!(POLICY.contains(&format!("{source} 'sha256-{hash}'")), "{source}: {}", *POLICY);
        }
        assert!(text.contains(&format!("content=\"{}\"", of_page())));
        assert!(POLICY.starts_with("default-src 'none'; "));
        for outside in ["http://", "https://", "src=", "href=", " style=", " onclick="] {
            assert!(!text.contains(outside), "{outside}");
        }
    }

    /// A page is small beside its data, and what it does can be read by who has to trust it.
    #[test]
    fn the_script_is_small_and_writes_no_html() {
        assert!(SCRIPT.len() < 8 << 10, "{}", SCRIPT.len());
        for unsafe_way in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Function("]
        {
            assert!(!SCRIPT.contains(unsafe_way), "{unsafe_way}");
        }
        assert!(!SCRIPT.contains("</"), "it would end itself");
    }
}
