//! How do parts of the chart reach an API server that has no node? Rendered by Helm, applied by kubectl.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A tool of the rig, such as `kubectl` or `helm`.
///
/// # Errors
/// When the rig does not know it.
pub fn tool(name: &str) -> Result<String> {
    let tools = crate::run(&crate::root().join("tests/cluster/cluster").to_string_lossy(), &["tools"])?;
    let key = format!("{}=", name.to_uppercase());
    tools
        .lines()
        .find_map(|l| l.strip_prefix(&key))
        .map(str::to_owned)
        .with_context(|| format!("the rig has no {name}"))
}

/// Applies the kinds, and waits until the API server knows them.
///
/// # Errors
/// When the API server refuses.
pub fn crds(kubeconfig: &Path) -> Result<()> {
    for (stem, _) in fleetprof_crds::all_crds() {
        let file = crate::root().join(format!("crds/{stem}.yaml"));
        kubectl(
            kubeconfig,
            &["apply", "--server-side", "--force-conflicts", "-f", &file.to_string_lossy()],
            None,
        )?;
    }
    kubectl(kubeconfig, &["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"], None)
        .map(drop)
}

/// Applies the templates of the chart whose path contains one of `parts`, with `arguments` for Helm.
///
/// # Errors
/// When Helm or the API server refuses.
pub fn apply(kubeconfig: &Path, parts: &[&str], arguments: &[&str]) -> Result<()> {
    let mut helm = vec!["template", "fleetprof", "charts/fleetprof", "-n", "fleetprof"];
    helm.extend(arguments);
    let all = crate::run(&tool("helm")?, &helm)?;
    let wanted: Vec<&str> = all
        .split("\n---")
        .filter(|d| d.lines().any(|l| l.starts_with("# Source:") && parts.iter().any(|p| l.contains(p))))
        .collect();
    if wanted.is_empty() {
        bail!("the chart has no template like {parts:?}");
    }
    kubectl(kubeconfig, &["apply", "--server-side", "-f", "-"], Some(&wanted.join("\n---\n"))).map(drop)
}

/// Runs kubectl and returns what it prints.
///
/// # Errors
/// When it fails, with what it said.
pub fn kubectl(kubeconfig: &Path, arguments: &[&str], input: Option<&str>) -> Result<String> {
    let mut child = Command::new(tool("kubectl")?)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.unwrap_or_default().as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("kubectl {arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}
