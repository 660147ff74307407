//! The login of a camera, to be hidden in whatever the camera says.
//!
//! A peer that was shown a login may repeat it in any text and in any form. The text is therefore
//! read in all the forms below, one upon the other, and masked where the login stands in one.
//!
//! | read | forms |
//! |---|---|
//! | forwards and backwards | as it stands, in any case |
//! | unescaped, up to [`UNESCAPINGS_MAX`] times | `%41`, `&#65;`, `&#x41;`, `&amp;`, `\x41`, `\u0041`, `\"` |
//! | hex | in any case, also as `41:42`, `41 42`, `0x41` |
//! | base 64 | both alphabets, at any offset, also where its case is lost; decoded, [`DECODINGS_MAX`] times |
//! | [`HASH_DIGITS`] hex digits or more, [`RUN_MAX`] digits of base 64 | the answer to a Digest challenge, or another hash |
//!
//! What belongs here: the forms of a login. What does not: unknown credentials
//! ([`super::masked`]).

use std::ops::Range;

use super::{REPLACEMENT, masked};
use crate::units::base64;

/// Characters of a password that is hidden wherever it stands: a shorter one would tear words.
const PASSWORD_MIN: usize = 4;
/// Characters of a base 64 text that is found inside another: a shorter one would tear words.
const BASE64_MIN: usize = 6;
/// Hex digits of the shortest hash (MD5): no text of taimat about a camera has as many.
const HASH_DIGITS: usize = 32;
/// Characters of base 64 in a row that are read; a longer run is masked unread, for a camera that
/// says so much must not cost the device its time.
const RUN_MAX: usize = 512;
/// Escapes upon escapes that are taken off: a web page in a URL has two.
const UNESCAPINGS_MAX: usize = 3;
/// Base 64 in base 64 that is decoded.
const DECODINGS_MAX: usize = 2;

/// A login that is known, to be hidden in what a peer says: it may repeat it in any text.
///
/// Hidden are `user:password`, and a password of at least four characters alone, in every form of
/// this module. A login without a password hides nothing.
#[derive(Clone, Default)]
pub struct KnownLogin {
    /// As they are, in other cases, unescaped and reversed.
    secrets: Vec<Vec<u8>>,
    /// Their base 64, in lower case.
    encoded: Vec<Encoded>,
}

/// The base 64 of a secret at one offset.
#[derive(Clone, PartialEq)]
struct Encoded {
    /// The characters that hold nothing but the secret.
    core: Vec<u8>,
    /// It is too short to be found inside a text: the text must be this.
    whole: bool,
}

impl std::fmt::Debug for KnownLogin {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("KnownLogin(***)")
    }
}

impl KnownLogin {
    /// The login of this user.
    pub fn new(user: &str, password: &str) -> KnownLogin {
        let mut known = KnownLogin::default();
        if password.is_empty() {
            return known;
        }
        for secret in [format!("{user}:{password}"), password.to_owned()] {
            let is_pair = secret != password;
            for form in [secret.clone(), secret.to_lowercase(), secret.to_uppercase()] {
                known.add(form.as_bytes().to_vec(), is_pair);
                known.add(form.chars().rev().collect::<String>().into_bytes(), is_pair);
            }
            let unescaped: Vec<u8> =
                unescaped(&view(&secret), None).iter().map(|u| u.byte).collect();
            known.add(unescaped.iter().rev().copied().collect(), is_pair);
            known.add(unescaped, is_pair);
        }
        known
    }

    /// Adds a form of a secret, unless it is a short password.
    fn add(&mut self, secret: Vec<u8>, is_pair: bool) {
        let chars = String::from_utf8_lossy(&secret).chars().count();
        if !is_pair && chars < PASSWORD_MIN || self.secrets.contains(&secret) {
            return;
        }
        for offset in 0..3 {
            let shifted = [&[0; 2][..offset], &secret].concat();
            let text = base64(&shifted).to_ascii_lowercase().into_bytes();
            // A character holds 6 bits: those that also hold bits of neighbours differ.
            let core = text[(8 * offset).div_ceil(6)..8 * shifted.len() / 6].to_vec();
            let mut found = Encoded { whole: false, core };
            if found.core.len() < BASE64_MIN {
                let full = text.iter().copied().filter(|c| *c != b'=').collect();
                found = Encoded { whole: true, core: full };
            }
            if (offset == 0 || !found.whole) && !self.encoded.contains(&found) {
                self.encoded.push(found);
            }
        }
        self.secrets.push(secret);
    }

