#!/usr/bin/env python3
"""Serves MP4 files over RTSP with GStreamer's server: gst_rtsp.py PORT NAME,FILE,h264|h265,none|aac|pcma ... Each is at /NAME."""
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_service(sys.argv[1])
server.set_address("127.0.0.1")
payers = {"h264": "h264parse ! rtph264pay", "h265": "h265parse ! rtph265pay"}
sounds = {"none": "", "aac": "d.audio_0 ! queue ! aacparse ! rtpmp4gpay name=pay1 pt=97", "pcma": "d.audio_0 ! queue ! rtppcmapay name=pay1 pt=8"}
for stream in sys.argv[2:]:
    name, path, video, audio = stream.split(",")
    launch = f"( filesrc location={path} ! qtdemux name=d d.video_0 ! queue ! {payers[video]} name=pay0 pt=96 {sounds[audio]} )"
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(launch)
    server.get_mount_points().add_factory(f"/{name}", factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
