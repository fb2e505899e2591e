//! `kubectl fleetprof now`: profiles something at once.
//!
//! ```text
//! arguments ─► wish ─► policy that serves it ─► session ─┬─ --dry-run ─► printed
//!                                                        └─ created ─► followed ─► result, next steps, code
//! ```

use std::time::Duration;

use clap::{Args, ValueEnum};
use fleetprof_crds::session::PolicyRef;
use fleetprof_crds::{ProfileKind, ProfileSession};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

use crate::cluster::{Ask, Cluster};
use crate::ended;
use crate::exit::{Exit, Failure, after};
use crate::flags::{Flags, span};
use crate::follow::{Followed, follow};
use crate::get;
use crate::output::{self, Format};
use crate::paths;
use crate::selector;
use crate::target::{self, Named};

mod resolve;
mod wish;

use wish::Wish;

/// What to profile, and how.
#[derive(Args, Debug)]
#[command(group(
    clap::ArgGroup::new("what").required(true).multiple(true).args(["target", "selector", "policy"])
))]
pub(crate) struct NowArgs {
    /// What to profile: deploy/NAME, sts/NAME, ds/NAME, pod/NAME, or a kind as kubectl fleetprof apps lists
    /// it.
    #[arg(value_name = "TYPE/NAME", value_parser = target::named)]
    target: Option<Named>,
    /// Profile all pods with these labels, such as app=orders.
    #[arg(long, short = 'l', value_name = "SELECTOR", conflicts_with = "target")]
    #[arg(value_parser = selector::parse)]
    selector: Option<LabelSelector>,
    /// The policy to profile under, as NAME or cppol/NAME; alone, all apps that it links. By default, the one
    /// that serves the target.
    #[arg(long, value_name = "NAME", value_parser = target::policy)]
    policy: Option<PolicyRef>,
    /// Profile without a policy, which needs the right to attach containers (ClusterRole fleetprof-attacher).
    #[arg(long, conflicts_with = "policy")]
    no_policy: bool,
    /// How long to capture, 10s to 6m.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    duration: fleetprof_crds::Duration,
    /// Kinds of profiles: cpu, wall, alloc, heap, lock, block, goroutine. May be given several times.
    #[arg(long = "type", value_name = "KIND", value_delimiter = ',', default_value = "cpu")]
    kinds: Vec<ProfileKind>,
    /// Samples per second and target, 1 to 1000.
    #[arg(long, value_name = "HZ", default_value = "99")]
    #[arg(value_parser = clap::value_parser!(i32).range(1..=1000))]
    frequency: i32,
    /// Profile at most so many pods of the target, 1 to 50, running ones first; by default the policy
    /// decides.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=50))]
    targets: Option<u16>,
    /// The container to profile, if it is not the one that the policy selects.
    #[arg(long, short = 'c', value_name = "NAME", value_parser = paths::name)]
    container: Option<String>,
    /// Why, for people who read the session later.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Wait for the result; by default on a terminal.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    wait: Option<bool>,
    /// How long to wait, such as 5m; the session goes on. 0 means until it ends.
    #[arg(long, value_name = "TIME", default_value = "20m", value_parser = timeout)]
    timeout: Duration,
    /// Print the session and create nothing: as it would be sent (client), or as the API server would store
    /// it.
    #[arg(long, value_name = "WHERE")]
    dry_run: Option<DryRun>,
    /// How to print the session.
    #[arg(long, short = 'o', value_name = "FORMAT")]
    output: Option<Format>,
}

/// Who looks at a session that is not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DryRun {
    Client,
    Server,
}

