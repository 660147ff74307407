//! Errors of the API: RFC 9457, `application/problem+json`, with a `code` for the page's texts.

use serde_json::{Map, Value, json};

/// Why a request is not answered as asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    /// What went wrong.
    pub(crate) code: Code,
    /// For people who read the answer of the API by hand; the page has its own sentences.
    pub(crate) detail: String,
    /// Further members, such as `retry_after`.
    pub(crate) more: Map<String, Value>,
}

macro_rules! codes {
    ($($(#[$about:meta])* $name:ident $status:literal $code:literal $title:literal;)*) => {
        /// A kind of problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code { $($(#[$about])* $name,)* }

        impl Code {
            /// All kinds, for the API's description.
            pub(crate) const ALL: &[Code] = &[$(Code::$name,)*];

            /// HTTP status.
            pub(crate) fn status(self) -> u16 {
                match self { $(Code::$name => $status,)* }
            }

            /// The code in the answer.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Code::$name => $code,)* }
            }

            fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// A parameter or the body cannot be read.
    BadRequest 400 "bad_request" "The request cannot be read";
    /// The request comes from another web site.
    WrongOrigin 403 "wrong_origin" "The request comes from another web site";
    /// The host name of the request is not the office's.
    WrongHost 421 "wrong_host" "The request is for another host";
    /// No session, or it has ended.
    NoSession 401 "session_expired" "Log in first";
    /// Name or password is wrong.
    LoginFailed 401 "login_failed" "Name or password is wrong";
    /// Too many failed log-ins.
    Locked 429 "locked" "Too many failed log-ins";
    /// The session's user may not do this.
    NotAllowed 403 "forbidden" "The role does not allow this";
    /// Footage is older than the role allows.
    TooOld 403 "too_old" "The footage is older than the role allows";
    /// Moving pictures of a site with privacy zones.
    PrivacyZones 403 "privacy_zones" "The site has privacy zones: the role sees its snapshots only";
    /// The old password is wrong.
    WrongPassword 403 "wrong_password" "The old password is wrong";
    /// A purpose that cannot be taken.
    PurposeBad 422 "purpose_bad" "The purpose is not accepted";
    /// More streams than a session may have.
    TooManyRequests 429 "too_many_requests" "The session has too many streams";
    /// A codec that the office cannot read.
    CodecUnsupported 422 "codec_unsupported" "The office cannot read this codec";
    /// Footage without a purpose.
    PurposeMissing 403 "purpose_missing" "State the purpose first";
    /// A reason in words is needed.
    ReasonMissing 400 "reason_missing" "State the reason";
    /// A token that was used, has expired or never existed.
    BadToken 403 "token_bad" "The link is not valid any more";
    /// A password that is too weak.
    WeakPassword 422 "weak_password" "The password is too weak";
    /// No such thing, or none that the user may know.
    NotFound 404 "not_found" "There is no such thing";
    /// The path does not know the method.
    MethodNotAllowed 405 "method_not_allowed" "The path does not know this method";
    /// The request body came too slowly.
    Slow 408 "slow" "The request took too long to arrive";
    /// Another state than expected, such as a name that is taken.
    Conflict 409 "conflict" "The state does not allow this";
    /// The request body is too large.
    TooLarge 413 "too_large" "The request is too large";
    /// The body is no JSON, or no image.
    WrongType 415 "wrong_type" "The content type is not expected here";
    /// The range lies outside of the file.
    BadRange 416 "bad_range" "The range lies outside of the file";
    /// Values that are not accepted.
    Invalid 422 "invalid" "A value is not accepted";
    /// More at once than the office allows.
    Busy 503 "busy" "The office has too much to do";
    /// The answer takes too long.
    Timeout 503 "unavailable" "The answer takes too long";
    /// A failure of the office: the log has it.
    Internal 500 "internal" "The office has a fault";
    /// The audit trail cannot be written, so the act did not happen.
    AuditFailed 503 "audit_unavailable" "The audit trail cannot be written";
    /// A device did not reply.
    NoReply 504 "no_reply" "The device did not reply";
    /// What this build or this set-up does not have.
    NotAvailable 501 "not_available" "This office does not have it";
}

impl Problem {
    /// A problem with a sentence.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem { code, detail: detail.into(), more: Map::new() }
    }

    /// With a further member.
    pub(crate) fn with(mut self, name: &str, value: Value) -> Problem {
        self.more.insert(name.into(), value);
        self
    }

    /// A parameter or a member of the body that cannot be used.
    pub(crate) fn bad(detail: impl Into<String>) -> Problem {
        Problem::new(Code::BadRequest, detail)
    }

    /// What one may not know is not found.
    pub(crate) fn not_found() -> Problem {
        Code::NotFound.into()
    }

    /// The answer's body.
    pub(crate) fn json(&self) -> Value {
        let mut body = self.more.clone();
        body.insert("type".into(), json!("about:blank"));
        body.insert("title".into(), json!(self.code.title()));
        body.insert("status".into(), json!(self.code.status()));
        body.insert("code".into(), json!(self.code.as_str()));
        if !self.detail.is_empty() {
            body.insert("detail".into(), json!(self.detail));
        }
        Value::Object(body)
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Problem {
        Problem::new(code, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_the_members_of_rfc_9457() {
        let problem = Problem::new(Code::Locked, "wait").with("retry_after", json!(300));
        let body = problem.json();
        assert_eq!(body["type"], "about:blank");
        assert_eq!(body["status"], 429);
        assert_eq!(body["code"], "locked");
        assert_eq!(body["detail"], "wait");
        assert_eq!(body["retry_after"], 300);
    }

    #[test]
    fn codes_are_unique() {
        let mut codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Code::ALL.len());
    }
}
