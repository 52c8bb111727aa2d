//! What users of the reference plugins have complained about, and which test shows that it is right
//! here. A row whose test is gone fails.

use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use pontoon_lab::{Attachment, Backend, Container, Failure, Outcome, Site};

type Answer = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

/// Issue (of containernetworking where nothing else is said), what went wrong there, and the tests, by file and
/// name.
const ANSWERED: [Answer; 41] = [
    (
        "plugins#510, plugins#464",
        "fifty ports are seventy-five programs, one after the other",
        &[(
            "tests/tests/black_box/ports/wide_range.rs",
            "ten_thousand_ports_at_once",
        )],
    ),
    (
        "plugins#1139",
        "nftables has a rule for each port: each packet and each ADD pay for all of them",
        &[(
            "plugins/netfilter/tests/nft/scale.rs",
            "the_ten_thousandth_costs_what_the_first_did",
        )],
    ),
    (
        "plugins#418, plugins#335, nomad#6567",
        "two ADDs make the shared chains at once, and one fails",
        &[
            (
                "tests/tests/black_box/protocol/parallel.rs",
                "two_hundred_with_iptables_nft",
            ),
            (
                "tests/tests/black_box/protocol/parallel.rs",
                "two_hundred_with_iptables_legacy",
            ),
            (
                "tests/tests/black_box/protocol/parallel.rs",
                "two_hundred_with_nftables",
            ),
        ],
    ),
    (
        "plugins#366, plugins#369",
        "two ADDs make the bridge or its address at once, and one fails",
        &[(
            "tests/tests/black_box/protocol/parallel.rs",
            "two_hundred_with_nftables",
        )],
    ),
    (
        "plugins#252, plugins#332, cni#204",
        "leases of before the reboot fill the pool",
        &[(
            "ipam/src/store/tests.rs",
            "leases_of_an_earlier_boot_are_released",
        )],
    ),
    (
        "plugins#498",
        "a lease that is an empty file after a power loss is lost for ever",
        &[(
            "ipam/src/store/tests.rs",
            "empty_leases_are_reclaimed_and_odd_names_respected",
        )],
    ),
    (
        "plugins#1047, plugins#1013",
        "no plugin does what GC is for",
        &[
            (
                "tests/tests/black_box/protocol/verbs.rs",
                "gc_removes_attachments_that_are_not_valid",
            ),
            ("tests/tests/black_box/chain/bandwidth.rs", "gc"),
            ("tests/tests/black_box/chain/tuning.rs", "gc"),
            ("tests/tests/black_box/chain/ptp.rs", "gc"),
            ("tests/tests/black_box/chain/devices.rs", "gc"),
        ],
    ),
    (
        "plugins#1196, cni#1167",
        "host-device keeps the lease when DEL comes without a namespace",
        &[(
            "tests/tests/black_box/chain/devices.rs",
            "without_a_namespace",
        )],
    ),
    (
        "plugins#810, nerdctl#1872, nerdctl#3253",
        "bridge keeps its rules when DEL comes without a namespace",
        &[
            (
                "tests/tests/black_box/protocol/late_del.rs",
                "without_a_namespace",
            ),
            (
                "tests/tests/black_box/protocol/late_del.rs",
                "without_either",
            ),
            (
                "tests/tests/black_box/runtime/containerd.rs",
                "containers_of_ctr",
            ),
        ],
    ),
    (
        "plugins#123",
        "UDP flows of before the ADD go on to where they went",
        &[(
            "plugins/netlink/src/conntrack/sweep.rs",
            "only_flows_to_ports_of_another_container_are_stale",
        )],
    ),
    (
        "plugins#1190, moby#46276",
        "flows to a container that is gone stay; and those of others are cut",
        &[(
            "tests/tests/black_box/ports/stale_flows.rs",
            "a_flow_to_the_container_stays",
        )],
    ),
    (
        "plugins#68, cni#476",
        "a container does not reach itself, or its neighbour, by the published port",
        &[
            (
                "tests/tests/black_box/ports/matrix.rs",
                "nftables_with_bridge_nf_call",
            ),
            (
                "tests/tests/black_box/ports/matrix.rs",
                "nftables_without_bridge_nf_call",
            ),
            (
                "tests/tests/black_box/ports/matrix.rs",
                "iptables_nft_with_bridge_nf_call",
            ),
        ],
    ),
    (
        "plugins#222, plugins#1209, plugins#1115",
        "packets to other machines are redirected to a published port",
        &[
            (
                "plugins/netfilter/tests/nft/packets.rs",
                "a_port_of_one_address_is_not_one_of_another",
            ),
            (
                "tests/tests/black_box/ports/matrix.rs",
                "nftables_without_bridge_nf_call",
            ),
        ],
    ),
    (
        "plugins#1234",
        "masqAll does nothing with nftables",
        &[(
            "plugins/netfilter/tests/nft/ruleset.rs",
            "everything_masqueraded_or_nothing",
        )],
    ),
    (
        "plugins#1280",
        "DEL looks in another backend than ADD has used",
        &[(
            "tests/tests/black_box/protocol/late_del.rs",
            "with_another_backend_in_the_configuration",
        )],
    ),
    (
        "plugins#519",
        "firewall knows no nftables",
        &[(
            "tests/tests/black_box/policy/matrix.rs",
            "nftables_without_bridge_nf_call",
        )],
    ),
    (
        "podman#28973, netavark#977",
        "another program's table drops what ours accepts, and no message says so",
        &[
            (
                "tests/tests/black_box/policy/firewall.rs",
                "a_chain_that_cannot_be_passed_is_named",
            ),
            (
                "tests/tests/black_box/policy/firewall.rs",
                "beside_iptables_nft_that_drops",
            ),
            (
                "tests/tests/black_box/beside/docker.rs",
                "docker_comes_later",
            ),
        ],
    ),
    (
        "podman#5431",
        "rules that were flushed stay away until the restart",
        &[
            (
                "tests/tests/black_box/policy/firewall.rs",
                "one_command_makes_flushed_rules_again",
            ),
            (
                "tests/tests/black_box/runtime/podman.rs",
                "ports_live_as_long_as_their_container",
            ),
        ],
    ),
    (
        "plugins#573",
        "the rules of ingressPolicy are never removed",
        &[(
            "plugins/netfilter/tests/iptables_backend/policy.rs",
            "ingress_policy_of_the_reference",
        )],
    ),
    (
        "plugins#1155, netavark#825",
        "a kernel parameter that is right already is written, and /proc/sys is read-only",
        &[(
            "tests/tests/black_box/house/known_faults.rs",
            "kernel_parameters_that_cannot_be_written",
        )],
    ),
    (
        "plugins#441, cni#309",
        "a DEL that finds a rule gone fails, and keeps the rest",
        &[
            (
                "tests/tests/black_box/runtime/cnitool.rs",
                "del_after_the_rules_were_flushed",
            ),
            (
                "tests/tests/black_box/runtime/cnitool.rs",
                "del_after_the_bridge_was_deleted",
            ),
        ],
    ),
    (
        "plugins#29, plugins#620, plugins#327",
        "an ADD that fails leaves links, and the next one fails by them",
        &[
            (
                "tests/tests/black_box/protocol/faults.rs",
                "first_container_with_nftables",
            ),
            (
                "tests/tests/black_box/protocol/faults.rs",
                "second_container_with_nftables",
            ),
            (
                "tests/tests/black_box/protocol/faults.rs",
                "first_container_with_iptables",
            ),
        ],
    ),
    (
        "cni#585, podman#12306",
        "a bridge with another address is refused without a word whose it is",
        &[(
            "tests/tests/black_box/protocol/bad_input.rs",
            "a_subnet_of_another_network",
        )],
    ),
    (
        "plugins#282",
        "the bridge is never deleted",
        &[(
            "tests/tests/black_box/protocol/verbs.rs",
            "gc_removes_attachments_that_are_not_valid",
        )],
    ),
    (
        "plugins#852, plugins#873",
        "macspoofchk keeps its rules",
        &[(
            "plugins/netfilter/tests/nft/ruleset.rs",
            "the_spoof_guard_has_a_table_of_its_own",
        )],
    ),
    (
        "cni#194, cni#88",
        "an address is given out again at once",
        &[("ipam/src/host_local_tests.rs", "round_robin_until_full")],
    ),
    (
        "plugins#609, plugins#857",
        "a bandwidth limit is not kept",
        &[
            (
                "tests/tests/black_box/chain/bandwidth.rs",
                "the_rate_is_kept_in_both_directions",
            ),
            (
                "tests/tests/black_box/chain/bandwidth.rs",
                "bursts_out_of_the_ordinary",
            ),
        ],
    ),
    (
        "plugins#547, podman#10146",
        "containers do not find each other by name",
        &[(
            "tests/tests/black_box/names/basic.rs",
            "every_form_of_a_name_from_every_place",
        )],
    ),
    (
        "plugins#714",
        "a DEL with the host's namespace takes the host's loopback down",
        &[("tests/tests/black_box/protocol/bad_input.rs", "namespaces")],
    ),
    (
        "cni#817, plugins#502",
        "there is no log",
        &[(
            "tests/tests/black_box/admin/logs.rs",
            "a_line_for_each_operation_in_a_file",
        )],
    ),
    (
        "cni#46",
        "two containers publish one port, and no message says so",
        &[
            (
                "tests/tests/black_box/ports/port_taken.rs",
                "the_owner_is_named",
            ),
            (
                "tests/tests/black_box/ports/port_taken.rs",
                "a_dead_owners_port_is_inherited",
            ),
        ],
    ),
    (
        "plugins#762",
        "firewall cannot be switched off",
        &[(
            "tests/tests/black_box/beside/firewalld.rs",
            "the_zone_and_the_backend_are_keys",
        )],
    ),
    (
        "podman, without a number",
        "the ports of a container on an internal network and another one are dead",
        &[
            (
                "tests/tests/black_box/runtime/podman.rs",
                "several_networks_one_internal",
            ),
            (
                "tests/tests/black_box/runtime/podman.rs",
                "compose_with_an_internal_network_first",
            ),
        ],
    ),
    (
        "podman#17432",
        "a client on a container's second network does not reach its port by the host's address",
        &[
            (
                "tests/tests/black_box/ports/two_networks.rs",
                "nftables_without_bridge_nf_call",
            ),
            (
                "tests/tests/black_box/ports/two_networks.rs",
                "nftables_with_bridge_nf_call",
            ),
            (
                "tests/tests/black_box/ports/two_networks.rs",
                "iptables_nft_without_bridge_nf_call",
            ),
            (
                "tests/tests/black_box/ports/two_networks.rs",
                "iptables_nft_with_bridge_nf_call",
            ),
        ],
    ),
    (
        "podman#26044, netavark#962",
        "a strict reverse-path filter drops what the second network's port answers",
        &[(
            "tests/tests/black_box/routing/reverse_path.rs",
            "a_port_of_the_second_network_answers_past_strict_filters",
        )],
    ),
    (
        "podman#6114, moby#43466",
        "forwarding takes the host's own IPv6 default route away",
        &[
            (
                "tests/tests/black_box/routing/routed_host.rs",
                "the_first_dual_stack_add_keeps_the_hosts_default_route",
            ),
            (
                "tests/tests/black_box/routing/routed_host.rs",
                "mending_forwarding_keeps_the_default_route",
            ),
            (
                "tests/tests/black_box/routing/routed_host.rs",
                "a_lost_default_route_is_told_and_comes_back",
            ),
        ],
    ),
    (
        "moby#36069, plugins#974",
        "an address that comes back with another MAC address is dead for half a minute",
        &[
            (
                "tests/tests/black_box/routing/moved_addresses.rs",
                "with_a_mac_that_was_asked_for",
            ),
            (
                "tests/tests/black_box/routing/moved_addresses.rs",
                "with_a_mac_that_tuning_sets",
            ),
            (
                "tests/tests/black_box/routing/moved_addresses.rs",
                "of_a_dual_stack_container_with_a_fixed_ipv6_address",
            ),
            (
                "tests/tests/black_box/routing/moved_addresses.rs",
                "of_a_macvlan",
            ),
        ],
    ),
    (
        "moby#47538, CVE-2024-29018, aardvark-dns#447",
        "containers of internal networks send names to servers outside",
        &[
            (
                "tests/tests/black_box/names/internal.rs",
                "internal_networks_resolve_their_own_names_only",
            ),
            (
                "tests/tests/black_box/names/internal.rs",
                "a_container_on_an_open_network_too_resolves_everything",
            ),
            (
                "tests/tests/black_box/names/internal.rs",
                "own_servers_on_the_internal_network_are_asked",
            ),
        ],
    ),
    (
        "plugins#909, cni#923, CVE-2024-32473",
        "a container takes addresses and a default route from any router advertisement",
        &[
            (
                "tests/tests/black_box/routing/router_advertisements.rs",
                "a_sibling_does_not_become_the_router",
            ),
            (
                "tests/tests/black_box/routing/router_advertisements.rs",
                "the_lans_router_is_taken_by_key_only",
            ),
            (
                "tests/tests/black_box/routing/router_advertisements.rs",
                "check_sees_a_foreign_default_route",
            ),
        ],
    ),
    (
        "kubernetes#82373",
        "a host address of another family, or in IPv6 notation, publishes nothing and nothing is said",
        &[
            (
                "tests/tests/black_box/ports/host_addresses.rs",
                "an_ipv4_address_in_ipv6_notation_is_that_address",
            ),
            (
                "tests/tests/black_box/ports/host_addresses.rs",
                "one_line_tells_of_a_host_address_that_cannot_serve",
            ),
            (
                "tests/tests/black_box/ports/host_addresses.rs",
                "where_every_port_is_dropped_the_add_fails",
            ),
        ],
    ),
    (
        "calico#10351",
        "a result whose addresses name no interface publishes nothing",
        &[(
            "tests/tests/black_box/protocol/results_of_others.rs",
            "addresses_without_an_interface_are_the_containers",
        )],
    ),
];

