//! Signed configuration document: JSON format, signature (Ed25519, RFC 8032), checks without files.
//!
//! ```text
//! {"v":1,"site":"km-17","version":7,"prev_sha256":"…","not_after":"2026-12-01T00:00:00.000Z","config":"site = …\n","sig":{"key":"…","ed25519":"…"}}
//! ```
//!
//! `config` is the whole TOML text of the device's configuration file; its SHA-256 identifies the
//! configuration everywhere. The signature covers these lines, each ended by one line feed:
//!
//! ```text
//! taimat configuration 1
//! site km-17
//! version 7
//! prev_sha256 <64 hex digits: the configuration this one replaces>
//! not_after 2026-12-01T00:00:00.000Z
//! config_sha256 <64 hex digits: SHA-256 of the bytes of config>
//! ```
//!
//! So the signature does not depend on the JSON encoding. A document with an unknown field is
//! rejected, because no signature covers that field.

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::rejection::{RejectReason, Rejection};
use crate::settings::{KeyScope, TrustedKey, key_id};
use crate::units::{ClockQuality, Digest, SiteId, Timestamp, WallTime, hex};

/// Bytes of a document at most: JSON escapes may double the text.
pub const DOCUMENT_MAX: usize = 160 << 10;
/// Bytes of the TOML text at most: 32 zones of 32 corners are 30 KiB.
pub const CONFIG_MAX: usize = 64 << 10;
/// Microseconds after `not_after` in which a document is still accepted, by clock quality. An unset
/// clock rejects nothing; the clock of a battery or of the camera may be a day off.
const LATE: [(ClockQuality, i64); 3] = [
    (ClockQuality::Ntp, 300_000_000),
    (ClockQuality::Camera, 86_400_000_000),
    (ClockQuality::Rtc, 86_400_000_000),
];

/// A signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// Id of the key ([`key_id`]).
    pub key: String,
    /// The signature (RFC 8032), 128 hexadecimal digits.
    pub ed25519: String,
}

/// A configuration for one site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Format version: 1.
    pub v: u32,
    /// Site id of the device.
    pub site: String,
    /// Above every version that this key has signed for the site.
    pub version: u64,
    /// SHA-256 of the configuration that this one replaces.
    pub prev_sha256: Digest,
    /// RFC 3339 time after which the document is rejected.
    pub not_after: String,
    /// The whole configuration, TOML.
    pub config: String,
    /// The signature; `None` before signing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sig: Option<Signature>,
}

impl Document {
    /// SHA-256 of the configuration.
    pub fn sha256(&self) -> Digest {
        Digest::of(self.config.as_bytes())
    }

    /// The signed bytes.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let Document { site, version, prev_sha256, not_after, .. } = self;
        let (prev, config) = (prev_sha256.hex(), self.sha256().hex());
        format!(
            "taimat configuration 1\nsite {site}\nversion {version}\nprev_sha256 {prev}\nnot_after {not_after}\nconfig_sha256 {config}\n"
        )
        .into_bytes()
    }

    /// Signs the document.
    #[must_use]
    pub fn signed(mut self, key: &Ed25519KeyPair) -> Document {
        self.sig = Some(sign(key, &self.signed_bytes()));
        self
    }

    /// Encodes the document as JSON.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Decodes a received document. `len` is its whole length; `bytes` may hold less of a large
    /// one.
    ///
    /// # Errors
    /// `TooLarge` or `Unreadable`.
    pub fn decode(bytes: &[u8], len: usize) -> Result<Document, Rejection> {
        if len > DOCUMENT_MAX {
            return Err(Rejection::new(
                RejectReason::TooLarge,
                format!("{len} bytes, the maximum is {DOCUMENT_MAX}"),
            ));
        }
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|error| Rejection::new(RejectReason::Unreadable, error.to_string()))?;
        if document.v != 1 {
            return Err(Rejection::new(
                RejectReason::Unreadable,
                format!("format version {}, this device reads version 1", document.v),
            ));
        }
        if document.config.len() > CONFIG_MAX {
            let detail = format!(
                "a configuration of {} bytes, the maximum is {CONFIG_MAX}",
                document.config.len()
            );
            return Err(Rejection::new(RejectReason::TooLarge, detail));
        }
        Ok(document)
    }

    /// Checks that one of `keys` signed the document for `site`; returns the id of the key.
    ///
    /// # Errors
    /// `NoKeys`, `Unsigned`, `UnknownKey`, `BadSignature`, `WrongSite` or `Scope`, checked in this
    /// order.
    pub fn authentic(&self, site: &SiteId, keys: &[TrustedKey]) -> Result<String, Rejection> {
        if keys.is_empty() {
            return Err(Rejection::new(
                RejectReason::NoKeys,
                "no key is enrolled here: remote.keys is empty",
            ));
        }
        let Some(signature) = &self.sig else {
            return Err(Rejection::new(RejectReason::Unsigned, "sig is missing"));
        };
        let key = verify(keys, signature, &self.signed_bytes())?;
        if self.site != site.as_str() {
            return Err(Rejection::new(
                RejectReason::WrongSite,
                format!("the document is for {:?}, this device is {site}", self.site),
            ));
        }
        if key.scope != KeyScope::All {
            let detail = format!("key {} may sign commands only, not configurations", key.name);
            return Err(Rejection::new(RejectReason::Scope, detail));
        }
        Ok(key.id())
    }

    /// Checks the expiry.
    ///
    /// # Errors
    /// `Expired`, or `Unreadable` for a malformed time.
    pub fn in_time(&self, now: Timestamp) -> Result<(), Rejection> {
        let until = WallTime::parse(&self.not_after).map_err(|reason| {
            Rejection::new(RejectReason::Unreadable, format!("not_after: {reason}"))
        })?;
        if is_late(until, now) {
            return Err(Rejection::new(
                RejectReason::Expired,
                format!(
                    "not_after is {}, the clock of this device is {} ({})",
                    self.not_after,
                    now.wall,
                    now.quality.as_str()
                ),
            ));
        }
        Ok(())
    }
}

