//! Does a request come from the console's own page? Pure: a function of method, path and headers.
//!
//! A page of another origin can make the browser send requests here, and one whose name resolves to 127.0.0.1
//! even read what comes back. So the name in `Host` has to be ours, `Origin` must be ours wherever browsers
//! send it, and everything but the page's files takes the token, which no cookie carries.

use http::{HeaderMap, Method, StatusCode, header};

use super::keys::Keys;

/// The header with the token. A form or an image cannot set it.
pub(super) const TOKEN: &str = "x-fleetprof-console";

/// The names by which the page may be asked for.
pub(super) struct Site {
    hosts: [String; 2],
    origins: [String; 2],
}

impl Site {
    /// The site on this port of the loopback address.
    pub(super) fn new(port: u16) -> Self {
        let hosts = ["127.0.0.1", "localhost"].map(|host| match port {
            // Browsers leave out the port of http.
            80 => host.to_owned(),
            port => format!("{host}:{port}"),
        });
        let origins = hosts.clone().map(|host| format!("http://{host}"));
        Self { hosts, origins }
    }
}

/// What a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A file of the page, which holds no secret.
    Asset,
    /// The exchange of a code.
    Session,
    /// The Kubernetes API.
    Api,
}

/// Lets a request through, or says why not. The sentence is for the person who looks into the browser's
/// console, not for the page.
pub(super) fn check(
    site: &Site,
    keys: &Keys,
    purpose: Purpose,
    method: &Method,
    headers: &HeaderMap,
) -> Result<(), (StatusCode, &'static str)> {
    let refuse = |why| Err((StatusCode::FORBIDDEN, why));
    let host = only(headers, header::HOST.as_str());
    if !host.is_some_and(|host| site.hosts.iter().any(|known| known == host)) {
        return refuse("the host of the request is not that of the console: use the link that it printed");
    }
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match only(headers, header::ORIGIN.as_str()) {
        Some(origin) if site.origins.iter().any(|known| known == origin) => {}
        Some(_) => return refuse("the request comes from another page"),
        None if headers.contains_key(header::ORIGIN) => return refuse("the request has several origins"),
        None if reads => {}
        None => return refuse("the request does not say which page it comes from"),
    }
    // Browsers set it; what has none is not a browser, or an old one.
    let navigates = only(headers, "sec-fetch-mode") == Some("navigate");
    match only(headers, "sec-fetch-site") {
        None | Some("same-origin") => {}
        Some(_) if purpose == Purpose::Asset && navigates => {}
        Some(_) => return refuse("the request comes from another page"),
    }
    if purpose == Purpose::Api && !only(headers, TOKEN).is_some_and(|token| keys.is_token(token)) {
        let why = "the page has no token of this console: open the link that it printed, or press Enter in its \
                   terminal for another one";
        return Err((StatusCode::UNAUTHORIZED, why));
    }
    Ok(())
}

