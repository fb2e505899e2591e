//! Does `kubectl fleetprof` do what it says against a real API server, with people's rights? Sessions are given a
//! status by the test, since no operator runs.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetprof_tests::people::object;
use fleetprof_tests::{api_server, chart, wait_for};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

const NAMESPACE: &str = "plugin";

/// The program, which a test of another package cannot ask cargo for.
fn program() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).context("the test has no folder")?;
    let program = folder.join("kubectl-fleetprof");
    ensure!(program.exists(), "{} is missing: cargo build --workspace --bins", program.display());
    Ok(program)
}

/// What a person gets who runs the plugin.
struct Said {
    out: String,
    error: String,
    code: i32,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        Self { out: text(&output.stdout), error: text(&output.stderr), code }
    }

    /// What it printed, if it ended with this code.
    fn with(self, code: i32) -> Result<Self> {
        ensure!(self.code == code, "ended with {}, not {code}:\n{}{}", self.code, self.out, self.error);
        Ok(self)
    }

    fn holds(self, words: &str) -> Result<Self> {
        ensure!(
            self.out.contains(words) || self.error.contains(words),
            "{words:?} is not in:\n{}{}",
            self.out,
            self.error
        );
        Ok(self)
    }
}

struct Person {
    kubeconfig: PathBuf,
    name: &'static str,
}

impl Person {
    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(program()?);
        command.args(arguments).args([
            "-n",
            NAMESPACE,
            "--as",
            self.name,
            "--as-group",
            "system:authenticated",
        ]);
        command.env("KUBECONFIG", &self.kubeconfig).stdin(Stdio::null());
        Ok(command)
    }

    fn runs(&self, arguments: &[&str]) -> Result<Said> {
        Ok(Said::of(&self.command(arguments)?.output()?))
    }
}

fn apply(kubeconfig: &Path, objects: &[Value]) -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    chart::kubectl(kubeconfig, &["apply", "--server-side", "--force-conflicts", "-f", "-"], Some(&list))
        .map(drop)
}

fn status(kubeconfig: &Path, kind: &str, name: &str, status: &Value) -> Result<()> {
    let patch = json!({"status": status}).to_string();
    let arguments =
        ["-n", NAMESPACE, "patch", kind, name, "--subresource=status", "--type=merge", "-p", &patch];
    // The gate lets the operator alone write a status.
    let operator = ["--as=system:serviceaccount:fleetprof:fleetprof-operator", "--as-group=system:masters"];
    chart::kubectl(kubeconfig, &[&arguments[..], &operator].concat(), None).map(drop)
}

/// A namespace with a policy that links the Deployment `orders`; `runner` and `viewer` have the roles of these
/// names, `nobody` has none. The roles are in force.
async fn people() -> Result<[Person; 3]> {
    static READY: OnceCell<std::result::Result<PathBuf, String>> = OnceCell::const_new();
    let ready = READY.get_or_init(|| async { set_up().await.map_err(|error| format!("{error:#}")) }).await;
    let kubeconfig = ready.clone().map_err(anyhow::Error::msg)?;
    Ok(["runner", "viewer", "nobody"].map(|name| Person { kubeconfig: kubeconfig.clone(), name }))
}

async fn set_up() -> Result<PathBuf> {
    let kubeconfig = api_server()?;
    chart::crds(&kubeconfig)?;
    chart::apply(&kubeconfig, &["templates/access/"], &[])?;
    let bind = |user: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": user, "namespace": NAMESPACE},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": format!("fleetprof-{user}")},
            "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}]})
    };
    apply(
        &kubeconfig,
        &[
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
            object("ProfilingPolicy", NAMESPACE, "shop", &json!({"selector": {}})),
            bind("runner"),
            bind("viewer"),
        ],
    )?;
    status(
        &kubeconfig,
        "ppol",
        "shop",
        &json!({
            "linkedAppCount": 1,
            "linkedApps": [{"kind": "Deployment", "name": "orders", "container": "app", "runtime": "Python 3.11", "pods": 2,
                "linked": 1, "state": "PartiallyLinked", "reason": "WebhookMissed", "agentModes": ["Sidecar"]}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "Active", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        }),
    )?;
    in_force(&kubeconfig).await?;
    Ok(kubeconfig)
}

