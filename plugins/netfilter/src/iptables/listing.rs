//! What `iptables -S` and `iptables-save` print, as a value: the one reader of both.

use std::collections::HashSet;

use super::text::Rule;
use crate::nft::RuleSummary;

/// The chains and rules of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    chains: Vec<ListedChain>,
    rules: Vec<Listed>,
}

/// A chain as it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedChain {
    /// Its name.
    pub name: String,
    /// Of a built-in chain the verdict on packets that no rule decides about: `ACCEPT` or `DROP`.
    pub policy: Option<String>,
}

/// A rule as it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Chain and text; the text can be given back to restore.
    pub(super) rule: Rule,
    words: Vec<String>,
}

/// What a rule says, whatever the order.
pub(super) fn wording(rule: &Rule) -> Vec<String> {
    sorted(words(&rule.spec))
}

fn sorted(mut words: Vec<String>) -> Vec<String> {
    words.sort_unstable();
    words
}

impl Listing {
    /// Reads what `iptables -t TABLE -S` prints.
    pub(super) fn parse(text: &str) -> Self {
        let mut listing = Self::default();
        text.lines().for_each(|line| listing.read(line));
        listing
    }

    /// Reads what `iptables-save` prints: the tables by name, in its order.
    #[must_use]
    pub fn parse_save(text: &str) -> Vec<(String, Self)> {
        let mut tables: Vec<(String, Self)> = Vec::new();
        for line in text.lines() {
            match (line.strip_prefix('*'), tables.last_mut()) {
                (Some(name), _) => tables.push((name.to_owned(), Self::default())),
                (None, Some((_, listing))) => listing.read(line),
                (None, None) => {}
            }
        }
        tables
    }

    fn read(&mut self, line: &str) {
        let mut parts = line.splitn(3, ' ');
        let (verb, chain, rest) = (parts.next(), parts.next(), parts.next().unwrap_or(""));
        let (Some(verb), Some(chain)) = (verb, chain) else {
            return;
        };
        let mut add = |name: &str, policy: Option<&str>| {
            self.chains.push(ListedChain {
                name: name.to_owned(),
                policy: policy.map(str::to_owned),
            });
        };
        match (verb, verb.strip_prefix(':')) {
            // `:FORWARD DROP [0:0]`, and `:CNI-FORWARD - [0:0]`.
            (_, Some(name)) => add(name, Some(chain).filter(|policy| *policy != "-")),
            ("-P", None) => add(chain, Some(rest)),
            ("-N", None) => add(chain, None),
            ("-A", None) => self.rules.push(Listed {
                rule: Rule::new(chain, rest),
                words: words(rest),
            }),
            _ => {}
        }
    }

    pub(super) fn has_chain(&self, name: &str) -> bool {
        self.chains.iter().any(|chain| chain.name == name)
    }

    /// All rules, those of one chain in their order.
    pub fn rules(&self) -> impl Iterator<Item = &Listed> {
        self.rules.iter()
    }

    /// The rules of one chain, in order.
    pub(super) fn chain<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Listed> {
        self.rules
            .iter()
            .filter(move |listed| listed.rule.chain == name)
    }

    /// The rules anywhere that lead to a chain.
    pub(super) fn leading_to<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Listed> {
        self.rules
            .iter()
            .filter(move |listed| listed.target() == Some(name))
    }

    /// All chains.
    pub fn chains(&self) -> impl Iterator<Item = &ListedChain> {
        self.chains.iter()
    }

    /// How many rules a chain has.
    pub(super) fn len(&self, chain: &str) -> usize {
        self.chain(chain).count()
    }

    /// All rules by chain and words, to look for many.
    pub(super) fn index(&self) -> HashSet<(&str, Vec<String>)> {
        let key = |listed: &'_ Listed| sorted(listed.words.clone());
        let rules = self.rules.iter();
        rules
            .map(|listed| (listed.rule.chain.as_str(), key(listed)))
            .collect()
    }

    /// Whether a rule is there, by its words: versions differ in what they quote, and
    /// iptables prints an administrator's conditions in an order of its own.
    pub(super) fn has_rule(&self, rule: &Rule) -> bool {
        !self.places(rule).is_empty()
    }

    /// The numbers of the rules, from 1, that are this one.
    pub(super) fn places(&self, rule: &Rule) -> Vec<usize> {
        let wanted = wording(rule);
        let same = |listed: &Listed| {
            listed.words.len() == wanted.len() && sorted(listed.words.clone()) == wanted
        };
        let rules = (1..).zip(self.chain(&rule.chain));
        rules
            .filter_map(|(place, listed)| same(listed).then_some(place))
            .collect()
    }
}

impl Listed {
    /// The chain that it is in.
    #[must_use]
    pub fn chain(&self) -> &str {
        &self.rule.chain
    }

    /// The options behind the chain, as they were printed.
    #[must_use]
    pub fn options(&self) -> &str {
        &self.rule.spec
    }

    /// The options as words: what is quoted is one word, without its quotes.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The chain or target that the rule leads to.
    pub(super) fn target(&self) -> Option<&str> {
        self.after("-j").or_else(|| self.after("-g"))
    }

    pub(super) fn comment(&self) -> Option<&str> {
        self.after("--comment")
    }

    /// Comments and target.
    pub(super) fn summary(&self) -> RuleSummary {
        RuleSummary {
            comments: self.comments().map(str::to_owned).collect(),
            jump: self.target().map(str::to_owned),
            numbers: Vec::new(),
        }
    }