/// The value of a header that is given exactly once.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(list: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        headers
    }

    fn code(purpose: Purpose, method: &Method, list: &[(&str, &str)]) -> u16 {
        let keys = Keys::new().unwrap();
        let token = keys.exchange(&keys.issue(Instant::now()).unwrap(), Instant::now()).unwrap().to_owned();
        let list: Vec<(&str, &str)> = list
            .iter()
            .map(|(name, value)| (*name, if *value == "TOKEN" { &token } else { *value }))
            .collect();
        check(&Site::new(8001), &keys, purpose, method, &headers(&list))
            .map_or_else(|(code, _)| code.as_u16(), |()| 200)
    }

    const HOST: (&str, &str) = ("host", "127.0.0.1:8001");
    const OWN: (&str, &str) = ("origin", "http://127.0.0.1:8001");
    const GOOD: (&str, &str) = (TOKEN, "TOKEN");

    #[test]
    fn the_page_itself_is_let_through() {
        assert_eq!(code(Purpose::Asset, &Method::GET, &[HOST]), 200);
        assert_eq!(code(Purpose::Asset, &Method::GET, &[("host", "localhost:8001")]), 200);
        assert_eq!(code(Purpose::Api, &Method::GET, &[HOST, GOOD, ("sec-fetch-site", "same-origin")]), 200);
        assert_eq!(code(Purpose::Api, &Method::POST, &[HOST, OWN, GOOD]), 200);
        assert_eq!(code(Purpose::Session, &Method::POST, &[HOST, OWN]), 200);
    }

    #[test]
    fn names_that_only_resolve_to_this_machine_are_refused() {
        for host in ["evil.example:8001", "127.0.0.1", "127.0.0.1:8002", "127.0.0.1:8001.evil.example", ""] {
            for purpose in [Purpose::Asset, Purpose::Session, Purpose::Api] {
                assert_eq!(code(purpose, &Method::GET, &[("host", host), GOOD]), 403, "{host} {purpose:?}");
            }
        }
        assert_eq!(code(Purpose::Asset, &Method::GET, &[]), 403, "no host");
        assert_eq!(code(Purpose::Asset, &Method::GET, &[HOST, ("host", "evil.example")]), 403, "two hosts");
    }

    #[test]
    fn browsers_leave_out_the_port_80() {
        let keys = Keys::new().unwrap();
        let reads = |port, host| {
            let headers = headers(&[("host", host), ("origin", &format!("http://{host}"))]);
            check(&Site::new(port), &keys, Purpose::Session, &Method::POST, &headers).is_ok()
        };
        assert!(reads(80, "127.0.0.1") && reads(80, "localhost"));
        assert!(!reads(80, "evil.example") && !reads(80, "127.0.0.1:8001") && !reads(80, ""));
        assert!(reads(8001, "localhost:8001") && !reads(8001, "localhost"));
    }

    #[test]
    fn other_pages_are_refused_even_with_the_token() {
        for origin in ["http://evil.example", "null", "http://127.0.0.1:8002", "https://127.0.0.1:8001"] {
            assert_eq!(code(Purpose::Api, &Method::GET, &[HOST, ("origin", origin), GOOD]), 403, "{origin}");
            assert_eq!(code(Purpose::Session, &Method::POST, &[HOST, ("origin", origin)]), 403, "{origin}");
        }
        assert_eq!(code(Purpose::Api, &Method::POST, &[HOST, GOOD]), 403, "a write without an origin");
        assert_eq!(code(Purpose::Session, &Method::POST, &[HOST]), 403);
        assert_eq!(code(Purpose::Api, &Method::POST, &[HOST, OWN, OWN, GOOD]), 403, "two origins");
        for site in ["cross-site", "same-site", "none"] {
            assert_eq!(code(Purpose::Api, &Method::GET, &[HOST, GOOD, ("sec-fetch-site", site)]), 403);
            // An image or a script of another page.
            let image = [HOST, ("sec-fetch-site", site), ("sec-fetch-mode", "no-cors")];
            assert_eq!(code(Purpose::Asset, &Method::GET, &image), 403);
            // A link to the page.
            let link = [HOST, ("sec-fetch-site", site), ("sec-fetch-mode", "navigate")];
            assert_eq!(code(Purpose::Asset, &Method::GET, &link), 200);
            assert_eq!(code(Purpose::Session, &Method::GET, &link), 403);
        }
    }

    #[test]
    fn the_api_takes_the_token() {
        assert_eq!(code(Purpose::Api, &Method::GET, &[HOST]), 401);
        assert_eq!(code(Purpose::Api, &Method::GET, &[HOST, (TOKEN, "guessed")]), 401);
        assert_eq!(code(Purpose::Api, &Method::GET, &[HOST, (TOKEN, "")]), 401);
        assert_eq!(code(Purpose::Api, &Method::GET, &[HOST, GOOD, GOOD]), 401, "twice");
        let cookie = [HOST, ("cookie", "x-fleetprof-console=TOKEN"), ("authorization", "Bearer TOKEN")];
        assert_eq!(code(Purpose::Api, &Method::GET, &cookie), 401);
    }
}
