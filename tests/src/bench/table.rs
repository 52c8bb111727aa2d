//! The result: times, ratios, and whether the bars are met. A row that misses its bar is told as a miss.

use std::fmt::{self, Write};

/// What is asked of a figure.
pub(crate) enum Bar {
    /// Nothing; it is only told.
    None,
    /// Nothing, but there is something to say.
    Note(String),
    /// A condition in words, and whether it is met.
    Asked(String, bool),
}

/// One figure of both sides.
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) reference: Option<f64>,
    pub(crate) ours: f64,
    pub(crate) unit: &'static str,
    pub(crate) bar: Bar,
}

/// All figures of a run.
pub(crate) struct Table {
    title: String,
    rows: Vec<Row>,
}

impl Bar {
    /// At least so many times faster than the reference.
    pub(crate) fn faster(times: f64, measured: f64) -> Self {
        Self::Asked(format!("1/{times:.0} of the reference"), measured >= times)
    }

    /// At most this ratio.
    pub(crate) fn at_most(limit: f64, measured: f64, to: &str) -> Self {
        Self::Asked(
            format!("{measured:.2} {to}, at most {limit}"),
            measured <= limit,
        )
    }

    /// At least this ratio.
    pub(crate) fn at_least(limit: f64, measured: f64, to: &str) -> Self {
        Self::Asked(
            format!("{measured:.2} {to}, at least {limit}"),
            measured >= limit,
        )
    }

    /// A rate of so many times the reference's and so many a second, without a failure.
    pub(crate) fn rate(
        times: f64,
        per_second: f64,
        (theirs, ours): (f64, f64),
        failed: usize,
    ) -> Self {
        Self::Asked(
            format!(
                "{times:.0} times the reference's rate and {per_second:.0}/s, none of Pontoon's fails"
            ),
            ours >= times * theirs && ours >= per_second && failed == 0,
        )
    }

    fn cells(&self) -> (&str, &str) {
        match self {
            Self::None => ("", ""),
            Self::Note(text) => (text, ""),
            Self::Asked(text, true) => (text, "pass"),
            Self::Asked(text, false) => (text, "MISS"),
        }
    }
}

impl Table {
    pub(crate) fn new(title: String) -> Self {
        Self {
            title,
            rows: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// How many bars are not met.
    pub(crate) fn failed(&self) -> usize {
        self.rows
            .iter()
            .filter(|row| matches!(row.bar, Bar::Asked(_, false)))
            .count()
    }

    /// The same for a document.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("{}\n\n", self.title);
        let mut line = |cells: &[&str]| {
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        };
        line(&["what", "reference 1.9.1", "ours", "ratio", "bar", ""]);
        line(&["---", "---:", "---:", "---:", "---", "---"]);
        for row in &self.rows {
            line(&row.cells().each_ref().map(String::as_str));
        }
        text
    }
}

impl Row {
    fn cells(&self) -> [String; 6] {
        let figure = |value: f64| match self.unit {
            "ms" => format!("{value:.2} ms"),
            "µs" => format!("{value:.2} µs"),
            "kB" => format!("{value:.0} kB"),
            _ => format!("{value:.0}/s"),
        };
        let ratio = match self.reference {
            None => String::new(),
            Some(reference) if ["ms", "µs", "kB"].contains(&self.unit) => {
                format!("1/{:.1}", reference / self.ours)
            }
            Some(reference) => format!("{:.1}x", self.ours / reference),
        };
        let (bar, verdict) = self.bar.cells();
        [
            self.what.clone(),
            self.reference.map(figure).unwrap_or_default(),
            figure(self.ours),
            ratio,
            bar.to_owned(),
            verdict.to_owned(),
        ]
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        let head = ["", "reference 1.9.1", "ours", "ratio", "bar", ""].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(head)
            .chain(self.rows.iter().map(Row::cells))
            .collect();
        let width = |column: usize| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: [usize; 6] = std::array::from_fn(width);
        for [what, reference, ours, ratio, bar, verdict] in &rows {
            let [a, b, c, d, e, _] = widths;
            writeln!(
                f,
                "{what:a$}  {reference:>b$}  {ours:>c$}  {ratio:>d$}  {bar:e$}  {verdict}"
            )?;
        }
        Ok(())
    }
}