    /// The text without this login.
    pub fn hidden(&self, text: &str) -> String {
        let mut places = Vec::new();
        if !self.secrets.is_empty() {
            self.find(view(text), DECODINGS_MAX, &mut places);
        }
        places.sort_by_key(|place| (place.start, place.end));
        let (mut out, mut at) = (String::with_capacity(text.len()), 0);
        for place in places {
            if place.start >= at {
                out.push_str(&text[at..place.start]);
                out.push_str(REPLACEMENT);
            }
            at = at.max(place.end);
        }
        out + &text[at..]
    }

    /// The text without this login, and without any other credentials ([`masked`]).
    pub fn masked(&self, text: &str) -> String {
        masked(&self.hidden(text))
    }

    /// Finds the places of the login in a text, which may have been escaped and then reversed.
    ///
    /// Each kind of escape is read alone, too: a login with `%0a` in it is found where only its `&`
    /// was escaped.
    fn find(&self, view: View, decodings: usize, places: &mut Vec<Range<usize>>) {
        self.find_in(&view, decodings, places);
        for start in [reversed(&view), view] {
            for kind in [None, Some(b'&'), Some(b'%'), Some(b'\\')] {
                let mut view = unescaped(&start, kind);
                let mut len = start.len();
                for _ in 0..=UNESCAPINGS_MAX {
                    if view.len() == len {
                        break;
                    }
                    self.find_in(&view, decodings, places);
                    len = view.len();
                    view = unescaped(&view, kind);
                }
            }
        }
    }

    /// Finds the places of the login in a text as it stands, and in it read backwards.
    fn find_in(&self, view: &View, decodings: usize, places: &mut Vec<Range<usize>>) {
        for view in [view, &reversed(view)] {
            self.find_plain(view, places);
            self.find_hex(view, places);
            self.find_base64(view, decodings, places);
        }
    }

    fn find_plain(&self, view: &[Unit], places: &mut Vec<Range<usize>>) {
        for at in 0..view.len() {
            for secret in &self.secrets {
                if let Some(found) = view.get(at..at + secret.len())
                    && found.iter().zip(secret).all(|(unit, byte)| unit.is(*byte))
                {
                    places.push(place(found));
                }
            }
        }
    }

    fn find_hex(&self, view: &[Unit], places: &mut Vec<Range<usize>>) {
        let is_digit = |unit: &Unit| unit.byte.is_ascii_hexdigit();
        let runs = view.chunk_by(|a, b| is_digit(a) == is_digit(b));
        places.extend(runs.filter(|run| run.len() >= HASH_DIGITS && is_digit(&run[0])).map(place));
        // The digits without what separates them.
        let mut digits: View = Vec::new();
        for unit in view {
            match unit.byte {
                b' ' | b':' | b'-' | b',' | b'.' | b'|' | b'\\' => {}
                b'x' | b'X' if digits.last().is_some_and(|last| last.byte == b'0') => {
                    digits.pop();
                }
                b'x' | b'X' => {}
                _ => digits.push(unit.clone()),
            }
        }
        for at in 0..digits.len() {
            for secret in self.secrets.iter().filter(|secret| secret.len() >= PASSWORD_MIN) {
                if let Some(found) = digits.get(at..at + 2 * secret.len())
                    && found.chunks(2).zip(secret).all(|(pair, byte)| hex_is(pair, *byte))
                {
                    places.push(place(found));
                }
            }
        }
    }

