//! A row of the route table: from it come the router, the guard, the API's description and the
//! test of all rights.

use super::answer::Answer;
use super::call::Call;
use super::problem::Problem;
use crate::office::console::people::rights::Right;

/// HTTP methods of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    /// The name on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }

    /// True when the request changes something: its origin is then checked.
    pub(crate) fn is_change(self) -> bool {
        self != Method::Get
    }
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody.
    Open,
    /// Every session.
    Session,
    /// A session with the right for at least one group; the handler leaves out the sites of others.
    AnySite(Right),
    /// A session with the right for the site of the path.
    Site(Right),
    /// A session with the right for the file of the path: `snapshot` or `clip` by its purpose. A
    /// purpose and a record in the audit trail come first.
    File,
    /// A session with the right for the whole office.
    Office(Right),
    /// This machine, or the token of the machines.
    Machine,
}

/// What a request costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// A few rows.
    Quick,
    /// Much of a disk's or a core's time: only some at once.
    Heavy,
    /// A device's reply: only some at once.
    Command,
    /// A password's hash: a flood of log-ins must not hold the threads of others.
    Login,
}

/// What a request's body is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Takes {
    Nothing,
    Json(&'static [Field]),
    Image,
}

/// What the answer is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gives {
    /// 204.
    Nothing,
    /// 200 with a JSON object.
    Json(&'static [Field]),
    /// 200 with a JSON list of objects.
    Rows(&'static [Field]),
    /// 200, or 206 and 416 with `Range`.
    Bytes(&'static str),
}

/// A parameter of the query, or a member of a JSON object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// False: may be left out (of a request), or null (in an answer).
    pub(crate) is_required: bool,
    pub(crate) about: &'static str,
}

/// The type of a field.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Text,
    /// RFC 3339.
    Time,
    Number,
    Whole,
    Bool,
    /// Any JSON.
    Any,
    Object(&'static [Field]),
    List(&'static [Field]),
    /// A list of something simple.
    Values(&'static Kind),
    /// An object whose names are free.
    Map(&'static Kind),
}

/// A required field.
pub(crate) const fn field(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, is_required: true, about }
}

/// A field that may be left out or null.
pub(crate) const fn maybe(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, is_required: false, about }
}

/// Answers a request; blocks.
pub(crate) type Handler = fn(&Call) -> Result<Answer, Problem>;

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    pub(crate) weight: Weight,
    /// One sentence.
    pub(crate) summary: &'static str,
    pub(crate) query: &'static [Field],
    pub(crate) takes: Takes,
    pub(crate) gives: Gives,
    pub(crate) handler: Handler,
}

impl Route {
    /// A quick request without parameters and body.
    pub(crate) const fn new(
        method: Method,
        path: &'static str,
        access: Access,
        summary: &'static str,
        gives: Gives,
        handler: Handler,
    ) -> Route {
        let (weight, query, takes) = (Weight::Quick, &[] as &[Field], Takes::Nothing);
        Route { method, path, access, weight, summary, query, takes, gives, handler }
    }

    /// With parameters of the query.
    pub(crate) const fn query(mut self, query: &'static [Field]) -> Route {
        self.query = query;
        self
    }

    /// With a body.
    pub(crate) const fn takes(mut self, takes: Takes) -> Route {
        self.takes = takes;
        self
    }

    /// With another weight.
    pub(crate) const fn weight(mut self, weight: Weight) -> Route {
        self.weight = weight;
        self
    }
}