/// The API server learns of roles and of the gate some time after they are created.
async fn in_force(kubeconfig: &Path) -> Result<()> {
    let may = |user: &str, verb: &str, resource: &str| {
        let who = [format!("--as={user}"), "--as-group=system:authenticated".to_owned()];
        let asked = ["-n", NAMESPACE, "auth", "can-i", verb, resource, &who[0], &who[1]];
        chart::kubectl(kubeconfig, &asked, None).is_ok()
    };
    let rights = [
        ("viewer", "list", "profilesessions.fleetprof.dev"),
        ("viewer", "watch", "profilesessions.fleetprof.dev"),
        ("viewer", "list", "profilingpolicies.fleetprof.dev"),
        ("runner", "list", "profilingpolicies.fleetprof.dev"),
        ("runner", "create", "profilesessions.fleetprof.dev"),
        ("runner", "profile", "profilingpolicies.fleetprof.dev/shop"),
    ];
    let runner = Person { kubeconfig: kubeconfig.to_owned(), name: "runner" };
    wait_for("the roles and the gate are in force", Duration::from_secs(30), || async {
        let all = rights.iter().all(|(user, verb, resource)| may(user, verb, resource));
        let gate = || runner.runs(&["now", "deploy/orders", "--dry-run=server"]);
        Ok((all && gate()?.error.contains("spec.requestedBy is empty")).then_some(()))
    })
    .await
}

/// A session as its requester would be stamped by the webhook, which does not run; with this status.
fn ended(kubeconfig: &Path, name: &str, of: &Value) -> Result<()> {
    let spec = json!({"policyRef": {"name": "shop"}, "duration": "30s",
        "requestedBy": {"username": "runner", "groups": ["system:authenticated"]}});
    let session = object("ProfileSession", NAMESPACE, name, &spec).to_string();
    let old = ["-n", NAMESPACE, "delete", "psess", name, "--ignore-not-found"];
    chart::kubectl(kubeconfig, &old, None)?;
    let runner = ["--as=runner", "--as-group=system:authenticated"];
    let create = [&["create", "-f", "-"][..], &runner].concat();
    chart::kubectl(kubeconfig, &create, Some(&session))?;
    status(kubeconfig, "psess", name, of)
}

fn counts(succeeded: i32) -> Value {
    json!({"desired": 1, "started": 1, "succeeded": succeeded, "failed": 1 - succeeded, "skipped": 0})
}

#[tokio::test]
async fn people_read_what_their_roles_allow_and_are_told_what_is_missing() -> Result<()> {
    let [_, viewer, nobody] = people().await?;
    let app = json!({"phase": "Succeeded", "reason": "Completed", "app": "Deployment/orders", "samples": 42, "counts": counts(1),
        "targetsSummary": "1/1", "topFunctions": [{"name": "luhn", "location": "cards.py:42", "selfPercent": "87.3"}]});
    ended(&viewer.kubeconfig, "read-1", &app)?;
    listed(&viewer)?;
    let apps = viewer.runs(&["apps", "-o", "wide"])?.with(0)?;
    apps.holds("Deployment/orders")?.holds("1/2")?.holds("check that the fleetprof webhook is running")?;
    let read = viewer.runs(&["get", "read-1"])?.with(0)?;
    read.holds("Session read-1: Succeeded (Completed)")?.holds("cards.py:42")?;
    let yaml = viewer.runs(&["get", "psess/read-1", "-o", "yaml"])?.with(0)?;
    ensure!(serde_yaml::from_str::<Value>(&yaml.out)?["status"]["samples"] == 42, "{}", yaml.out);
    let refused = nobody.runs(&["sessions"])?.with(1)?;
    ensure!(refused.out.is_empty(), "data of nobody: {}", refused.out);
    refused.holds(
        "kubectl create rolebinding fleetprof-viewer-nobody --clusterrole=fleetprof-viewer --user=nobody -n plugin",
    )?;
    viewer.runs(&["get", "no-such-session"])?.with(1)?.holds("\"no-such-session\" not found")?;
    viewer.runs(&["get", "../secrets"])?.with(2)?;
    // A gate that could not look must not pass for one that found nothing, or something.
    viewer.runs(&["diff", "read-1", "--fail-on", "self>5%"])?.with(2)?;
    viewer.runs(&["regress", "read-1"])?.with(2)?;
    Ok(())
}

