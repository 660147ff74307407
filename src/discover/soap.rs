//! SOAP 1.2: envelopes, faults, and the `UsernameToken` of WS-Security with a password digest.

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

use super::xml::{self, Element};
use super::{http, short};
use crate::settings::Login;
use crate::units::{WallTime, base64};

/// Type of a request's body.
pub const CONTENT_TYPE: &str = "application/soap+xml; charset=utf-8";
const TOKEN_PROFILE: &str =
    "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0";
const SECURITY: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity";

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection, no answer in time, or an answer that is not HTTP.
    #[error("{0}")]
    Network(String),
    /// The camera wants a login, or another one.
    #[error("the camera asks for a login")]
    NotAuthorized,
    /// The camera refuses this login.
    #[error("the camera refuses this login")]
    LoginRefused,
    /// A fault, in the camera's words.
    #[error("the camera answers with a fault: {0}")]
    Fault(String),
    /// An answer that is no SOAP.
    #[error("the camera's answer cannot be read: {0}")]
    Unreadable(String),
}

/// An envelope around `body`; `header` is empty or from [`username_token`].
pub fn envelope(header: &str, body: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\"><s:Header>{header}</s:Header>\
         <s:Body>{body}</s:Body></s:Envelope>"
    )
}

/// The header that proves knowledge of the password: SHA-1 of nonce, time and password. `created` is the camera's time,
/// because cameras refuse a token that is older than some seconds.
pub fn username_token(login: &Login, nonce: &[u8; 16], created: WallTime) -> String {
    let created = created.rfc3339();
    let digest = password_digest(nonce, &created, login.password.reveal());
    format!(
        "<o:Security s:mustUnderstand=\"1\" xmlns:o=\"{SECURITY}-secext-1.0.xsd\" xmlns:u=\"{SECURITY}-utility-1.0.xsd\">\
         <o:UsernameToken><o:Username>{}</o:Username><o:Password Type=\"{TOKEN_PROFILE}#PasswordDigest\">{digest}</o:Password>\
         <o:Nonce EncodingType=\"http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#Base64Binary\">{}</o:Nonce>\
         <u:Created>{created}</u:Created></o:UsernameToken></o:Security>",
        xml::escaped(&login.user),
        base64(nonce)
    )
}

fn password_digest(nonce: &[u8], created: &str, password: &str) -> String {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    for part in [nonce, created.as_bytes(), password.as_bytes()] {
        context.update(part);
    }
    base64(context.finish().as_ref())
}

/// The body of an envelope, whatever version and prefix.
pub fn body(root: &Element) -> Option<&Element> {
    Some(root).filter(|root| root.name == "Envelope")?.child("Body")
}

/// The element `name` in the body of a response.
///
/// # Errors
/// The response is a fault, a refusal or no SOAP.
pub fn answer(response: &http::Response, name: &str) -> Result<Element, CallError> {
    let parsed = xml::parse(&response.body);
    let fault = parsed.as_ref().ok().and_then(|root| body(root)?.child("Fault")).map(fault);
    match (response.status, fault) {
        (401 | 403, _) => return Err(CallError::NotAuthorized),
        (_, Some(fault)) => return Err(fault),
        (200..=299, None) => {}
        (status, None) => return Err(CallError::Unreadable(format!("HTTP status {status}"))),
    }
    let mut root = parsed.map_err(|error| CallError::Unreadable(error.to_string()))?;
    let at = root.children.iter().position(|child| child.name == "Body");
    let body = at.filter(|_| root.name == "Envelope").map(|at| root.children.swap_remove(at));
    let found = body.and_then(|body| body.children.into_iter().find(|child| child.name == name));
    found.ok_or_else(|| CallError::Unreadable(format!("it holds no {name}")))
}

