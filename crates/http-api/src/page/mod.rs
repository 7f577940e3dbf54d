//! The web page: files compiled in, served as they are. No build step, nothing from another host.
//!
//! The page itself is open and holds no data; it asks `/v1/…` with the key that its user gives it.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;

/// Only this server's own files; nothing inline, no frame around it, no form that goes elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const JS: &str = "text/javascript; charset=utf-8";

/// One file of the page.
pub(crate) struct Asset {
    pub(crate) path: &'static str,
    pub(crate) content_type: &'static str,
    text: &'static str,
}

macro_rules! asset {
    ($path:literal, $content_type:expr, $file:literal) => {
        Asset { path: $path, content_type: $content_type, text: include_str!($file) }
    };
}

/// All files of the page.
pub(crate) const ASSETS: [Asset; 10] = [
    asset!("/", "text/html; charset=utf-8", "index.html"),
    asset!("/assets/style.css", "text/css; charset=utf-8", "style.css"),
    asset!("/assets/app.js", JS, "app.js"),
    asset!("/assets/api.js", JS, "api.js"),
    asset!("/assets/chargeback.js", JS, "chargeback.js"),
    asset!("/assets/dom.js", JS, "dom.js"),
    asset!("/assets/format.js", JS, "format.js"),
    asset!("/assets/lists.js", JS, "lists.js"),
    asset!("/assets/mail.js", JS, "mail.js"),
    asset!("/assets/requests.js", JS, "requests.js"),
];

/// One file as an answer.
pub(crate) fn respond(asset: &'static Asset) -> Response {
    let mut response = Response::new(Body::from(asset.text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    headers.insert(HeaderName::from_static("content-security-policy"), HeaderValue::from_static(POLICY));
    // A new version of the program is a new page.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
