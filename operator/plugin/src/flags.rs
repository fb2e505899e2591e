//! Which flags choose the cluster, the user and the namespace? Those of kubectl, under kubectl's names.
//!
//! kubectl passes everything after the plugin's name on, so these flags stand behind `kubectl fleetprof`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};
use jiff::SignedDuration;
use kube::config::{AuthInfo, Cluster, Context, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext};

use crate::exit::Failure;
use crate::refusal::quoted;

/// The flags of kubectl's configuration.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Flags of kubectl")]
pub(crate) struct Flags {
    /// Path to the kubeconfig file to use; by default KUBECONFIG, else ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The name of the kubeconfig context to use.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The name of the kubeconfig cluster to use.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// The name of the kubeconfig user to use.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// The namespace; by default that of the context.
    #[arg(long, short = 'n', global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Username to impersonate: a user, or a service account as system:serviceaccount:NAMESPACE:NAME.
    #[arg(long = "as", global = true, value_name = "USER")]
    pub(crate) as_user: Option<String>,
    /// Group to impersonate; may be given several times.
    #[arg(long = "as-group", global = true, value_name = "GROUP")]
    pub(crate) as_group: Vec<String>,
    /// UID to impersonate.
    #[arg(long = "as-uid", global = true, value_name = "UID")]
    pub(crate) as_uid: Option<String>,
    /// How long one request may take, such as 10, 1s or 2m; 0 means no limit.
    #[arg(long, global = true, default_value = "0", value_name = "TIME", value_parser = request_timeout)]
    pub(crate) request_timeout: Duration,
    /// Address of the Kubernetes API server.
    #[arg(long, short = 's', global = true, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Bearer token for the API server.
    #[arg(long, global = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// Name expected in the API server's certificate, if it differs from the host of its address.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) tls_server_name: Option<String>,
    /// Path to a certificate file of the authority that signed the API server's certificate.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) certificate_authority: Option<PathBuf>,
    /// Path to a client certificate file.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) client_certificate: Option<PathBuf>,
    /// Path to the key of the client certificate.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) client_key: Option<PathBuf>,
    /// Do not check the API server's certificate. This makes the connection insecure.
    #[arg(long, global = true, value_name = "true|false", num_args = 0..=1, require_equals = true)]
    #[arg(action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    #[arg(default_value = "false", default_missing_value = "true", hide_default_value = true)]
    pub(crate) insecure_skip_tls_verify: bool,
    /// Do not ask for compressed responses.
    // Whoever passes one set of flags to every command of kubectl passes these too.
    #[arg(long, global = true, hide = true, num_args = 0..=1, require_equals = true)]
    #[arg(action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    #[arg(default_value = "false", default_missing_value = "true")]
    pub(crate) disable_compression: bool,
    /// Where kubectl keeps which APIs there are; this plugin keeps nothing.
    #[arg(long, global = true, hide = true, value_name = "FOLDER")]
    pub(crate) cache_dir: Option<OsString>,
}

/// Name of the only context that [`Flags::apply`] leaves.
const CHOSEN: &str = "chosen";

impl Flags {
    /// Whether the cluster is named here, so that no kubeconfig is needed.
    pub(crate) const fn names_cluster(&self) -> bool {
        self.server.is_some() || self.context.is_some() || self.cluster.is_some()
    }

    /// The kubeconfig with one context, cluster and user: those that the flags choose, changed by the flags.
    ///
    /// # Errors
    /// The context or the cluster does not exist.
    pub(crate) fn apply(&self, kubeconfig: &Kubeconfig) -> Result<Kubeconfig, Failure> {
        let mut context = self.context(kubeconfig)?;
        let mut cluster = self.cluster(kubeconfig, &context.cluster)?;
        let mut user = self.user(kubeconfig, context.user.as_deref());
        let namespace = self.namespace.clone().or(context.namespace);
        context.namespace = namespace.filter(|namespace| !namespace.is_empty());
        self.change_cluster(&mut cluster);
        self.change_user(&mut user);
        context.cluster = CHOSEN.into();
        context.user = Some(CHOSEN.into());
        Ok(Kubeconfig {
            current_context: Some(CHOSEN.into()),
            contexts: vec![NamedContext {
                name: CHOSEN.into(),
                context: Some(context),
                ..NamedContext::default()
            }],
            clusters: vec![NamedCluster {
                name: CHOSEN.into(),
                cluster: Some(cluster),
                ..NamedCluster::default()
            }],
            auth_infos: vec![NamedAuthInfo {
                name: CHOSEN.into(),
                auth_info: Some(user),
                ..NamedAuthInfo::default()
            }],
            ..Kubeconfig::default()
        })
    }

    /// The flags without which a command would mean another cluster, user or namespace, for kubectl and this
    /// plugin, each with a space before it. Without the token, which would stay in histories and logs.
    pub(crate) fn repeated(&self, namespace: &str) -> String {
        let words = [vec!["-n".to_owned(), namespace.to_owned()], self.choosing()].concat();
        words.iter().map(|word| format!(" {}", quoted(word))).collect()
    }

