//! The description of the API (OpenAPI 3.1), made from the route table.

use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::call::Call;
use super::problem::{Code, Problem};
use super::route::{Access, Field, Gives, Kind, Route, Takes};
use super::router::routes;

/// `GET /api/v1/openapi.json`.
pub(crate) fn get(_call: &Call) -> Result<Answer, Problem> {
    Answer::json(&document())
}

/// The document.
pub(crate) fn document() -> Value {
    let mut paths = Map::new();
    for route in routes() {
        let path = route.path.replace("{*", "{");
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        methods[route.method.as_str().to_ascii_lowercase()] = operation(route);
    }
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "taimat console", "version": crate::VERSION,
            "description": "API of the office console. Times are RFC 3339 in UTC with milliseconds. Errors are RFC 9457 with a `code`. Ids of what one may not know are 404.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "session": {"type": "apiKey", "in": "cookie", "name": "__Host-s"},
                "machine": {"type": "http", "scheme": "bearer"},
            },
            "schemas": {"Problem": {
                "type": "object", "required": ["type", "title", "status", "code"],
                "properties": {
                    "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
                    "code": {"type": "string", "enum": codes}, "detail": {"type": "string"},
                    "retry_after": {"type": "integer", "description": "Seconds."},
                },
            }},
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<Value> = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{').and_then(|part| part.strip_suffix('}')))
        .map(|name| json!({"name": name.trim_start_matches('*'), "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    parameters.extend(route.query.iter().map(|field| {
        json!({"name": field.name, "in": "query", "required": field.is_required, "description": field.about,
               "schema": schema(field.kind)})
    }));
    let (status, answer) = match route.gives {
        Gives::Nothing => ("204", json!({"description": "Done."})),
        Gives::Json(fields) => (
            "200",
            json!({"description": "The answer.", "content": {"application/json": {"schema": object(fields)}}}),
        ),
        Gives::Rows(fields) => (
            "200",
            json!({"description": "The rows.", "content": {"application/json": {"schema":
                {"type": "array", "items": object(fields)}}}}),
        ),
        Gives::Bytes(kind) => ("200", json!({"description": "The bytes.", "content": {kind: {}}})),
    };
    let problem = json!({"description": "A problem.", "content": {"application/problem+json":
        {"schema": {"$ref": "#/components/schemas/Problem"}}}});
    let mut operation = json!({
        "summary": route.summary, "x-access": access(route.access), "parameters": parameters,
        "responses": {status: answer, "default": problem}, "security": security(route.access),
    });
    match route.takes {
        Takes::Nothing => {}
        Takes::Json(fields) => {
            operation["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": object(fields)}}});
        }
        Takes::Image => {
            operation["requestBody"] =
                json!({"required": true, "content": {"image/png": {}, "image/jpeg": {}}});
        }
    }
    operation
}

fn security(access: Access) -> Value {
    match access {
        Access::Open => json!([]),
        Access::Machine => json!([{"machine": []}]),
        _ => json!([{"session": []}]),
    }
}

/// Who may ask, in words.
fn access(access: Access) -> String {
    match access {
        Access::Open => "everybody".into(),
        Access::Session => "every session".into(),
        Access::AnySite(right) => format!("right {} for at least one site", right.as_str()),
        Access::Site(right) => format!("right {} for the site", right.as_str()),
        Access::File => "right snapshot or clip for the site, and a purpose".into(),
        Access::Office(right) => format!("right {} for the office", right.as_str()),
        Access::Machine => "this machine, or the token of machines".into(),
    }
}

fn object(fields: &[Field]) -> Value {
    let required: Vec<&str> =
        fields.iter().filter(|field| field.is_required).map(|field| field.name).collect();
    let properties: Map<String, Value> = fields
        .iter()
        .map(|field| {
            let mut schema = schema(field.kind);
            if !field.is_required {
                schema = json!({"anyOf": [schema, {"type": "null"}]});
            }
            schema["description"] = json!(field.about);
            (field.name.to_owned(), schema)
        })
        .collect();
    json!({"type": "object", "required": required, "properties": properties})
}

fn schema(kind: Kind) -> Value {
    match kind {
        Kind::Text => json!({"type": "string"}),
        Kind::Time => json!({"type": "string", "format": "date-time"}),
        Kind::Number => json!({"type": "number"}),
        Kind::Whole => json!({"type": "integer"}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Any => json!({}),
        Kind::Object(fields) => object(fields),
        Kind::List(fields) => json!({"type": "array", "items": object(fields)}),
        Kind::Values(kind) => json!({"type": "array", "items": schema(*kind)}),
        Kind::Map(kind) => json!({"type": "object", "additionalProperties": schema(*kind)}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_described() {
        let document = document();
        for route in routes() {
            let path = route.path.replace("{*", "{");
            let operation = &document["paths"][&path][route.method.as_str().to_ascii_lowercase()];
            assert_eq!(operation["summary"], route.summary, "{path}");
            assert!(route.summary.ends_with('.'), "{path}: no sentence");
            for part in path.split('/').filter(|part| part.starts_with('{')) {
                let name = &part[1..part.len() - 1];
                let parameters = operation["parameters"].as_array().unwrap();
                assert!(parameters.iter().any(|one| one["name"] == name && one["in"] == "path"));
            }
        }
    }
}
