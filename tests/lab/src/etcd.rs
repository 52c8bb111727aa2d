//! etcd of Debian's package, one member a host, with or without TLS.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::daemon::Daemon;
use super::failure::{Failure, Outcome};
use super::programs::{find, missing, target_dir};
use super::scratch::Scratch;

/// For how long members may take to agree.
const PATIENCE: Duration = Duration::from_secs(30);
const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

/// Members of etcd on the hosts of a cluster.
pub struct Etcd {
    // Before their directory.
    members: Vec<Option<Daemon>>,
    tls: Option<Authority>,
    /// Further options of each member.
    options: Vec<String>,
    dir: Scratch,
}

/// A certificate authority, and the certificates that it gave.
pub struct Authority(Scratch);

impl Authority {
    /// A new one.
    pub fn new() -> Outcome<Self> {
        let dir = Scratch::new("ca")?;
        openssl(
            dir.path(),
            &format!("req -x509 {KEY} -keyout ca.key -out ca.pem -subj /CN=lab -days 365"),
        )?;
        Ok(Self(dir))
    }

    /// Gives `NAME.pem` and `NAME.key`: for a server with these addresses, and for the client that it names.
    pub fn give(&self, name: &str, addresses: &[String]) -> Outcome {
        self.give_for(name, addresses, 365)
    }

    /// The same for so many days.
    pub fn give_for(&self, name: &str, addresses: &[String], days: u32) -> Outcome {
        let dir = self.0.path();
        let mut extensions = "extendedKeyUsage=serverAuth,clientAuth\n".to_owned();
        if !addresses.is_empty() {
            let addresses: Vec<String> = addresses.iter().map(|it| format!("IP:{it}")).collect();
            extensions += &format!("subjectAltName={}\n", addresses.join(","));
        }
        let act = "write what a certificate is for";
        fs::write(dir.join("extensions"), extensions).map_err(Failure::act(act))?;
        openssl(
            dir,
            &format!("req {KEY} -keyout {name}.key -out {name}.csr -subj /CN={name}"),
        )?;
        let sign = format!("x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days {days}");
        openssl(
            dir,
            &format!("{sign} -in {name}.csr -extfile extensions -out {name}.pem"),
        )
    }

    /// A file of it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// Runs `openssl` in a folder, and wants it to succeed.
pub fn openssl(folder: &Path, arguments: &str) -> Outcome {
    let program = find("openssl").ok_or_else(|| missing("openssl"))?;
    let output = Command::new(program)
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .map_err(Failure::act("run openssl"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Failure::new(format!("openssl {arguments}: {words}")))
}

fn program(name: &str) -> Outcome<PathBuf> {
    let program = target_dir()?.join("tools/etcd/usr/bin").join(name);
    match program.exists() {
        true => Ok(program),
        false => Err(missing(name)),
    }
}

impl Etcd {
    /// One member on each host. With TLS, every client shows a certificate, and the name in it is its user; who may do
    /// what is not limited yet, see [`Etcd::limit`].
    pub fn start(cluster: &Cluster, with_tls: bool) -> Outcome<Self> {
        Self::start_with(cluster, with_tls, &[])
    }

    /// The same, with more options of each member.
    pub fn start_with(cluster: &Cluster, with_tls: bool, options: &[&str]) -> Outcome<Self> {
        let tls = match with_tls {
            false => None,
            true => {
                let tls = Authority::new()?;
                for number in numbers(cluster) {
                    let addresses = [
                        Cluster::address(number),
                        "127.0.0.1".parse().map_err(Failure::act("parse"))?,
                    ];
                    tls.give(&format!("e{number}"), &addresses.map(|it| it.to_string()))?;
                }
                tls.give("root", &[])?;
                Some(tls)
            }
        };
        let mut etcd = Self {
            members: Vec::new(),
            tls,
            options: options.iter().map(|it| (*it).to_owned()).collect(),
            dir: Scratch::new("etcd")?,
        };
        for number in numbers(cluster) {
            etcd.members.push(None);
            etcd.restart(cluster, number)?;
        }
        etcd.wait(cluster)?;
        Ok(etcd)
    }

    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// The authority, where there is TLS.
    #[must_use]
    pub fn authority(&self) -> Option<&Authority> {
        self.tls.as_ref()
    }

    /// Where clients find the members, that of this host first.
    #[must_use]
    pub fn endpoints(&self, first: u8) -> Vec<String> {
        let count = u8::try_from(self.members.len()).unwrap_or(u8::MAX);
        let numbers = (0..count).map(|turn| (first - 1 + turn) % count + 1);
        numbers
            .map(|number| format!("{}://{}:2379", self.scheme(), Cluster::address(number)))
            .collect()
    }

    /// Starts the member of a host that does not run, with what it has on disk.
    pub fn restart(&mut self, cluster: &Cluster, number: u8) -> Outcome {
        let scheme = self.scheme();
        let peer = |number: u8| format!("{scheme}://{}:2380", Cluster::address(number));
        let client = format!("{scheme}://{}:2379", Cluster::address(number));
        let all: Vec<String> = numbers(cluster)
            .map(|number| format!("e{number}={}", peer(number)))
            .collect();
        let at = |name: &str| self.dir.path().join(format!("e{number}{name}"));
        let mut command = Command::new(program("etcd")?);
        command
            .env_clear()
            .args(["--name", &format!("e{number}")])
            .arg("--data-dir")
            .arg(at(".data"))
            .args([
                "--listen-client-urls",
                &format!("{client},{scheme}://127.0.0.1:2379"),
            ])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer(number)])
            .args(["--initial-advertise-peer-urls", &peer(number)])
            .args(["--initial-cluster", &all.join(",")])
            .args(["--heartbeat-interval", "100", "--election-timeout", "1000"])
            .args(["--auto-compaction-retention", "1h", "--logger", "zap"])
            .args(&self.options);
        if let Some(tls) = &self.tls {
            for prefix in ["--", "--peer-"] {
                command
                    .arg(format!("{prefix}trusted-ca-file"))
                    .arg(tls.file("ca.pem"))
                    .arg(format!("{prefix}cert-file"))
                    .arg(tls.file(&format!("e{number}.pem")))
                    .arg(format!("{prefix}key-file"))
                    .arg(tls.file(&format!("e{number}.key")))
                    .arg(format!("{prefix}client-cert-auth"));
            }
        }
        let host = &cluster.hosts[usize::from(number) - 1];
        let daemon = Daemon::start(host, &mut command, &at(".log"), || true)?;
        self.members[usize::from(number) - 1] = Some(daemon);
        Ok(())
    }