/// The table is the API server's: the same columns and cells as kubectl's.
fn listed(viewer: &Person) -> Result<()> {
    let table = viewer.runs(&["sessions"])?.with(0)?;
    let kubectl = chart::kubectl(&viewer.kubeconfig, &["-n", NAMESPACE, "get", "psess"], None)?;
    let words = |text: &str| -> Vec<String> {
        text.lines().next().unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    };
    ensure!(words(&table.out) == words(&kubectl), "{}\nis not\n{kubectl}", table.out);
    ensure!(table.out.contains("read-1") && table.error.is_empty(), "{}{}", table.out, table.error);
    let names = viewer.runs(&["sessions", "-o", "name"])?.with(0)?;
    ensure!(names.out.lines().any(|line| line == "profilesession.fleetprof.dev/read-1"), "{}", names.out);
    let none = viewer.runs(&["sessions", "-l", "none=here"])?.with(0)?;
    ensure!(
        none.out.is_empty() && none.error.contains("No sessions found in namespace plugin"),
        "{}",
        none.error
    );
    Ok(())
}

#[tokio::test]
async fn now_asks_for_what_the_api_server_accepts() -> Result<()> {
    let [runner, viewer, _] = people().await?;
    let shown = runner
        .runs(&["now", "deploy/orders", "--type", "cpu,wall", "--note", "slow", "--dry-run=client"])?
        .with(0)?;
    let session: Value = serde_yaml::from_str(&shown.out)?;
    ensure!(session["spec"]["policyRef"]["name"] == "shop", "the policy that links it: {session:#}");
    ensure!(
        session["spec"]["target"]["workload"] == json!({"kind": "Deployment", "name": "orders"}),
        "{session:#}"
    );
    // The webhook, which stamps the requester, does not run here: that is the only thing that is missing.
    let said = runner.runs(&["now", "deploy/orders", "--dry-run=server"])?.with(1)?;
    said.holds("spec.requestedBy is empty. The fleetprof webhook sets it but did not respond")?;
    let refused = viewer.runs(&["now", "deploy/orders"])?.with(1)?;
    refused
        .holds("user viewer may not create profilesessions.fleetprof.dev")?
        .holds("--clusterrole=fleetprof-runner --user=viewer")?;
    for wrong in [
        &["now"][..],
        &["now", "deploy/orders", "--duration", "7m"],
        &["now", "deploy/orders", "--frequency", "0"],
        &["now", "deploy/orders", "--type", "speed"],
        &["now", "svc/orders"],
        &["now", "deploy/orders", "-l", "app=orders"],
        // No policy serves it, which a typing error must not turn into a session without one.
        &["now", "deploy/ordres"],
        &["now", "--policy", "shop", "--targets", "2", "--dry-run=client"],
    ] {
        let said = runner.runs(wrong)?.with(2)?;
        ensure!(said.out.is_empty() && !said.error.is_empty(), "{wrong:?}: {}", said.out);
    }
    Ok(())
}

/// The result of waiting, with a status that changes while the plugin watches. The requester is stamped by hand.
#[tokio::test]
async fn changes_are_shown_as_they_happen() -> Result<()> {
    let [_, viewer, _] = people().await?;
    ended(&viewer.kubeconfig, "watched", &json!({"phase": "Running", "samples": 0, "counts": counts(0)}))?;
    let mut child =
        viewer.command(&["sessions", "-w"])?.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let lines = lines(child.stdout.take().context("no stdout")?);
    let wait = |words: &str| -> Result<()> {
        loop {
            let line = lines
                .recv_timeout(Duration::from_secs(40))
                .with_context(|| format!("no line with {words}"))?;
            if line.contains("watched") && line.contains(words) {
                return Ok(());
            }
        }
    };
    let seen = wait("Running").and_then(|()| {
        status(
            &viewer.kubeconfig,
            "psess",
            "watched",
            &json!({"phase": "Uploading", "samples": 7, "counts": counts(1)}),
        )?;
        wait("Uploading")
    });
    child.kill()?;
    child.wait()?;
    seen
}

