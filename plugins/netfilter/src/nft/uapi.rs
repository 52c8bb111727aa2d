//! Numbers of the kernel's interface, by the kernel's names (`include/uapi/linux/netfilter/`): the
//! headers `nf_tables.h`, `nf_tables_compat.h`, `nfnetlink.h` and `../netfilter.h`.
//!
//! Only what this crate uses is here. A test compares them with the `libc` crate where that has them.

// nfnetlink.h: subsystems and the ends of a transaction.
pub(crate) const NFNL_SUBSYS_NFTABLES: u16 = 10;
pub(crate) const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
pub(crate) const NFNL_MSG_BATCH_END: u16 = 0x11;

// netfilter.h, `enum nf_inet_hooks`.
pub(crate) const NF_INET_PRE_ROUTING: u32 = 0;
pub(crate) const NF_INET_LOCAL_IN: u32 = 1;
pub(crate) const NF_INET_FORWARD: u32 = 2;
pub(crate) const NF_INET_LOCAL_OUT: u32 = 3;
pub(crate) const NF_INET_POST_ROUTING: u32 = 4;

// netfilter.h: families.
pub(crate) const NFPROTO_UNSPEC: u8 = 0;
pub(crate) const NFPROTO_INET: u8 = 1;
pub(crate) const NFPROTO_IPV4: u8 = 2;
pub(crate) const NFPROTO_BRIDGE: u8 = 7;
pub(crate) const NFPROTO_IPV6: u8 = 10;

// netfilter.h: verdicts. The others are nf_tables' own.
pub(crate) const NF_DROP: i32 = 0;
pub(crate) const NF_ACCEPT: i32 = 1;

// nf_tables.h, `enum nf_tables_msg_types`.
pub(crate) const NFT_MSG_NEWTABLE: u16 = 0;
pub(crate) const NFT_MSG_GETTABLE: u16 = 1;
pub(crate) const NFT_MSG_DELTABLE: u16 = 2;
pub(crate) const NFT_MSG_NEWCHAIN: u16 = 3;
pub(crate) const NFT_MSG_GETCHAIN: u16 = 4;
pub(crate) const NFT_MSG_DELCHAIN: u16 = 5;
pub(crate) const NFT_MSG_NEWRULE: u16 = 6;
pub(crate) const NFT_MSG_GETRULE: u16 = 7;
pub(crate) const NFT_MSG_DELRULE: u16 = 8;
pub(crate) const NFT_MSG_NEWSET: u16 = 9;
pub(crate) const NFT_MSG_NEWSETELEM: u16 = 12;
pub(crate) const NFT_MSG_GETSETELEM: u16 = 13;
pub(crate) const NFT_MSG_DELSETELEM: u16 = 14;
pub(crate) const NFT_MSG_GETGEN: u16 = 16;
pub(crate) const NFT_MSG_TRACE: u16 = 17;

// `enum nft_gen_attributes`.
pub(crate) const NFTA_GEN_ID: u16 = 1;

// `enum nft_registers`.
pub(crate) const NFT_REG_VERDICT: u32 = 0;
pub(crate) const NFT_REG_1: u32 = 1;
pub(crate) const NFT_REG_2: u32 = 2;
pub(crate) const NFT_REG32_00: u32 = 8;
pub(crate) const NFT_REG32_04: u32 = 12;

// `enum nft_verdicts`.
pub(crate) const NFT_JUMP: i32 = -3;
pub(crate) const NFT_GOTO: i32 = -4;
pub(crate) const NFT_RETURN: i32 = -5;

// `enum nft_list_attributes`.
pub(crate) const NFTA_LIST_ELEM: u16 = 1;

// `enum nft_hook_attributes`.
pub(crate) const NFTA_HOOK_HOOKNUM: u16 = 1;
pub(crate) const NFTA_HOOK_PRIORITY: u16 = 2;

// `enum nft_table_flags`.
pub(crate) const NFT_TABLE_F_OWNER: u32 = 2;

// `enum nft_table_attributes`.
pub(crate) const NFTA_TABLE_NAME: u16 = 1;
pub(crate) const NFTA_TABLE_FLAGS: u16 = 2;
pub(crate) const NFTA_TABLE_USERDATA: u16 = 6;

