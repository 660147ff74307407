//! Redaction: removes credentials from text that is logged, answered or published.
//!
//! taimat writes no secret, but the text of a peer may contain one, and camera URLs contain logins.
//!
//! | found | replaced by |
//! |---|---|
//! | `Authorization: …`, `Digest username=…` | the name alone; the rest of the line is removed |
//! | `Basic`, `Bearer` and a token | `Basic ***` |
//! | a URL with an `@`, with any text before it; `user:password@host` | `rtsp://***@host/…`, `***@host` |
//! | `user=`, `password=`, `pwd=`, `loginpas=`, `token=` and the like, also as `%3D` and in a path (`/user=a_password=b_channel=1`) | `user=***` |
//! | `password: …`, `"password": "…"`, `password hunter2` | `password: ***` |
//!
//! In doubt it removes too much. A login that is known is hidden in more forms: [`KnownLogin`].

mod known_login;

pub use known_login::KnownLogin;

/// Names whose value after `=` is a credential.
const NAMES_BEFORE_EQUALS: [&str; 22] = [
    "user",
    "usr",
    "username",
    "login",
    "loginuse",
    "loginuser",
    "loginpas",
    "loginpass",
    "loginpwd",
    "password",
    "passwd",
    "passphrase",
    "pass",
    "pwd",
    "psw",
    "pw",
    "secret",
    "token",
    "auth",
    "credential",
    "credentials",
    "apikey",
];
/// Names whose value after `:` is a credential, too.
const NAMES_BEFORE_COLON: [&str; 7] =
    ["password", "passwd", "passphrase", "pwd", "secret", "token", "apikey"];
/// The replacement of a credential.
const REPLACEMENT: &str = "***";

/// The text without credentials.
pub fn masked(text: &str) -> String {
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| redact_named_values(&redact_logins(&redact_tokens(&redact_headers(line)))))
        .collect();
    lines.join("\n")
}

/// Position of `what` in `text` from `from` on, ignoring ASCII case.
fn find(text: &str, what: &str, from: usize) -> Option<usize> {
    let (bytes, what) = (text.as_bytes(), what.as_bytes());
    (from..(bytes.len() + 1).saturating_sub(what.len()))
        .find(|at| bytes[*at..at + what.len()].eq_ignore_ascii_case(what))
}

/// Removes credentials that extend to the end of the line.
fn redact_headers(line: &str) -> String {
    let ends = ["authorization:", "authorization=", "authorization\":", "digest username="];
    match ends.iter().filter_map(|end| find(line, end, 0).map(|at| at + end.len())).min() {
        Some(end) if !line[end..].trim().is_empty() => format!("{} {REPLACEMENT}", &line[..end]),
        _ => line.to_owned(),
    }
}

/// Replaces tokens after the name of an authentication scheme.
fn redact_tokens(line: &str) -> String {
    let mut text = line.to_owned();
    for scheme in ["basic ", "bearer "] {
        let mut from = 0;
        while let Some(at) = find(&text, scheme, from) {
            let begin = at + scheme.len();
            let is_token = |c: &char| c.is_ascii_alphanumeric() || "+/=-_.~".contains(*c);
            let token: String = text[begin..].chars().take_while(is_token).collect();
            let mixed = token
                .chars()
                .skip(1)
                .any(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '=');
            from = begin;
            if token.len() >= 8 && mixed && !token.starts_with("realm=") {
                text.replace_range(begin..begin + token.len(), REPLACEMENT);
            }
        }
    }
    text
}

/// Replaces logins before a host. A password may contain `/`, `@`, `?` and `#`: everything up to
/// the last `@` of the word is replaced.
fn redact_logins(line: &str) -> String {
    let ends = |c: char| c.is_whitespace() || "\"'<>`".contains(c);
    let mut text = String::with_capacity(line.len());
    for piece in line.split_inclusive(ends) {
        let word = piece.trim_end_matches(ends);
        let begin = word.find("://").map(|at| at + 3);
        match word.rfind('@') {
            Some(at) if begin.is_some_and(|begin| begin <= at) => {
                text.push_str(&word[..begin.unwrap_or(0)]);
                text.push_str(REPLACEMENT);
                text.push_str(&word[at..]);
            }
            Some(at) if word[..at].contains(':') => {
                text.push_str(REPLACEMENT);
                text.push_str(&word[at..]);
            }
            _ => text.push_str(word),
        }
        text.push_str(&piece[word.len()..]);
    }
    text
}

