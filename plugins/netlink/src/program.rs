//! Running another program and reading all that it prints. The standard library's `output` and
//! `wait_with_output` panic when a pipe cannot be read; a plugin has to say so in its error object and take
//! back what it has made.

use std::io::{self, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

/// A program that has ended.
#[derive(Debug)]
pub struct EndedProgram {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error; empty when the command says that its caller's is used.
    pub stderr: Vec<u8>,
    /// Whether it took all of the input. A program that refuses an early line stops reading: its exit status
    /// and its words tell more than the broken pipe then.
    pub fed: io::Result<()>,
}

/// Starts a program, gives it `input` as standard input, and waits until it ends. The command says whether
/// standard error is a pipe.
///
/// # Errors
/// Those of starting it, of reading its pipes, and of waiting for it. It has ended then too: a closed pipe
/// ends a program that writes to it.
pub fn run_program(command: &mut Command, input: &[u8]) -> io::Result<EndedProgram> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let talked: io::Result<_> = thread::scope(|scope| {
        // A program may print more than a pipe holds before it has read all.
        let words = stderr
            .map(|pipe| thread::Builder::new().spawn_scoped(scope, || read_all(pipe)))
            .transpose()?;
        let fed = stdin
            .filter(|_| !input.is_empty())
            .map(|mut pipe| {
                thread::Builder::new().spawn_scoped(scope, move || pipe.write_all(input))
            })
            .transpose()?;
        let printed = stdout.map_or(Ok(Vec::new()), read_all);
        let words = words.map_or(Ok(Vec::new()), joined);
        let fed = fed.map_or(Ok(()), joined);
        Ok((fed, printed?, words?))
    });
    let status = child.wait()?;
    let (fed, stdout, stderr) = talked?;
    Ok(EndedProgram {
        status,
        stdout,
        stderr,
        fed,
    })
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, io::Result<T>>) -> io::Result<T> {
    let ended = thread.join();
    ended.unwrap_or_else(|_| Err(io::Error::other("the thread at a pipe panicked")))
}

fn read_all(mut pipe: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "the tests start a shell to have something that reads and prints"
)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn all_that_a_program_prints_is_read_while_it_reads() {
        // More than a pipe holds, on each of the two.
        let text = vec![b'x'; 300_000];
        let mut command = shell("dd if=/dev/zero bs=1000 count=200 >&2 2>/dev/null; cat");
        let ended = run_program(command.stderr(Stdio::piped()), &text).unwrap();
        assert!(ended.status.success());
        assert_eq!(ended.stdout, text);
        ended.fed.unwrap();
        let mut command = shell("head -c 200000 /dev/zero >&2; cat; exit 3");
        let ended = run_program(command.stderr(Stdio::piped()), b"y").unwrap();
        assert_eq!(ended.status.code(), Some(3));
        assert_eq!((ended.stdout, ended.stderr.len()), (b"y".to_vec(), 200_000));
    }

    #[test]
    fn a_program_that_stops_reading_still_tells_its_status_and_words() {
        let text = vec![b'x'; 300_000];
        let mut command = shell("echo no >&2; exit 2");
        let ended = run_program(command.stderr(Stdio::piped()), &text).unwrap();
        assert_eq!(ended.status.code(), Some(2));
        assert_eq!(ended.stderr, b"no\n");
        assert_eq!(ended.fed.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let ended = run_program(&mut Command::new("/no/such/program"), b"");
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
