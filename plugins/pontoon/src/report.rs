//! How the command speaks: tables and JSON to standard output, errors with a hint to standard error,
//! and the exit code.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;

/// Nothing of that name is there.
const NOT_FOUND: u8 = 3;

/// Why a command could not do its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There is nothing of that name.
    NotFound(String),
    /// What failed, with its cause; a hint follows on a line of its own.
    Failed(String),
}

/// True when all is well, false when the command has found what should not be.
pub(crate) type Outcome = Result<bool, Failure>;

impl From<pontoon_conf::Error> for Failure {
    fn from(error: pontoon_conf::Error) -> Self {
        // What the plugins write is root's alone.
        Self::Failed(match is_root() {
            true => error.to_string(),
            false => format!("{error}\n{AS_ROOT}"),
        })
    }
}

impl From<pontoon_netlink::Error> for Failure {
    fn from(error: pontoon_netlink::Error) -> Self {
        Self::Failed(format!("{error}\nhint: run as root, on the host"))
    }
}

impl From<pontoon_passage::Error> for Failure {
    fn from(error: pontoon_passage::Error) -> Self {
        Self::Failed(format!("{error}\nhint: run as root, on the host"))
    }
}

/// What a command that is not run as root is told.
pub(crate) const AS_ROOT: &str = "hint: run as root, on the host";

/// Whether this process may look into containers and at rules: `CAP_NET_ADMIN` and `CAP_SYS_ADMIN`
/// (capabilities(7)), which root has.
pub(crate) fn is_root() -> bool {
    const NEEDED: u64 = 1 << 12 | 1 << 21;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    effective.is_none_or(|effective| effective & NEEDED == NEEDED)
}

/// Refuses what would be told wrong, or done by half, by another user than root.
pub(crate) fn need_root(what: &str) -> Result<(), Failure> {
    match is_root() {
        true => Ok(()),
        false => Err(Failure::Failed(format!("only root may {what}\n{AS_ROOT}"))),
    }
}

/// The exit code, after telling the failure.
pub(crate) fn finish(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Failure::NotFound(text)) => {
            eprintln!("pontoon: {text}");
            ExitCode::from(NOT_FOUND)
        }
        Err(Failure::Failed(text)) => {
            eprintln!("pontoon: {text}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a value as JSON, or as text made of it.
pub(crate) fn print(
    json: bool,
    value: &impl Serialize,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let text = if json {
        let text = serde_json::to_string_pretty(value);
        text.map_err(|error| Failure::Failed(error.to_string()))? + "\n"
    } else {
        text()
    };
    write(&text)
}

/// Prints text. A reader that has had enough (`| head`) is no failure.
pub(crate) fn write(text: &str) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::Failed(
            format!("cannot write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}

/// Colours and weights, on a terminal only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style(bool);

impl Style {
    /// For standard output. `NO_COLOR` switches it off (no-color.org).
    #[allow(clippy::disallowed_methods, reason = "what terminals go by")]
    pub(crate) fn of_stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self(wanted && std::io::stdout().is_terminal())
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }
}

/// A table with a heading, as wide as its contents.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heading: &[&str]) -> Self {
        Self {
            rows: vec![heading.iter().map(|&word| word.to_owned()).collect()],
        }
    }

    /// An empty cell is shown as a dash, so that columns can be counted.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        let cell = |cell: String| if cell.is_empty() { "-".into() } else { cell };
        self.rows.push(cells.into_iter().map(cell).collect());
    }

    pub(crate) fn text(&self, style: Style) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&widths);
            let line: Vec<String> = cells
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            let line = line.join("  ");
            let line = line.trim_end();
            text += &if number == 0 {
                style.bold(line)
            } else {
                line.to_owned()
            };
            text.push('\n');
        }
        text
    }
}

/// How long something has been there, in the largest unit that says it.
pub(crate) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// An id as lists show it: its first twelve characters, as Docker does.
pub(crate) fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up() {
        let mut table = Table::new(&["A", "LONG"]);
        table.row(vec!["word".into(), String::new()]);
        assert_eq!(table.text(Style(false)), "A     LONG\nword  -\n");
        assert_eq!(
            table.text(Style(true)).lines().next(),
            Some("\x1b[1mA     LONG\x1b[0m")
        );
    }

    #[test]
    fn ages() {
        let ages = [0, 59, 60, 3599, 3600, 86399, 86400, 864_000].map(age);
        assert_eq!(ages, ["0s", "59s", "1m", "59m", "1h", "23h", "1d", "10d"]);
    }
}
