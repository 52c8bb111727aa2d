"""The few calls of the Container Runtime Interface (CRI, version v1) that a kubelet makes for a
pod's network. Messages are encoded here, by the field numbers of the CRI's api.proto.

cri.py SOCKET run JSON     a pod: name, ports [[protocol, host, container, address]], annotations
cri.py SOCKET status ID    JSON: address and process of a pod's first container
cri.py SOCKET ready        whether the network is ready
cri.py SOCKET stop ID | remove ID | list
"""
import json
import sys

import grpc


def varint(number):
    out = bytearray()
    while True:
        low, number = number & 0x7F, number >> 7
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value) if value else b""


def text(field, value):
    value = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(value)) + value


def entries(field, mapping):
    return b"".join(text(field, text(1, key) + text(2, value)) for key, value in mapping.items())


def read(message):
    """Fields of a message: a list of values by number."""
    fields, at = {}, 0

    def take():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    while at < len(message):
        key = take()
        if key & 7 == 0:
            value = take()
        elif key & 7 == 2:
            length = take()
            value = message[at:at + length]
            at += length
        else:
            raise ValueError("a kind of field that the CRI does not use")
        fields.setdefault(key >> 3, []).append(value)
    return fields


def pod(wish):
    protocols = {"tcp": 0, "udp": 1, "sctp": 2}
    name = wish["name"]
    config = text(1, text(1, name) + text(2, "uid-" + name) + text(3, "default"))
    config += text(2, name)
    for protocol, host, container, address in wish.get("ports", []):
        mapping = number(1, protocols[protocol]) + number(2, container) + number(3, host)
        config += text(5, mapping + (text(4, address) if address else b""))
    config += entries(7, wish.get("annotations", {}))
    # A network of its own; processes of its own.
    config += text(8, text(2, text(1, number(2, 1))))
    return text(1, config)


def main(socket, verb, *rest):
    channel = grpc.insecure_channel("unix://" + socket)

    def call(method, request):
        ask = channel.unary_unary("/runtime.v1.RuntimeService/" + method)
        return read(ask(request, timeout=60))

    if verb == "run":
        print(call("RunPodSandbox", pod(json.loads(rest[0])))[1][0].decode())
    elif verb == "stop":
        call("StopPodSandbox", text(1, rest[0]))
    elif verb == "remove":
        call("RemovePodSandbox", text(1, rest[0]))
    elif verb == "list":
        for item in call("ListPodSandbox", b"").get(1, []):
            print(read(item)[1][0].decode())
    elif verb == "ready":
        status = read(call("Status", b"")[1][0])
        conditions = [read(condition) for condition in status[1]]
        ready = [c for c in conditions if c[1][0] == b"NetworkReady" and c.get(2) == [1]]
        sys.exit(0 if ready else 1)
    elif verb == "status":
        answer = call("PodSandboxStatus", text(1, rest[0]) + number(2, 1))
        network = read(read(answer[1][0])[5][0])
        info = {}
        for entry in answer.get(2, []):
            fields = read(entry)
            info[fields[1][0].decode()] = fields[2][0].decode()
        pid = json.loads(info["info"])["pid"]
        print(json.dumps({"address": network[1][0].decode(), "pid": pid}))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
