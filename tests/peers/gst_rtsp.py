#!/usr/bin/env python3
"""Serves one MP4 file over RTSP with GStreamer's server: gst_rtsp.py PORT FILE h264|h265 none|aac|pcma. Path: /stream"""
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

port, path, video, audio = sys.argv[1:5]
Gst.init(None)
payers = {"h264": "h264parse ! rtph264pay", "h265": "h265parse ! rtph265pay"}
sounds = {"none": "", "aac": "d.audio_0 ! queue ! aacparse ! rtpmp4gpay name=pay1 pt=97", "pcma": "d.audio_0 ! queue ! rtppcmapay name=pay1 pt=8"}
launch = f"( filesrc location={path} ! qtdemux name=d d.video_0 ! queue ! {payers[video]} name=pay0 pt=96 {sounds[audio]} )"
server = GstRtspServer.RTSPServer()
server.set_service(port)
server.set_address("127.0.0.1")
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(launch)
server.get_mount_points().add_factory("/stream", factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