    fn find_base64(&self, view: &[Unit], decodings: usize, places: &mut Vec<Range<usize>>) {
        let is_digit = |unit: &Unit| sextet(unit.byte).is_some();
        let mut at = 0;
        for run in view.chunk_by(|a, b| is_digit(a) == is_digit(b)) {
            at += run.len();
            if !is_digit(&run[0]) {
                continue;
            }
            let padding = view[at..].iter().take(2).take_while(|unit| unit.byte == b'=').count();
            let read = &run[..run.len().min(RUN_MAX)];
            let text: Vec<u8> = read.iter().map(|unit| standard(unit.byte)).collect();
            let lower = text.to_ascii_lowercase();
            let is_known = self.encoded.iter().any(|known| match known.whole {
                true => lower == known.core,
                false => lower
                    .windows(known.core.len())
                    .any(|w| w[0] == known.core[0] && w == known.core),
            });
            if is_known
                || run.len() > RUN_MAX
                || decodings > 0 && (0..4).any(|at| self.decodes(&text, at, decodings))
            {
                places.push(place(&view[at - run.len()..at + padding]));
            }
        }
    }

    /// Whether a base 64 text holds the login, from this character on.
    fn decodes(&self, text: &[u8], at: usize, decodings: usize) -> bool {
        let Some(text) = text.get(at..).filter(|text| text.len() >= BASE64_MIN) else {
            return false;
        };
        let mut bytes = Vec::with_capacity(text.len());
        for group in text.chunks(4) {
            let value = group.iter().fold(0, |value, c| value << 6 | sextet(*c).unwrap_or(0));
            let value = value << (6 * (4 - group.len()));
            bytes.extend_from_slice(&value.to_be_bytes()[1..group.len()]);
        }
        let view = bytes.into_iter().map(|byte| Unit { byte, place: 0..0 }).collect();
        let mut places = Vec::new();
        self.find(view, decodings - 1, &mut places);
        !places.is_empty()
    }
}

/// A byte of a text as it is read, and the place in the text where it comes from.
#[derive(Debug, Clone)]
struct Unit {
    byte: u8,
    place: Range<usize>,
}

impl Unit {
    fn is(&self, byte: u8) -> bool {
        self.byte.eq_ignore_ascii_case(&byte)
    }
}

/// A text as it is read. Its places are those of whole characters.
type View = Vec<Unit>;

fn view(text: &str) -> View {
    let units = text.char_indices().flat_map(|(at, c)| {
        let place = at..at + c.len_utf8();
        text.as_bytes()[place.clone()]
            .iter()
            .map(move |byte| Unit { byte: *byte, place: place.clone() })
    });
    units.collect()
}

fn reversed(view: &[Unit]) -> View {
    view.iter().rev().cloned().collect()
}

/// The place in the text of these units, whatever their order.
fn place(units: &[Unit]) -> Range<usize> {
    let begin = units.iter().map(|unit| unit.place.start).min().unwrap_or(0);
    begin..units.iter().map(|unit| unit.place.end).max().unwrap_or(begin)
}

/// A text without its escapes, or without those that begin with a character; of the same length where
/// it has none.
fn unescaped(view: &[Unit], kind: Option<u8>) -> View {
    let (mut out, mut at) = (Vec::with_capacity(view.len()), 0);
    while at < view.len() {
        let is_kind = kind.is_none_or(|kind| kind == view[at].byte);
        let Some((bytes, len)) = escape(&view[at..]).filter(|_| is_kind) else {
            out.push(view[at].clone());
            at += 1;
            continue;
        };
        let place = place(&view[at..at + len]);
        out.extend(bytes.into_iter().map(|byte| Unit { byte, place: place.clone() }));
        at += len;
    }
    out
}

/// The bytes that the escape stands for that a text begins with, and its length.
fn escape(view: &[Unit]) -> Option<(Vec<u8>, usize)> {
    const NAMED: [(&[u8], u8); 6] = [
        (b"&amp;", b'&'),
        (b"&lt;", b'<'),
        (b"&gt;", b'>'),
        (b"&quot;", b'"'),
        (b"&apos;", b'\''),
        (b"&nbsp;", b' '),
    ];
    let next = view.get(1)?.byte.to_ascii_lowercase();
    match (view[0].byte, next) {
        (b'%', _) => number(view, 1, 16, 2..=2).map(|(byte, end)| (vec![byte as u8], end)),
        (b'\\', b'x') => number(view, 2, 16, 2..=2).map(|(byte, end)| (vec![byte as u8], end)),
        (b'\\', b'u') => character(number(view, 2, 16, 4..=4)?),
        (b'\\', next) if !next.is_ascii_alphanumeric() => Some((vec![view[1].byte], 2)),
        (b'&', b'#') => {
            let is_hex = view.get(2)?.is(b'x');
            let (begin, radix) = if is_hex { (3, 16) } else { (2, 10) };
            let (code, end) = number(view, begin, radix, 1..=8)?;
            let semicolon = view.get(end).is_some_and(|unit| unit.byte == b';');
            character((code, end + usize::from(semicolon)))
        }
        (b'&', _) => NAMED.iter().find_map(|(name, byte)| {
            let found = view.get(..name.len())?;
            let is_it = found.iter().zip(*name).all(|(unit, c)| unit.is(*c));
            is_it.then(|| (vec![*byte], name.len()))
        }),
        _ => None,
    }
}