#[tokio::test]
async fn the_doctor_says_the_reasons_of_the_status_and_what_is_missing() -> Result<()> {
    let [runner, viewer, nobody] = people().await?;
    let checks = |said: &Said| -> Result<Vec<Value>> {
        Ok(serde_json::from_str::<Value>(&said.out)?["checks"].as_array().cloned().unwrap_or_default())
    };
    // No operator serves the read API here.
    let said = viewer.runs(&["doctor", "-o", "json"])?.with(1)?;
    let all = checks(&said)?;
    let level = |id: &str| {
        all.iter().filter(|check| check["id"] == id).map(|check| check["level"].clone()).collect::<Vec<_>>()
    };
    ensure!(level("ReadApi") == ["failed"] && level("Installed") == ["passed"], "{}", said.out);
    ensure!(level("WebhookMissed") == ["warning"] && level("Forbidden").len() == 2, "{}", said.out);
    ensure!(said.out.contains("docs/known-issues.md#new-pods-start-without-an-agent"), "{}", said.out);
    let short = runner.runs(&["doctor", "-o", "short"])?.with(1)?;
    ensure!(!short.out.contains("Forbidden") && short.out.contains("× ReadApi"), "{}", short.out);
    ensure!(!short.out.contains('\u{1b}'), "no colours without a terminal: {:?}", short.out);
    nobody
        .runs(&["doctor", "--pre"])?
        .with(1)?
        .holds("× Forbidden: you may not create customresourcedefinitions")?;
    nobody.runs(&["doctor"])?.with(1)?.holds("may not list profilingpolicies.fleetprof.dev")?;
    Ok(())
}

#[tokio::test]
async fn kubectl_completes_with_names_of_the_cluster() -> Result<()> {
    let [_, viewer, _] = people().await?;
    ended(
        &viewer.kubeconfig,
        "complete-me",
        &json!({"phase": "Running", "samples": 0, "counts": counts(0)}),
    )?;
    let folder = tempfile::tempdir()?;
    let dir = folder.path().to_string_lossy().into_owned();
    viewer.runs(&["completion", "install", "--dir", &dir])?.with(0)?;
    let link = folder.path().join("kubectl_complete-fleetprof");
    let complete = |words: &[&str]| -> Result<String> {
        let output = Command::new(&link)
            .args(["-n", NAMESPACE])
            .args(words)
            .env("KUBECONFIG", &viewer.kubeconfig)
            .output()?;
        Ok(Said::of(&output).with(0)?.out)
    };
    let names = complete(&["top", "comp"])?;
    ensure!(names.lines().any(|line| line == "complete-me") && names.ends_with(":4\n"), "{names}");
    let verbs = complete(&["s"])?;
    ensure!(verbs.lines().any(|line| line.starts_with("sessions\tList sessions")), "{verbs}");
    ensure!(complete(&["now", "Dep"])?.contains("Deployment/orders\tPython 3.11"), "linked apps");
    let script = viewer.runs(&["completion", "bash"])?.with(0)?;
    ensure!(script.out.contains("complete -F") && script.out.contains("--fail-on"), "{}", script.out);
    Ok(())
}

