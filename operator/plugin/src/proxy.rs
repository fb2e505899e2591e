//! Through which proxy is the API server reached? kube matches `NO_PROXY` against the proxy's own address, so
//! this is worked out here, by the rules of Go's clients: a `proxy-url` in the kubeconfig always counts, and
//! the proxy of the environment where `NO_PROXY` does not hold the API server's address.

use std::net::IpAddr;

use ipnet::IpNet;
use kube::config::Kubeconfig;

/// Where the kubeconfig names a proxy.
pub(crate) const OF_KUBECONFIG: &str = "proxy-url in the kubeconfig";

/// A proxy, and who says that it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// A variable of the environment, or [`OF_KUBECONFIG`].
    pub(crate) of: &'static str,
    /// May have a password, so it is not printed. Not parsed yet.
    pub(crate) url: String,
}

/// The proxy for the API server at `host` and `port`; `variable` reads the environment.
pub(crate) fn choose(
    of_kubeconfig: Option<&str>,
    (scheme, host, port): (&str, &str, u16),
    variable: impl Fn(&str) -> Option<String>,
) -> Option<Proxy> {
    let given = |name: &str| {
        let set = |name: &str| Some(variable(name)?.trim().to_owned()).filter(|text| !text.is_empty());
        set(name).or_else(|| set(&name.to_lowercase()))
    };
    if let Some(proxy) = of_kubeconfig {
        return Some(Proxy { of: OF_KUBECONFIG, url: proxy.to_owned() });
    }
    let of = if scheme == "http" { "HTTP_PROXY" } else { "HTTPS_PROXY" };
    let proxy = given(of)?;
    let except = given("NO_PROXY").unwrap_or_default();
    (!is_local(host) && !except.split(',').any(|rule| covers(rule.trim(), host, port))).then(|| Proxy {
        of,
        url: match proxy.contains("://") {
            true => proxy,
            false => format!("http://{proxy}"),
        },
    })
}

/// The `proxy-url` of the only cluster.
pub(crate) fn of_kubeconfig(chosen: &Kubeconfig) -> Option<&str> {
    let url = chosen.clusters.first().and_then(|named| named.cluster.as_ref()?.proxy_url.as_deref());
    url.filter(|url| !url.is_empty())
}

/// Go sends nothing for this machine through a proxy.
fn is_local(host: &str) -> bool {
    host == "localhost" || address(host).is_some_and(|address| address.is_loopback())
}

fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Whether a rule of `NO_PROXY` covers the address: `*`, an IP address, a network, `example.com` with all
/// below it, or `.example.com` with what is below it; each but a network with a port, if that is given.
fn covers(rule: &str, host: &str, port: u16) -> bool {
    if rule.is_empty() {
        return false;
    }
    if rule == "*" {
        return true;
    }
    if let (Ok(network), Some(address)) = (rule.parse::<IpNet>(), address(host)) {
        return network.contains(&address);
    }
    let (name, of_port) = split_port(rule);
    if of_port.is_some_and(|wanted| wanted != port) {
        return false;
    }
    if let (Some(one), Some(other)) = (address(name), address(host)) {
        return one == other;
    }
    let (name, host) = (name.to_lowercase(), host.to_lowercase());
    let below = name.strip_prefix("*.").or_else(|| name.strip_prefix('.'));
    match below {
        Some(name) => host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
        None => host == name || host.strip_suffix(&*name).is_some_and(|rest| rest.ends_with('.')),
    }
}

/// The port at the end of a rule. An IPv6 address has colons of its own.
fn split_port(rule: &str) -> (&str, Option<u16>) {
    if address(rule).is_some() {
        return (rule, None);
    }
    match rule.rsplit_once(':').map(|(name, port)| (name, port.parse().ok())) {
        Some((name, Some(port))) => (name, Some(port)),
        _ => (rule, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(of_kubeconfig: Option<&str>, host: &str, environment: &[(&str, &str)]) -> Option<String> {
        let variable = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        choose(of_kubeconfig, ("https", host, 6443), variable).map(|proxy| proxy.url)
    }

    #[test]
    fn no_proxy_is_matched_against_the_api_server() {
        let cases = [
            ("api.example.com", "", true),
            ("api.example.com", "example.com", false),
            ("example.com", "example.com", false),
            ("example.com", ".example.com", true),
            ("api.example.com", "*.example.com", false),
            ("notexample.com", "example.com", true),
            ("api.example.com", "EXAMPLE.com:6443", false),
            ("api.example.com", "example.com:443", true),
            ("api.example.com", "proxy.example.com", true),
            ("10.1.2.3", "10.1.0.0/16", false),
            ("10.2.2.3", "10.1.0.0/16", true),
            ("10.1.2.3", "10.1.2.3", false),
            ("10.1.2.3", "10.1.2.3:443", true),
            ("10.1.2.3", "other, 10.0.0.0/8", false),
            ("[fd00::1]", "fd00::/8", false),
            ("[fd00::1]", "fd00::1", false),
            ("10.1.2.3", "10.1.7.7/16", false),
            ("10.1.2.3", "10.1.0.0/33", true),
            ("10.1.2.3", "fd00::/8", true),
            ("api.example.com", "10.0.0.0/8", true),
            ("10.1.2.3", "0.0.0.0/0", false),
            ("10.1.2.3", "*", false),
            ("localhost", "", false),
            ("127.0.0.1", "", false),
        ];
        for (host, except, proxied) in cases {
            let environment = [("HTTPS_PROXY", "http://proxy.example.com:3128"), ("NO_PROXY", except)];
            assert_eq!(
                chosen(None, host, &environment).is_some(),
                proxied,
                "{host} with NO_PROXY={except:?}"
            );
        }
    }

    #[test]
    fn a_proxy_of_the_kubeconfig_counts_whatever_the_environment_says() {
        let all = [("NO_PROXY", "*"), ("HTTPS_PROXY", "http://other:1")];
        assert_eq!(chosen(Some("socks5://p:1"), "api", &all).as_deref(), Some("socks5://p:1"));
        assert_eq!(chosen(None, "api", &[("https_proxy", "p:3128")]).as_deref(), Some("http://p:3128"));
        assert_eq!(chosen(None, "api", &[("HTTP_PROXY", "http://p:1")]), None, "that is for http");
    }

    #[test]
    fn a_variable_that_is_empty_is_not_set() {
        let lower = [("HTTPS_PROXY", " "), ("https_proxy", "http://p:1")];
        assert_eq!(chosen(None, "api.corp", &lower).as_deref(), Some("http://p:1"));
        let except = [("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", ""), ("no_proxy", ".corp")];
        assert_eq!(chosen(None, "api.corp", &except), None);
    }
}