/// A fault of SOAP 1.2 (`Code`, `Reason`) or 1.1 (`faultcode`, `faultstring`).
fn fault(element: &Element) -> CallError {
    let mut codes = vec![element.text_at(&["faultcode"]).unwrap_or_default()];
    let mut code = element.child("Code");
    while let Some(one) = code {
        codes.extend(one.text_at(&["Value"]));
        code = one.child("Subcode");
    }
    let reason = element.text_at(&["Reason", "Text"]).or(element.text_at(&["faultstring"]));
    let reason = reason.unwrap_or_default();
    let refused = |text: &str| {
        let text: String =
            text.chars().filter(char::is_ascii_alphabetic).collect::<String>().to_ascii_lowercase();
        ["notauthorized", "failedauthentication", "failedcheck", "unauthorized", "invalidsecurity"]
            .iter()
            .any(|word| text.contains(word))
    };
    if codes.iter().any(|code| refused(code)) || refused(reason) {
        return CallError::NotAuthorized;
    }
    let last = codes.last().copied().unwrap_or_default();
    CallError::Fault(short(if reason.is_empty() { last } else { reason }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Secret;

    fn response(status: u16, body: &str) -> http::Response {
        http::Response { status, headers: Vec::new(), body: body.as_bytes().to_vec() }
    }

    #[test]
    fn the_password_digest_is_that_of_the_onvif_guide() {
        // ONVIF Application Programmer's Guide 1.0, 6.1.1.3: nonce LKqI6G/AikKCQrN0zqZFlg==.
        let nonce = b"\x2c\xaa\x88\xe8\x6f\xc0\x8a\x42\x82\x42\xb3\x74\xce\xa6\x45\x96";
        let digest = password_digest(nonce, "2010-09-16T07:50:45Z", "userpassword");
        assert_eq!(digest, "tuOSpGlFlIXsozq4HFNeeGeFLEI=");
        let login = Login { user: "a<b".into(), password: Secret::new("secret") };
        let text = username_token(&login, nonce, WallTime(0));
        assert!(text.contains("a&lt;b") && text.contains(">1970-01-01T00:00:00.000Z<"), "{text}");
        assert!(!text.contains("secret<"), "{text}");
        let root = xml::parse(envelope(&text, "<x/>").as_bytes()).unwrap();
        assert!(root.at(&["Header", "Security", "UsernameToken", "Nonce"]).is_some());
    }

    #[test]
    fn faults_of_both_versions_are_told_apart() {
        let fault = |inner: &str| {
            let text =
                format!("<E:Envelope><E:Body><E:Fault>{inner}</E:Fault></E:Body></E:Envelope>");
            answer(&response(400, &text.replace("E:Envelope", "Envelope")), "X").unwrap_err()
        };
        let not = "<Code><Value>s:Sender</Value><Subcode><Value>ter:NotAuthorized</Value></Subcode></Code>\
            <Reason><Text>Sender not Authorized</Text></Reason>";
        assert_eq!(fault(not), CallError::NotAuthorized);
        assert_eq!(
            fault("<faultcode>wsse:FailedAuthentication</faultcode>"),
            CallError::NotAuthorized
        );
        let other =
            fault("<faultcode>s:Client</faultcode><faultstring>No such profile</faultstring>");
        assert_eq!(other, CallError::Fault("No such profile".into()));
    }

    #[test]
    fn an_answer_is_taken_from_the_body_or_named_as_missing() {
        let text = "<Envelope><Header/><Body><p:YesResponse><p:A>1</p:A></p:YesResponse></Body></Envelope>";
        let found = answer(&response(200, text), "YesResponse").unwrap();
        assert_eq!(found.text_at(&["A"]), Some("1"));
        assert!(matches!(answer(&response(200, text), "No"), Err(CallError::Unreadable(_))));
        assert_eq!(answer(&response(401, "denied"), "No"), Err(CallError::NotAuthorized));
        let html = answer(&response(404, "<html>no</html>"), "No").unwrap_err();
        assert_eq!(html, CallError::Unreadable("HTTP status 404".into()));
    }
}
