//! The drawing as SVG. Boxes are as wide as their longest line, so that no text is ever cut, and
//! stand in a grid, so that none lies over another however many there are.

use std::fmt::Write;

use super::plan::{Group, Node, Plan};

/// Height of a line of text, in pixels.
const LINE: usize = 17;
/// Width of a character of the monospace font at 13 pixels, rounded up.
const GLYPH: usize = 8;
const PAD: usize = 10;
const GAP: usize = 14;
/// A row of containers becomes no wider than this, unless one box is.
const WIDEST: usize = 1200;

/// A box with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Placed<'a> {
    node: &'a Node,
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

fn size(node: &Node) -> (usize, usize) {
    let lines = std::iter::once(&node.title).chain(&node.lines);
    let longest = lines.map(|line| line.chars().count()).max().unwrap_or(0);
    (
        longest * GLYPH + 2 * PAD,
        (node.lines.len() + 1) * LINE + 2 * PAD,
    )
}

/// Boxes of one size in rows; their common width and height.
fn grid(nodes: &[Node], left: usize, top: usize) -> (Vec<Placed<'_>>, usize, usize) {
    let sizes = || nodes.iter().map(size);
    let width = sizes().map(|(width, _)| width).max().unwrap_or(0);
    let columns = ((WIDEST + GAP) / (width + GAP).max(1)).max(1);
    let mut placed = Vec::new();
    let mut y = top;
    for row in nodes.chunks(columns) {
        let height = row
            .iter()
            .map(size)
            .map(|(_, height)| height)
            .max()
            .unwrap_or(0);
        for (column, node) in row.iter().enumerate() {
            placed.push(Placed {
                node,
                x: left + column * (width + GAP),
                y,
                width,
                height,
            });
        }
        y += height + GAP;
    }
    let columns = columns.min(nodes.len());
    let total = (columns * (width + GAP)).saturating_sub(GAP);
    (placed, total, y.saturating_sub(top).saturating_sub(GAP))
}