    /// The flags that choose cluster and user, word by word and not quoted. Without the token.
    pub(crate) fn choosing(&self) -> Vec<String> {
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        let given = [
            ("--kubeconfig", self.kubeconfig.as_ref().map(path)),
            ("--context", self.context.clone()),
            ("--cluster", self.cluster.clone()),
            ("--user", self.user.clone()),
            ("--server", self.server.clone()),
            ("--tls-server-name", self.tls_server_name.clone()),
            ("--certificate-authority", self.certificate_authority.as_ref().map(path)),
            ("--client-certificate", self.client_certificate.as_ref().map(path)),
            ("--client-key", self.client_key.as_ref().map(path)),
            ("--as", self.as_user.clone()),
            ("--as-uid", self.as_uid.clone()),
        ];
        let given = given.into_iter().filter_map(|(flag, value)| Some((flag, value?)));
        let groups = self.as_group.iter().map(|group| ("--as-group", group.clone()));
        let mut all: Vec<String> =
            given.chain(groups).flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        if self.insecure_skip_tls_verify {
            all.push("--insecure-skip-tls-verify".to_owned());
        }
        all
    }

    fn context(&self, kubeconfig: &Kubeconfig) -> Result<Context, Failure> {
        let Some(name) = self.context.as_ref().or(kubeconfig.current_context.as_ref()) else {
            return match self.server.is_some() || self.cluster.is_some() {
                true => Ok(Context::default()),
                false => Err(Failure::error(
                    "the kubeconfig has no current context: choose one with kubectl config use-context, or \
                     pass --context",
                )),
            };
        };
        let found = kubeconfig.contexts.iter().find(|known| &known.name == name);
        found.and_then(|known| known.context.clone()).ok_or_else(|| {
            let known = names(kubeconfig.contexts.iter().map(|known| known.name.as_str()));
            Failure::error(format!("the kubeconfig has no context {name:?}; it has {known}"))
        })
    }

    fn cluster(&self, kubeconfig: &Kubeconfig, of_context: &str) -> Result<Cluster, Failure> {
        let name = self.cluster.as_deref().unwrap_or(of_context);
        let found = kubeconfig.clusters.iter().find(|known| known.name == name);
        match found.and_then(|known| known.cluster.clone()) {
            Some(cluster) => Ok(cluster),
            None if self.server.is_some() && self.cluster.is_none() => Ok(Cluster::default()),
            None => {
                let known = names(kubeconfig.clusters.iter().map(|known| known.name.as_str()));
                Err(Failure::error(format!("the kubeconfig has no cluster {name:?}; it has {known}")))
            }
        }
    }

    /// An unknown user is nobody, as with kubectl: a context for `kubectl proxy` has none.
    fn user(&self, kubeconfig: &Kubeconfig, of_context: Option<&str>) -> AuthInfo {
        let name = self.user.as_deref().or(of_context);
        let found = kubeconfig.auth_infos.iter().find(|known| Some(known.name.as_str()) == name);
        found.and_then(|known| known.auth_info.clone()).unwrap_or_default()
    }

    fn change_cluster(&self, cluster: &mut Cluster) {
        if let Some(server) = &self.server {
            cluster.server = Some(match server.contains("://") {
                true => server.clone(),
                // As kubectl reads an address without a scheme.
                false => format!("http://{server}"),
            });
        }
        if let Some(name) = &self.tls_server_name {
            cluster.tls_server_name = Some(name.clone());
        }
        if let Some(file) = &self.certificate_authority {
            cluster.certificate_authority = Some(file.to_string_lossy().into_owned());
            cluster.certificate_authority_data = None;
        }
        if self.disable_compression {
            cluster.disable_compression = Some(true);
        }
        if self.insecure_skip_tls_verify {
            cluster.insecure_skip_tls_verify = Some(true);
            (cluster.certificate_authority, cluster.certificate_authority_data) = (None, None);
        }
    }

    fn change_user(&self, user: &mut AuthInfo) {
        if let Some(token) = &self.token {
            (user.token_file, user.exec, user.auth_provider) = (None, None, None);
            (user.username, user.password) = (None, None);
            user.token = Some(token.clone().into());
        }
        if let Some(file) = &self.client_certificate {
            user.client_certificate = Some(file.to_string_lossy().into_owned());
            user.client_certificate_data = None;
        }
        if let Some(file) = &self.client_key {
            user.client_key = Some(file.to_string_lossy().into_owned());
            user.client_key_data = None;
        }
        if let Some(name) = &self.as_user {
            user.impersonate = Some(name.clone());
        }
        if let Some(uid) = &self.as_uid {
            user.impersonate_uid = Some(uid.clone());
        }
        if !self.as_group.is_empty() {
            user.impersonate_groups = Some(self.as_group.clone());
        }
    }
}

