#!/usr/bin/env python3
"""An independent office, written from docs/mqtt.md: stores and receipts events and files of devices.

usage: third_party.py DIR MOSQUITTO_OPTIONS..."""
import hashlib, json, os, pathlib, subprocess, sys

folder, options = pathlib.Path(sys.argv[1]), sys.argv[2:]


def publish(topic, payload, *more):
    subprocess.run(["mosquitto_pub", *options, "-q", "1", "-t", topic, "-m", json.dumps(payload), *more], check=True)


ears = ["mosquitto_sub", *options, "-i", "third-party", "-q", "1", "-F", "%t %x", "-t", "taimat/v1/+/up/#"]
listening = subprocess.Popen(ears, stdout=subprocess.PIPE, text=True)
publish("taimat/v1/host/third-party/state", {"v": 1, "state": "online"}, "-r")
files = {}
for line in listening.stdout:
    topic, _, digits = line.rstrip("\n").partition(" ")
    (_, _, site, _, kind, *rest), payload, ack = topic.split("/"), bytes.fromhex(digits), {}
    if kind == "event":
        ack = {"t": "event", "id": json.loads(payload)["id"], "sha256": hashlib.sha256(payload).hexdigest()}
    elif kind == "file" and rest[1] == "init" and hashlib.sha256(payload).hexdigest()[:32] == rest[0]:
        manifest, data = files.setdefault(rest[0], (json.loads(payload), bytearray()))
        ack = {"t": "have", "fid": rest[0], "upto": len(data), "missing": []}
    elif kind == "file" and rest[0] in files and rest[1] != "abort":
        (manifest, data), ack = files[rest[0]], {"t": "have", "fid": rest[0]}
        if rest[1] == str(len(data)):
            data += payload
        ack |= {"upto": len(data), "missing": []}
        if rest[1] == "fin" and hashlib.sha256(data).hexdigest() == manifest["sha256"]:
            with open(folder / manifest["name"], "wb") as out:
                out.write(data), out.flush(), os.fsync(out.fileno())
            ack = {"t": "stored", "fid": rest[0], "sha256": manifest["sha256"]}
    if ack:
        publish(f"taimat/v1/{site}/dn/ack", ack)