pub(crate) fn print(plan: &Plan) -> String {
    let mut body = String::new();
    let (uplinks, mut right, height) = grid(&plan.uplinks, GAP, GAP);
    for uplink in &uplinks {
        rectangle(&mut body, uplink, "uplink");
    }
    right += GAP;
    let mut y = GAP + height + 2 * GAP;
    let trunk = GAP + 2 * PAD;
    let mut ends = Vec::new();
    for group in &plan.groups {
        let (drawn, width, height) = panel(&mut body, group, GAP + 3 * GAP, y);
        ends.push(y + drawn / 2);
        right = right.max(GAP + 3 * GAP + width);
        y += height + 2 * GAP;
    }
    if let (Some(last), false) = (ends.last(), plan.uplinks.is_empty()) {
        let from = GAP + height;
        let _ = writeln!(body, "<path class=\"wire\" d=\"M{trunk} {from}V{last}\"/>");
        for end in &ends {
            let _ = writeln!(
                body,
                "<path class=\"wire\" d=\"M{trunk} {end}H{}\"/>",
                GAP + 3 * GAP
            );
        }
    }
    let (width, height) = (right + GAP, y);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <style>text{{font:13px monospace;fill:#1c2733}}.title{{font-weight:bold}}rect{{stroke:#5b6b7b;rx:4}}\
         .uplink{{fill:#dfe7ef}}.network{{fill:#f4f7fa}}.bridge{{fill:#cfe3d4}}.container{{fill:#fff}}\
         .wire{{stroke:#5b6b7b;fill:none}}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" style=\"fill:#fff;stroke:none\"/>\n{body}</svg>\n"
    )
}

/// A network: its bridge on top, its containers below. The height of the bridge's box, and the
/// panel's width and height.
fn panel(body: &mut String, group: &Group, x: usize, y: usize) -> (usize, usize, usize) {
    let (own_width, own_height) = size(&group.node);
    let (members, width, height) = grid(&group.members, x + GAP, y + GAP + own_height + GAP);
    let width = width.max(own_width) + 2 * GAP;
    let rest = if members.is_empty() { 0 } else { height + GAP };
    let height = GAP + own_height + GAP + rest;
    let _ = writeln!(
        body,
        "<rect class=\"network\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"
    );
    let bridge = Placed {
        node: &group.node,
        x: x + GAP,
        y: y + GAP,
        width: own_width,
        height: own_height,
    };
    rectangle(body, &bridge, "bridge");
    for member in &members {
        rectangle(body, member, "container");
    }
    (2 * GAP + own_height, width, height)
}

fn rectangle(body: &mut String, placed: &Placed<'_>, class: &str) {
    let Placed {
        node,
        x,
        y,
        width,
        height,
    } = placed;
    let _ = writeln!(
        body,
        "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"
    );
    let lines = std::iter::once(&node.title).chain(&node.lines);
    for (number, line) in lines.enumerate() {
        let class = if number == 0 { " class=\"title\"" } else { "" };
        let _ = writeln!(
            body,
            "<text{class} x=\"{}\" y=\"{}\">{}</text>",
            x + PAD,
            y + PAD + number * LINE + 12,
            escaped(line)
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(containers: usize) -> Plan {
        let member = |number: usize| Node {
            title: format!("container-{number}"),
            lines: vec![
                format!("172.18.0.{number}/16"),
                "fd00:1234:5678:9abc::1234:5678/64".into(),
                "127.0.0.1:8080->80/tcp".into(),
            ],
        };
        let group = |count: usize| Group {
            node: Node {
                title: "shop".into(),
                lines: vec!["bridge shop0".into(), "172.18.0.1/16".into()],
            },
            members: (0..count).map(member).collect(),
        };
        Plan {
            uplinks: vec![Node {
                title: "eth0".into(),
                lines: vec!["198.18.7.1/24".into()],
            }],
            groups: vec![group(containers), group(0), group(1)],
            links: Vec::new(),
        }
    }

    fn number(line: &str, name: &str) -> usize {
        let rest = line.split(&format!(" {name}=\"")).nth(1).unwrap_or("0\"");
        rest.split('"').next().unwrap().parse().unwrap()
    }

    #[track_caller]
    fn check(containers: usize) {
        let text = print(&plan(containers));
        let boxes: Vec<[usize; 4]> = text
            .lines()
            .filter(|line| line.starts_with("<rect class") && !line.contains("\"network\""))
            .map(|line| ["x", "y", "width", "height"].map(|name| number(line, name)))
            .collect();
        // One uplink, three bridges, the containers and one more.
        assert_eq!(boxes.len(), containers + 5);
        let page = text.lines().next().unwrap();
        let (width, height) = (number(page, "width"), number(page, "height"));
        for (at, a) in boxes.iter().enumerate() {
            assert!(
                a[0] + a[2] <= width && a[1] + a[3] <= height,
                "{a:?} is cut"
            );
            for b in &boxes[at + 1..] {
                let apart = a[0] + a[2] <= b[0]
                    || b[0] + b[2] <= a[0]
                    || a[1] + a[3] <= b[1]
                    || b[1] + b[3] <= a[1];
                assert!(apart, "{a:?} lies over {b:?}");
            }
        }
        for line in text.lines().filter(|line| line.starts_with("<text")) {
            let (x, y) = (number(line, "x"), number(line, "y"));
            let words = line.split('>').nth(1).unwrap().split('<').next().unwrap();
            let length = words.replace("&gt;", ">").chars().count() * GLYPH;
            let inside = |a: &&[usize; 4]| {
                a[0] <= x && x + length <= a[0] + a[2] && a[1] < y && y < a[1] + a[3]
            };
            assert!(boxes.iter().any(|a| inside(&a)), "{words} is cut");
        }
    }

    #[test]
    fn nothing_overlaps_and_nothing_is_cut() {
        for containers in [0, 2, 5, 20, 100] {
            check(containers);
        }
    }

    #[test]
    fn names_cannot_break_the_picture() {
        assert_eq!(escaped("a<b>&c"), "a&lt;b&gt;&amp;c");
    }
}
