//! The drawing as text: for a terminal, for Graphviz, for Mermaid.

use super::plan::{Node, Plan};

pub(crate) fn text(plan: &Plan) -> String {
    let mut text = String::new();
    for uplink in &plan.uplinks {
        text += &format!("{}  {}\n", uplink.title, uplink.lines.join(" "));
    }
    for (number, group) in plan.groups.iter().enumerate() {
        let last = number + 1 == plan.groups.len();
        let (branch, stem) = if last {
            ("└─", "  ")
        } else {
            ("├─", "│ ")
        };
        text += &format!(
            "{branch} {}  {}\n",
            group.node.title,
            group.node.lines.join(", ")
        );
        for (number, member) in group.members.iter().enumerate() {
            let branch = if number + 1 == group.members.len() {
                "└─"
            } else {
                "├─"
            };
            let line = format!(
                "{stem} {branch} {}  {}",
                member.title,
                member.lines.join(" ")
            );
            text += line.trim_end();
            text.push('\n');
        }
    }
    text
}

/// Inside double quotes of Graphviz and Mermaid.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "'")
}

pub(crate) fn dot(plan: &Plan) -> String {
    let label = |node: &Node| {
        let lines = std::iter::once(&node.title).chain(&node.lines);
        let lines: Vec<String> = lines.map(|line| quoted(line)).collect();
        lines.join("\\n")
    };
    let mut text = "graph pontoon {\n  rankdir=LR;\n  node [shape=box];\n".to_owned();
    for (number, uplink) in plan.uplinks.iter().enumerate() {
        text += &format!("  up{number} [label=\"{}\"];\n", label(uplink));
    }
    for (number, group) in plan.groups.iter().enumerate() {
        text += &format!(
            "  net{number} [label=\"{}\", style=rounded];\n",
            label(&group.node)
        );
        for up in 0..plan.uplinks.len() {
            text += &format!("  up{up} -- net{number};\n");
        }
        for (member, node) in group.members.iter().enumerate() {
            text += &format!("  net{number}c{member} [label=\"{}\"];\n", label(node));
            text += &format!("  net{number} -- net{number}c{member};\n");
        }
    }
    for link in &plan.links {
        let (group, from, to) = (link.group, link.from, link.to);
        text += &format!(
            "  net{group}c{from} -- net{group}c{to} [label=\"{}\", style=dashed, dir=forward, constraint=false];\n",
            quoted(&link.ports)
        );
    }
    text + "}\n"
}

pub(crate) fn mermaid(plan: &Plan) -> String {
    let label = |node: &Node| {
        let lines = std::iter::once(&node.title).chain(&node.lines);
        let lines: Vec<String> = lines.map(|line| quoted(line)).collect();
        lines.join("<br/>")
    };
    let mut text = "graph LR\n".to_owned();
    for (number, uplink) in plan.uplinks.iter().enumerate() {
        text += &format!("  up{number}[\"{}\"]\n", label(uplink));
    }
    for (number, group) in plan.groups.iter().enumerate() {
        text += &format!("  net{number}([\"{}\"])\n", label(&group.node));
        for up in 0..plan.uplinks.len() {
            text += &format!("  up{up} --- net{number}\n");
        }
        for (member, node) in group.members.iter().enumerate() {
            text += &format!(
                "  net{number} --- net{number}c{member}[\"{}\"]\n",
                label(node)
            );
        }
    }
    for link in &plan.links {
        let (group, from, to) = (link.group, link.from, link.to);
        text += &format!(
            "  net{group}c{from} -. {} .-> net{group}c{to}\n",
            quoted(&link.ports)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Group, Link};
    use super::*;

    fn node(title: &str, lines: &[&str]) -> Node {
        Node {
            title: title.into(),
            lines: lines.iter().map(|&line| line.to_owned()).collect(),
        }
    }

    fn plan() -> Plan {
        Plan {
            uplinks: vec![node("eth0", &["10.0.0.2/24"])],
            groups: vec![
                Group {
                    node: node("shop", &["bridge shop0", "172.18.0.1/16"]),
                    members: vec![
                        node("web", &["172.18.0.2/16", "8080->80/tcp"]),
                        node("db", &[]),
                    ],
                },
                Group {
                    node: node("none", &["mode none"]),
                    members: Vec::new(),
                },
            ],
            links: vec![Link {
                group: 0,
                from: 0,
                to: 1,
                ports: "5432/tcp".into(),
            }],
        }
    }

    #[test]
    fn a_tree_on_a_terminal() {
        let expected = "\
eth0  10.0.0.2/24
├─ shop  bridge shop0, 172.18.0.1/16
│  ├─ web  172.18.0.2/16 8080->80/tcp
│  └─ db
└─ none  mode none
";
        assert_eq!(text(&plan()), expected);
    }

    #[test]
    fn graphs_for_other_programs() {
        let dot = dot(&plan());
        assert!(
            dot.contains("net0 [label=\"shop\\nbridge shop0\\n172.18.0.1/16\", style=rounded];")
        );
        assert!(dot.contains("net0c0 -- net0c1 [label=\"5432/tcp\""));
        assert!(dot.contains("up0 -- net0;") && dot.contains("net0 -- net0c1;"));
        let mermaid = mermaid(&plan());
        assert!(mermaid.contains("net0c0 -. 5432/tcp .-> net0c1"));
        assert!(mermaid.contains("net0 --- net0c0[\"web<br/>172.18.0.2/16<br/>8080->80/tcp\"]"));
    }
}