/// True when `until` is over by more than the tolerance of the clock quality.
pub fn is_late(until: WallTime, now: Timestamp) -> bool {
    let tolerance = LATE.iter().find(|(quality, _)| *quality == now.quality);
    tolerance.is_some_and(|(_, tolerance)| until.plus_micros(*tolerance) < now.wall)
}

/// Signs `bytes`.
pub fn sign(key: &Ed25519KeyPair, bytes: &[u8]) -> Signature {
    let mut public = [0; 32];
    public.copy_from_slice(key.public_key().as_ref());
    Signature { key: key_id(&public), ed25519: hex(key.sign(bytes).as_ref()) }
}

/// The key among `keys` that signed `bytes`.
///
/// # Errors
/// `UnknownKey` or `BadSignature`.
pub fn verify<'a>(
    keys: &'a [TrustedKey],
    signature: &Signature,
    bytes: &[u8],
) -> Result<&'a TrustedKey, Rejection> {
    let Some(key) = keys.iter().find(|key| key.id() == signature.key) else {
        let shown: String =
            signature.key.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
        return Err(Rejection::new(
            RejectReason::UnknownKey,
            format!("key {shown} is not among remote.keys"),
        ));
    };
    let signed = from_hex(&signature.ed25519).is_some_and(|raw| {
        UnparsedPublicKey::new(&ED25519, key.public).verify(bytes, &raw).is_ok()
    });
    if signed {
        Ok(key)
    } else {
        Err(Rejection::new(
            RejectReason::BadSignature,
            format!("the signature of {} does not match", key.name),
        ))
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (digits && text.len() == 128)
        .then(|| text.as_bytes().chunks(2).map(pair).collect::<Option<Vec<u8>>>())
        .flatten()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::units::MonoTime;

    /// The key of RFC 8032, 7.1, test 1, so that every reader can reproduce the signatures.
    pub fn key(seed: &str) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&Digest::from_hex(seed).unwrap().0).unwrap()
    }

    pub const RFC: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    pub const OTHER: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";

    pub fn trusted(name: &str, seed: &str) -> TrustedKey {
        let mut public = [0; 32];
        public.copy_from_slice(key(seed).public_key().as_ref());
        TrustedKey { name: name.into(), public, scope: KeyScope::All }
    }

    fn document() -> Document {
        Document {
            v: 1,
            site: "km-17".into(),
            version: 7,
            prev_sha256: Digest::of(b"before"),
            not_after: "2026-12-01T00:00:00.000Z".into(),
            config: "site = \"km-17\"\n".into(),
            sig: None,
        }
    }

    fn at(time: &str, quality: ClockQuality) -> Timestamp {
        Timestamp { mono: MonoTime(1), wall: WallTime::parse(time).unwrap(), quality }
    }

    #[test]
    fn signed_bytes_and_signature_match_the_golden_vector() {
        let signed = document().signed(&key(RFC));
        let lines = "taimat configuration 1\nsite km-17\nversion 7\n\
                     prev_sha256 6db7d803e74f1ffa7d8f5adc0bf95b3e15bf4c8373fffadf546227cc6c6742cb\n\
                     not_after 2026-12-01T00:00:00.000Z\n\
                     config_sha256 e2647beff64c26951f4244c03c06b6fed83419f933834cacaa7f9cfa313e6097\n";
        assert_eq!(String::from_utf8(signed.signed_bytes()).unwrap(), lines);
        let signature = signed.sig.clone().unwrap();
        assert_eq!(signature.key, "21fe31dfa154a261");
        assert_eq!(
            signature.ed25519,
            "61a80b6d6214da376bbff11f35ef2d360646a5018889324401df4a3d0186b4cbea6d1e2db917383f2f258a4513ff9214f199b7cffaa23565d12f59aa066e6508"
        );
        assert_eq!(Document::decode(&signed.encode(), 1).unwrap(), signed);
    }

    #[test]
    fn each_invalid_signature_is_rejected_with_its_reason() {
        let site = SiteId::parse("km-17").unwrap();
        let keys = [trusted("office", RFC)];
        let good = document().signed(&key(RFC));
        assert_eq!(good.authentic(&site, &keys), Ok(keys[0].id()));
        let why = |document: &Document, keys: &[TrustedKey]| {
            document.authentic(&site, keys).unwrap_err().why
        };
        for altered in [
            Document { version: 8, ..good.clone() },
            Document { config: "site = \"km-18\"\n".into(), ..good.clone() },
            Document { not_after: "2027-12-01T00:00:00.000Z".into(), ..good.clone() },
            Document { prev_sha256: Digest::default(), ..good.clone() },
            Document { site: "km-18".into(), ..good.clone() },
        ] {
            assert_eq!(why(&altered, &keys), RejectReason::BadSignature, "{altered:?}");
        }
        assert_eq!(why(&document(), &keys), RejectReason::Unsigned);
        assert_eq!(
            why(&good, &[TrustedKey { scope: KeyScope::Commands, ..keys[0].clone() }]),
            RejectReason::Scope
        );
        assert_eq!(why(&document().signed(&key(OTHER)), &keys), RejectReason::UnknownKey);
        assert_eq!(why(&good, &[]), RejectReason::NoKeys);
        let foreign = Document { site: "km-18".into(), ..document() }.signed(&key(RFC));
        assert_eq!(why(&foreign, &keys), RejectReason::WrongSite);
    }

    #[test]
    fn the_expiry_has_a_tolerance_by_clock_quality() {
        let judged = |time: &str, quality| document().in_time(at(time, quality)).is_ok();
        assert!(
            judged("2026-12-01T00:04:00Z", ClockQuality::Ntp)
                && !judged("2026-12-01T00:06:00Z", ClockQuality::Ntp)
        );
        assert!(
            judged("2026-12-01T20:00:00Z", ClockQuality::Rtc)
                && !judged("2026-12-02T01:00:00Z", ClockQuality::Rtc)
        );
        assert!(
            judged("2036-12-01T00:00:00Z", ClockQuality::Unset),
            "an unset clock rejects nothing"
        );
        let nonsense = Document { not_after: "soon".into(), ..document() };
        assert_eq!(
            nonsense.in_time(at("2026-12-01T00:00:00Z", ClockQuality::Ntp)).unwrap_err().why,
            RejectReason::Unreadable
        );
    }

    #[test]
    fn an_oversized_or_truncated_document_is_malformed() {
        let good = document().signed(&key(RFC)).encode();
        let why = |bytes: &[u8], len| Document::decode(bytes, len).unwrap_err().why;
        assert_eq!(why(&[], 10 << 20), RejectReason::TooLarge);
        assert_eq!(why(&good[..good.len() - 1], good.len()), RejectReason::Unreadable);
        let more =
            String::from_utf8(good.clone()).unwrap().replacen("{\"v\":1", "{\"v\":1,\"also\":1", 1);
        assert_eq!(why(more.as_bytes(), more.len()), RejectReason::Unreadable);
        let large = Document { config: "#".repeat(CONFIG_MAX + 1), ..document() }
            .signed(&key(RFC))
            .encode();
        assert_eq!(why(&large, large.len()), RejectReason::TooLarge);
        let other = Document { v: 2, ..document() }.encode();
        assert_eq!(why(&other, other.len()), RejectReason::Unreadable);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = Document::decode(&bytes, bytes.len());
        }
    }
}