/// Replaces values after the names of credentials.
fn redact_named_values(line: &str) -> String {
    let (mut text, mut rest) = (String::with_capacity(line.len()), line);
    while let Some(at) = rest.find(|c: char| c.is_ascii_alphabetic()) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let len = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (name, behind) = rest.split_at(len);
        text.push_str(name);
        rest = behind;
        if let Some((sign, value)) = value_of(&name.to_ascii_lowercase(), rest) {
            text.push_str(&rest[..sign]);
            text.push_str(REPLACEMENT);
            rest = &rest[sign + value..];
        }
    }
    text + rest
}

/// The value after a name, if it is a credential: the number of bytes before it, and its length in
/// bytes.
fn value_of(name: &str, behind: &str) -> Option<(usize, usize)> {
    if !NAMES_BEFORE_EQUALS.contains(&name) {
        return None;
    }
    let spaces = |text: &str| text.len() - text.trim_start_matches(' ').len();
    let quote = usize::from(behind.starts_with(['"', '\'']));
    let at = quote + spaces(&behind[quote..]);
    let sign = behind[at..].chars().next();
    let is_encoded = behind[at..].get(..3).is_some_and(|sign| sign.eq_ignore_ascii_case("%3d"));
    let named =
        is_encoded || sign == Some('=') || sign == Some(':') && NAMES_BEFORE_COLON.contains(&name);
    let sign_len = if is_encoded { 3 } else { 1 };
    let begin = if named { at + sign_len + spaces(&behind[at + sign_len..]) } else { at };
    let value = &behind[begin..];
    let (open, len) = match value.chars().next()? {
        quote @ ('"' | '\'') => (1, value[1..].find(quote).unwrap_or(value.len() - 1)),
        _ => (0, unquoted_len(value)),
    };
    let bare = || {
        let word = &value[open..open + len];
        quote == 0
            && at == 1
            && NAMES_BEFORE_COLON.contains(&name)
            && word.contains(|c: char| c.is_ascii_digit() || "!#$%^&*+=/".contains(c))
    };
    (len > 0 && !value[open..].starts_with(REPLACEMENT) && (named || bare()))
        .then_some((begin + open, len))
}