/// The number whose digits begin there, and where they end.
fn number(
    view: &[Unit],
    begin: usize,
    radix: u32,
    len: std::ops::RangeInclusive<usize>,
) -> Option<(u32, usize)> {
    let digits = view.get(begin..)?.iter().map_while(|unit| char::from(unit.byte).to_digit(radix));
    let digits: Vec<u32> = digits.take(*len.end()).collect();
    let value = digits
        .iter()
        .try_fold(0_u32, |value, digit| value.checked_mul(radix)?.checked_add(*digit))?;
    (digits.len() >= *len.start()).then_some((value, begin + digits.len()))
}

/// The bytes of a character by its number.
fn character((code, end): (u32, usize)) -> Option<(Vec<u8>, usize)> {
    char::from_u32(code).map(|c| (c.to_string().into_bytes(), end))
}

/// Whether two hex digits are this byte.
fn hex_is(pair: &[Unit], byte: u8) -> bool {
    let digit = |at: usize| char::from(pair.get(at)?.byte).to_digit(16);
    let value = digit(0).zip(digit(1)).map(|(high, low)| (high << 4 | low) as u8);
    value.is_some_and(|value| value.eq_ignore_ascii_case(&byte))
}

/// A digit of the URL-safe alphabet of base 64 as one of the other.
fn standard(c: u8) -> u8 {
    match c {
        b'-' => b'+',
        b'_' => b'/',
        c => c,
    }
}

