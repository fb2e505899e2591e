//! A real object store as a child process, with a bucket `profiles`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    S3,
    Az,
}

/// Azurite's account of its own.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A server; it ends with the value.
pub struct Server {
    kind: Kind,
    port: u16,
    data: TempDir,
    config: TempDir,
    child: Option<Child>,
}

impl Server {
    pub async fn start(kind: Kind) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let folder = || tempfile::tempdir().unwrap();
        let mut server = Self { kind, port, data: folder(), config: folder(), child: None };
        if kind != Kind::Az {
            std::fs::create_dir(server.data.path().join("profiles")).unwrap();
        }
        server.restart().await;
        if kind == Kind::Az {
            let script = fleetprof_tests::root().join("tests/azure_container.py");
            let url = format!("http://127.0.0.1:{port}");
            fleetprof_tests::run("python3", &[script.to_str().unwrap(), &url, ACCOUNT, KEY, "profiles"])
                .unwrap();
        }
        server.write_config();
        server
    }

    /// Starts it, on the same port with the same data, and waits until it listens.
    pub async fn restart(&mut self) {
        let (port, data) = (self.port.to_string(), self.data.path().to_str().unwrap());
        let address = format!("127.0.0.1:{port}");
        let (program, arguments): (&str, Vec<&str>) = match self.kind {
            Kind::S3 => (
                "versitygw",
                vec!["--access", "the-id", "--secret", "the-secret-key", "--port", &address, "posix", data],
            ),
            Kind::Az => (
                "azurite-blob",
                vec![
                    "--blobHost",
                    "127.0.0.1",
                    "--blobPort",
                    &port,
                    "--location",
                    data,
                    "--skipApiVersionCheck",
                    "--disableTelemetry",
                    "--silent",
                ],
            ),
        };
        let mut command = Command::new(programs().join(program));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child =
            Some(command.spawn().unwrap_or_else(|error| panic!("{program} does not start: {error}")));
        let end = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(&address).is_err() {
            assert!(Instant::now() < end, "{program} does not listen");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Stops it at once.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// The file with the destination `archive`, as the chart writes it.
    pub fn config(&self) -> PathBuf {
        self.config.path().join("config.yaml")
    }

    fn write_config(&self) {
        let secret = self.config.path().join("archive");
        std::fs::create_dir(&secret).unwrap();
        let put = |name: &str, value: &str| std::fs::write(secret.join(name), value).unwrap();
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        let settings = match self.kind {
            Kind::S3 => {
                put("access-key-id", "the-id");
                put("secret-access-key", "the-secret-key");
                format!("kind: s3, bucket: profiles, prefix: fleet, endpoint: '{endpoint}'")
            }
            Kind::Az => {
                put("account-key", KEY);
                format!(
                    "kind: az, account: {ACCOUNT}, container: profiles, prefix: fleet, endpoint: '{endpoint}/{ACCOUNT}'"
                )
            }
        };
        let credentials = secret.display();
        let text = format!("destinations:\n  archive: {{{settings}, credentials: '{credentials}'}}\n");
        std::fs::write(self.config(), text).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

pub fn programs() -> PathBuf {
    let folder = std::env::var("FLEETPROF_STORES");
    Path::new(&folder.expect("FLEETPROF_STORES is not set: run tests/suites.sh stores")).to_owned()
}
