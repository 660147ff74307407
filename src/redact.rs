//! The mask: text of cameras, brokers and settings without what looks like a credential. Whatever is logged, answered or reported as an
//! event goes through it: nothing here writes a secret, but what a peer says may hold one, and cameras want logins in their URLs.
//!
//! | what | what is shown |
//! |---|---|
//! | `Authorization: …`, `Digest username=…` | the name, and nothing behind it in the line |
//! | `Basic`, `Bearer` and a token | `Basic ***` |
//! | a URL with an `@`, whatever stands before it; `user:password@host` | `rtsp://***@host/…`, `***@host` |
//! | `user=`, `password=`, `pwd=`, `token=` and the like, also in a path (`/user=a_password=b_channel=1`) | `user=***` |
//! | `password: …`, `"password": "…"`, `password hunter2` | `password: ***` |
//!
//! What belongs here: finding them, rather too much than too little. What does not: where text goes.

/// Names behind which `=` makes the value a credential.
const LOGINS: [&str; 17] = [
    "user",
    "usr",
    "username",
    "login",
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
/// Names behind which `:` does too.
const SECRETS: [&str; 7] = ["password", "passwd", "passphrase", "pwd", "secret", "token", "apikey"];
/// What stands in place of a credential.
const STARS: &str = "***";

/// The text without credentials.
pub fn masked(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(|line| named(&logins(&tokens(&headers(line))))).collect();
    lines.join("\n")
}

/// Where `what` stands in `text`, whatever its case; both ASCII as far as it matters.
fn find(text: &str, what: &str, from: usize) -> Option<usize> {
    let (bytes, what) = (text.as_bytes(), what.as_bytes());
    (from..(bytes.len() + 1).saturating_sub(what.len())).find(|at| bytes[*at..at + what.len()].eq_ignore_ascii_case(what))
}

/// Credentials that reach to the end of the line.
fn headers(line: &str) -> String {
    let ends = ["authorization:", "authorization=", "authorization\":", "digest username="];
    match ends.iter().filter_map(|end| find(line, end, 0).map(|at| at + end.len())).min() {
        Some(end) if !line[end..].trim().is_empty() => format!("{} {STARS}", &line[..end]),
        _ => line.to_owned(),
    }
}

/// Tokens behind the name of their scheme.
fn tokens(line: &str) -> String {
    let mut text = line.to_owned();
    for scheme in ["basic ", "bearer "] {
        let mut from = 0;
        while let Some(at) = find(&text, scheme, from) {
            let begin = at + scheme.len();
            let is_token = |c: &char| c.is_ascii_alphanumeric() || "+/=-_.~".contains(*c);
            let token: String = text[begin..].chars().take_while(is_token).collect();
            let mixed = token.chars().skip(1).any(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '=');
            from = begin;
            if token.len() >= 8 && mixed && !token.starts_with("realm=") {
                text.replace_range(begin..begin + token.len(), STARS);
            }
        }
    }
    text
}

/// Logins in front of a host. A password may hold `/`, `@`, `?` and `#`: everything up to the last `@` of the word is hidden.
fn logins(line: &str) -> String {
    let ends = |c: char| c.is_whitespace() || "\"'<>`".contains(c);
    let mut text = String::with_capacity(line.len());
    for piece in line.split_inclusive(ends) {
        let word = piece.trim_end_matches(ends);
        let begin = word.find("://").map(|at| at + 3);
        match word.rfind('@') {
            Some(at) if begin.is_some_and(|begin| begin <= at) => {
                text.push_str(&word[..begin.unwrap_or(0)]);
                text.push_str(STARS);
                text.push_str(&word[at..]);
            }
            Some(at) if word[..at].contains(':') => {
                text.push_str(STARS);
                text.push_str(&word[at..]);
            }
            _ => text.push_str(word),
        }
        text.push_str(&piece[word.len()..]);
    }
    text
}

/// Values behind the names of credentials.
fn named(line: &str) -> String {
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
            text.push_str(STARS);
            rest = &rest[sign + value..];
        }
    }
    text + rest
}

/// Behind a name: bytes until its value begins, and bytes of the value, when it is to be hidden.
fn value_of(name: &str, behind: &str) -> Option<(usize, usize)> {
    if !LOGINS.contains(&name) {
        return None;
    }
    let spaces = |text: &str| text.len() - text.trim_start_matches(' ').len();
    let quote = usize::from(behind.starts_with(['"', '\'']));
    let at = quote + spaces(&behind[quote..]);
    let sign = behind[at..].chars().next();
    let named = sign == Some('=') || sign == Some(':') && SECRETS.contains(&name);
    let begin = if named { at + 1 + spaces(&behind[at + 1..]) } else { at };
    let value = &behind[begin..];
    let (open, len) = match value.chars().next()? {
        quote @ ('"' | '\'') => (1, value[1..].find(quote).unwrap_or(value.len() - 1)),
        _ => (0, plain(value)),
    };
    let bare = || {
        let word = &value[..len];
        quote == 0
            && at == 1
            && SECRETS.contains(&name)
            && word.contains(|c: char| c.is_ascii_digit() || "!#$%^&*+=/".contains(c))
    };
    (len > 0 && !value[open..].starts_with(STARS) && (named || bare())).then_some((begin + open, len))
}

/// Bytes of a value without quotes: up to what separates it, or to the next `_name=` of a camera's path.
fn plain(value: &str) -> usize {
    let end = value.find(|c: char| c.is_whitespace() || "&;,\"'<>)`".contains(c)).unwrap_or(value.len());
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
    fn nothing_that_looks_like_a_credential_is_left() {
        for (text, shown) in [
            ("camera: rtsp://admin:hunter2@10.0.0.2/main went", "camera: rtsp://***@10.0.0.2/main went"),
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
            ("got authorization: Digest username=\"admin\", response=\"ab\" here", "got authorization: ***"),
            ("sent Digest username=\"admin\", response=\"ab\"", "sent Digest username= ***"),
            ("header Basic YWRtaW46c2VjcmV0, then", "header Basic ***, then"),
            ("Bearer abcDEF123456.x", "Bearer ***"),
            ("password=hunter2 ok", "password=*** ok"),
            ("the password: hunter2 is wrong", "the password: *** is wrong"),
            ("wrong password hunter2", "wrong password ***"),
            ("{\"user\":\"a\",\"password\":\"my own pass\",\"n\":1}", "{\"user\":\"a\",\"password\":\"***\",\"n\":1}"),
            ("PASSWORD = 'a b' token=xyz", "PASSWORD = '***' token=***"),
        ] {
            assert_eq!(masked(text), shown);
            assert_eq!(masked(shown), shown, "twice");
        }
    }

    #[test]
    fn plain_words_stay_as_they_are() {
        for text in [
            "DESCRIBE: the camera refuses this user and password",
            "this user and password were refused too often",
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
        fn no_text_makes_it_panic_or_keeps_a_password(text in "\\PC{0,60}", password in "[a-z0-9/@?#]{8,12}") {
            masked(&text);
            let url = format!("{text} rtsp://admin:{password}@10.0.0.2/x");
            let kept = masked(&url).contains(&["admin:", &password].concat());
            proptest::prop_assert!(!kept, "{}", masked(&url));
        }
    }
}