/// Length of an unquoted value in bytes: up to a separator, or to the next `_name=` of a camera's
/// path.
fn unquoted_len(value: &str) -> usize {
    let end =
        value.find(|c: char| c.is_whitespace() || "&;,\"'<>)`".contains(c)).unwrap_or(value.len());
    let next = value[..end].match_indices('_').map(|(at, _)| at).find(|at| {
        let name = value[at + 1..end].find(|c: char| !c.is_ascii_alphanumeric());
        name.is_some_and(|len| len > 0 && value[at + 1 + len..].starts_with('='))
    });
    next.unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_replaced() {
        for (text, shown) in [
            (
                "camera: rtsp://admin:hunter2@10.0.0.2/main went",
                "camera: rtsp://***@10.0.0.2/main went",
            ),
            ("rtsp://admin:12/345@192.168.1.20/stream1", "rtsp://***@192.168.1.20/stream1"),
            ("at rtsp://a:1?x#y@z@10.0.0.2/s: no", "at rtsp://***@10.0.0.2/s: no"),
            ("no way to admin:secret@10.0.0.2", "no way to ***@10.0.0.2"),
            (
                "DESCRIBE response at rtsp://127.0.0.1:1/user=admin_password=tlJw_pbo6_channel=1_stream=0.sdp?real_stream has",
                "DESCRIBE response at rtsp://127.0.0.1:1/user=***_password=***_channel=1_stream=0.sdp?real_stream has",
            ),
            ("rtsp://c/live?user=admin&password=a/b@c&x=1", "rtsp://***@c&x=1"),
            ("rtsp://c/live?user=admin&pwd=a/b&x=1", "rtsp://c/live?user=***&pwd=***&x=1"),
            ("Authorization: Basic YWRtaW46c2VjcmV0", "Authorization: ***"),
            (
                "got authorization: Digest username=\"admin\", response=\"ab\" here",
                "got authorization: ***",
            ),
            ("sent Digest username=\"admin\", response=\"ab\"", "sent Digest username= ***"),
            ("header Basic YWRtaW46c2VjcmV0, then", "header Basic ***, then"),
            ("Bearer abcDEF123456.x", "Bearer ***"),
            ("password=hunter2 ok", "password=*** ok"),
            ("the password: hunter2 is wrong", "the password: *** is wrong"),
            ("wrong password hunter2", "wrong password ***"),
            (
                "{\"user\":\"a\",\"password\":\"my own pass\",\"n\":1}",
                "{\"user\":\"a\",\"password\":\"***\",\"n\":1}",
            ),
            ("PASSWORD = 'a b' token=xyz", "PASSWORD = '***' token=***"),
        ] {
            assert_eq!(masked(text), shown);
            assert_eq!(masked(shown), shown, "redacting twice changes nothing");
        }
    }

    #[test]
    fn logins_in_the_urls_of_cameras_are_replaced() {
        for (url, shown) in [
            // XM (Xiongmai), Foscam, Vstarcam and other cameras of their kinds.
            (
                "rtsp://10.0.0.2/user=admin&password=&channel=1&stream=0.sdp?",
                "rtsp://10.0.0.2/user=***&password=&channel=1&stream=0.sdp?",
            ),
            (
                "rtsp://10.0.0.2/user=admin_password=hunter2_channel=1_stream=0.sdp",
                "rtsp://10.0.0.2/user=***_password=***_channel=1_stream=0.sdp",
            ),
            (
                "http://10.0.0.2:88/cgi-bin/CGIProxy.fcgi?cmd=snapPicture2&usr=admin&pwd=hunter2",
                "http://10.0.0.2:88/cgi-bin/CGIProxy.fcgi?cmd=snapPicture2&usr=***&pwd=***",
            ),
            (
                "http://10.0.0.2:81/livestream.cgi?loginuse=admin&loginpas=hunter2&streamid=10",
                "http://10.0.0.2:81/livestream.cgi?loginuse=***&loginpas=***&streamid=10",
            ),
            (
                "http://10.0.0.2/snapshot.cgi?user=admin&next_url=x&pass=hunter2",
                "http://10.0.0.2/snapshot.cgi?user=***&next_url=x&pass=***",
            ),
            ("rtsp://10.0.0.2/loginuse=admin/loginpas=hunter2/11", "rtsp://10.0.0.2/loginuse=***"),
            (
                "rtsp://10.0.0.2/h264?usr=a&passwd=hunter2&token=hunter2&auth=hunter2#f",
                "rtsp://10.0.0.2/h264?usr=***&passwd=***&token=***&auth=***",
            ),
            (
                "http://10.0.0.2/cgi?LoginUse%3Dadmin&loginPas=hunter2&PassWd=hunter2",
                "http://10.0.0.2/cgi?LoginUse%3D***&loginPas=***&PassWd=***",
            ),
        ] {
            assert_eq!(masked(url), shown);
            assert!(!masked(url).contains("hunter2"), "{}", masked(url));
            assert_eq!(masked(shown), shown, "redacting twice changes nothing");
        }
    }

    #[test]
    fn text_without_credentials_is_unchanged() {
        for text in [
            "DESCRIBE: the camera rejects this user and password",
            "the camera rejected this user and password too often",
            "must hold one line user:password",
            "WWW-Authenticate: Basic realm=\"IP Camera\"",
            "it asks for Basic authentication",
            "no broker at http://a/b, 10.0.0.2:1883: refused",
            "camera.login_file: is no file",
            "key 21fe31dfa154a261 is not among remote.keys",
            "ếế → ok",
        ] {
            assert_eq!(masked(text), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_or_keeps_the_password_of_a_url(text in "\\PC{0,60}", password in "[a-z0-9/@?#]{8,12}") {
            masked(&text);
            let repeated = format!("{text}{password}{text}");
            proptest::prop_assert!(!KnownLogin::new("u", &password).hidden(&repeated).contains(&password));
            let url = format!("{text} rtsp://admin:{password}@10.0.0.2/x");
            let kept = masked(&url).contains(&["admin:", &password].concat());
            proptest::prop_assert!(!kept, "{}", masked(&url));
        }

        #[test]
        fn no_quoted_value_beside_other_letters_panics(
            pieces in proptest::collection::vec("(login|user|pwd|pass|password|auth)['\" :=]{0,3}[a-z0-9]{0,2}[ế€\u{fffd}]{0,2}", 1..6)
        ) {
            let text = pieces.concat();
            masked(&text);
            KnownLogin::new("admin", "hunter2").hidden(&text);
        }
    }
}
