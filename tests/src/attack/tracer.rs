//! A process under ptrace(2), which is killed at the entry of one of its system calls, or whose call
//! fails there. All threads and children are followed; their calls are counted together.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, gettid};
use pontoon_lab::{Call, Failure, Finished, Outcome, Runtime};

use super::calls;

/// A verb that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// What happens at a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// SIGKILL for the process that makes the call, before the kernel runs it.
    Kill,
    /// The kernel does not run the call, and the process gets this error.
    Fail(Errno),
}

/// One system call of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Point {
    /// Its number in the run, from 1.
    pub(crate) number: usize,
    /// The call's name.
    pub(crate) name: String,
    /// The file it is about, where there is one.
    pub(crate) file: String,
    /// The program that makes it.
    pub(crate) program: String,
}

impl Point {
    /// Where nothing was attacked.
    pub(crate) fn none() -> Self {
        Self {
            number: 0,
            name: String::new(),
            file: String::new(),
            program: "none".to_owned(),
        }
    }
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {}:{}({})",
            self.number, self.program, self.name, self.file
        )
    }
}

/// What a traced run was like.
pub(crate) struct Traced {
    /// The plugin's exit.
    pub(crate) finished: Finished,
    /// All calls, where no act was ordered; else the one at which it happened, if it came to it.
    pub(crate) points: Vec<Point>,
    /// It did not end within [`LIMIT`] and was killed then.
    pub(crate) hung: bool,
}

/// Runs plugins under the tracer; keeps the files that they read and write.
pub(crate) struct Tracer<'r, 'h> {
    runtime: &'r Runtime<'h>,
    dir: PathBuf,
}

impl<'r, 'h> Tracer<'r, 'h> {
    /// A tracer with a directory of its own.
    pub(crate) fn new(runtime: &'r Runtime<'h>, dir: &Path) -> Self {
        Self {
            runtime,
            dir: dir.to_owned(),
        }
    }