// `enum nft_chain_attributes`.
pub(crate) const NFTA_CHAIN_TABLE: u16 = 1;
pub(crate) const NFTA_CHAIN_NAME: u16 = 3;
pub(crate) const NFTA_CHAIN_HOOK: u16 = 4;
pub(crate) const NFTA_CHAIN_POLICY: u16 = 5;
pub(crate) const NFTA_CHAIN_USE: u16 = 6;
pub(crate) const NFTA_CHAIN_TYPE: u16 = 7;
pub(crate) const NFTA_CHAIN_USERDATA: u16 = 12;

// `enum nft_rule_attributes`.
pub(crate) const NFTA_RULE_TABLE: u16 = 1;
pub(crate) const NFTA_RULE_CHAIN: u16 = 2;
pub(crate) const NFTA_RULE_HANDLE: u16 = 3;
pub(crate) const NFTA_RULE_EXPRESSIONS: u16 = 4;
pub(crate) const NFTA_RULE_USERDATA: u16 = 7;

// `enum nft_set_flags`.
pub(crate) const NFT_SET_INTERVAL: u32 = 0x4;
pub(crate) const NFT_SET_MAP: u32 = 0x8;
pub(crate) const NFT_SET_CONCAT: u32 = 0x80;

// `enum nft_set_desc_attributes`, `enum nft_set_field_attributes`.
pub(crate) const NFTA_SET_DESC_CONCAT: u16 = 2;
pub(crate) const NFTA_SET_FIELD_LEN: u16 = 1;

// `enum nft_set_attributes`.
pub(crate) const NFTA_SET_NAME: u16 = 2;
pub(crate) const NFTA_SET_FLAGS: u16 = 3;
pub(crate) const NFTA_SET_KEY_TYPE: u16 = 4;
pub(crate) const NFTA_SET_KEY_LEN: u16 = 5;
pub(crate) const NFTA_SET_DATA_TYPE: u16 = 6;
pub(crate) const NFTA_SET_DATA_LEN: u16 = 7;
pub(crate) const NFTA_SET_DESC: u16 = 9;
pub(crate) const NFTA_SET_ID: u16 = 10;
pub(crate) const NFTA_SET_USERDATA: u16 = 13;

// `enum nft_set_elem_flags`.
pub(crate) const NFT_SET_ELEM_INTERVAL_END: u32 = 1;

// `enum nft_set_elem_attributes`.
pub(crate) const NFTA_SET_ELEM_KEY: u16 = 1;
pub(crate) const NFTA_SET_ELEM_DATA: u16 = 2;
pub(crate) const NFTA_SET_ELEM_FLAGS: u16 = 3;
pub(crate) const NFTA_SET_ELEM_USERDATA: u16 = 6;

// `enum nft_set_elem_list_attributes`.
pub(crate) const NFTA_SET_ELEM_LIST_SET: u16 = 2;
pub(crate) const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;

// `enum nft_data_types`.
pub(crate) const NFT_DATA_VERDICT: u32 = 0xffff_ff00;

// `enum nft_data_attributes`.
pub(crate) const NFTA_DATA_VALUE: u16 = 1;
pub(crate) const NFTA_DATA_VERDICT: u16 = 2;

// `enum nft_verdict_attributes`.
pub(crate) const NFTA_VERDICT_CODE: u16 = 1;
pub(crate) const NFTA_VERDICT_CHAIN: u16 = 2;

// `enum nft_expr_attributes`.
pub(crate) const NFTA_EXPR_NAME: u16 = 1;
pub(crate) const NFTA_EXPR_DATA: u16 = 2;

// `enum nft_immediate_attributes`.
pub(crate) const NFTA_IMMEDIATE_DREG: u16 = 1;
pub(crate) const NFTA_IMMEDIATE_DATA: u16 = 2;

// `enum nft_bitwise_attributes`.
pub(crate) const NFTA_BITWISE_SREG: u16 = 1;
pub(crate) const NFTA_BITWISE_DREG: u16 = 2;
pub(crate) const NFTA_BITWISE_LEN: u16 = 3;
pub(crate) const NFTA_BITWISE_MASK: u16 = 4;
pub(crate) const NFTA_BITWISE_XOR: u16 = 5;

// `enum nft_cmp_ops`.
pub(crate) const NFT_CMP_EQ: u32 = 0;
pub(crate) const NFT_CMP_NEQ: u32 = 1;
pub(crate) const NFT_CMP_LTE: u32 = 3;
pub(crate) const NFT_CMP_GTE: u32 = 5;

// `enum nft_cmp_attributes`.
pub(crate) const NFTA_CMP_SREG: u16 = 1;
pub(crate) const NFTA_CMP_OP: u16 = 2;
pub(crate) const NFTA_CMP_DATA: u16 = 3;