/// Credentials that expire while a command runs: the credential plugin gives a token that is not accepted, and
/// then one that is.
#[tokio::test]
async fn credentials_that_are_refused_are_read_again_once() -> Result<()> {
    let [_, viewer, _] = people().await?;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "ci", "namespace": NAMESPACE}});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "ci", "namespace": NAMESPACE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "fleetprof-viewer"},
        "subjects": [{"kind": "ServiceAccount", "name": "ci", "namespace": NAMESPACE}]});
    apply(&viewer.kubeconfig, &[account, binding])?;
    let token = chart::kubectl(&viewer.kubeconfig, &["-n", NAMESPACE, "create", "token", "ci"], None)?;
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let answer = |token: &str| json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": token}});
    std::fs::write(at("good"), answer(token.trim()).to_string())?;
    std::fs::write(at("bad"), answer("expired").to_string())?;
    let kubeconfig = |script: &str| -> Result<()> {
        let mut file: Value = serde_yaml::from_str(&std::fs::read_to_string(&viewer.kubeconfig)?)?;
        let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", script], "interactiveMode": "Never"});
        for user in file["users"].as_array_mut().into_iter().flatten() {
            user["user"] = json!({"exec": exec});
        }
        Ok(std::fs::write(at("config"), file.to_string())?)
    };
    let sessions = || -> Result<Said> {
        let config = at("config");
        Ok(Said::of(
            &Command::new(program()?)
                .args(["sessions", "-n", NAMESPACE, "--kubeconfig", &config])
                .output()?,
        ))
    };
    let calls = || std::fs::read_to_string(at("calls")).unwrap_or_default().len();
    let count = format!("printf x >> {}; ", at("calls"));
    kubeconfig(&format!("{count}cat {}", at("good")))?;
    wait_for("the role is in force", Duration::from_secs(30), || async {
        let _ = std::fs::remove_file(at("calls"));
        sessions()?.with(0).map(Some)
    })
    .await?;
    // The client library asks more than once for each client.
    let once = calls();
    ensure!(once > 0, "the credential plugin was not asked");
    let _ = std::fs::remove_file(at("calls"));
    kubeconfig(&format!(
        "{count}if [ $(wc -c < {}) -le {once} ]; then cat {}; else cat {}; fi",
        at("calls"),
        at("bad"),
        at("good")
    ))?;
    sessions()?.with(0)?;
    ensure!(calls() == 2 * once, "asked {} times, and {once} times where nothing is refused", calls());
    let _ = std::fs::remove_file(at("calls"));
    kubeconfig(&format!("{count}cat {}", at("bad")))?;
    sessions()?.with(1)?.holds("does not accept your credentials")?;
    ensure!(calls() == 2 * once, "once more, and not for ever: {} times", calls());
    Ok(())
}

/// The kubeconfigs that kubectl takes, the plugin takes, and what kubectl refuses, it refuses.
#[tokio::test]
async fn kubeconfigs_are_read_as_by_kubectl() -> Result<()> {
    let [_, viewer, _] = people().await?;
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    std::fs::write(at("unset"), "{apiVersion: v1, kind: Config, current-context: ''}")?;
    std::fs::write(at("broken"), "apiVersion: v1\nkind: Config\n  clusters: [\n")?;
    let good = viewer.kubeconfig.to_string_lossy().into_owned();
    let file: Value = serde_yaml::from_str(&std::fs::read_to_string(&good)?)?;
    let server = file["clusters"][0]["cluster"]["server"].as_str().context("no server")?.to_owned();
    let current = file["current-context"].as_str().context("no current context")?.to_owned();
    let cases: [(&[&str], &[&str]); 8] = [
        (&[&good, "/absent"], &[]),
        (&["/absent", &good], &["--context", &current]),
        (&[&at("unset"), &good], &[]),
        (&[&at("broken"), &good], &[]),
        (&[&good, &at("broken")], &["--context", &current]),
        (&[&at("broken")], &["-s", &server, "--insecure-skip-tls-verify=true"]),
        (&["/absent"], &["--context", &current]),
        (&[&good], &["--kubeconfig", "/absent"]),
    ];
    for (files, flags) in cases {
        let list = std::env::join_paths(files)?;
        let asks = |program: &mut Command, words: &[&str]| -> Result<Said> {
            program.args(words).args(["-n", NAMESPACE]).args(flags).env("KUBECONFIG", &list);
            Ok(Said::of(&program.stdin(Stdio::null()).output()?))
        };
        let kubectl = asks(&mut Command::new(chart::tool("kubectl")?), &["get", "psess"])?;
        let plugin = asks(&mut Command::new(program()?), &["sessions"])?;
        ensure!(
            (kubectl.code == 0) == (plugin.code == 0),
            "KUBECONFIG={list:?} {flags:?}: kubectl ended with {}, the plugin with {}:\n{}{}",
            kubectl.code,
            plugin.code,
            kubectl.error,
            plugin.error
        );
    }
    Ok(())
}

