//! Limits of the RTP reader: one table, each with its reason.
//!
//! Together a track holds at most some 20 MiB, while a camera sends one picture without end, and
//! some 200 KiB with a camera as it should be.

/// Packets that wait for one before them; UDP only. Networks reorder by a few.
pub(super) const REORDER_MAX: usize = 64;
/// How long they wait, microseconds: longer than a LAN reorders, shorter than a person notices.
pub(super) const REORDER_TIME: u64 = 100_000;
/// Largest RTP packet, bytes: the frame of RTSP and the datagram of UDP carry no more.
pub(super) const PACKET_MAX: usize = 65_535;
/// From this on a step of the sequence number is a restart of the camera, not loss: at 8 Mbit/s a
/// second has about 800 packets, and no camera loses that many and goes on.
pub(super) const JUMP_MIN: u16 = 1000;
/// Unexpected sequence numbers among 128 packets after which they are ignored: of sound over TCP,
/// and over UDP, where a restart of the camera or a stray packet has two.
pub(super) const NOISE_MIN: u32 = 32;
/// First packets of a source over UDP that wait until it is known whether its numbers mean anything.
pub(super) const BEGIN_MIN: usize = 8;
/// How long they wait at most, microseconds: AAC has 16 packets a second.
pub(super) const BEGIN_TIME: u64 = 1_000_000;
/// Steps in a row at which a picture lacks nothing, and after which sequence numbers over TCP are
/// ignored. A camera that drops packets misses a first or last fragment or a stamp long before.
pub(super) const WITNESS_MIN: u32 = 24;
/// Packets between two such steps at most: one counter for sound and picture steps more often.
pub(super) const WITNESS_WITHIN: u32 = 64;
/// Packets far from the expected sequence number after which the track follows them; UDP only. One
/// packet is an attacker's or the network's.
pub(super) const RESTART_RUN: usize = 8;
/// Packets of another SSRC in a row after which the track follows them, over TCP.
pub(super) const CHALLENGERS_TCP: usize = 4;
/// The same over UDP, where anyone can send packets.
pub(super) const CHALLENGERS_UDP: usize = 8;
/// Packets among which a repetition is known: a key frame of 5 MiB, or a GOP of 4 s at 8 Mbit/s,
/// that comes again as a whole. A power of two: sequence numbers are taken by their low bits.
pub(super) const REPEATS_MAX: usize = 4_096;
/// Silence of the known SSRC after which two packets of another are enough, microseconds.
pub(super) const SILENCE: u64 = 1_000_000;
/// Packets of other payload types in a row after which the track follows them.
pub(super) const TYPES_RUN: usize = 4;

/// Largest access unit, bytes. The largest key frames seen have 5 MiB; the queue to storage has
/// 16 MiB.
pub(super) const UNIT_MAX: usize = 8 << 20;
/// Fragments of one access unit at most: 8 MiB in packets of 512 bytes.
pub(super) const FRAGMENTS_MAX: usize = 16_384;
/// NAL units of one access unit at most: 8K pictures have some hundred slices.
pub(super) const NALS_MAX: usize = 2_048;
/// SEI, delimiters and the like that wait for their picture, bytes. Some cameras put a thumbnail
/// or object list there.
pub(super) const PREFIX_MAX: usize = 256 << 10;
/// The same, NAL units.
pub(super) const PREFIX_NALS_MAX: usize = 64;
/// Largest access unit delimiter, bytes: the standards need three.
pub(super) const DELIMITER_MAX: usize = 16;
/// Largest payload that goes to the depacketizer at once, bytes; its lengths have 16 bits.
pub(super) const PAYLOAD_MAX: usize = 60_000;
/// Units and complaints that wait to be polled. One packet yields one or two; a packet full of tiny
/// NAL units yields more, and their pictures are counted as lost.
pub(super) const OUT_MAX: usize = 1_024;
/// From this size of an access unit on the buffers of the depacketizer are replaced after it.
pub(super) const BUFFER_KEEP: usize = 1 << 20;
/// Largest parameter set, bytes: a sample entry holds 4 KiB (`track_params`).
pub(super) const SET_MAX: usize = 4_096;
/// Picture parameter sets beside the first: H.264 has room for 255, cameras use up to three.
pub(super) const MORE_PPS_MAX: usize = 15;

/// Pictures that prove a marker bit right which also stood at 0 within each of them.
pub(super) const MARKER_PROOFS: u8 = 2;
/// Pictures of one packet in a row that prove a marker bit right.
pub(super) const MARKER_PLAIN_PROOFS: u8 = 32;
/// Without a packet for this long a picture whose end is marked is complete, microseconds: pictures
/// without an end come at most some hundred milliseconds apart.
pub(super) const IDLE_END: u64 = 500_000;
/// Without a key frame for this long an I picture counts as one, microseconds.
pub(super) const INTRA_AFTER: u64 = 10_000_000;
/// Packets that look like another codec after which the receiver names it.
pub(super) const OTHER_CODEC_MIN: u32 = 32;