// `enum nft_lookup_flags`.
pub(crate) const NFT_LOOKUP_F_INV: u32 = 1;

// `enum nft_lookup_attributes`.
pub(crate) const NFTA_LOOKUP_SET: u16 = 1;
pub(crate) const NFTA_LOOKUP_SREG: u16 = 2;
pub(crate) const NFTA_LOOKUP_DREG: u16 = 3;
pub(crate) const NFTA_LOOKUP_FLAGS: u16 = 5;

// `enum nft_payload_bases`.
pub(crate) const NFT_PAYLOAD_LL_HEADER: u32 = 0;
pub(crate) const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
pub(crate) const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;

// `enum nft_payload_attributes`.
pub(crate) const NFTA_PAYLOAD_DREG: u16 = 1;
pub(crate) const NFTA_PAYLOAD_BASE: u16 = 2;
pub(crate) const NFTA_PAYLOAD_OFFSET: u16 = 3;
pub(crate) const NFTA_PAYLOAD_LEN: u16 = 4;

// `enum nft_meta_keys`.
pub(crate) const NFT_META_PROTOCOL: u32 = 1;
pub(crate) const NFT_META_MARK: u32 = 3;
pub(crate) const NFT_META_IIFNAME: u32 = 6;
pub(crate) const NFT_META_OIFNAME: u32 = 7;
pub(crate) const NFT_META_NFTRACE: u32 = 12;
pub(crate) const NFT_META_NFPROTO: u32 = 15;
pub(crate) const NFT_META_L4PROTO: u32 = 16;

// `enum nft_meta_attributes`.
pub(crate) const NFTA_META_DREG: u16 = 1;
pub(crate) const NFTA_META_KEY: u16 = 2;
pub(crate) const NFTA_META_SREG: u16 = 3;

// `enum nft_ct_keys`, `enum nft_ct_attributes`.
pub(crate) const NFT_CT_STATE: u32 = 0;
pub(crate) const NFT_CT_STATUS: u32 = 2;
pub(crate) const NFTA_CT_DREG: u16 = 1;
pub(crate) const NFTA_CT_KEY: u16 = 2;

pub(crate) const NFT_CT_DST_IP: u32 = 20;
pub(crate) const NFT_CT_DST_IP6: u32 = 22;
pub(crate) const NFTA_CT_DIRECTION: u16 = 3;
/// `IP_CT_DIR_ORIGINAL`.
pub(crate) const ORIGINAL: u8 = 0;

// `enum nft_ng_attributes`, `enum nft_ng_types`.
pub(crate) const NFTA_NG_DREG: u16 = 1;
pub(crate) const NFTA_NG_MODULUS: u16 = 2;
pub(crate) const NFTA_NG_TYPE: u16 = 3;
pub(crate) const NFTA_NG_OFFSET: u16 = 4;
pub(crate) const NFT_NG_RANDOM: u32 = 1;

// `enum nft_hash_attributes`, `enum nft_hash_types`.
pub(crate) const NFTA_HASH_SREG: u16 = 1;
pub(crate) const NFTA_HASH_DREG: u16 = 2;
pub(crate) const NFTA_HASH_LEN: u16 = 3;
pub(crate) const NFTA_HASH_MODULUS: u16 = 4;
pub(crate) const NFTA_HASH_SEED: u16 = 5;
pub(crate) const NFTA_HASH_OFFSET: u16 = 6;
pub(crate) const NFTA_HASH_TYPE: u16 = 7;
pub(crate) const NFT_HASH_JENKINS: u32 = 0;

// `enum nft_reject_attributes`, `enum nft_reject_types`, `enum nft_reject_inet_code`.
pub(crate) const NFTA_REJECT_TYPE: u16 = 1;
pub(crate) const NFTA_REJECT_ICMP_CODE: u16 = 2;
pub(crate) const NFT_REJECT_TCP_RST: u32 = 1;
pub(crate) const NFT_REJECT_ICMPX_UNREACH: u32 = 2;
pub(crate) const NFT_REJECT_ICMPX_PORT_UNREACH: u8 = 1;

// `enum nft_nat_types`.
pub(crate) const NFT_NAT_SNAT: u32 = 0;
pub(crate) const NFT_NAT_DNAT: u32 = 1;