    /// Whether one of its comments is `text`.
    pub(super) fn has_comment(&self, text: impl Fn(&str) -> bool) -> bool {
        self.comments().any(text)
    }

    fn comments(&self) -> impl Iterator<Item = &str> {
        let words = self.words.iter().map(String::as_str);
        let mut after = words.clone().skip(1);
        let mut before = words;
        std::iter::from_fn(move || {
            loop {
                let (word, next) = (before.next()?, after.next()?);
                if word == "--comment" {
                    // What it says is no option.
                    before.next();
                    after.next();
                    return Some(next);
                }
            }
        })
    }

    /// The word after `option`. The text of a comment is no option.
    pub(super) fn after(&self, option: &str) -> Option<&str> {
        let mut words = self.words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            if word == option {
                return words.next();
            }
            if word == "--comment" {
                words.next();
            }
        }
        None
    }
}

/// Splits as restore does: blanks outside quotes separate, a backslash inside quotes takes the
/// next character as it is.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().extend(characters.next()),
            c if c.is_ascii_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(words(text), expected);
    }

    #[test]
    fn splits_like_restore() {
        check(
            "-s 10.0.0.0/8 -j RETURN",
            &["-s", "10.0.0.0/8", "-j", "RETURN"],
        );
        check(
            r#"--comment "a \"b\" c" -j X"#,
            &["--comment", "a \"b\" c", "-j", "X"],
        );
        check(r#"--comment "" -j X"#, &["--comment", "", "-j", "X"]);
        check(r#"--comment "a\\b""#, &["--comment", "a\\b"]);
    }

    #[test]
    fn reads_chains_rules_targets_and_comments() {
        let listing = Listing::parse(
            "-P PREROUTING ACCEPT\n-N FOO\n-A PREROUTING -m comment --comment \"a b\" -j FOO\n",
        );
        assert!(listing.has_chain("PREROUTING") && listing.has_chain("FOO"));
        assert!(!listing.has_chain("BAR"));
        let first = listing.chain("PREROUTING").next().expect("one rule");
        assert_eq!(
            (first.target(), first.comment()),
            (Some("FOO"), Some("a b"))
        );
        assert_eq!(listing.leading_to("FOO").count(), 1);
        assert!(!listing.has_rule(&Rule::new("PREROUTING", "-j FOO")));
        assert!(listing.has_rule(&Rule::new(
            "PREROUTING",
            "-m comment --comment \"a b\" -j FOO"
        )));
    }

    #[test]
    fn mutated_listings_are_read_or_not() {
        let good = [
            "-P FORWARD DROP\n-N CNI-X\n-A FORWARD -i \"a b\" -m comment --comment \"a \\\"b\\\"\" -j CNI-X\n",
            "*filter\n:FORWARD DROP [0:0]\n:CNI-X - [0:0]\n-A FORWARD -s 10.0.0.0/8 ! -o br0 -j CNI-X\n\
             COMMIT\n*nat\n:OUTPUT ACCEPT [1:60]\n-A OUTPUT -p tcp -m tcp --dport 80 -j DNAT \
             --to-destination [fd00::2]:80\nCOMMIT\n",
        ];
        let good = good.map(|text| text.as_bytes().to_vec());
        pontoon_lab::fuzz("iptables listings", &good, |bytes, _| {
            let text = String::from_utf8_lossy(bytes);
            let lines = text.lines().count();
            let listing = Listing::parse(&text);
            assert!(listing.chains.len() + listing.rules.len() <= lines);
            for listed in listing.rules() {
                let _ = (listed.target(), listed.comment(), wording(&listed.rule));
            }
            let tables = Listing::parse_save(&text);
            let read: usize = tables.iter().map(|(_, table)| table.rules.len()).sum();
            assert!(read + tables.len() <= lines);
        });
    }

    #[test]
    fn both_programs_tell_the_same() {
        let listed = "-P FORWARD DROP\n-N CNI-X\n-A FORWARD -i \"a b\" -j CNI-X\n";
        let saved = "# Generated by iptables-save\n*filter\n:FORWARD DROP [0:0]\n:CNI-X - [0:0]\n\
            -A FORWARD -i \"a b\" -j CNI-X\nCOMMIT\n*nat\n:OUTPUT ACCEPT [1:60]\nCOMMIT\n";
        let tables = Listing::parse_save(saved);
        let names: Vec<&str> = tables.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["filter", "nat"]);
        assert_eq!(tables[0].1, Listing::parse(listed));
        assert_eq!(tables[0].1.chains[0].policy.as_deref(), Some("DROP"));
        assert_eq!(tables[0].1.chains[1].policy, None);
        assert_eq!(tables[0].1.rules[0].words()[..2], ["-i", "a b"]);
    }

    /// A comment that looks like an option is one word and does not end the search wrongly.
    #[test]
    fn a_comment_cannot_pose_as_a_target() {
        let listing = Listing::parse("-A X -m comment --comment \"-j FOO\" -j BAR\n");
        assert_eq!(
            listing.chain("X").next().and_then(Listed::target),
            Some("BAR")
        );
        let bare = Listing::parse("-A X -m comment --comment -j -j BAR\n");
        assert_eq!(bare.chain("X").next().and_then(Listed::target), Some("BAR"));
    }
}
