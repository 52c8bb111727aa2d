//! Test programs as jobs: the unit tests of a package, and each module of an integration test, are a
//! process of their own. Several run at the same time; those that measure time run alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use pontoon_lab::{Failure, Outcome, target_dir};
use serde_json::Value;

use super::steps::Times;
use crate::build::cargo;

/// The program that holds the black-box tests.
const BLACK_BOX: &str = "black_box";

/// What compares durations or rates, or promises that nothing is late: nothing runs beside it.
const ALONE: [&str; 6] = [
    "black_box chain::bandwidth",
    "black_box doctor::accounts",
    "black_box names::churn",
    "black_box names::forward",
    "black_box swap::containers",
    "netfilter nft scale",
];

/// The longest modules, longest first, for a machine that has not run them yet.
const LONGEST: [&str; 6] = [
    "black_box doctor::beside",
    "black_box policy::model",
    "black_box house::samples",
    "black_box protocol::faults",
    "black_box runtime::podman",
    "black_box policy::matrix",
];

/// After this time a job is ended: something in it waits for ever.
const LIMIT: Duration = Duration::from_secs(600);

/// How many jobs run at the same time for each processor: most of a test's time is waiting for
/// packets that must not arrive.
const PER_PROCESSOR: usize = 1;

/// One process that runs tests.
#[derive(Clone)]
pub(crate) struct Job {
    /// The package and the program, or the program and its module.
    pub(crate) name: String,
    program: PathBuf,
    arguments: Vec<String>,
    dir: PathBuf,
    /// An integration test: of a library's own lab, or a black-box test.
    lab: bool,
}

/// Builds the test programs of the workspace, and lists their jobs. With a filter, jobs hold the
/// tests whose names contain it, and a job without any is left out.
pub(crate) fn build(filter: Option<&str>) -> Outcome<Vec<Job>> {
    let mut build = cargo(&[
        "test",
        "--quiet",
        "--locked",
        "--workspace",
        "--no-run",
        "--message-format",
        "json-render-diagnostics",
    ]);
    build.stderr(Stdio::inherit());
    let output = build.output().map_err(Failure::act("build the tests"))?;
    if !output.status.success() {
        return Err(Failure::new("the tests do not build"));
    }
    let mut jobs = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: Value = serde_json::from_str(line)
            .map_err(Failure::act("read what cargo tells of the tests"))?;
        let (Some(program), true) = (
            message["executable"].as_str(),
            message["profile"]["test"] == true,
        ) else {
            continue;
        };
        let manifest = Path::new(message["manifest_path"].as_str().unwrap_or_default());
        let dir = manifest.parent().unwrap_or(manifest).to_path_buf();
        let target = message["target"]["name"].as_str().unwrap_or_default();
        let lab = message["target"]["kind"][0] == "test";
        jobs.extend(jobs_of(program.as_ref(), &dir, (target, lab), filter)?);
    }
    Ok(jobs)
}

/// One job for the unit tests of a package, and one for each module of an integration test.
fn jobs_of(
    program: &Path,
    dir: &Path,
    (target, lab): (&str, bool),
    filter: Option<&str>,
) -> Outcome<Vec<Job>> {
    let output = Command::new(program)
        .args(["--list", "--format", "terse"])
        .current_dir(dir)
        .output()
        .map_err(Failure::act(format!("list the tests of {target}")))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // `names_forward` and `names::forward` are one module.
    let wanted = |name: &str| {
        filter
            .is_none_or(|filter| name.contains(filter) || name.replace("::", "_").contains(filter))
    };
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .collect();
    let package = dir
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let job = |name: String, arguments: Vec<String>| Job {
        name,
        program: program.to_path_buf(),
        arguments,
        dir: dir.to_path_buf(),
        lab,
    };
    let depth = match (lab, target == BLACK_BOX) {
        (true, true) => 2,
        (true, false) => 1,
        (false, _) => 0,
    };
    let exact = |names: Vec<&str>| -> Vec<String> {
        let mut arguments: Vec<String> = names.into_iter().map(str::to_owned).collect();
        arguments.push("--exact".to_owned());
        arguments
    };
    let mut jobs: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for name in names.into_iter().filter(|name| wanted(name)) {
        let parts: Vec<&str> = name.split("::").collect();
        // What has no module is a job with others of its kind.
        let module = parts[..depth.min(parts.len() - 1)].join("::");
        jobs.entry(module).or_default().push(name);
    }
    let title = match target == BLACK_BOX {
        true => BLACK_BOX.to_owned(),
        false => format!("{package} {target}"),
    };
    Ok(jobs
        .into_iter()
        .map(|(module, names)| {
            job(
                format!("{title} {module}").trim_end().to_owned(),
                exact(names),
            )
        })
        .collect())
}

/// Only the jobs of these modules of the black-box tests.
pub(crate) fn of_modules(jobs: &[Job], modules: &[&str]) -> Outcome<Vec<Job>> {
    let find = |module: &&str| {
        let name = format!("{BLACK_BOX} {module}");
        let found = jobs.iter().find(|job| job.name == name).cloned();
        found.ok_or_else(|| Failure::new(format!("no tests are called {module}")))
    };
    modules.iter().map(find).collect()
}