// `enum nft_nat_attributes`.
pub(crate) const NFTA_NAT_TYPE: u16 = 1;
pub(crate) const NFTA_NAT_FAMILY: u16 = 2;
pub(crate) const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
pub(crate) const NFTA_NAT_REG_PROTO_MIN: u16 = 5;

// `enum nft_fib_attributes`, `enum nft_fib_result`, `enum nft_fib_flags`.
pub(crate) const NFTA_FIB_DREG: u16 = 1;
pub(crate) const NFTA_FIB_RESULT: u16 = 2;
pub(crate) const NFTA_FIB_FLAGS: u16 = 3;
pub(crate) const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
pub(crate) const NFT_FIB_RESULT_OIF: u32 = 1;
pub(crate) const NFTA_FIB_F_SADDR: u32 = 1;
pub(crate) const NFTA_FIB_F_DADDR: u32 = 2;
pub(crate) const NFTA_FIB_F_IIF: u32 = 8;
pub(crate) const NFTA_FIB_F_PRESENT: u32 = 32;

// `enum nft_trace_attributes`, `enum nft_trace_types`.
pub(crate) const NFTA_TRACE_TABLE: u16 = 1;
pub(crate) const NFTA_TRACE_CHAIN: u16 = 2;
pub(crate) const NFTA_TRACE_RULE_HANDLE: u16 = 3;
pub(crate) const NFTA_TRACE_TYPE: u16 = 4;
pub(crate) const NFTA_TRACE_VERDICT: u16 = 5;
pub(crate) const NFTA_TRACE_NETWORK_HEADER: u16 = 8;
pub(crate) const NFTA_TRACE_TRANSPORT_HEADER: u16 = 9;
pub(crate) const NFTA_TRACE_OIF: u16 = 12;
pub(crate) const NFTA_TRACE_POLICY: u16 = 16;
pub(crate) const NFT_TRACETYPE_RULE: u32 = 3;

// nf_tables_compat.h: matches and targets of iptables-nft; the numbers of both are the same.
pub(crate) const NFTA_MATCH_NAME: u16 = 1;
pub(crate) const NFTA_MATCH_INFO: u16 = 3;

// libnftnl's and nft's own layout of user data, which the kernel only stores.
/// Type of a comment in a rule's, chain's or element's user data.
pub(crate) const NFTNL_UDATA_COMMENT: u8 = 0;
/// Type of the key's byte order in a set's user data.
pub(crate) const NFTNL_UDATA_SET_KEYBYTEORDER: u8 = 0;
/// `BYTEORDER_HOST_ENDIAN` of nft.
pub(crate) const BYTEORDER_HOST_ENDIAN: u32 = 1;

#[cfg(test)]
mod tests {
    use nix::libc;

    use super::*;

    #[track_caller]
    fn check(ours: impl Into<i64>, libc: impl Into<i64>) {
        assert_eq!(ours.into(), libc.into());
    }