fn duration(text: &str) -> Result<fleetprof_crds::Duration, String> {
    let duration: fleetprof_crds::Duration =
        text.parse().map_err(|error: fleetprof_crds::duration::ParseDurationError| error.to_string())?;
    match (10..=360).contains(&duration.as_secs()) {
        true => Ok(duration),
        false => Err("a capture lasts between 10s and 6m".to_owned()),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    match text {
        "0" => Ok(Duration::ZERO),
        text => span(text).ok_or_else(|| format!("{text:?} is not a time: write 90s or 5m")),
    }
}

/// Creates the session, and waits for it where that is wanted.
pub(crate) async fn run(
    cluster: &Cluster,
    flags: &Flags,
    args: &NowArgs,
    terminal: bool,
) -> Result<Exit, Failure> {
    let namespace = paths::namespace(cluster.namespace())?;
    let wish = wish(cluster, namespace, args).await?;
    let object = wish.session(namespace);
    if args.dry_run == Some(DryRun::Client) {
        output::print(&output::object(&object, args.output.unwrap_or(Format::Yaml))?)?;
        return Ok(Exit::Data);
    }
    let path = paths::sessions(Some(namespace));
    if args.dry_run == Some(DryRun::Server) {
        let stored = cluster.json(&Ask::create(paths::with(&path, &[("dryRun", "All")]), &object)).await?;
        output::print(&output::object(&stored, args.output.unwrap_or(Format::Yaml))?)?;
        return Ok(Exit::Data);
    }
    let created = cluster.json(&Ask::create(path, &object)).await?;
    let name = created["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let session = Session { cluster, flags, namespace, name: &name };
    match args.wait.unwrap_or(terminal) {
        true => session.wait(args).await,
        false => session.created(&created, args.output),
    }
}

async fn wish(cluster: &Cluster, namespace: &str, args: &NowArgs) -> Result<Wish, Failure> {
    let mut wish = Wish {
        policy: args.policy.clone(),
        target: wish::target(args.target.as_ref(), args.selector.as_ref()),
        named: args.target.as_ref().map(|target| target.name().to_owned()),
        container: args.container.clone(),
        duration: args.duration,
        kinds: args.kinds.clone(),
        frequency: args.frequency,
        note: args.note.clone(),
    };
    if wish.policy.is_none() && !args.no_policy {
        let policy =
            resolve::policy(cluster, namespace, args.target.as_ref(), args.selector.as_ref()).await?;
        wish.policy = Some(policy);
    }
    if let Some(most) = args.targets {
        let pods =
            resolve::pods(cluster, namespace, args.target.as_ref(), args.selector.as_ref(), most.into())
                .await?;
        wish.target = Some(wish::pods(pods));
    }
    Ok(wish)
}

/// A session that was created.
struct Session<'a> {
    cluster: &'a Cluster,
    flags: &'a Flags,
    namespace: &'a str,
    name: &'a str,
}

impl Session<'_> {
    fn created(&self, object: &Value, format: Option<Format>) -> Result<Exit, Failure> {
        match format {
            Some(format) => output::print(&output::object(object, format)?)?,
            None => output::print(&format!("profilesession.fleetprof.dev/{} created\n", self.name))?,
        }
        output::note(&format!("Follow it: {}", self.command("get")));
        Ok(Exit::Data)
    }

    async fn wait(&self, args: &NowArgs) -> Result<Exit, Failure> {
        output::note(&format!("Created session {} in namespace {}.", self.name, self.namespace));
        match follow(self.cluster, self.namespace, self.name, args.timeout).await? {
            Followed::Ended(object) => self.ended(&object, args.output).await,
            Followed::TimedOut => {
                output::note(&format!(
                    "Timed out waiting; the session goes on. Check it: {}",
                    self.command("get")
                ));
                Ok(Exit::TimedOut)
            }
            Followed::Interrupted => self.interrupted().await,
        }
    }

    async fn ended(&self, object: &Value, format: Option<Format>) -> Result<Exit, Failure> {
        let printed = get::show(object, format);
        let read = serde_json::from_value::<ProfileSession>(object.clone());
        let session = read.map_err(|error| Failure::error(format!("the session cannot be read: {error}")))?;
        let exit = session.status.as_ref().and_then(ended::exit).unwrap_or(Exit::Error);
        if matches!(exit, Exit::Data | Exit::Partial) {
            let Some(last) = unless_interrupted(self.last_good(&session)).await else {
                return Ok(Exit::Interrupted);
            };
            let flags = self.flags.repeated(self.namespace);
            let steps = ended::next_steps(self.name, &session.spec.profiles, last.as_deref(), &flags);
            output::note(&format!("\nNext:\n  {}", steps.join("\n  ")));
        }
        after(printed, exit)
    }

    /// The last session that succeeded and that this one can be compared with. Not having one is not an error.
    async fn last_good(&self, session: &ProfileSession) -> Option<String> {
        let list = self.cluster.json(&Ask::get(paths::sessions(Some(self.namespace)))).await.ok()?;
        resolve::last_good(&list, session)
    }

    /// Asks whether to cancel the session, where somebody can answer.
    async fn interrupted(&self) -> Result<Exit, Failure> {
        let cancel = format!(
            "kubectl patch psess {}{} --type=merge -p '{{\"spec\":{{\"cancel\":true}}}}'",
            self.name,
            self.flags.repeated(self.namespace)
        );
        if !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
            output::note(&format!("Interrupted; the session goes on. Cancel it: {cancel}"));
            return Ok(Exit::Interrupted);
        }
        output::note("Interrupted. Cancel the session? What was captured is kept. [y/N]");
        let answer = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).map(|_| line)
        });
        let answer = unless_interrupted(answer).await.and_then(Result::ok).and_then(Result::ok);
        let answer = answer.unwrap_or_default();
        if answer.trim().eq_ignore_ascii_case("y") {
            let patch = serde_json::json!({"spec": {"cancel": true}});
            let ask = Ask::merge(paths::session(self.namespace, self.name), &patch);
            match unless_interrupted(self.cluster.json(&ask)).await {
                Some(answer) => answer.map(|_| output::note("Cancelled."))?,
                None => output::note(&format!(
                    "The API server did not answer, so the session may go on. Cancel it: {cancel}"
                )),
            }
        } else {
            output::note(&format!("The session goes on. Cancel it: {cancel}"));
        }
        Ok(Exit::Interrupted)
    }

    fn command(&self, verb: &str) -> String {
        format!("kubectl fleetprof {verb} {}{}", self.name, self.flags.repeated(self.namespace))
    }
}

/// What comes of it; nothing if Ctrl-C is pressed before. After a wait for Ctrl-C, a second one no longer ends
/// the process by itself.
async fn unless_interrupted<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        _ = tokio::signal::ctrl_c() => None,
    }
}
