use super::*;
use crate::policy::Policy;

fn text(policy: &Policy) -> PolicyText {
    PolicyText::new(Family::V4, policy).expect("sound")
}

/// The lines that would be written into a table that holds `listing`, without those of the network
/// itself.
#[track_caller]
fn check(listing: &str, expected: &[&str]) {
    let text = text(&Policy::open("web", "br0"));
    let lines = policy_lines(Family::V4, &mut Listing::parse(listing), &text);
    let general: Vec<String> = lines
        .iter()
        .filter(|line| !line.contains(&text.tag) && !line.starts_with("-N"))
        .map(|line| line.replace("-m comment --comment ", ""))
        .collect();
    assert_eq!(general, expected);
}

const STAGES: [&str; 5] = [
    "-A CNI-PONTOON \"pontoon policy\" -j CNI-ISOLATION-STAGE-1",
    "-A CNI-PONTOON \"pontoon policy\" -j CNI-PONTOON-INTERNAL",
    "-A CNI-PONTOON \"pontoon policy\" -j CNI-PONTOON-IN",
    "-A CNI-PONTOON \"pontoon policy\" -j CNI-PONTOON-OUT",
    "-A CNI-PONTOON \"pontoon policy\" -j CNI-PONTOON-CLOSED",
];
const REPLIES: &str = "-A CNI-PONTOON-LEAVE -m conntrack --ctstate RELATED,ESTABLISHED \
                       \"pontoon policy\" -j ACCEPT";

#[test]
fn on_an_empty_host() {
    let mut expected = vec![
        "-I FORWARD 1 \"CNI firewall plugin rules\" -j CNI-FORWARD",
        "-I CNI-FORWARD \"CNI firewall plugin admin overrides\" -j CNI-ADMIN",
        "-I CNI-FORWARD 2 \"pontoon policy\" -j CNI-PONTOON",
    ];
    expected.extend(STAGES);
    expected.extend([REPLIES, "-A CNI-PONTOON-LEAVE \"pontoon policy\" -j ACCEPT"]);
    check("-P FORWARD ACCEPT\n", &expected);
}

/// The admin of Docker's networks speaks first, Docker decides about its own bridges, and what the
/// reference plugin has in the chain that we share keeps its place behind ours.
#[test]
fn beside_docker_and_the_reference() {
    let mut expected = vec![
        "-I DOCKER-USER 2 \"pontoon policy\" -j CNI-FORWARD",
        "-I CNI-FORWARD 2 \"pontoon policy\" -j CNI-PONTOON",
    ];
    expected.extend(STAGES);
    expected.extend([
        REPLIES,
        "-A CNI-PONTOON-LEAVE \"pontoon policy\" -j DOCKER",
        "-A CNI-PONTOON-LEAVE \"pontoon policy\" -j DOCKER-ISOLATION-STAGE-2",
        "-A CNI-PONTOON-LEAVE \"pontoon policy\" -j ACCEPT",
    ]);
    check(
        "-P FORWARD DROP\n-N CNI-ADMIN\n-N CNI-FORWARD\n-N DOCKER\n-N DOCKER-USER\n\
         -N DOCKER-ISOLATION-STAGE-2\n-A FORWARD -j DOCKER-USER\n-A FORWARD -j CNI-FORWARD\n\
         -A DOCKER-USER -s 10.0.0.1/32 -j DROP\n-A DOCKER-USER -j RETURN\n\
         -A CNI-FORWARD -m comment --comment \"CNI firewall plugin admin overrides\" -j CNI-ADMIN\n\
         -A CNI-FORWARD -s 10.1.0.2/32 -j ACCEPT\n",
        &expected,
    );
}

/// Chains and rules of Pontoon go when no network uses them; those of other programs stay.
#[test]
fn clearance_spares_the_admin_and_the_reference() {
    let ours = "-N CNI-FORWARD\n-N CNI-ADMIN\n-N CNI-PONTOON\n-N CNI-ISOLATION-STAGE-1\n\
                -A FORWARD -j CNI-FORWARD\n\
                -A CNI-FORWARD -m comment --comment \"CNI firewall plugin admin overrides\" -j CNI-ADMIN\n\
                -A CNI-FORWARD -m comment --comment \"pontoon policy\" -j CNI-PONTOON\n\
                -A CNI-PONTOON -j CNI-ISOLATION-STAGE-1\n";
    let removed = |more: &str| {
        let lines = clearance(&Listing::parse(&format!("{ours}{more}")));
        let gone = |line: &String| line.strip_prefix("-X ").map(str::to_owned);
        lines.iter().filter_map(gone).collect::<Vec<_>>()
    };
    assert_eq!(
        removed(""),
        [
            "CNI-PONTOON",
            "CNI-ISOLATION-STAGE-1",
            "CNI-ADMIN",
            "CNI-FORWARD"
        ]
    );
    assert_eq!(
        removed("-A CNI-ADMIN -s 10.0.0.1/32 -j DROP\n"),
        ["CNI-PONTOON", "CNI-ISOLATION-STAGE-1"]
    );
    assert_eq!(
        removed("-A CNI-FORWARD -s 10.1.0.2/32 -j ACCEPT\n"),
        ["CNI-PONTOON", "CNI-ISOLATION-STAGE-1", "CNI-ADMIN"]
    );
    assert_eq!(
        removed("-A CNI-ISOLATION-STAGE-1 -i br7 -j RETURN\n"),
        ["CNI-PONTOON", "CNI-ADMIN", "CNI-FORWARD"]
    );
}
