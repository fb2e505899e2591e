//! What is speedscope here? One page with everything in it, which can ask nobody and reach nothing of the console.
//!
//! The page that shows a profile frames it. The header makes it a document without an origin, wherever it is opened:
//! it cannot read the token, and a request of it comes from `null`, which the guard refuses. It may run these two
//! scripts and no other; the profile comes as a message (`bridge.js`).

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Bytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A file of the folder that `tests/speedscope.sh` installs.
macro_rules! installed {
    ($name:literal) => {
        concat!(
            env!(
                "FLEETPROF_SPEEDSCOPE",
                "the feature speedscope embeds files of the npm package: FLEETPROF_SPEEDSCOPE must name their \
                 folder, which tests/speedscope.sh installs and prints"
            ),
            "/",
            $name
        )
    };
}

const BRIDGE: &str = include_str!("../../console/speedscope/bridge.js");
const SCRIPT: &str = include_str!(installed!("speedscope.js"));
const STYLE: &str = include_str!(installed!("speedscope.css"));
const FONT: &[u8] = include_bytes!(installed!("font.woff2"));
const LICENCES: &str = include_str!(installed!("LICENSES"));
/// How the style names its font.
const FONT_FILE: &str = "./SourceCodePro-Regular.ttf-ILST5JV6.woff2";

/// The page, and what it may do.
pub(super) struct Page {
    pub(super) html: Bytes,
    pub(super) policy: String,
}

/// The page. It is put together when it is first asked for.
pub(super) static PAGE: LazyLock<Page> = LazyLock::new(|| Page {
    html: html().into(),
    // Names of C++ are read by WebAssembly; styles are set by the script.
    policy: format!(
        "default-src 'none'; script-src '{}' '{}' 'wasm-unsafe-eval'; style-src 'unsafe-inline'; font-src data:; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; sandbox allow-scripts",
        hash(BRIDGE),
        hash(SCRIPT)
    ),
});

fn html() -> String {
    let font = format!("data:font/woff2;base64,{}", STANDARD.encode(FONT));
    let style = STYLE.replace(FONT_FILE, &font);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>speedscope</title>\n\
         <!--\n{LICENCES}\n-->\n<style>{style}</style>\n<body>\n<script>{BRIDGE}</script>\n\
         <script>{SCRIPT}</script>\n</body>\n</html>\n"
    )
}

/// A script as the policy names it.
fn hash(script: &str) -> String {
    format!("sha256-{}", STANDARD.encode(digest(&SHA256, script.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_asks_for_no_other_file() {
        let html = std::str::from_utf8(&PAGE.html).unwrap();
        assert_eq!(html.matches("<script>").count(), 2, "a script that ends early is another one");
        assert_eq!(html.matches("</script").count(), 2);
        assert_eq!(html.matches("-->").count(), 1, "the licences end the comment");
        // A browser reads these as one line feed, and would find another hash.
        assert!(!html.contains('\r'));
        let style = html.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
        assert!(style.contains("url(\"data:font/woff2;base64,"), "the font has another name");
        assert_eq!(style.matches("url(").count(), 1);
        assert!(html.contains("MIT License") && html.contains("SIL OPEN FONT LICENSE"));
    }

    #[test]
    fn it_may_run_its_scripts_and_ask_nobody() {
        let policy = &PAGE.policy;
        for part in ["default-src 'none'", "frame-ancestors 'self'", "sandbox allow-scripts", "'sha256-"] {
            assert!(policy.contains(part), "{policy}");
        }
        for part in ["connect-src", "'self' ", "allow-same-origin", "'unsafe-eval'", "http", "allow-popups"] {
            assert!(!policy.contains(part), "{policy}");
        }
    }
}