/// The value of a digit of base 64.
fn sextet(c: u8) -> Option<u32> {
    let value = match standard(c) {
        c @ b'A'..=b'Z' => c - b'A',
        c @ b'a'..=b'z' => c - b'a' + 26,
        c @ b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::hex;

    #[test]
    fn a_known_login_is_hidden_in_all_its_forms() {
        let known = KnownLogin::new("admin", "a/b \"ế7");
        for (text, shown) in [
            ("bad a/b \"ế7!", "bad ***!"),
            ("for admin:a/b \"ế7.", "for ***."),
            ("A%2fB%20%22%E1%ba%bf7x", "***x"),
            ("a/b%20\\\"ế7", "***"),
            ("a/b \"ế", "a/b \"ế"),
        ] {
            assert_eq!(known.hidden(text), shown);
        }
        assert_eq!(KnownLogin::new("a", "abc").hidden("abc a:abc"), "abc ***");
        assert_eq!(KnownLogin::new("a", "b").hidden("YTpi is YTpib"), "*** is YTpib");
        assert_eq!(KnownLogin::default().masked("password=x"), "password=***");
        assert_eq!(KnownLogin::new("admin", "").hidden("admin: no"), "admin: no");
        assert!(!format!("{known:?}").contains("admin"));
    }

    /// The forms in which a camera may repeat a text.
    fn forms(text: &str) -> Vec<String> {
        let each = |form: &dyn Fn(u8) -> String| text.bytes().map(form).collect::<String>();
        let chars = |form: &dyn Fn(u32) -> String| {
            text.chars().map(|c| form(u32::from(c))).collect::<String>()
        };
        let base = base64(text.as_bytes());
        let mut forms = vec![
            text.to_owned(),
            base.replace('=', ""),
            base.replace('+', "-").replace('/', "_"),
            base64(format!("x{text}").as_bytes()),
            base64(format!("<a>{text}\n").as_bytes()),
            base64(base.as_bytes()),
            base,
            hex(text.as_bytes()),
            each(&|byte| format!("{byte:02x}:")),
            each(&|byte| format!("0x{byte:02X}, ")),
            each(&|byte| format!("\\x{byte:02x}")),
            each(&|byte| format!("%{byte:02x}")),
            each(&|byte| format!("%25{byte:02X}")),
            chars(&|code| format!("&#{code};")),
            chars(&|code| format!("&#{code}")),
            chars(&|code| format!("&#x{code:x};")),
            chars(&|code| format!("&amp;#x{code:X};")),
            text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;"),
            base64(each(&|byte| format!("%{byte:02x}")).as_bytes()),
        ];
        let reversed = forms.iter().map(|form| form.chars().rev().collect()).collect::<Vec<_>>();
        forms.extend(reversed);
        forms.push(base64(text.chars().rev().collect::<String>().as_bytes()));
        let lower = forms.iter().map(|form| form.to_ascii_lowercase()).collect::<Vec<_>>();
        let upper = forms.iter().map(|form| form.to_ascii_uppercase()).collect::<Vec<_>>();
        // Two layers of base 64, or one over another form, are gone with their case.
        let keeps = |at: &usize| ![5, 18].contains(&(at % 39 % 19));
        let changed: Vec<String> = lower.into_iter().chain(upper).collect();
        forms.extend((0..changed.len()).filter(keeps).map(|at| changed[at].clone()));
        forms
    }

    const PLACES: [&str; 5] =
        ["bad {} here", "<html>{}</html>", "rtsp://127.0.0.9:1/{}", "x=\"{}\"", "(only: {})"];

    #[test]
    fn the_words_of_taimat_are_kept() {
        let known = KnownLogin::new("admin", "Geheim%42xyz");
        for text in [
            "DESCRIBE: 401: the camera rejects this user and password; give --login FILE",
            "rtsp://127.0.0.1:27101/m: no_video: no H.264 or H.265 video in this stream, only: vp8",
            "the camera redirects to another host, rtsp://127.0.0.9:1/x: the login is not sent there; if that is right, set camera.main_url",
            "the camera asks for a login: set camera.login_file",
            "session 0123456789abcdef, 01JD5Q4W3Y6ZK8V7N2T1R0PXMB",
        ] {
            assert_eq!(known.hidden(text), text);
        }
    }

    #[test]
    fn the_answer_to_a_challenge_is_hidden() {
        let known = KnownLogin::new("admin", "Geheim%42xyz");
        let answer = "6629fae49393a05397450978507c4ef1";
        for text in [answer.to_owned(), answer.to_uppercase(), base64(answer.as_bytes())] {
            assert_eq!(known.hidden(&format!("got {text}, no")), "got ***, no");
        }
    }

    #[test]
    fn a_camera_that_says_much_costs_little() {
        let known = KnownLogin::new("admin", "Geheim%42xyz");
        assert_eq!(known.hidden(&"A".repeat(60_000)), "***");
    }

    /// Says a login in each form and place, and looks for it in what is left.
    fn assert_hidden(password: &str) {
        let known = KnownLogin::new("admin", password);
        for secret in [password.to_owned(), format!("admin:{password}")] {
            for form in forms(&secret) {
                for at in PLACES {
                    let text = at.replace("{}", &form);
                    let shown = known.hidden(&text);
                    let said = form.trim_matches([',', ' ', ':', '=', ';']);
                    assert!(!shown.contains(said), "{text}: {shown}");
                }
            }
        }
    }

    #[test]
    fn a_login_with_escapes_in_it_is_hidden() {
        ["ế&%0a0", "a%41&lt", "%25%32", "&amp;%", "q\\x41<"].into_iter().for_each(assert_hidden);
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(24))]

        #[test]
        fn a_login_is_hidden_in_every_form_and_place(password in "[a-zA-Z0-9%&<\"/ế:+]{6,14}") {
            assert_hidden(&password);
        }

        #[test]
        fn no_text_panics_under_a_known_login(text in "[\\PC%&#x;\\\\u]{0,60}", password in "\\PC{0,8}") {
            KnownLogin::new("u", &password).masked(&text);
        }
    }
}