/// At most ten names, for an error.
fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<&str> = names.collect();
    match all.len() {
        0 => "none".to_owned(),
        1..=10 => all.join(", "),
        more => format!("{} and {} others", all[..10].join(", "), more - 10),
    }
}

/// Seconds, or a time with a unit, as kubectl takes it.
fn request_timeout(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    span(text).ok_or_else(|| format!("{text:?} is not a time: use seconds, or a unit as in 30s or 2m"))
}

/// A time such as `90s`, `1m30s`, `1.5h` or `500ms`.
pub(crate) fn span(text: &str) -> Option<Duration> {
    // kube's Duration panics on a time that is too long, or with a sign inside it, such as 1s-5m.
    text.parse::<SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
current-context: one
contexts:
- {name: one, context: {cluster: a, user: ada, namespace: shop}}
- {name: two, context: {cluster: b, user: gone}}
clusters:
- {name: a, cluster: {server: 'https://a:6443', certificate-authority-data: Y2E=}}
- {name: b, cluster: {server: 'https://b:6443'}}
users:
- {name: ada, user: {tokenFile: /token, exec: {command: login, apiVersion: v1}}}
";

    fn applied(flags: &Flags) -> Result<(Context, Cluster, AuthInfo), Failure> {
        let chosen = flags.apply(&Kubeconfig::from_yaml(FILE).unwrap())?;
        let first = |list: &[NamedContext]| list[0].context.clone().unwrap();
        Ok((
            first(&chosen.contexts),
            chosen.clusters[0].cluster.clone().unwrap(),
            chosen.auth_infos[0].auth_info.clone().unwrap(),
        ))
    }

    #[test]
    fn flags_win_over_the_kubeconfig() {
        let (context, cluster, user) = applied(&Flags::default()).unwrap();
        assert_eq!(context.namespace.as_deref(), Some("shop"));
        assert_eq!(cluster.server.as_deref(), Some("https://a:6443"));
        assert_eq!(user.token_file.as_deref(), Some("/token"));
        let flags = Flags {
            context: Some("two".into()),
            namespace: Some("other".into()),
            server: Some("localhost:8001".into()),
            token: Some("t".into()),
            user: Some("ada".into()),
            as_user: Some("eve".into()),
            as_group: vec!["dev".into()],
            insecure_skip_tls_verify: true,
            ..Flags::default()
        };
        let (context, cluster, user) = applied(&flags).unwrap();
        assert_eq!(context.namespace.as_deref(), Some("other"));
        assert_eq!(cluster.server.as_deref(), Some("http://localhost:8001"));
        assert_eq!(cluster.insecure_skip_tls_verify, Some(true));
        assert!(user.token.is_some() && user.token_file.is_none() && user.exec.is_none());
        assert_eq!(user.impersonate.as_deref(), Some("eve"));
        assert_eq!(user.impersonate_groups, Some(vec!["dev".to_owned()]));
    }

    #[test]
    fn a_command_repeats_what_chooses_cluster_and_user_but_not_the_token() {
        let flags = Flags {
            kubeconfig: Some("/a b".into()),
            context: Some("two".into()),
            cluster: Some("b".into()),
            user: Some("ada".into()),
            namespace: Some("other".into()),
            server: Some("https://x:1".into()),
            as_user: Some("eve".into()),
            as_group: vec!["dev".into(), "ops".into()],
            token: Some("secret".into()),
            insecure_skip_tls_verify: true,
            ..Flags::default()
        };
        assert_eq!(
            flags.repeated("shop"),
            " -n shop --kubeconfig '/a b' --context two --cluster b --user ada --server https://x:1 --as eve \
             --as-group dev --as-group ops --insecure-skip-tls-verify"
        );
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        let unknown = Flags { context: Some("three".into()), ..Flags::default() };
        let said = applied(&unknown).unwrap_err().to_string();
        assert_eq!(said, "the kubeconfig has no context \"three\"; it has one, two");
        let unknown = Flags { cluster: Some("c".into()), ..Flags::default() };
        assert_eq!(
            applied(&unknown).unwrap_err().to_string(),
            "the kubeconfig has no cluster \"c\"; it has a, b"
        );
        let none = Flags::default().apply(&Kubeconfig::default()).unwrap_err().to_string();
        assert!(none.contains("kubectl config use-context"), "{none}");
        let server = Flags { server: Some("https://x".into()), ..Flags::default() };
        assert!(server.apply(&Kubeconfig::default()).is_ok(), "a server alone is enough");
    }

    #[test]
    fn times_are_read_as_kubectl_reads_them() {
        let cases = [
            ("0", 0),
            ("30", 30_000),
            ("90s", 90_000),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("1.5s", 1_500),
            ("500ms", 500),
        ];
        for (text, milliseconds) in cases {
            assert_eq!(request_timeout(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in ["", "s", "1x", "-1", "-1s", "1s-5m", "99999999999999999999s", "9999999999999999h"] {
            assert!(request_timeout(bad).is_err(), "{bad}");
        }
    }
}
