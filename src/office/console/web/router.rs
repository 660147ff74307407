//! The route table: all rows, and the router made from them.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::{MethodFilter, MethodRouter, on};

use super::dispatch::Params;
use super::problem::Code;
use super::route::{Access, Gives, Method, Route};
use super::{Web, api, assets, dispatch};

/// Rows that are no part of the API.
const PAGES: &[Route] = &[
    Route::new(
        Method::Get,
        "/",
        Access::Open,
        "The page.",
        Gives::Bytes("text/html"),
        assets::index,
    ),
    Route::new(
        Method::Get,
        "/ui/{*path}",
        Access::Open,
        "A file of the page.",
        Gives::Bytes("application/octet-stream"),
        assets::file,
    ),
];

/// All rows.
pub(crate) fn routes() -> impl Iterator<Item = &'static Route> {
    PAGES.iter().chain(api::TABLES.iter().copied().flatten())
}

fn filter(method: Method) -> MethodFilter {
    match method {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Put => MethodFilter::PUT,
        Method::Patch => MethodFilter::PATCH,
        Method::Delete => MethodFilter::DELETE,
    }
}

/// The router of all rows. A path outside of the table is 404, a method that its path does not know
/// 405.
pub(crate) fn router(web: &Arc<Web>) -> Router {
    let mut paths: Vec<(&'static str, MethodRouter)> = Vec::new();
    for route in routes() {
        let shared = web.clone();
        let handler = move |params: Params, request: Request| {
            dispatch::answer(shared.clone(), route, params, request)
        };
        match paths.iter_mut().find(|(path, _)| *path == route.path) {
            Some((_, methods)) => {
                *methods = std::mem::take(methods).on(filter(route.method), handler);
            }
            None => paths.push((route.path, on(filter(route.method), handler))),
        }
    }
    let router = paths
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods));
    router
        .fallback(move |request: Request| {
            std::future::ready(dispatch::unrouted(Code::NotFound, request.headers()))
        })
        .method_not_allowed_fallback(move |request: Request| {
            std::future::ready(dispatch::unrouted(Code::MethodNotAllowed, request.headers()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_stands_twice_in_the_table() {
        let mut rows: Vec<_> = routes().map(|route| (route.path, route.method.as_str())).collect();
        let count = rows.len();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), count);
    }

    #[test]
    fn rights_of_a_site_stand_on_paths_with_a_site() {
        for route in routes() {
            let has_site = route.path.contains("{site}");
            let needs = matches!(route.access, Access::Site(_) | Access::File);
            assert!(!needs || has_site, "{}", route.path);
            assert!(needs || !has_site, "{}", route.path);
            let is_file = route.path.contains("{fid}");
            assert_eq!(route.access == Access::File, is_file, "{}", route.path);
        }
    }

    #[test]
    fn only_changes_take_a_body() {
        use super::super::route::Takes;
        for route in routes() {
            let takes = !matches!(route.takes, Takes::Nothing);
            assert!(!takes || route.method.is_change(), "{}", route.path);
        }
    }
}