#[test]
fn every_answer_is_a_test() -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut wrong = Vec::new();
    for (issue, _, tests) in ANSWERED {
        if tests.is_empty() {
            wrong.push(format!("{issue}: no test"));
        }
        for (file, name) in tests {
            let text = fs::read_to_string(root.join(file))
                .map_err(Failure::act(format!("read {file}")))?;
            // Some are made by a macro from their name.
            let is_test = text.contains(&format!("#[test]\nfn {name}("))
                || text.contains(&format!("#[test]\n    fn {name}("))
                || text.contains(&format!("    {name},\n"))
                || text.contains(&format!("#[test]\n        fn {name}("));
            if !is_test {
                wrong.push(format!("{issue}: no test {name} in {file}"));
            }
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(wrong.join("\n")))
    }
}

/// A host on which `/proc/sys` cannot be written: what is right already is left alone, and what would
/// only be nicer is no reason to fail.
#[test]
fn kernel_parameters_that_cannot_be_written() -> Outcome {
    for subnets in [&["10.85.0.0/24"][..], &["10.85.0.0/24", "fd00:85::/64"]] {
        let site = Site::new(Backend::Nftables)?;
        let network = site.network("fixed", "fixed0", subnets);
        let first = Container::new("first")?;
        let mut attachment = Attachment::new(&first).publish("", 8081, 80, "tcp");
        site.runtime().add(&network, &mut attachment)?;
        let second = Container::new("second")?;
        let mut late = Attachment::new(&second).publish("", 8080, 80, "tcp");
        let read_only = || -> nix::Result<()> {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let none = None::<&str>;
            let sys = "/proc/sys";
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            mount(Some(sys), sys, none, MsFlags::MS_BIND, none)?;
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
            mount(none, sys, none, flags, none)
        };
        let runtime = site.runtime().here();
        site.host.run(|| {
            read_only().map_err(Failure::act("make /proc/sys read-only"))?;
            let read = fs::write("/proc/sys/net/ipv4/ip_forward", "1");
            assert!(read.is_err(), "/proc/sys can be written");
            runtime.add(&network, &mut late).map_err(Failure::from)?;
            runtime.del(&network, &late).map_err(Failure::from)
        })??;
        site.runtime().del(&network, &attachment)?;
    }
    Ok(())
}