    /// Runs one call of a plugin, on a thread that is already on the host. With an order, `act` happens
    /// at the system call of that number; with a name, at the first one from there that has it, because no
    /// two runs make quite the same calls.
    pub(crate) fn run(
        &self,
        program: &str,
        call: &Call,
        order: Option<(usize, Act)>,
        name: Option<&str>,
    ) -> Outcome<Traced> {
        let file = |name: &str| self.dir.join(name);
        fs::write(file("stdin"), &call.stdin).map_err(Failure::act("write standard input"))?;
        let open =
            |name: &str| File::create(file(name)).map_err(Failure::act(format!("create {name}")));
        let child = Command::new("/bin/sh")
            .args(["-c", "kill -STOP $$; exec \"$0\""])
            .arg(self.runtime.programs().program(program))
            .env_clear()
            .env("PATH", self.runtime.path())
            .envs(call.environment.iter().map(|(name, value)| (name, value)))
            .stdin(File::open(file("stdin")).map_err(Failure::act("open standard input"))?)
            .stdout(open("stdout")?)
            .stderr(Stdio::from(open("stderr")?))
            .spawn()
            .map_err(Failure::act("start sh"))?;
        let main = Pid::from_raw(i32::try_from(child.id()).map_err(Failure::act("read a pid"))?);
        let known = Mutex::new(BTreeSet::from([main]));
        let tracer = gettid();
        let (done, wait) = mpsc::channel::<()>();
        let (outcome, hung) = thread::scope(|scope| {
            let known = &known;
            let watchdog = scope.spawn(move || {
                let hung = wait.recv_timeout(LIMIT).is_err();
                if hung {
                    let all = known.lock().map(|all| all.clone()).unwrap_or_default();
                    for pid in all.into_iter().filter(|pid| traced_by(*pid, tracer)) {
                        let _ = kill(pid, Signal::SIGKILL);
                    }
                }
                hung
            });
            let outcome = Trace::new(main, order, name, known)
                .follow()
                .map_err(Failure::act(format!("trace {program}")));
            let _ = done.send(());
            (outcome, watchdog.join().unwrap_or(true))
        });
        let (status, points) = outcome?;
        let text = |name: &str| {
            fs::read(file(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(Traced {
            finished: Finished {
                status,
                stdout: text("stdout").map_err(Failure::act("read standard output"))?,
                stderr: text("stderr").map_err(Failure::act("read standard error"))?,
            },
            points,
            hung,
        })
    }
}

struct Trace<'k> {
    main: Pid,
    order: Option<(usize, Act)>,
    /// What the call was in another run: an error that fits it fits no other.
    name: Option<&'k str>,
    known: &'k Mutex<BTreeSet<Pid>>,
    /// Whether a traced thread is inside a system call; without entry where that is not known yet.
    inside: BTreeMap<Pid, bool>,
    /// What a call that was skipped shall return, by thread.
    answers: BTreeMap<Pid, Errno>,
    count: usize,
    points: Vec<Point>,
    started: bool,
    acted: bool,
}

impl<'k> Trace<'k> {
    fn new(
        main: Pid,
        order: Option<(usize, Act)>,
        name: Option<&'k str>,
        known: &'k Mutex<BTreeSet<Pid>>,
    ) -> Self {
        Self {
            main,
            order,
            name,
            known,
            inside: BTreeMap::new(),
            answers: BTreeMap::new(),
            count: 0,
            points: Vec::new(),
            started: false,
            acted: false,
        }
    }

    fn follow(mut self) -> Result<(Option<i32>, Vec<Point>), Errno> {
        // The shell stops itself, so that no call of the plugin comes before the tracer.
        waitpid(self.main, Some(WaitPidFlag::WUNTRACED))?;
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_EXITKILL;
        ptrace::seize(self.main, options)?;
        kill(self.main, Signal::SIGCONT)?;
        let mut status = None;
        let mut traced = BTreeSet::from([self.main]);
        // Only this thread's: others trace at the same time.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        while !traced.is_empty() {
            let event = match waitpid(None, Some(flags)) {
                Err(Errno::ECHILD) => break,
                Err(Errno::EINTR) => continue,
                event => event?,
            };
            if let Some(pid) = event.pid()
                && traced.insert(pid)
                && let Ok(mut known) = self.known.lock()
            {
                known.insert(pid);
            }
            match event {
                WaitStatus::Exited(pid, code) => {
                    traced.remove(&pid);
                    self.forget(pid);
                    if pid == self.main {
                        status = Some(code);
                    }
                }
                WaitStatus::Signaled(pid, ..) => {
                    traced.remove(&pid);
                    self.forget(pid);
                }
                WaitStatus::PtraceSyscall(pid) => gone(self.stop(pid))?,
                WaitStatus::PtraceEvent(pid, _, libc::PTRACE_EVENT_EXEC) => {
                    self.started |= pid == self.main;
                    if program(pid) == "pontoon-dns" {
                        // It stays, and is killed as a daemon elsewhere.
                        gone(ptrace::detach(pid, None))?;
                        traced.remove(&pid);
                        continue;
                    }
                    self.inside.insert(pid, true);
                    gone(ptrace::syscall(pid, None))?;
                }
                WaitStatus::PtraceEvent(pid, ..) => {
                    // Before the plugin starts, the shell's calls are nothing to stop at.
                    if self.started {
                        gone(ptrace::syscall(pid, None))?;
                    } else {
                        gone(ptrace::cont(pid, None))?;
                    }
                }
                WaitStatus::Stopped(pid, signal) => {
                    let signal = (signal != Signal::SIGCONT).then_some(signal);
                    if self.started {
                        gone(ptrace::syscall(pid, signal))?;
                    } else {
                        gone(ptrace::cont(pid, signal))?;
                    }
                }
                _ => {}
            }
        }
        Ok((status, self.points))
    }

    /// Its number may soon be another process's.
    fn forget(&self, pid: Pid) {
        if let Ok(mut known) = self.known.lock() {
            known.remove(&pid);
        }
    }

    fn stop(&mut self, pid: Pid) -> Result<(), Errno> {
        let entry = match self.inside.get(&pid) {
            Some(inside) => !inside,
            None => registers::is_entry(pid)?,
        };
        self.inside.insert(pid, entry);
        if entry {
            self.count += 1;
            match self.order {
                None => self.points.push(self.describe(pid)?),
                Some((number, act)) if number <= self.count && !self.acted => {
                    let point = self.describe(pid)?;
                    if self.name.is_some_and(|name| name != point.name) {
                        return ptrace::syscall(pid, None);
                    }
                    self.acted = true;
                    self.points.push(point);
                    registers::skip(pid)?;
                    match act {
                        Act::Kill => return kill(process(pid), Signal::SIGKILL),
                        Act::Fail(error) => self.answers.insert(pid, error),
                    };
                }
                Some(_) => {}
            }
        } else if let Some(error) = self.answers.remove(&pid) {
            registers::answer(pid, error)?;
        }
        ptrace::syscall(pid, None)
    }

    fn describe(&self, pid: Pid) -> Result<Point, Errno> {
        let (number, arguments) = registers::call(pid)?;
        let (name, file) = calls::name(number);
        let path = |address: u64| text_at(pid, address);
        let descriptor = |number: u64| {
            fs::read_link(format!("/proc/{pid}/fd/{number}"))
                .map(|path| path.display().to_string())
                .unwrap_or_default()
        };
        let file = match file {
            calls::Subject::None => String::new(),
            calls::Subject::Path(at) => path(arguments[at]),
            calls::Subject::Descriptor(at) => descriptor(arguments[at]),
        };
        // A socket's or a pipe's number says nothing.
        let file = match file.split_once(":[") {
            Some((kind, _)) => kind.to_owned(),
            None => file,
        };
        Ok(Point {
            number: self.count,
            name,
            file,
            program: program(pid),
        })
    }
}

/// Whether a process is under that tracer.
fn traced_by(pid: Pid, tracer: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"));
    line.is_some_and(|number| number.trim() == tracer.to_string())
}

/// A thread that has been killed meanwhile answers no request.
fn gone(done: Result<(), Errno>) -> Result<(), Errno> {
    match done {
        Err(Errno::ESRCH) => Ok(()),
        done => done,
    }
}

/// The process of a thread.
fn process(thread: Pid) -> Pid {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let group = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    group
        .and_then(|group| group.trim().parse().ok())
        .map_or(thread, Pid::from_raw)
}

fn program(pid: Pid) -> String {
    fs::read_link(format!("/proc/{pid}/exe"))
        .ok()
        .and_then(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .unwrap_or_default()
}

fn text_at(pid: Pid, address: u64) -> String {
    const LONGEST: usize = 512;
    let mut bytes = vec![0; LONGEST];
    let read = File::open(format!("/proc/{pid}/mem"))
        .and_then(|memory| memory.read_at(&mut bytes, address))
        .unwrap_or(0);
    let text = bytes[..read].split(|byte| *byte == 0).next();
    String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
}

/// Where a call's number, arguments and answer are.
#[cfg(target_arch = "x86_64")]
mod registers {
    use super::{Errno, Pid, libc, ptrace};

    /// On entry the kernel has put -ENOSYS where the answer will be.
    pub(super) fn is_entry(pid: Pid) -> Result<bool, Errno> {
        Ok(ptrace::getregs(pid)?.rax.cast_signed() == -i64::from(libc::ENOSYS))
    }

    pub(super) fn call(pid: Pid) -> Result<(i64, [u64; 4]), Errno> {
        let all = ptrace::getregs(pid)?;
        Ok((
            all.orig_rax.cast_signed(),
            [all.rdi, all.rsi, all.rdx, all.r10],
        ))
    }

    /// Makes the kernel run no call.
    pub(super) fn skip(pid: Pid) -> Result<(), Errno> {
        let mut all = ptrace::getregs(pid)?;
        all.orig_rax = u64::MAX;
        ptrace::setregs(pid, all)
    }

    pub(super) fn answer(pid: Pid, error: Errno) -> Result<(), Errno> {
        let mut all = ptrace::getregs(pid)?;
        all.rax = i64::from(-(error as i32)).cast_unsigned();
        ptrace::setregs(pid, all)
    }
}

/// The registers of other processors are named otherwise.
#[cfg(not(target_arch = "x86_64"))]
mod registers {
    use super::{Errno, Pid};

    pub(super) fn is_entry(_: Pid) -> Result<bool, Errno> {
        Err(Errno::ENOSYS)
    }

    pub(super) fn call(_: Pid) -> Result<(i64, [u64; 4]), Errno> {
        Err(Errno::ENOSYS)
    }

    pub(super) fn skip(_: Pid) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }

    pub(super) fn answer(_: Pid, _: Errno) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
}