    #[test]
    fn numbers_are_those_of_libc() {
        check(NFNL_SUBSYS_NFTABLES, libc::NFNL_SUBSYS_NFTABLES);
        check(NFNL_MSG_BATCH_BEGIN, libc::NFNL_MSG_BATCH_BEGIN);
        check(NFNL_MSG_BATCH_END, libc::NFNL_MSG_BATCH_END);
        check(NF_INET_PRE_ROUTING, libc::NF_INET_PRE_ROUTING);
        check(NF_INET_LOCAL_IN, libc::NF_INET_LOCAL_IN);
        check(NF_INET_FORWARD, libc::NF_INET_FORWARD);
        check(NF_INET_LOCAL_OUT, libc::NF_INET_LOCAL_OUT);
        check(NF_INET_POST_ROUTING, libc::NF_INET_POST_ROUTING);
        check(NFPROTO_UNSPEC, libc::NFPROTO_UNSPEC);
        check(NFPROTO_INET, libc::NFPROTO_INET);
        check(NFPROTO_IPV4, libc::NFPROTO_IPV4);
        check(NFPROTO_BRIDGE, libc::NFPROTO_BRIDGE);
        check(NFPROTO_IPV6, libc::NFPROTO_IPV6);
        check(NF_DROP, libc::NF_DROP);
        check(NF_ACCEPT, libc::NF_ACCEPT);
        check(NFT_MSG_NEWTABLE, libc::NFT_MSG_NEWTABLE);
        check(NFT_MSG_GETTABLE, libc::NFT_MSG_GETTABLE);
        check(NFT_MSG_DELTABLE, libc::NFT_MSG_DELTABLE);
        check(NFT_MSG_NEWCHAIN, libc::NFT_MSG_NEWCHAIN);
        check(NFT_MSG_GETCHAIN, libc::NFT_MSG_GETCHAIN);
        check(NFT_MSG_DELCHAIN, libc::NFT_MSG_DELCHAIN);
        check(NFT_MSG_NEWRULE, libc::NFT_MSG_NEWRULE);
        check(NFT_MSG_GETRULE, libc::NFT_MSG_GETRULE);
        check(NFT_MSG_DELRULE, libc::NFT_MSG_DELRULE);
        check(NFT_MSG_NEWSET, libc::NFT_MSG_NEWSET);
        check(NFT_MSG_NEWSETELEM, libc::NFT_MSG_NEWSETELEM);
        check(NFT_MSG_GETSETELEM, libc::NFT_MSG_GETSETELEM);
        check(NFT_MSG_DELSETELEM, libc::NFT_MSG_DELSETELEM);
        check(NFT_MSG_GETGEN, libc::NFT_MSG_GETGEN);
        check(NFT_MSG_TRACE, libc::NFT_MSG_TRACE);
        check(NFT_REG_VERDICT, libc::NFT_REG_VERDICT);
        check(NFT_REG_1, libc::NFT_REG_1);
        check(NFT_REG_2, libc::NFT_REG_2);
        check(NFT_REG32_00, libc::NFT_REG32_00);
        check(NFT_REG32_04, libc::NFT_REG32_04);
        check(NFT_JUMP, libc::NFT_JUMP);
        check(NFT_GOTO, libc::NFT_GOTO);
        check(NFT_RETURN, libc::NFT_RETURN);
        check(NFT_SET_INTERVAL, libc::NFT_SET_INTERVAL);
        check(NFT_SET_MAP, libc::NFT_SET_MAP);
        check(NFT_SET_ELEM_INTERVAL_END, libc::NFT_SET_ELEM_INTERVAL_END);
        check(NFT_DATA_VERDICT, libc::NFT_DATA_VERDICT);
        check(NFT_CMP_EQ, libc::NFT_CMP_EQ);
        check(NFT_CMP_NEQ, libc::NFT_CMP_NEQ);
        check(NFT_CMP_LTE, libc::NFT_CMP_LTE);
        check(NFT_CMP_GTE, libc::NFT_CMP_GTE);
        check(NFT_LOOKUP_F_INV, libc::NFT_LOOKUP_F_INV);
        check(NFT_PAYLOAD_LL_HEADER, libc::NFT_PAYLOAD_LL_HEADER);
        check(NFT_PAYLOAD_NETWORK_HEADER, libc::NFT_PAYLOAD_NETWORK_HEADER);
        check(
            NFT_PAYLOAD_TRANSPORT_HEADER,
            libc::NFT_PAYLOAD_TRANSPORT_HEADER,
        );
        check(NFT_META_PROTOCOL, libc::NFT_META_PROTOCOL);
        check(NFT_META_MARK, libc::NFT_META_MARK);
        check(NFT_META_IIFNAME, libc::NFT_META_IIFNAME);
        check(NFT_META_OIFNAME, libc::NFT_META_OIFNAME);
        check(NFT_META_NFTRACE, libc::NFT_META_NFTRACE);
        check(NFT_META_NFPROTO, libc::NFT_META_NFPROTO);
        check(NFT_META_L4PROTO, libc::NFT_META_L4PROTO);
        check(NFT_CT_STATE, libc::NFT_CT_STATE);
        check(NFT_CT_STATUS, libc::NFT_CT_STATUS);
        check(NFT_CT_DST_IP, libc::NFT_CT_DST_IP);
        check(NFT_CT_DST_IP6, libc::NFT_CT_DST_IP6);
        check(NFT_NG_RANDOM, libc::NFT_NG_RANDOM);
        check(NFT_REJECT_TCP_RST, libc::NFT_REJECT_TCP_RST);
        check(NFT_REJECT_ICMPX_UNREACH, libc::NFT_REJECT_ICMPX_UNREACH);
        check(
            NFT_REJECT_ICMPX_PORT_UNREACH,
            libc::NFT_REJECT_ICMPX_PORT_UNREACH,
        );
        check(NFT_NAT_SNAT, libc::NFT_NAT_SNAT);
        check(NFT_NAT_DNAT, libc::NFT_NAT_DNAT);
        check(NFT_TRACETYPE_RULE, libc::NFT_TRACETYPE_RULE);
    }
}