/// All programs but the black-box tests, and of these some modules.
pub(crate) fn quick(jobs: &[Job], modules: &[&str]) -> Outcome<Vec<Job>> {
    let unit = |job: &&Job| !job.lab;
    let mut chosen: Vec<Job> = jobs.iter().filter(unit).cloned().collect();
    chosen.extend(of_modules(jobs, modules)?);
    Ok(chosen)
}

/// Runs jobs with these variables; the names of those that failed.
pub(crate) fn run(
    jobs: Vec<Job>,
    environment: &[(&str, String)],
    times: &mut Times,
) -> Outcome<Vec<String>> {
    let folder = target_dir()?.join("test-output");
    fs::create_dir_all(&folder).map_err(Failure::act("make target/test-output"))?;
    let record = target_dir()?.join("test-seconds.json");
    let mut seconds: BTreeMap<String, f64> = fs::read(&record)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    let (mut alone, mut beside): (Vec<Job>, Vec<Job>) = jobs
        .into_iter()
        .partition(|job| ALONE.contains(&job.name.as_str()));
    let expected = |job: &Job| {
        let position = LONGEST.iter().position(|name| *name == job.name);
        let guess = position.map_or(0.0, |place| 1000.0 - place as f64);
        seconds.get(&job.name).copied().unwrap_or(guess)
    };
    for list in [&mut alone, &mut beside] {
        list.sort_by(|one, other| expected(other).total_cmp(&expected(one)));
    }
    let count = alone.len() + beside.len();
    let at_once = thread::available_parallelism().map_or(1, usize::from) * PER_PROCESSOR;
    let mut failures = BTreeSet::new();
    let mut done = 0;
    for (list, at_once) in [(beside, at_once), (alone, 1)] {
        let queue = Mutex::new(VecDeque::from(list));
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..at_once {
                let (tell, queue, folder) = (tell.clone(), &queue, &folder);
                scope.spawn(move || {
                    loop {
                        let next = queue
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .pop_front();
                        let Some(job) = next else { return };
                        let started = Instant::now();
                        let end = job.run(environment, folder);
                        let _ = tell.send((job.name, started.elapsed().as_secs_f64(), end));
                    }
                });
            }
            drop(tell);
            for (name, took, end) in told {
                done += 1;
                times.part(&name, took);
                match end {
                    Ok(summary) => {
                        println!("{done:>4} of {count}  {took:>6.1} s  {name}: {summary}");
                        seconds.insert(name, took);
                    }
                    Err(words) => {
                        println!("{done:>4} of {count}  {took:>6.1} s  {name}: FAILED\n{words}");
                        failures.insert(name);
                    }
                }
            }
        });
    }
    // Only the order of the next run depends on it.
    if let Ok(text) = serde_json::to_vec_pretty(&seconds) {
        let _ = fs::write(record, text);
    }
    Ok(failures.into_iter().collect())
}

impl Job {
    /// Runs it to its end: the last line of what it said, or all of it.
    fn run(&self, environment: &[(&str, String)], folder: &Path) -> Result<String, String> {
        let path = folder.join(self.name.replace([' ', ':'], "-"));
        let words = || fs::read_to_string(&path).unwrap_or_default();
        let status = self
            .start(environment, &path)
            .and_then(|mut child| wait(&mut child));
        match status {
            Ok(Some(status)) if status.success() => {
                let text = words();
                let last = text
                    .lines()
                    .rev()
                    .find(|line| line.starts_with("test result"));
                let last = last.and_then(|line| line.strip_prefix("test result: ok. "));
                let passed = last.and_then(|line| line.split(';').next());
                Ok(passed.unwrap_or("it said nothing").to_owned())
            }
            Ok(Some(status)) => Err(format!("{}\n{status}", words())),
            Ok(None) => Err(format!(
                "{}\nit had not come to an end after {} s, and was killed",
                words(),
                LIMIT.as_secs()
            )),
            Err(failure) => Err(failure.to_string()),
        }
    }

    fn start(&self, environment: &[(&str, String)], output: &Path) -> Outcome<Child> {
        let act = || format!("run {}", self.name);
        let file = File::create(output).map_err(Failure::act(act()))?;
        let errors = file.try_clone().map_err(Failure::act(act()))?;
        Command::new(&self.program)
            .args(&self.arguments)
            .current_dir(&self.dir)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .map_err(Failure::act(act()))
    }
}

/// Waits for its end; `None` when it had to be killed.
fn wait(child: &mut Child) -> Outcome<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        let status = child.try_wait().map_err(Failure::act("wait for a test"))?;
        if status.is_some() {
            return Ok(status);
        }
        if started.elapsed() > LIMIT {
            child.kill().map_err(Failure::act("kill a test"))?;
            child.wait().map_err(Failure::act("wait for a test"))?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}