    /// Kills the member of a host.
    pub fn kill(&mut self, number: u8) -> Outcome {
        match self.members[usize::from(number) - 1].take() {
            Some(member) => member.kill(),
            None => Err(Failure::new(format!("no member runs on host {number}"))),
        }
    }

    /// Waits until the members that run have a leader and take what is written.
    pub fn wait(&self, cluster: &Cluster) -> Outcome {
        let started = Instant::now();
        loop {
            match self.control(cluster, "put /lab/ready 1") {
                Ok(_) => return Ok(()),
                Err(error) if started.elapsed() > PATIENCE => return Err(error),
                Err(_) => sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Runs `etcdctl` on the first host whose member runs, as the admin; what it says.
    pub fn control(&self, cluster: &Cluster, arguments: &str) -> Outcome<String> {
        self.control_as(cluster, "root", &arguments.split(' ').collect::<Vec<_>>())
    }

    /// The same with the certificate of this name.
    pub fn control_as(&self, cluster: &Cluster, name: &str, arguments: &[&str]) -> Outcome<String> {
        let first = self.members.iter().position(Option::is_some);
        let first = first.ok_or_else(|| Failure::new("no member runs"))?;
        let number = u8::try_from(first + 1).unwrap_or(u8::MAX);
        let mut command = Command::new(program("etcdctl")?);
        command
            .env_clear()
            .env("ETCDCTL_API", "3")
            .args(["--dial-timeout", "1s", "--command-timeout", "2s"])
            .args(["--endpoints", &self.endpoints(number)[0]]);
        if let Some(tls) = &self.tls {
            command
                .arg("--cacert")
                .arg(tls.file("ca.pem"))
                .arg("--cert")
                .arg(tls.file(&format!("{name}.pem")))
                .arg("--key")
                .arg(tls.file(&format!("{name}.key")));
        }
        cluster.hosts[first].command(command.args(arguments))
    }

    /// The host whose member is the leader.
    pub fn leader(&self, cluster: &Cluster) -> Outcome<u8> {
        let act = "read the status of etcd's members";
        let mut running = Vec::new();
        for (number, member) in numbers(cluster).zip(&self.members) {
            if member.is_some() {
                running.push(self.endpoints(number)[0].clone());
            }
        }
        let arguments = format!("endpoint status --endpoints {} -w json", running.join(","));
        let text = self.control(cluster, &arguments)?;
        let all: serde_json::Value = serde_json::from_str(&text).map_err(Failure::act(act))?;
        let is_leader = |one: &&serde_json::Value| {
            one["Status"]["header"]["member_id"] == one["Status"]["leader"]
        };
        let leader = all.as_array().and_then(|all| all.iter().find(is_leader));
        let endpoint = leader.and_then(|one| one["Endpoint"].as_str());
        let endpoint = endpoint.ok_or_else(|| Failure::new(format!("no leader in {text}")))?;
        let is_its = |number: &u8| endpoint.contains(&format!("{}:", Cluster::address(*number)));
        let number = numbers(cluster).find(is_its);
        number.ok_or_else(|| Failure::new(format!("{endpoint} is no member")))
    }

    /// Makes users of certificates' names: `root`, and one for each host `hN` that reads everything of Pontoon and
    /// writes what is its own, as the README says. From then on the name in the certificate decides.
    pub fn limit(&self, cluster: &Cluster) -> Outcome {
        let Some(tls) = &self.tls else {
            return Err(Failure::new("there is no TLS"));
        };
        for command in [
            "user add root --no-password",
            "role add root",
            "user grant-role root root",
        ] {
            self.control(cluster, command)?;
        }
        for number in numbers(cluster) {
            let host = format!("h{number}");
            tls.give(&host, &[])?;
            for command in [
                format!("role add {host}"),
                format!("role grant-permission {host} --prefix=true read /pontoon/v1/"),
                format!(
                    "role grant-permission {host} --prefix=true readwrite /pontoon/v1/host/{host}/"
                ),
                format!("role grant-permission {host} --prefix=true readwrite /pontoon/v1/block/"),
                format!(
                    "role grant-permission {host} --prefix=true readwrite /pontoon/v1/service/"
                ),
                format!("user add {host} --no-password"),
                format!("user grant-role {host} {host}"),
            ] {
                self.control(cluster, &command)?;
            }
        }
        self.control(cluster, "auth enable").map(drop)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // One that is asked to end waits for others that are gone already, and nothing of it is kept.
        for member in self.members.iter_mut().filter_map(Option::take) {
            if let Err(error) = member.kill() {
                eprintln!("{error}");
            }
        }
    }
}

fn numbers(cluster: &Cluster) -> impl Iterator<Item = u8> + use<> {
    1..=u8::try_from(cluster.hosts.len()).unwrap_or(u8::MAX)
}