/// The lines of a pipe as they arrive.
fn lines(pipe: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (send, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::BufRead::lines(std::io::BufReader::new(pipe)).map_while(std::result::Result::ok)
        {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// A plugin that runs, and what it has said on stderr so far.
struct Running {
    child: Child,
    lines: Receiver<String>,
    error: String,
}

impl Running {
    /// Waits until it says this.
    fn says(&mut self, words: &str) -> Result<()> {
        while !self.error.contains(words) {
            let line = self.lines.recv_timeout(Duration::from_secs(40));
            self.error += &line.with_context(|| format!("it did not say {words:?}:\n{}", self.error))?;
            self.error.push('\n');
        }
        Ok(())
    }

    fn ends(mut self) -> Result<Said> {
        let output = self.child.wait_with_output()?;
        self.error.extend(self.lines.iter().map(|line| format!("{line}\n")));
        Ok(Said { error: self.error, ..Said::of(&output) })
    }
}

/// The operator's account passes the gate without the webhook, which does not run here.
fn operator(kubeconfig: &Path, arguments: &[&str]) -> Result<Running> {
    let account = ["--as=system:serviceaccount:fleetprof:fleetprof-operator", "--as-group=system:masters"];
    let mut command = Command::new(program()?);
    command.args(["now", "deploy/orders", "-n", NAMESPACE]).args(account).args(arguments);
    command.env("KUBECONFIG", kubeconfig).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let lines = lines(child.stderr.take().context("no stderr")?);
    Ok(Running { child, lines, error: String::new() })
}

/// The session with this note, once it is there.
async fn noted(kubeconfig: &Path, note: &str) -> Result<String> {
    wait_for(note, Duration::from_secs(20), || async {
        let list = chart::kubectl(kubeconfig, &["-n", NAMESPACE, "get", "psess", "-o", "json"], None)?;
        let list: Value = serde_json::from_str(&list)?;
        let found = list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|item| item["spec"]["context"]["note"] == note);
        Ok(found.and_then(|item| item["metadata"]["name"].as_str()).map(str::to_owned))
    })
    .await
}

#[tokio::test]
async fn who_waits_sees_every_phase_and_ends_with_the_code_of_the_session() -> Result<()> {
    let [_, viewer, _] = people().await?;
    let top = json!([{"name": "luhn", "location": "cards.py:42", "selfPercent": "87.3"}]);
    for (phase, samples, code) in [("Succeeded", 42, 0), ("PartiallySucceeded", 7, 3), ("Failed", 0, 1)] {
        let note = format!("{phase} {}", std::process::id());
        let mut running = operator(&viewer.kubeconfig, &["--wait", "--note", &note])?;
        let name = noted(&viewer.kubeconfig, &note).await?;
        let now = jiff::Timestamp::now().to_string();
        let begun = json!({"phase": "Running", "runningTime": now, "samples": 0, "counts": counts(0)});
        status(&viewer.kubeconfig, "psess", &name, &begun)?;
        running.says("Running · ")?;
        let end = json!({"phase": phase, "app": "Deployment/orders", "samples": samples, "topFunctions": top, "counts": counts(1)});
        status(&viewer.kubeconfig, "psess", &name, &end)?;
        let said = running.ends()?.with(code)?;
        ensure!(said.error.contains("Running · ") && said.error.contains(" s of 30 s"), "{}", said.error);
        ensure!(
            said.out.contains(&format!("Session {name}: {phase}")) && said.out.contains("cards.py:42"),
            "{}",
            said.out
        );
        let next = format!("kubectl fleetprof top {name} -n {NAMESPACE}");
        ensure!(said.error.contains(&next) == (code != 1), "{}", said.error);
        ensure!(!said.error.contains('\u{1b}'), "no bar without a terminal: {:?}", said.error);
    }
    let said = operator(&viewer.kubeconfig, &["--wait", "--timeout", "1s"])?.ends()?;
    said.with(4)?.holds("the session goes on")?;
    let note = format!("interrupted {}", std::process::id());
    let mut running = operator(&viewer.kubeconfig, &["--wait", "--note", &note])?;
    let name = noted(&viewer.kubeconfig, &note).await?;
    running.says("Pending")?;
    ensure!(
        Command::new("kill").args(["-INT", &running.child.id().to_string()]).status()?.success(),
        "kill failed"
    );
    let said = running.ends()?.with(130)?;
    said.holds("Interrupted; the session goes on")?.holds(&format!("patch psess {name}"))?;
    let said = operator(&viewer.kubeconfig, &["-o", "name"])?.ends()?.with(0)?;
    ensure!(
        said.out.starts_with("profilesession.fleetprof.dev/orders-now-"),
        "without a terminal: {}",
        said.out
    );
    Ok(())
}
