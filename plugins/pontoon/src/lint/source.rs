//! A JSON document with the places of its parts, which serde_json does not tell.

use serde::Serialize;
use serde_json::Value;

/// Where something begins: from 1, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// A value.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    /// Behind its last character.
    end: Place,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Object(Vec<Member>),
    Array(Vec<Node>),
    /// Text, number, boolean or null.
    Plain(Value),
}

/// A key and its value.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) key: String,
    /// Of the key.
    pub(super) place: Place,
    pub(super) value: Node,
}

impl Node {
    pub(super) fn members(&self) -> &[Member] {
        match &self.kind {
            Kind::Object(members) => members,
            _ => &[],
        }
    }

    pub(super) fn items(&self) -> &[Node] {
        match &self.kind {
            Kind::Array(items) => items,
            _ => &[],
        }
    }

    /// The member of this key, as plugins find it: without regard to case, `null` being absent, the
    /// exact spelling before others, the last of several.
    pub(super) fn get(&self, key: &str) -> Option<&Member> {
        let there = self.members().iter().rev();
        let mut found =
            there.filter(|member| member.key.eq_ignore_ascii_case(key) && !member.value.is_null());
        let first = found.clone().next();
        found.find(|member| member.key == key).or(first)
    }

    /// The member in which a place of the document lies.
    pub(super) fn member_at(&self, place: Place) -> Option<&Member> {
        let before = self
            .members()
            .iter()
            .take_while(|member| member.place <= place);
        before.last().filter(|_| place < self.end)
    }

    /// Whether a plugin's object says that it takes this argument of the runtime.
    pub(super) fn declares(&self, capability: &str) -> bool {
        let all = self.get("capabilities");
        let one = all.and_then(|all| all.value.get(capability));
        one.is_some_and(|one| one.value.is_true())
    }

    /// The value as serde_json has it.
    pub(super) fn plain(&self) -> Value {
        match &self.kind {
            Kind::Plain(value) => value.clone(),
            Kind::Array(items) => items.iter().map(Node::plain).collect(),
            Kind::Object(members) => {
                let pairs = members
                    .iter()
                    .map(|member| (member.key.clone(), member.value.plain()));
                Value::Object(pairs.collect())
            }
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Plain(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Plain(Value::Null))
    }

    /// Whether it is `true`.
    pub(super) fn is_true(&self) -> bool {
        matches!(self.kind, Kind::Plain(Value::Bool(true)))
    }
}

/// Reads a document. What is no JSON is told with a guess at the reason.
pub(super) fn read(text: &str) -> Result<Node, (Place, String)> {
    if let Err(error) = serde_json::from_str::<Value>(text) {
        let place = Place {
            line: error.line().max(1),
            column: error.column().max(1),
        };
        return Err((place, problem(text, &error)));
    }
    let mut reader = Reader {
        rest: text,
        place: Place { line: 1, column: 1 },
    };
    // A byte order mark is no JSON, so the checks above have sorted out everything else.
    Ok(reader.value())
}

fn problem(text: &str, error: &serde_json::Error) -> String {
    let told = error.to_string();
    let told = told.split(" at line ").next().unwrap_or_default();
    let line = text
        .lines()
        .nth(error.line().saturating_sub(1))
        .unwrap_or_default();
    let line = line.trim_start();
    let hint = if text.trim().is_empty() {
        "the file is empty"
    } else if line.starts_with("//") || line.starts_with("/*") || line.starts_with('#') {
        "JSON has no comments: take this line out"
    } else if told.contains("trailing comma") {
        "take out the comma before this bracket"
    } else if told.contains("expected `,` or") {
        "a comma is missing before this"
    } else if told.contains("EOF") {
        "the file ends too early: a bracket or quote is not closed"
    } else if told.contains("key must be a string") {
        "keys stand in double quotes"
    } else if line.contains('\'') {
        "JSON has double quotes only"
    } else {
        "this is no JSON"
    };
    format!("{hint} ({told})")
}

/// Reads what is known to be JSON.
struct Reader<'t> {
    rest: &'t str,
    place: Place,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let next = characters.next()?;
        self.rest = characters.as_str();
        if next == '\n' {
            self.place.line += 1;
            self.place.column = 1;
        } else {
            self.place.column += 1;
        }
        Some(next)
    }

    fn skip(&mut self, unwanted: impl Fn(char) -> bool) {
        while self.rest.starts_with(&unwanted) {
            self.next();
        }
    }

    /// Blanks, and what stands between values.
    fn between(&mut self) {
        self.skip(|c| c.is_ascii_whitespace() || c == ',' || c == ':');
    }

    fn value(&mut self) -> Node {
        self.between();
        let place = self.place;
        let kind = match self.rest.chars().next() {
            Some('{') => Kind::Object(self.object()),
            Some('[') => Kind::Array(self.array()),
            Some('"') => Kind::Plain(Value::String(self.string())),
            _ => Kind::Plain(self.word()),
        };
        let end = self.place;
        Node { place, end, kind }
    }

    fn object(&mut self) -> Vec<Member> {
        let mut members = Vec::new();
        self.next();
        self.between();
        while self.rest.starts_with('"') {
            let place = self.place;
            let key = self.string();
            let value = self.value();
            members.push(Member { key, place, value });
            self.between();
        }
        self.next();
        members
    }

    fn array(&mut self) -> Vec<Node> {
        let mut items = Vec::new();
        self.next();
        self.between();
        while !self.rest.is_empty() && !self.rest.starts_with(']') {
            items.push(self.value());
            self.between();
        }
        self.next();
        items
    }

    fn string(&mut self) -> String {
        let start = self.rest;
        self.next();
        let mut escaped = false;
        while let Some(next) = self.next() {
            match next {
                '"' if !escaped => break,
                '\\' => escaped = !escaped,
                _ => escaped = false,
            }
        }
        let text = &start[..start.len() - self.rest.len()];
        serde_json::from_str(text).unwrap_or_default()
    }

    fn word(&mut self) -> Value {
        let start = self.rest;
        self.skip(|c| !c.is_ascii_whitespace() && !",]}".contains(c));
        let text = &start[..start.len() - self.rest.len()];
        serde_json::from_str(text).unwrap_or_default()
    }
}
